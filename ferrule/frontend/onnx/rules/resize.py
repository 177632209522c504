"""ONNX rules: Resize, Upsample, GridSample, DeformConv.

Resizing is separable: along each axis, a place of the result is a weighted sum of a few places of
the operand. Places and weights follow from the sizes, so they are computed while building. What
PyTorch exports goes through operators that also take symbolic sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.view import axes_of
from ferrule.frontend.onnx.table import Context, onnx, sizes
from ferrule.ir.expr import ONE, Expr, as_index, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, simplify

Known = Array | None
Size = int | Expr


@dataclass(frozen=True)
class Resizing:
    """How one axis is resized: from `old` to `new` places, by `scale`; `roi` is its part of x."""

    axis: int
    old: Expr
    new: Expr
    scale: float | None
    roi: tuple[float, float] = (0.0, 1.0)


@onnx("Resize", static=(1, 2, 3), sizes=True, since=11)
def _resize(
    cx: Context, x: Value, roi: Known = None, scales: Known = None, wanted: Known = None
) -> Value:
    axes = axes_of(cx, None, x.rank) or tuple(range(x.rank))
    parts = [0.0] * len(axes) + [1.0] * len(axes)
    if (
        roi is not None
        and roi.size
        and cx.text("coordinate_transformation_mode", "") == ("tf_crop_and_resize")
    ):
        parts = [float(v) for v in roi.reshape(-1)]
    spans = list(zip(parts[: len(axes)], parts[len(axes) :]))
    if scales is not None and scales.size:
        given = [float(s) for s in scales.reshape(-1)]
        return _resized(cx, x, _by_scales(x, axes, given, spans))
    if wanted is None:
        raise CompileError("Resize takes scales or sizes")
    return _resized(cx, x, _by_sizes(cx, x, axes, sizes(wanted), spans))


@onnx("Resize", static=(1,), since=10)
@onnx("Upsample", static=(1,), since=9)
def _resize_10(cx: Context, x: Value, scales: Array) -> Value:
    return _upsampled(cx, x, [float(s) for s in scales.reshape(-1)])


@onnx("Upsample")
def _upsample(cx: Context, x: Value) -> Value:
    if cx.has("scales"):
        return _upsampled(cx, x, list(cx.floats("scales")))
    return _upsampled(cx, x, [1.0, 1.0, cx.float("height_scale"), cx.float("width_scale")])


def _upsampled(cx: Context, x: Value, scales: list[float]) -> Value:
    whole = [(0.0, 1.0)] * x.rank
    return _resized(cx, x, _by_scales(x, tuple(range(x.rank)), scales, whole), old_rules=True)


def _by_scales(
    x: Value, axes: Sequence[int], scales: Sequence[float], spans: Sequence[Any]
) -> list[Resizing]:
    out = []
    for d, s, span in zip(axes, scales, spans, strict=True):
        if s <= 0 or not math.isfinite(s):
            raise CompileError(f"Resize by the scale {s}")
        old = x.shape[d]
        if old.is_const:
            new: Expr = as_index(math.floor(old.value * s))
        elif s == int(s):
            new = simplify(old * int(s))
        elif 1 / s == int(1 / s):
            new = simplify(old // int(1 / s))
        else:
            raise UnsupportedError("Resize of a symbolic size by a scale that is no integer")
        out.append(Resizing(d, old, new, s, span))
    return out


def _by_sizes(
    cx: Context, x: Value, axes: Sequence[int], wanted: Sequence[Size], spans: Sequence[Any]
) -> list[Resizing]:
    policy = cx.text("keep_aspect_ratio_policy", "stretch")
    pairs = list(zip(axes, wanted, spans, strict=True))
    if policy == "stretch":
        out = []
        for d, n, span in pairs:
            new, old = as_index(n), x.shape[d]
            same = equal(old, new)
            exact = old.is_const and new.is_const and old.value
            scale = 1.0 if same else new.value / old.value if exact else None
            out.append(Resizing(d, old, new, scale, span))
        return out
    if not all(x.shape[d].is_const and isinstance(n, int) for d, n, _ in pairs):
        raise UnsupportedError("Resize that keeps the aspect ratio of symbolic sizes")
    ratios = [int(str(n)) / x.shape[d].value for d, n, _ in pairs]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [
        Resizing(d, x.shape[d], as_index(int(scale * x.shape[d].value + 0.5)), scale, span)
        for d, _, span in pairs
    ]


# ---- the two ways --------------------------------------------------------------------------------


def _resized(cx: Context, x: Value, given: list[Resizing], old_rules: bool = False) -> Value:
    todo = [r for r in given if not equal(r.old, r.new) or r.scale != 1.0 or r.roi != (0.0, 1.0)]
    if not todo:
        return x
    plain = _as_torch(cx, x, todo, old_rules)
    if plain is not None:
        return plain
    if not all(r.old.is_const and r.new.is_const for r in todo):
        raise UnsupportedError("Resize of symbolic sizes in this mode")
    how = "asymmetric" if old_rules else cx.text("coordinate_transformation_mode", "half_pixel")
    mode = cx.text("mode", "nearest")
    wide = x if mode == "nearest" or x.dtype.is_float else ops.cast(cx.b, x, f32)
    wide = ops.cast(cx.b, wide, wide.dtype.compute)
    for r in todo:
        wide = _along(cx, wide, r, how, mode, old_rules)
    if wide.dtype.is_float and x.dtype.is_int:
        wide = ops.clamp(cx.b, wide, x.dtype.min, x.dtype.max)
    return ops.cast(cx.b, wide, x.dtype)


def _as_torch(cx: Context, x: Value, todo: list[Resizing], old_rules: bool) -> Value | None:
    """The same by the operators that are PyTorch's, where there is one."""
    how = "asymmetric" if old_rules else cx.text("coordinate_transformation_mode", "half_pixel")
    mode, rounding = cx.text("mode", "nearest"), cx.text("nearest_mode", "round_prefer_floor")
    if old_rules:
        rounding = "floor" if all(r.scale and _whole(r.scale) for r in todo) else ""
    if x.rank < 3 or any(r.axis < 2 for r in todo) or cx.int("antialias", 0):
        return None
    by_axis = {r.axis: r for r in todo}
    new = [by_axis[d].new if d in by_axis else x.shape[d] for d in range(2, x.rank)]
    scales = [by_axis[d].scale if d in by_axis else 1.0 for d in range(2, x.rank)]
    if mode == "nearest" and how == "asymmetric" and rounding == "floor":
        return ops.resize_nearest(cx.b, x, new, scales)
    if mode == "linear" and x.dtype.is_float and how in ("half_pixel", "align_corners"):
        exact = all(s is None or s >= 1 for s in scales)
        if exact:
            return ops.resize_linear(cx.b, x, new, scales, how == "align_corners")
    return None


