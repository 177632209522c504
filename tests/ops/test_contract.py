"""Products against NumPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import bf16, f16, f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(11)


def given(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def near(check: Check, build: Any, expected: Any, *arrays: Any) -> None:
    (out,) = check(build, *arrays, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y"),
    [((5,), (5,)), ((5,), (5, 4)), ((3, 5), (5,)), ((3, 5), (5, 4)), ((2, 3, 5), (5, 4)),
     ((2, 3, 5), (2, 5, 4)), ((3, 5), (2, 5, 4)), ((2, 3, 5), (5,)), ((5,), (2, 5, 4)),
     ((6, 1, 3, 5), (2, 5, 4)), ((1, 1, 5), (5, 1))],
)  # fmt: skip
def test_matmul_is_torchs(x: Any, y: Any, check: Check) -> None:
    arrays = given(*x), given(*y)
    near(check, ops.matmul, np.matmul(*arrays), *arrays)


@pytest.mark.parametrize(
    ("x", "y", "batch", "contract", "spec"),
    [((3, 5), (4, 5), ((), ()), ((1,), (1,)), "ik,jk->ij"),
     ((3, 2, 5), (5, 4, 3), ((0,), (2,)), ((2,), (0,)), "bik,kjb->bij"),
     ((3, 4), (5,), ((), ()), ((), ()), "ij,k->ijk"),
     ((3, 4, 5), (5, 3), ((), ()), ((0, 2), (1, 0)), "kjl,lk->j"),
     ((3, 4), (3, 4), ((0, 1), (0, 1)), ((), ()), "ij,ij->ij")],
)  # fmt: skip
def test_dot_general_is_einsum(x: Any, y: Any, batch: Any, contract: Any, spec: str,
                               check: Check) -> None:  # fmt: skip
    arrays = given(*x), given(*y)
    near(check, lambda b, x, y: ops.dot_general(b, x, y, batch, contract),
         np.einsum(spec, *arrays), *arrays)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [("bij,bkj->bik", [(3, 4, 5), (3, 2, 5)]), ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
     ("ii->i", [(4, 4)]), ("ii", [(4, 4)]), ("ij->ji", [(3, 4)]), ("i,j", [(3,), (4,)]),
     ("ijk,ijk->", [(2, 3, 4)] * 2), ("ij,kl->ki", [(2, 3), (4, 5)]), ("b i, i", [(3, 4), (4,)]),
     ("iij,jk->ik", [(3, 3, 4), (4, 5)]), ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)])],
)  # fmt: skip
def test_einsum_is_numpys(spec: str, shapes: Any, check: Check) -> None:
    arrays = [given(*s) for s in shapes]
    near(check, lambda b, *xs: ops.einsum(b, spec, *xs), np.einsum(spec, *arrays), *arrays)


def test_linear_and_addmm_are_torchs(check: Check) -> None:
    x, w, bias = given(2, 3, 5), given(4, 5), given(4)
    near(check, ops.linear, x @ w.T + bias, x, w, bias)
    near(check, ops.linear, x @ w.T, x, w)
    near(check, ops.linear, x @ w[0], x, w[0])
    y = np.ascontiguousarray(w.T)
    near(check, lambda b, *v: ops.addmm(b, *v, alpha=0.5, beta=3.0),
         3 * bias + 0.5 * (x[0] @ y), bias, x[0], y)  # fmt: skip
    nan = np.full_like(bias, np.nan)
    near(check, lambda b, *v: ops.addmm(b, *v, beta=0), x[0] @ y, nan, x[0], y)


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8, np.float64])
def test_other_dtypes(dtype: Any, check: Check) -> None:
    x, y = (RNG.integers(0, 9, s).astype(dtype) for s in ((3, 70), (70, 4)))
    (out,) = check(ops.matmul, x, y)
    theirs = (torch.from_numpy(x.astype(np.int64)) @ torch.from_numpy(y.astype(np.int64))).numpy()
    np.testing.assert_array_equal(out, theirs.astype(dtype))


def test_bf16_is_summed_in_f32(check: Check) -> None:
    one = np.uint16(0x3F80)  # 1.0; 300 ones would stop at 256 if they were summed in bf16
    x, y = np.full((1, 300), one), np.full((300, 1), one)
    (out,) = check(ops.matmul, x, y, is_bf16=True, rtol=0.01)
    np.testing.assert_array_equal(out, [[300]])


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [("i...->...", [(3, 4, 2)]), ("...j,kj->...k", [(2, 3, 5), (4, 5)]),
     ("...ij,...jk", [(6, 1, 3, 5), (2, 5, 4)]), ("...ik,...j->ij", [(1, 2, 3), (3,)]),
     ("...i,...i->...", [(4, 3), (1, 3)]), ("...ii->...i", [(2, 3, 3)]),
     ("ij,jk", [(3, 1), (5, 4)])],
)  # fmt: skip
def test_einsum_with_leading_axes_is_torchs(spec: str, shapes: Any, check: Check) -> None:
    arrays = [given(*s) for s in shapes]
    expected = torch.einsum(spec, *map(torch.from_numpy, arrays)).numpy()
    near(check, lambda b, *xs: ops.einsum(b, spec, *xs), expected, *arrays)


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x, y, s = (b.input(tensor(n, f32)) for n in ((3, 5), (4, 5), ()))
    for build in (
        lambda: ops.matmul(b, x, y),
        lambda: ops.matmul(b, x, s),
        lambda: ops.einsum(b, "ij,jk->ik", x, y),
        lambda: ops.einsum(b, "ij,j->i", x, y),
        lambda: ops.einsum(b, "ij->i", x, y),
        lambda: ops.einsum(b, "...ijk->i", x),
    ):
        with pytest.raises(CompileError):
            build()


def test_a_product_has_the_dtype_that_is_asked_for(check: Check) -> None:
    rng = np.random.default_rng(8)
    x, y = rng.integers(-128, 127, (3, 40), np.int8), rng.integers(-128, 127, (40, 5), np.int8)
    pair = ((1,), (0,))
    (out,) = check(lambda b, x, y: ops.dot_general(b, x, y, contract=pair, dtype=i32), x, y)
    np.testing.assert_array_equal(out, x.astype(np.int64) @ y)
    half = x.astype(np.float16)
    (out,) = check(lambda b, x, y: ops.dot_general(b, x, y, contract=pair, dtype=f32), half, y)
    np.testing.assert_array_equal(out, x.astype(np.int64) @ y)
    b = GraphBuilder()
    given = b.input(tensor((3, 4), f16))
    wide = ops.dot_general(b, given, given, contract=((0,), (0,)), dtype=f32)
    assert wide.dtype == f32
    assert [n.op for n in b.nodes] == ["dot_general"]
    narrow = ops.dot_general(b, given, given, contract=((0,), (0,)), dtype=bf16)
    assert narrow.dtype == bf16


def test_a_product_of_bools_is_whether_both_hold_somewhere(check: Check) -> None:
    x, y = np.array([[True, False], [False, False]]), np.array([[True, False], [True, True]])
    (out,) = check(lambda b, x, y: ops.dot_general(b, x, y, contract=((1,), (0,))), x, y)
    np.testing.assert_array_equal(out, [[True, False], [False, False]])
