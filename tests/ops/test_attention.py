"""Attention against PyTorch, and the shape of its Compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i64
from ferrule.base.errors import CompileError
from ferrule.graph.equations import equations
from ferrule.ir.contraction import contraction
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, tensor

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(9)
KEEP = np.tril(np.ones((4, 6), bool))
KEEP[1] = False  # a row that is masked whole
SCORES = np.where(KEEP, RNG.standard_normal((4, 6)), -np.inf).astype(np.float32)


def given(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


def torchs(*arrays: np.ndarray[Any, Any], mask: Any = None, **how: Any) -> np.ndarray[Any, Any]:
    q, k, v = map(torch.from_numpy, arrays)
    mask = None if mask is None else torch.from_numpy(mask)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, **how)
    return np.asarray(out.numpy())


Q, K, V = given(2, 3, 4, 8), given(2, 3, 6, 8), given(2, 3, 6, 5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("q", "k", "v"),
    [(Q, K, V), (Q[:, 0], K[:, 0], V[:, 0]), (Q[0, 0], K[0, 0], V[0, 0]), (K, Q, Q), (Q, Q, Q)],
    ids=["4-d", "3-d", "2-d", "few keys", "self"],
)
def test_attention_is_torchs(q: Any, k: Any, v: Any, causal: bool, check: Check) -> None:
    (out,) = check(
        lambda b, *x: ops.attention(b, *x, scale=8**-0.5, causal=causal), q, k, v, rtol=1e-4,
        atol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(out, torchs(q, k, v, is_causal=causal), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [KEEP, SCORES, KEEP[2:3], SCORES[None, None], np.stack((KEEP, ~KEEP))[:, None],
     given(2, 3, 1, 6)],
    ids=["bool", "additive", "one row", "4-d", "per batch", "per head"],
)  # fmt: skip
def test_masks_broadcast_and_rows_masked_whole_are_zero(mask: Any, check: Check) -> None:
    (out,) = check(
        lambda b, *x: ops.attention(b, *x, scale=0.3), Q, K, V, mask, rtol=1e-4, atol=1e-5
    )
    theirs = torchs(Q, K, V, mask=mask, scale=0.3)
    np.testing.assert_allclose(out, theirs, rtol=1e-4, atol=1e-5)
    if mask is KEEP:
        assert not out[:, :, 1].any()


def test_a_mask_combines_with_causality(check: Check) -> None:
    keep = RNG.integers(0, 2, (4, 6)).astype(bool)
    both, one = check(
        lambda b, q, k, v, m, n: (
            ops.attention(b, q, k, v, m, causal=True), ops.attention(b, q, k, v, n)
        ),
        Q, K, V, keep, np.tril(keep), rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(both, one)


def test_heads_may_share_keys(check: Check) -> None:
    q, k, v = given(2, 6, 4, 8), given(2, 3, 5, 8), given(2, 3, 5, 8)
    (out,) = check(
        lambda b, *x: ops.attention(b, *x, scale=8**-0.5, grouped=True), q, k, v, rtol=1e-4,
        atol=1e-5, symbolic=False,
    )  # fmt: skip
    np.testing.assert_allclose(out, torchs(q, k, v, enable_gqa=True), rtol=1e-4, atol=1e-5)


def test_half_precision_is_summed_in_f32(check: Check) -> None:
    q, k, v = (x.astype(np.float16) for x in (Q, K, V))
    (out,) = check(lambda b, *x: ops.attention(b, *x, scale=0.5), q, k, v, rtol=2e-3, atol=1e-3)
    wide = torchs(*(x.astype(np.float32) for x in (q, k, v)), scale=0.5)
    np.testing.assert_allclose(out, wide, rtol=2e-3, atol=1e-3)


def test_scores_keep_their_rows() -> None:
    """Two contractions, and in between folds over the keys alone."""
    b = GraphBuilder()
    n, l, s = dim("N"), dim("L"), dim("S")
    q, k, v = (b.input(tensor((n, 12, m, 64), f32)) for m in (l, s, s))
    stages = equations(b.build((ops.attention(b, q, k, v),))).stages
    assert [st.name.rstrip("0123456789") for st in stages] == [
        "scores_", "biased_", "top_", "weights_", "total_", "summed_", "v",
    ]  # fmt: skip
    found = [contraction(st) for st in stages]
    assert [st.is_reduction for st in stages] == [True, False, True, False, True, True, False]
    for at, sizes in ((0, (l, s)), (5, (l, 64))):
        roles = found[at]
        assert roles is not None
        assert [len(roles.batch), len(roles.m), len(roles.n), len(roles.k)] == [2, 1, 1, 1]
        assert roles.m[0].extent is sizes[0]
    assert [st.compute.reduce_axes[0].extent for st in stages if st.is_reduction][1:] == [s, s, s]


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("takes q", ((2, 4, 8), (2, 6, 7), (2, 6, 8)), {}),
    ("takes q", ((2, 4, 8), (2, 6, 8), (2, 5, 8)), {}),
    ("do not broadcast", ((2, 4, 8), (3, 6, 8), (3, 6, 8)), {}),
    ("heads of k and v that divide", ((1, 4, 4, 8), (1, 3, 6, 8), (1, 3, 6, 8)), {"grouped": True}),
    ("do not broadcast", ((2, 4, 8), (2, 6, 8), (2, 6, 8), (4, 5)), {}),
    ("does not broadcast to the scores", ((2, 4, 8), (2, 6, 8), (2, 6, 8), (3, 2, 4, 6)), {}),
]


@pytest.mark.parametrize(("message", "shapes", "how"), WRONG)
def test_what_does_not_fit_is_an_error(message: str, shapes: Any, how: Any) -> None:
    b = GraphBuilder()
    values = [b.input(tensor(s, boolean if i == 3 else f32)) for i, s in enumerate(shapes)]
    with pytest.raises(CompileError, match=message):
        ops.attention(b, *values, **how)


def test_operands_are_floats() -> None:
    b = GraphBuilder()
    x, i = (b.input(tensor((4, 4), t)) for t in (f32, i64))
    with pytest.raises(CompileError, match="defined on floats"):
        ops.attention(b, i, i, i)
    with pytest.raises(CompileError, match="mask is defined on floats, bool"):
        ops.attention(b, x, x, x, i)
