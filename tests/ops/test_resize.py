"""Resizing against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f16, f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr, dim, loads
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
F = torch.nn.functional
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(8)
NEAREST = {"nearest": False, "nearest-exact": True}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def given(*spatial: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal((2, 3, *spatial)).astype(np.float32)


@pytest.mark.parametrize("mode", NEAREST)
@pytest.mark.parametrize(
    ("old", "new"),
    [((5,), (10,)), ((4, 6), (12, 3)), ((7, 5), (3, 5)), ((3, 4), (7, 9)), ((2, 3, 4), (4, 3, 9)),
     ((49,), (98,)), ((10,), (490,)), ((1, 5), (4, 1))],
)  # fmt: skip
def test_nearest_is_torchs(mode: str, old: Any, new: Any, check: Check) -> None:
    x = given(*old)
    (out,) = check(lambda b, x: ops.resize_nearest(b, x, new, exact=NEAREST[mode]), x)
    np.testing.assert_array_equal(out, F.interpolate(torch.from_numpy(x), new, mode=mode).numpy())


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.6, 3.0])
@pytest.mark.parametrize("mode", NEAREST)
def test_nearest_by_a_scale_is_torchs(mode: str, scale: float, check: Check) -> None:
    x = given(5, 6)
    theirs = F.interpolate(torch.from_numpy(x), scale_factor=scale, mode=mode).numpy()
    sizes = theirs.shape[2:]
    (out,) = check(
        lambda b, x: ops.resize_nearest(b, x, sizes, (scale, scale), NEAREST[mode]), x
    )
    np.testing.assert_array_equal(out, theirs)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_nearest_keeps_the_dtype(dtype: Any, check: Check) -> None:
    x = RNG.integers(0, 9, (1, 1, 4, 6)).astype(dtype)
    (out,) = check(lambda b, x: ops.resize_nearest(b, x, (7, 4)), x)
    theirs = F.interpolate(torch.from_numpy(x), (7, 4)).to(torch.float64).numpy()
    np.testing.assert_array_equal(out, theirs)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [((5,), (10,)), ((4, 6), (8, 3)), ((4, 6), (4, 9)), ((7, 5), (1, 2)), ((3, 1), (7, 4)),
     ((2, 3, 4), (4, 5, 3))],
)  # fmt: skip
def test_linear_is_torchs(align: bool, old: Any, new: Any, check: Check) -> None:
    x = given(*old)
    (out,) = check(
        lambda b, x: ops.resize_linear(b, x, new, align_corners=align), x, rtol=1e-5, atol=1e-6
    )
    mode = LINEAR[len(old)]
    theirs = F.interpolate(torch.from_numpy(x), new, mode=mode, align_corners=align).numpy()
    np.testing.assert_allclose(out, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [2.0, 1.7, 0.6])
def test_linear_by_a_scale_is_torchs(scale: float, check: Check) -> None:
    x = given(5, 6)
    theirs = F.interpolate(torch.from_numpy(x), scale_factor=scale, mode="bilinear").numpy()
    sizes = theirs.shape[2:]
    (out,) = check(
        lambda b, x: ops.resize_linear(b, x, sizes, (scale, scale)), x, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(out, theirs, rtol=1e-5, atol=1e-6)


def test_half_precision_is_interpolated_in_f32(check: Check) -> None:
    x = given(4, 5).astype(np.float16)
    (out,) = check(lambda b, x: ops.resize_linear(b, x, (7, 8)), x, rtol=1e-3, atol=1e-3)
    theirs = F.interpolate(torch.from_numpy(x).float(), (7, 8), mode="bilinear").numpy()
    np.testing.assert_allclose(out, theirs, rtol=1e-2, atol=1e-3)


def _index(old: Expr | int, new: Expr | int, scale: float | None = None) -> str:
    """The index map of a nearest resize along one dim."""
    b = GraphBuilder()
    x = b.input(tensor((1, 1, old), f32), "x")
    graph = b.build((ops.resize_nearest(b, x, (new,), (scale,)),))
    (stage,) = equations(graph).stages
    (read,) = loads(stage.compute.values[0])
    return str(read.args[2]).replace(stage.compute.axes[2].name, "p")


def test_index_maps_are_integer_arithmetic_where_that_is_exact() -> None:
    n = dim("n")
    assert _index(8, 16) == "p // 2"
    assert _index(16, 8) == "p * 2"
    assert _index(8, 8) == "p"
    assert _index(n, n * 2) == "p // 2"
    assert _index(n, n * 2, 2.0) == "p // 2"
    assert "floor" in _index(n, n * 3)


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x, i = (b.input(tensor((1, 1, 4, 4), t)) for t in (f16, i32))
    with pytest.raises(CompileError, match="a size and a scale for each"):
        ops.resize_nearest(b, x, (8,))
    with pytest.raises(CompileError, match="a size and a scale for each"):
        ops.resize_linear(b, x, (8, 8), (2.0,))
    with pytest.raises(CompileError, match="defined on floats"):
        ops.resize_linear(b, i, (8, 8))