def _along(cx: Context, x: Value, r: Resizing, how: str, mode: str, old_rules: bool) -> Value:
    """x resized along one axis by weights of neighbours."""
    old, new = int(r.old.value), int(r.new.value)
    scale = r.scale if r.scale is not None else new / old
    at = _places(how, old, new, scale, r.roi)
    if old_rules:
        at = np.arange(new, dtype=np.float32) / np.float32(scale)
    if mode == "nearest":
        given = cx.text("nearest_mode", "round_prefer_floor")
        rounding = _old_rounding(r.scale) if old_rules else given
        place = np.clip(_ROUND[rounding](at), 0, old - 1).astype(np.int64)
        y = ops.take(cx.b, x, cx.array(place), r.axis)
    else:
        y = _weighted(cx, x, r.axis, *_taps(cx, at, old, scale, mode))
    if how != "tf_crop_and_resize":
        return y
    inside = (at >= 0) & (at <= old - 1)
    shape = [1] * x.rank
    shape[r.axis] = new
    fill = cx.float("extrapolation_value", 0.0)
    return ops.select(cx.b, cx.array(inside.reshape(shape)), y, fill)


def _whole(scale: float) -> bool:
    """Whether places fall on whole numbers at one of the two ends, so that rounding is exact."""
    return scale == int(scale) or 1 / scale == int(1 / scale)


