"""Attention against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor

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
