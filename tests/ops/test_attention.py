"""Attention against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.analysis.contraction import contraction
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
sdpa = torch.nn.functional.scaled_dot_product_attention
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(12)


def given(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def compare(check: Check, arrays: Any, ours: Any, theirs: Any, symbolic: bool = True) -> Any:
    (out,) = check(lambda b, *v: ops.attention(b, *v, scale=0.3, **ours), *arrays,
                   rtol=1e-5, atol=1e-6, symbolic=symbolic)  # fmt: skip
    q, k, v, *mask = map(torch.from_numpy, arrays)
    expected = sdpa(q, k, v, *mask, scale=0.3, **theirs).numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    return out


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 7, 16), (2, 3, 5, 16), (2, 3, 5, 8)), ((7, 4), (5, 4), (5, 6)),
     ((2, 7, 4), (1, 5, 4), (1, 5, 4))],
)  # fmt: skip
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_torchs(shapes: Any, causal: bool, check: Check) -> None:
    arrays = [given(*s) for s in shapes]
    compare(check, arrays, {"causal": causal}, {"is_causal": causal})


@pytest.mark.parametrize("size", [1, 16, 0])
@pytest.mark.parametrize("symbolic", [False, True])
def test_the_usual_scale_follows_the_head_size(size: int, symbolic: bool, check: Check) -> None:
    arrays = [given(2, 7, size), given(2, 5, size), given(2, 5, 3)]
    (out,) = check(lambda b, *v: ops.attention(b, *v, scale=None), *arrays,
                   rtol=1e-5, atol=1e-6, symbolic=symbolic)  # fmt: skip
    expected = sdpa(*map(torch.from_numpy, arrays)).numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (2, 1, 7, 5), (2, 3, 1, 5)])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_are_torchs(shape: Any, kind: str, check: Check) -> None:
    mask = RNG.random(shape) < 0.6 if kind == "bool" else given(*shape)
    if kind == "bool":
        mask[..., 0] = True
    compare(check, [given(2, 3, 7, 4), given(2, 3, 5, 4), given(2, 3, 5, 4), mask], {}, {})


def test_a_row_that_is_masked_whole_is_zero(check: Check) -> None:
    mask = np.ones((7, 5), np.bool_)
    mask[2] = False
    arrays = [given(1, 2, 7, 4), given(1, 2, 5, 4), given(1, 2, 5, 4), mask]
    out = compare(check, arrays, {}, {})
    assert (out[:, :, 2] == 0).all()


def test_heads_may_be_grouped(check: Check) -> None:
    arrays = [given(2, 6, 7, 4), given(2, 3, 5, 4), given(2, 3, 5, 4)]
    compare(check, arrays, {"grouped": True}, {"enable_gqa": True}, symbolic=False)


def test_half_precision_is_computed_in_f32(check: Check) -> None:
    arrays = [given(2, 7, 16).astype(np.float16) for _ in range(3)]
    (out,) = check(lambda b, *v: ops.attention(b, *v, scale=0.25), *arrays, rtol=2e-3, atol=1e-3)
    wide = sdpa(*(torch.from_numpy(a).double() for a in arrays)).numpy()
    np.testing.assert_allclose(out, wide, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("shapes", "dtype"),
    [(((7, 4), (5, 3), (5, 4)), f32), (((7, 4), (5, 4), (6, 4)), f32),
     (((4,), (5, 4), (5, 4)), f32), (((7, 4), (5, 4), (5, 4)), i32)],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(shapes: Any, dtype: Any) -> None:
    b = GraphBuilder()
    with pytest.raises(CompileError, match="attention"):
        ops.attention(b, *(b.input(tensor(s, dtype)) for s in shapes))


@pytest.mark.parametrize(
    ("message", "shapes", "how"),
    [
        ("do not broadcast", ((2, 4, 8), (3, 6, 8), (3, 6, 8)), {}),
        ("do not broadcast", ((2, 4, 8), (2, 6, 8), (2, 6, 8), (4, 5)), {}),
        ("does not broadcast to the scores", ((4, 8), (6, 8), (6, 8), (3, 4, 6)), {}),
        ("heads of k and v that divide", ((4, 4, 8), (3, 6, 8), (3, 6, 8)), {"grouped": True}),
        ("heads of k and v that divide", ((4, 8), (6, 8), (6, 8)), {"grouped": True}),
    ],
)
def test_masks_and_heads_that_do_not_fit_are_errors(message: str, shapes: Any, how: Any) -> None:
    b = GraphBuilder()
    values = [b.input(tensor(s, boolean if i == 3 else f32)) for i, s in enumerate(shapes)]
    with pytest.raises(CompileError, match=message):
        ops.attention(b, *values, **how)


def test_an_additive_mask_may_take_a_row_out(check: Check) -> None:
    mask = np.where(np.arange(7)[:, None] == 2, -np.inf, given(7, 5)).astype(np.float32)
    out = compare(check, [given(3, 7, 4), given(3, 5, 4), given(3, 5, 4), mask], {}, {})
    assert (out[:, 2] == 0).all()


def test_a_mask_combines_with_causality(check: Check) -> None:
    keep = RNG.integers(0, 2, (4, 6)).astype(np.bool_)
    both, one = check(
        lambda b, q, k, v, m, n: (
            ops.attention(b, q, k, v, m, causal=True), ops.attention(b, q, k, v, n)
        ),
        given(4, 8), given(6, 8), given(6, 8), keep, np.tril(keep),
    )  # fmt: skip
    np.testing.assert_array_equal(both, one)


def test_scores_keep_their_rows() -> None:
    """Two contractions, and in between folds over the keys alone."""
    b = GraphBuilder()
    n, l, s = dim("N"), dim("L"), dim("S")
    q, k, v = (b.input(tensor((n, 12, m, 64), f32)) for m in (l, s, s))
    stages = equations(b.build((ops.attention(b, q, k, v),))).stages
    folds = [st for st in stages if st.is_reduction]
    assert [st.compute.reduce_axes[0].extent for st in folds[1:]] == [s, s, s]
    for st in (folds[0], folds[-1]):
        roles = contraction(st)
        assert roles is not None
        assert [len(roles.batch), len(roles.m), len(roles.n), len(roles.k)] == [2, 1, 1, 1]
        assert roles.m[0].extent is l
