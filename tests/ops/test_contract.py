"""Products against NumPy and PyTorch, and the roles of their axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i32
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.graph.equations import equations
from ferrule.ir.compute import Stage
from ferrule.ir.contraction import contraction
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, Value, tensor

Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(10)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def given(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


# ---- dot_general --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "batch", "contract", "spec"),
    [
        ((2, 3, 4), (4, 5), ((), ()), ((2,), (0,)), "abc,cd->abd"),
        ((2, 3, 4), (2, 5, 4), ((0,), (0,)), ((2,), (2,)), "abc,adc->abd"),
        ((3, 2, 4), (4, 5, 3), ((0,), (2,)), ((2,), (0,)), "abc,cda->abd"),
        ((2, 3, 4), (4, 3, 2), ((), ()), ((0, 2), (2, 0)), "abc,cda->bd"),
        ((2, 3), (4, 5), ((), ()), ((), ()), "ab,cd->abcd"),
        ((2, 3), (2, 3), ((0, 1), (0, 1)), ((), ()), "ab,ab->ab"),
        ((4,), (4,), ((), ()), ((0,), (0,)), "a,a->"),
    ],
)
def test_dot_general(x: Any, y: Any, batch: Any, contract: Any, spec: str, check: Check) -> None:
    x, y = given(*x), given(*y)
    (out,) = check(lambda b, x, y: ops.dot_general(b, x, y, batch, contract), x, y, **CLOSE)
    np.testing.assert_allclose(out, np.einsum(spec, x, y), **CLOSE)


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.float64])
def test_products_of_other_dtypes(dtype: Any, check: Check) -> None:
    x, y = (RNG.integers(-9, 9, s).astype(dtype) for s in ((3, 4), (4, 5)))
    (out,) = check(ops.matmul, x, y)
    np.testing.assert_array_equal(out, x @ y)


def test_half_precision_is_summed_in_f32(check: Check) -> None:
    x = np.full((1, 4096), 1.0, np.float16)
    (out,) = check(ops.matmul, x, x.T.copy(), symbolic=False)
    assert out[0, 0] == 4096  # f16 stands still at 2048


# ---- matmul and its like ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"),
    [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)),
     ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (2, 4, 5)),
     ((2, 1, 3, 4), (6, 4, 5)), ((2, 6, 3, 4), (2, 1, 4, 5)), ((1, 3, 4), (2, 4, 5))],
)  # fmt: skip
def test_matmul_is_numpys(x: Any, y: Any, check: Check) -> None:
    x, y = given(*x), given(*y)
    (out,) = check(ops.matmul, x, y, **CLOSE)
    np.testing.assert_allclose(out, np.matmul(x, y), **CLOSE)


def test_linear_addmm_and_bmm_are_torchs(check: Check) -> None:
    torch = pytest.importorskip("torch")
    x, w, bias, square = given(2, 3, 4), given(5, 4), given(5), given(5, 4).T.copy()
    outs = check(
        lambda b, x, w, bias, s: (
            ops.linear(b, x, w, bias), ops.linear(b, x, w),
            ops.addmm(b, bias, ops.select_index(b, x, 0, 0), s, 0.5, 2.0),
            ops.bmm(b, x, ops.expand(b, s, (x.shape[0], *s.shape))),
        ),
        x, w, bias, square, **CLOSE,
    )  # fmt: skip
    tx, tw, tb, ts = map(torch.from_numpy, (x, w, bias, square))
    theirs = (
        torch.nn.functional.linear(tx, tw, tb), tx @ tw.T,
        torch.addmm(tb, tx[0], ts, alpha=0.5, beta=2.0), torch.bmm(tx, ts.expand(2, 4, 5)),
    )  # fmt: skip
    for mine, t in zip(outs, theirs, strict=True):
        np.testing.assert_allclose(mine, t.numpy(), **CLOSE)


def test_a_bias_of_weight_zero_is_not_read(check: Check) -> None:
    x, y = given(2, 3), given(3, 4)
    (out,) = check(
        lambda b, c, x, y: ops.addmm(b, c, x, y, beta=0), np.full(4, np.nan, np.float32), x, y,
        **CLOSE,
    )  # fmt: skip
    np.testing.assert_allclose(out, x @ y, **CLOSE)


# ---- einsum -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("ij,jk->ki", ((2, 3), (3, 4))),
        ("bhqd,bhkd->bhqk", ((2, 3, 4, 5), (2, 3, 6, 5))),
        ("bqhd,bkhd->bhqk", ((2, 4, 3, 5), (2, 6, 3, 5))),
        ("ij,kl->", ((2, 3), (4, 5))),
        ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)),
        ("ijk->kj", ((2, 3, 4),)),
        ("ij,j->i", ((2, 3), (3,))),
        ("i,j->ij", ((2,), (3,))),
        ("i,i->i", ((3,), (3,))),
        ("iij,jk->ik", ((3, 3, 4), (4, 5))),
        ("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 5))),
        ("a,ab,b,abc->c", ((2,), (2, 3), (3,), (2, 3, 4))),
        (" i j , k j -> i k ", ((2, 3), (4, 3))),
    ],
)
def test_einsum_is_numpys(spec: str, shapes: Any, check: Check) -> None:
    arrays = [given(*s) for s in shapes]
    (out,) = check(lambda b, *xs: ops.einsum(b, spec, *xs), *arrays, **CLOSE)
    np.testing.assert_allclose(out, np.einsum(spec, *arrays), **CLOSE)


# ---- Compute ------------------------------------------------------------------------------------


def stages_of(build: Callable[..., Value], *shapes: Any) -> tuple[Stage, ...]:
    b = GraphBuilder()
    return equations(b.build((build(b, *(b.input(tensor(s, f32)) for s in shapes)),))).stages


def test_a_product_is_one_contraction_over_bare_axes() -> None:
    n, s = dim("N"), dim("S")
    (st,) = stages_of(ops.linear, (n, s, 768), (3072, 768))
    roles = contraction(st)
    assert roles is not None
    sizes = [[a.extent for a in axes] for axes in (roles.batch, roles.m, roles.n)]
    assert sizes[:2] == [[], [n, s]]
    assert [int(e.value) for e in sizes[2]] == [3072]
    assert all(i.op == "axis" for f in (roles.left, roles.right) for i in f.args)


WRONG: list[tuple[type[Exception], str, Callable[..., Any]]] = [
    (CompileError, "axis 1 of size 4 meets axis 0", lambda b, x, i, c: ops.matmul(b, x, x)),
    (CompileError, "one dtype", lambda b, x, i, c: ops.matmul(b, x, i)),
    (CompileError, "defined on floats", lambda b, x, i, c: ops.matmul(b, c, c)),
    (CompileError, "rank 1 or more", lambda b, x, i, c: ops.matmul(b, x, ops.scalar(b, 1.0, f32))),
    (CompileError, "does not fit", lambda b, x, i, c: ops.einsum(b, "ijk->i", x)),
    (CompileError, "does not fit", lambda b, x, i, c: ops.einsum(b, "ij,jk->ik", x)),
    (UnsupportedError, "ellipsis", lambda b, x, i, c: ops.einsum(b, "...j->...", x)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message", "build"), WRONG)
def test_what_does_not_fit_is_an_error(kind: Any, message: str, build: Any) -> None:
    b = GraphBuilder()
    values = [b.input(tensor(s, t)) for s, t in (((3, 4), f32), ((4, 5), i32), ((4, 4), boolean))]
    with pytest.raises(kind, match=message):
        build(b, *values)
