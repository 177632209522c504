"""Convolutions against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.expr import conjuncts, dim
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_system
from ferrule.ir.system import Stage
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
F = torch.nn.functional
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(6)

DIRECT = [
    ((2, 4, 9), (6, 4, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 9, 8), (6, 4, 3, 3), {}),
    ((1, 4, 9, 8), (6, 2, 3, 1), {"padding": (1, 0), "groups": 2, "dilation": 2}),
    ((2, 4, 7, 7), (8, 1, 3, 3), {"padding": 1, "groups": 4}),
    ((2, 4, 7, 7), (4, 1, 2, 3), {"padding": 1, "groups": 4, "stride": (2, 1)}),
    ((2, 4, 7, 7), (5, 4, 1, 1), {"stride": 2}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"padding": 1}),
]
TRANSPOSED = [
    ((2, 4, 9), (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 4, 5, 6), (4, 3, 3, 2), {"stride": (1, 2), "groups": 2, "dilation": (2, 1)}),
    ((2, 4, 5, 6), (4, 3, 3, 2), {}),
    ((1, 4, 3, 3, 3), (4, 1, 2, 2, 2), {"stride": 2, "groups": 4}),
    ((2, 4, 7), (4, 6, 3), {"stride": 3}),  # windows side by side: a product
    ((2, 4, 5, 6), (4, 3, 2, 3), {"stride": (2, 3)}),
    ((1, 4, 3, 3, 3), (4, 2, 2, 1, 2), {"stride": (2, 1, 2)}),
]


def given(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("x", "w", "attrs"), DIRECT)
def test_convolution_is_torchs(x: Any, w: Any, attrs: Any, check: Check) -> None:
    arrays = given(*x), given(*w), given(w[0])
    theirs = getattr(F, f"conv{len(x) - 2}d")(*map(torch.from_numpy, arrays), **attrs)
    build = partial(_conv, attrs)
    (out,) = check(build, *arrays, rtol=1e-4, atol=1e-5, symbolic="groups" not in attrs)
    np.testing.assert_allclose(out, theirs.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(_dynamic(build, arrays), theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("x", "w", "attrs"), TRANSPOSED)
def test_transposed_convolution_is_torchs(x: Any, w: Any, attrs: Any, check: Check) -> None:
    arrays = given(*x), given(*w), given(w[1] * attrs.get("groups", 1))
    theirs = getattr(F, f"conv_transpose{len(x) - 2}d")(*map(torch.from_numpy, arrays), **attrs)
    build = partial(_conv, {**attrs, "transposed": True})
    (out,) = check(build, *arrays, rtol=1e-4, atol=1e-5, symbolic="groups" not in attrs)
    np.testing.assert_allclose(out, theirs.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(_dynamic(build, arrays), theirs.numpy(), rtol=1e-4, atol=1e-5)


def _conv(attrs: Any, b: GraphBuilder, *values: Value) -> Value:
    return ops.conv(b, *values, **attrs)


def _dynamic(build: Any, arrays: Any) -> np.ndarray[Any, Any]:
    """The Compute with the batch and the spatial sizes symbolic."""
    x, *rest = arrays
    b = GraphBuilder()
    sizes = [n if d == 1 else dim(f"s{d}", lo=1) for d, n in enumerate(x.shape)]
    values = [b.input(tensor(sizes, f32)), *(b.input(tensor(a.shape, f32)) for a in rest)]
    (out,) = run_system(equations(b.build((build(b, *values),))), arrays)
    return out


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_transposed_convolution_of_no_places_is_zero(kernel: int, check: Check) -> None:
    attrs = {"stride": (3, 2), "transposed": True, "groups": 2, "output_padding": (2, 0)}
    x, w = given(2, 4, 0, 5), given(4, 3, kernel + 2, 2)
    (out,) = check(partial(_conv, attrs), x, w, symbolic=False)
    assert out.shape == (2, 6, kernel + 1, 10)
    assert not out.any()


def test_padding_may_differ_at_both_ends(check: Check) -> None:
    x, w = given(1, 2, 7, 6), given(3, 2, 4, 2)
    padding = ((1, 2), (0, 1))
    (out,) = check(lambda b, x, w: ops.conv(b, x, w, padding=padding), x, w, rtol=1e-4, atol=1e-5)
    theirs = F.conv2d(F.pad(torch.from_numpy(x), (0, 1, 1, 2)), torch.from_numpy(w))
    np.testing.assert_allclose(out, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_half_precision_is_summed_in_f32(check: Check) -> None:
    x, w = given(1, 64, 5).astype(np.float16), given(2, 64, 3).astype(np.float16)
    (out,) = check(lambda b, x, w: ops.conv(b, x, w, padding=1), x, w, rtol=1e-3, atol=1e-3)
    wide = F.conv1d(*(torch.from_numpy(a).double() for a in (x, w)), padding=1).numpy()
    np.testing.assert_allclose(out, wide, rtol=1e-3, atol=1e-2)


def test_windows_side_by_side_are_a_product() -> None:
    b = GraphBuilder()
    x, w = b.input(tensor((2, 4, 5, 6), f32)), b.input(tensor((4, 3, 2, 2), f32))
    ops.conv(b, x, w, stride=2, transposed=True)
    ops.conv(b, x, w, stride=2, transposed=True, output_padding=1)
    assert [n.op for n in b.nodes if n.op in ("conv", "dot_general")] == ["dot_general", "conv"]


def test_integers_are_exact(check: Check) -> None:
    x, w = RNG.integers(-99, 99, (1, 3, 6)), RNG.integers(-99, 99, (2, 3, 3))
    (out,) = check(lambda b, x, w: ops.conv(b, x, w, stride=2), x, w)
    theirs = F.conv1d(torch.from_numpy(x), torch.from_numpy(w), stride=2)
    np.testing.assert_array_equal(out, theirs.numpy())


def _stage(x: Any, w: Any, **attrs: Any) -> Stage:
    b = GraphBuilder()
    out = ops.conv(b, b.input(tensor(x, f32)), b.input(tensor(w, f32)), **attrs)
    (st,) = equations(b.build((out,))).stages
    return st


def test_padding_alone_makes_guards() -> None:
    assert _stage((1, 4, 9, 9), (4, 4, 3, 3)).compute.where is None
    assert len(conjuncts(_stage((1, 4, 9, 9), (4, 4, 3, 3), padding=(1, 0)).compute.where)) == 2
    assert len(conjuncts(_stage((1, 4, 9, 9), (4, 4, 3, 3), padding=1).compute.where)) == 4


def test_a_point_of_the_result_has_one_channel_axis() -> None:
    for groups in (1, 2, 4):
        st = _stage((dim("n"), 4, 9), (8, 4 // groups, 3), groups=groups)
        assert len(st.compute.axes) == 3
    assert len(_stage((1, 4, 9), (4, 1, 3), groups=4).compute.reduce_axes) == 1
    assert len(_stage((1, 4, 9), (4, 4, 1)).compute.reduce_axes) == 1


@pytest.mark.parametrize(
    ("x", "w", "attrs"),
    [((1, 4, 9), (4, 3, 3), {}), ((1, 4, 9), (3, 2, 3), {"groups": 2}),
     ((1, 4, 9), (4, 4, 3, 3), {}), ((4, 9), (4, 9), {})],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(x: Any, w: Any, attrs: Any) -> None:
    with pytest.raises(CompileError, match="conv"):
        _stage(x, w, **attrs)


# ---- StableHLO's convolution ---------------------------------------------------------------------

# sizes of x (batch, feature, spatial..) and of w (out, in, spatial..), and arguments
GENERAL: dict[str, Any] = {
    "plain": ((2, 4, 7, 6), (6, 4, 3, 2), {}),
    "groups": ((2, 4, 7, 6), (6, 2, 3, 2), {"feature_groups": 2, "strides": (2, 1)}),
    "batch_groups": ((4, 3, 7), (6, 3, 3), {"batch_groups": 2, "padding": ((1, 2),)}),
    "spread": ((2, 4, 4, 5), (6, 2, 3, 2), {"feature_groups": 2, "lhs_dilation": (2, 3),
               "padding": ((1, 2), (0, -1)), "rhs_dilation": (2, 1)}),
    "spread_and_strides": ((2, 3, 6), (4, 3, 3), {"lhs_dilation": (3,), "strides": (2,),
                           "padding": ((2, -1),)}),
    "cropped": ((2, 3, 9), (4, 3, 2), {"padding": ((-2, -1),)}),
    "reversal": ((2, 3, 6, 5), (4, 3, 3, 2), {"reversal": (True, False)}),
    "no_spatial_dims": ((4, 6), (9, 2), {"feature_groups": 3}),
    "three_dims": ((1, 2, 4, 4, 3), (2, 2, 2, 2, 2), {"padding": ((1, 0), (0, 1), (0, 0))}),
}  # fmt: skip


def general(x: Any, w: Any, strides: Any = None, padding: Any = None, lhs_dilation: Any = None,
            rhs_dilation: Any = None, reversal: Any = None, feature_groups: int = 1,
            batch_groups: int = 1) -> Any:  # fmt: skip
    """The specification's formulas: groups are split, x spread, padded and cut into windows."""
    n = x.ndim - 2
    ones = (1,) * n
    rest = (strides, padding, lhs_dilation, rhs_dilation, reversal)
    if feature_groups > 1:
        pairs = zip(np.split(x, feature_groups, 1), np.split(w, feature_groups, 0))
        return np.concatenate([general(a, c, *rest) for a, c in pairs], 1)
    if batch_groups > 1:
        pairs = zip(np.split(x, batch_groups, 0), np.split(w, batch_groups, 0))
        return np.concatenate([general(a, c, *rest) for a, c in pairs], 1)
    strides, base, dilation = strides or ones, lhs_dilation or ones, rhs_dilation or ones
    wide = [(s - 1) * k + 1 for s, k in zip(x.shape[2:], base)]
    apart = np.zeros((*x.shape[:2], *wide), x.dtype)
    apart[(slice(None), slice(None), *(slice(None, None, k) for k in base))] = x
    padding = padding or ((0, 0),) * n
    around = np.pad(apart, [(0, 0), (0, 0), *[(9, 9)] * n])
    cut = (slice(9 - lo, 9 + s + hi) for s, (lo, hi) in zip(wide, padding))
    padded = around[(slice(None), slice(None), *cut)]
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation)]
    count = [(s - r) // t + 1 for s, r, t in zip(padded.shape[2:], reach, strides)]
    turned = np.flip(w, [d + 2 for d, t in enumerate(reversal or ()) if t])
    out = np.zeros((x.shape[0], w.shape[0], *count), x.dtype)
    for p in np.ndindex(*count):
        own = (slice(i * t, i * t + r, d) for i, t, r, d in zip(p, strides, reach, dilation))
        window = padded[(slice(None), slice(None), *own)]
        axes = list(range(1, n + 2))
        out[(slice(None), slice(None), *p)] = np.tensordot(window, turned, (axes, axes))
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("name", GENERAL)
def test_the_general_convolution(name: str, dtype: Any, check: Check) -> None:
    shape, window, arguments = GENERAL[name]
    rng = np.random.default_rng(5)
    x = rng.integers(-5, 5, shape).astype(dtype)
    w = rng.integers(-5, 5, window).astype(dtype)
    expected = general(x, w, **arguments)
    last = [0, len(shape) - 1, *range(1, len(shape) - 1)]  # features last
    kernel = [len(shape) - 1, len(shape) - 2, *range(len(shape) - 2)]  # HWIO

    def build(b: GraphBuilder, x: Value, w: Value) -> Value:
        given = ops.transpose(b, x, [last.index(d) for d in range(x.rank)])
        turned = ops.transpose(b, w, [kernel.index(d) for d in range(w.rank)])
        return ops.convolution(b, given, turned, last, kernel, last, **arguments)

    (out,) = check(build, x, w, symbolic=False)
    np.testing.assert_array_equal(out, np.moveaxis(expected, 1, -1))


@pytest.mark.parametrize("name", ["spread", "batch_groups", "no_spatial_dims"])
def test_the_general_convolution_compiled(name: str, compiled: Check) -> None:
    shape, window, arguments = GENERAL[name]
    rng = np.random.default_rng(6)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (shape, window))
    dims = range(len(shape))
    (out,) = compiled(
        lambda b, x, w: ops.convolution(b, x, w, dims, dims, dims, **arguments), x, w,
        rtol=1e-4, atol=1e-5, symbolic=False,
    )  # fmt: skip
    np.testing.assert_allclose(out, general(x, w, **arguments), rtol=1e-4, atol=1e-5)


def test_a_convolution_of_bytes_gives_wider_integers(check: Check) -> None:
    rng = np.random.default_rng(7)
    x, w = rng.integers(-128, 127, (2, 9, 8), np.int8), rng.integers(-128, 127, (4, 9, 3), np.int8)
    dims = (0, 1, 2)
    (out,) = check(lambda b, x, w: ops.convolution(b, x, w, dims, dims, dims, dtype=i32), x, w)
    np.testing.assert_array_equal(out, general(x.astype(np.int64), w.astype(np.int64)))