def _old_rounding(scale: float | None) -> str:
    """How places were rounded before a model said it: ONNX Runtime takes the later neighbour of an
    axis that shrinks.
    """
    return "ceil" if scale is not None and scale < 1 else "floor"


_ROUND: dict[str, Any] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _places(how: str, old: int, new: int, scale: float, roi: tuple[float, float]) -> Array:
    """Where in the operand each place of the result lies."""
    p, width = np.arange(new, dtype=np.float64), scale * old
    if how == "align_corners":
        return p * 0.0 if width == 1 else p * (old - 1) / (width - 1)
    if how == "asymmetric":
        return p / scale
    if how == "tf_crop_and_resize":
        low, high = roi
        if width == 1:
            return np.full(new, (high - low) * (old - 1) / 2 + low * (old - 1))
        return p * (high - low) * (old - 1) / (width - 1) + low * (old - 1)
    if how == "pytorch_half_pixel" and width == 1:
        return np.full(new, -0.5)
    offset = old / 2 * (1 - new / width) if how == "half_pixel_symmetric" else 0.0
    return offset + (p + 0.5) / scale - 0.5


def _taps(cx: Context, at: Array, old: int, scale: float, mode: str) -> tuple[Array, Array]:
    """(places [new, taps], weights [new, taps]) of each sum."""
    left = np.ceil(at) - 1
    ratio = (at - left)[:, None]  # in (0, 1]
    shrink = min(scale, 1.0) if cx.int("antialias", 0) else 1.0
    reach = 2 if mode == "cubic" else 1
    start = math.floor(-reach / shrink) + 1
    steps = np.arange(start, 2 - start)
    distance = np.abs(steps - ratio) * shrink
    weights = (
        _cubic(distance, cx.float("cubic_coeff_a", -0.75))
        if mode == "cubic"
        else (np.clip(1 - distance, 0, 1))
    )
    place = left[:, None] + steps
    if cx.int("exclude_outside", 0):
        weights = np.where((place < 0) | (place > old - 1), 0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    return np.clip(place, 0, old - 1).astype(np.int64), weights


def _cubic(d: Array, a: float) -> Array:
    """Keys's kernel (1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weighted(cx: Context, x: Value, axis: int, place: Array, weights: Array) -> Value:
    shape = [1] * x.rank
    shape[axis] = len(place)
    total: Value | None = None
    for k in range(place.shape[1]):
        if not weights[:, k].any():
            continue
        row = ops.take(cx.b, x, cx.array(np.ascontiguousarray(place[:, k])), axis)
        w = cx.array(weights[:, k].astype(x.dtype.numpy).reshape(shape))
        term = ops.mul(cx.b, row, w)
        total = term if total is None else ops.add(cx.b, total, term)
    if total is None:
        raise CompileError("Resize to places that lie outside")
    return total


# ---- GridSample ----------------------------------------------------------------------------------


@onnx("GridSample")
def _grid_sample(cx: Context, x: Value, grid: Value) -> Value:
    """x at the places of a grid, which holds (.., y, x) in [-1, 1] from border to border."""
    b, n = cx.b, x.rank - 2
    align = bool(cx.int("align_corners", 0))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(cx.text("mode", "linear"), "")
    mode = mode or cx.text("mode", "linear")
    outside = cx.text("padding_mode", "zeros")
    wide = ops.cast(b, grid, f32)
    coordinates = []
    for d in range(n):
        p = ops.select_index(b, wide, -1, n - 1 - d)
        size = ops.cast(b, ops.scalar(b, x.shape[d + 2]), f32)
        p = ops.add(b, p, 1.0)
        if align:
            p = ops.mul(b, p, ops.div(b, ops.sub(b, size, 1.0), 2.0))
        else:
            p = ops.div(b, ops.sub(b, ops.mul(b, p, size), 1.0), 2.0)
        if mode == "nearest":
            p = ops.round(b, p)
        coordinates.append(_bounded(cx, p, size, align, outside))
    y = sampled(cx, x, coordinates, mode, outside, align)
    return ops.cast(b, y, x.dtype)


def _bounded(cx: Context, p: Value, size: Value, align: bool, outside: str) -> Value:
    if outside == "border":
        return ops.clamp(cx.b, p, 0.0, ops.sub(cx.b, size, 1.0))
    return _reflected(cx, p, size, align) if outside == "reflection" else p


def _reflected(cx: Context, p: Value, size: Value, align: bool) -> Value:
    """A place folded at the borders until it lies between them."""
    b = cx.b
    low = 0.0 if align else -0.5
    span = ops.sub(b, size, 1.0) if align else size
    twice = ops.mul(b, span, 2.0)
    u = ops.mod(b, ops.sub(b, p, low), ops.max(b, twice, 1e-6))
    folded = ops.select(b, ops.gt(b, u, span), ops.sub(b, twice, u), u)
    inside = ops.logical_and(b, ops.ge(b, p, low), ops.le(b, p, ops.add(b, span, low)))
    return ops.select(b, inside, p, ops.add(b, folded, low))


def sampled(
    cx: Context, x: Value, at: Sequence[Value], mode: str, outside: str = "zeros",
    align: bool = True,
) -> Value:  # fmt: skip
    """x[n, channels, spatial..] at float places, one value [n, place..] a spatial dim."""
    b = cx.b
    shape = at[0].shape
    count = simplify(product(shape[1:]))
    flat = ops.reshape(b, x, (*x.shape[:2], simplify(product(x.shape[2:]))))
    taps = [_axis_taps(cx, p, x.shape[d + 2], mode, outside, align) for d, p in enumerate(at)]
    total: Value | None = None
    for choice in np.ndindex(*(len(t) for t in taps)):
        place: Value | None = None
        weight: Value | None = None
        for d, k in enumerate(choice):
            index, w = taps[d][k]
            step = ops.scalar(b, x.shape[d + 2])
            place = index if place is None else ops.add(b, ops.mul(b, place, step), index)
            weight = w if weight is None else ops.mul(b, weight, w)
        assert place is not None
        assert weight is not None
        row = ops.reshape(b, place, (shape[0], ONE, count))
        row = ops.expand(b, row, (shape[0], x.shape[1], count))
        term = ops.cast(b, ops.take_along_axis(b, flat, row, 2), f32)
        factor = ops.reshape(b, weight, (shape[0], ONE, count))
        term = ops.select(b, ops.eq(b, factor, 0.0), 0.0, ops.mul(b, term, factor))
        total = term if total is None else ops.add(b, total, term)
    assert total is not None
    return ops.reshape(b, total, (*x.shape[:2], *shape[1:]))


def _axis_taps(
    cx: Context, p: Value, size: Expr, mode: str, outside: str, align: bool
) -> list[tuple[Value, Value]]:
    """(index, weight) of each neighbour along one axis; the weight is 0 outside of zeros."""
    b = cx.b
    low = ops.floor(b, p)
    ratio = ops.sub(b, p, low)
    steps = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[mode]
    extent = ops.scalar(b, size)
    wide = ops.cast(b, extent, f32)
    out = []
    for s in steps:
        place = ops.add(b, low, float(s))
        if outside == "reflection":
            place = ops.trunc(b, _reflected(cx, place, wide, align))
        index = ops.cast(b, ops.clamp(b, place, -4.0, ops.add(b, wide, 4.0)), i64)
        weight = _tap_weight(cx, ratio, s, mode)
        if outside == "zeros":
            inside = ops.logical_and(b, ops.ge(b, index, 0), ops.lt(b, index, extent))
            weight = ops.select(b, inside, weight, 0.0)
        last = ops.sub(b, extent, 1)
        out.append((ops.clamp(b, index, 0, last), weight))
    return out


def _tap_weight(cx: Context, ratio: Value, step: int, mode: str) -> Value:
    b = cx.b
    if mode == "nearest":
        return ops.full(b, ratio.shape, 1.0, f32)
    d = ops.abs(b, ops.sub(b, ratio, float(step)))
    if mode == "linear":
        return ops.sub(b, ops.full(b, (), 1.0, f32), d)
    a = -0.75
    coefficients = (a + 2, -(a + 3), 0.0, 1.0) if step in (0, 1) else (a, -5 * a, 8 * a, -4 * a)
    out = ops.full(b, (), coefficients[0], f32)
    for c in coefficients[1:]:
        out = ops.add(b, ops.mul(b, out, d), c)
    return out


# ---- DeformConv ----------------------------------------------------------------------------------


@onnx("DeformConv")
def _deform_conv(
    cx: Context, x: Value, w: Value, offset: Value, bias: Value | None = None,
    mask: Value | None = None,
) -> Value:  # fmt: skip
    """Convolution whose places are moved by offsets (Dai et al., 2017; Zhu et al., 2019)."""
    b = cx.b
    if x.rank != 4 or not all(s.is_const for s in (*x.shape, *w.shape, *offset.shape)):
        raise UnsupportedError("DeformConv of other than 2 spatial dims or of symbolic sizes")
    n, c, _, _ = (int(s.value) for s in x.shape)
    o, _, kh, kw = (int(s.value) for s in w.shape)
    oh, ow = (int(s.value) for s in offset.shape[2:])
    groups, parts, k = cx.int("group", 1), cx.int("offset_group", 1), kh * kw
    strides, dilations = cx.ints("strides", (1, 1)), cx.ints("dilations", (1, 1))
    pads = cx.ints("pads", (0, 0, 0, 0))
    moved = ops.reshape(b, offset, (n, parts, k, 2, oh, ow))
    start = np.zeros((2, k, oh, ow), np.float32)
    for d, (i, size) in enumerate(((kh, oh), (kw, ow))):
        along = np.arange(i).reshape((-1, 1) if d == 0 else (1, -1)) * dilations[d]
        taps = np.broadcast_to(along, (kh, kw)).reshape(k, 1, 1)
        line = (np.arange(size) * strides[d] - pads[d]).reshape((-1, 1) if d == 0 else (1, -1))
        start[d] = taps + line
    rows = []
    each = c // parts
    for g in range(parts):
        own = ops.select_index(b, moved, 1, g)
        at = [
            ops.add(b, ops.select_index(b, own, 2, d), cx.array(start[d : d + 1])) for d in (0, 1)
        ]
        y = sampled(cx, ops.slice_axis(b, x, 1, g * each, (g + 1) * each), at, "linear")
        if mask is not None:
            own_mask = ops.reshape(b, mask, (n, parts, k, oh, ow))
            y = ops.mul(b, y, ops.unsqueeze(b, ops.select_index(b, own_mask, 1, g), 1))
        rows.append(y)
    columns = ops.concat(b, rows, 1) if parts > 1 else rows[0]
    columns = ops.reshape(b, columns, (n, groups, c // groups * k, oh * ow))
    weights = ops.reshape(b, w, (1, groups, o // groups, c // groups * k))
    out = ops.reshape(b, ops.matmul(b, weights, ops.cast(b, columns, w.dtype)), (n, o, oh, ow))
    return out if bias is None else ops.add(b, out, ops.reshape(b, bias, (o, 1, 1)))
