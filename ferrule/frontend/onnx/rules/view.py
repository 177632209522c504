"""ONNX rules: shapes, slices, joins, and tensors made of nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.table import (
    Assume,
    Context,
    dtype_of,
    element_type,
    integers,
    onnx,
    sizes,
)
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, ceildiv, le, maximum, minimum, product
from ferrule.ir.expr import dims as dims_of
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, prove, prove_nonneg, simplify

Known = Array | None
Size = int | Expr


def axes_of(cx: Context, axes: Known, rank: int) -> tuple[int, ...] | None:
    """Axes as an operand or an attribute, counted from the front; None where neither is given."""
    given = integers(axes) if axes is not None else cx.ints("axes", ()) if cx.has("axes") else None
    if given is None:
        return None
    for d in given:
        if not -rank <= d < rank:
            raise CompileError(f"axis {d} is out of range for a tensor of rank {rank}")
    return tuple(d + rank if d < 0 else d for d in given)


# ---- shapes --------------------------------------------------------------------------------------


@onnx("Reshape", static=(1,), sizes=True)
def _reshape(cx: Context, x: Value, shape: Known = None) -> Value:
    given = cx.ints("shape") if shape is None else sizes(shape)
    keep_zero = bool(cx.int("allowzero", 0))
    out: list[Size] = []
    for d, s in enumerate(given):
        copied = isinstance(s, int) and s == 0 and not keep_zero
        if copied and d >= x.rank:
            raise CompileError(f"Reshape of {x.type}: it has no axis {d} to take the size of")
        out.append(x.shape[d] if copied else s)
    free = [d for d, s in enumerate(out) if isinstance(s, int) and s == -1]
    if len(free) > 1 or any(isinstance(s, int) and s < -1 for s in out):
        raise CompileError(f"Reshape of {x.type}: {list(given)} is no shape")
    if free:
        out[free[0]] = _rest(x, [as_index(s) for d, s in enumerate(out) if d != free[0]])
    return ops.reshape(cx.b, x, out)


def _rest(x: Value, others: Sequence[Expr]) -> Expr:
    """The size that makes up for the `others` of a reshape."""
    left, right = list(x.shape), list(others)
    for s in others:
        twin = next((t for t in left if equal(s, t)), None)
        if twin is not None:
            left.remove(twin)
            right.remove(s)
    total, known = simplify(product(left)), simplify(product(right))
    if known.is_const and known.value == 0:
        raise CompileError(f"Reshape of {x.type}: -1 beside a size of 0 has no meaning")
    if known.is_const and total.is_const and total.value % known.value:
        raise CompileError(f"Reshape of {x.type}: {known.value} does not divide {total.value}")
    return simplify(total // known)


@onnx("Flatten")
def _flatten(cx: Context, x: Value) -> Value:
    axis = cx.int("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    shape = (product(x.shape[:axis]), product(x.shape[axis:]))
    return ops.reshape(cx.b, x, [simplify(s) for s in shape])


@onnx("Transpose")
def _transpose(cx: Context, x: Value) -> Value:
    return ops.transpose(cx.b, x, cx.ints("perm", tuple(range(x.rank))[::-1]))


@onnx("Squeeze", static=(1,))
def _squeeze(cx: Context, x: Value, axes: Known = None) -> Value:
    given = axes_of(cx, axes, x.rank)
    if given is None:
        if not all(s.is_const for s in x.shape):
            raise UnsupportedError("Squeeze without axes of a tensor of symbolic sizes")
        given = tuple(d for d, s in enumerate(x.shape) if s is ONE)
    for d in given:
        if x.shape[d].is_const and x.shape[d] is not ONE:
            raise CompileError(f"Squeeze of {x.type}: axis {d} is not of size 1")
    return ops.reshape(cx.b, x, [s for d, s in enumerate(x.shape) if d not in given])


@onnx("Unsqueeze", static=(1,))
def _unsqueeze(cx: Context, x: Value, axes: Known = None) -> Value:
    count = len(axes.reshape(-1)) if axes is not None else len(cx.ints("axes"))
    given = axes_of(cx, axes, x.rank + count) or ()
    rest = iter(x.shape)
    shape = [ONE if d in given else next(rest) for d in range(x.rank + count)]
    return ops.reshape(cx.b, x, shape)


@onnx("Expand", static=(1,), sizes=True)
def _expand(cx: Context, x: Value, shape: Array) -> Value:
    given = [as_index(s) for s in sizes(shape)]
    rank = max(len(given), x.rank)
    lead = (ONE,) * rank
    own, other = ((*lead, *s)[-rank:] if rank else () for s in (x.shape, given))
    wide = [b if equal(a, ONE) else a for a, b in zip(own, other)]
    for a, b in zip(wide, other):
        if not equal(a, b) and not equal(b, ONE):
            raise CompileError(f"Expand of {x.type} to {list(given)}: these do not broadcast")
    return ops.expand(cx.b, x, wide)


@onnx("Tile", static=(1,), sizes=True, since=6)
def _tile(cx: Context, x: Value, repeats: Array) -> Value:
    return ops.tile(cx.b, x, sizes(repeats))


@onnx("Tile", static=(1, 2))
def _tile_1(cx: Context, x: Value, tiles: Array, axis: Array) -> Value:
    repeats = [1] * x.rank
    repeats[integers(axis)[0]] = integers(tiles)[0]
    return ops.tile(cx.b, x, repeats)


@onnx("DepthToSpace")
def _depth_to_space(cx: Context, x: Value) -> Value:
    r = cx.int("blocksize")
    n, c, h, w = x.shape
    inner = simplify(c // (r * r))
    crd = cx.text("mode", "DCR") == "CRD"
    split = (n, inner, r, r, h, w) if crd else (n, r, r, inner, h, w)
    order = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    y = ops.transpose(cx.b, ops.reshape(cx.b, x, split), order)
    return ops.reshape(cx.b, y, (n, inner, simplify(h * r), simplify(w * r)))


@onnx("SpaceToDepth")
def _space_to_depth(cx: Context, x: Value) -> Value:
    r = cx.int("blocksize")
    n, c, h, w = x.shape
    high, wide = simplify(h // r), simplify(w // r)
    y = ops.reshape(cx.b, x, (n, c, high, r, wide, r))
    crd = cx.text("mode", "DCR") == "CRD"
    y = ops.transpose(cx.b, y, (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4))
    return ops.reshape(cx.b, y, (n, simplify(c * (r * r)), high, wide))


# ---- slices and joins ----------------------------------------------------------------------------


@onnx("Concat")
def _concat(cx: Context, *xs: Value) -> Value:
    return ops.concat(cx.b, xs, cx.int("axis", 1)) if len(xs) > 1 else xs[0]


@onnx("Split", static=(1,))
def _split(cx: Context, x: Value, parts: Known = None) -> Any:
    axis = cx.int("axis", 0)
    n = x.shape[axis]
    if parts is not None:
        given: list[Size] = list(integers(parts))
    elif cx.has("split"):
        given = list(cx.ints("split"))
    else:
        given = _even(n, cx.int("num_outputs", len(cx.op.outputs)))
    total = simplify(sum((as_index(s) for s in given), ZERO))
    if total.is_const and n.is_const and total.value != n.value:
        raise CompileError(f"Split of {x.type} into {given}: these do not add up to {n}")
    return ops.split(cx.b, x, given, axis)


def _even(n: Expr, count: int) -> list[Size]:
    """Sizes of `count` pieces of which the last may be smaller."""
    if count < 1 or count > 1 << 20:
        raise CompileError(f"Split into {count} pieces")
    if not n.is_const:
        if not equal(n % count, ZERO):
            raise UnsupportedError("Split of a symbolic size that the pieces may not divide")
        return [simplify(n // count)] * count
    step = -(-int(n.value) // count)
    return [max(min(step, int(n.value) - i * step), 0) for i in range(count)]


@onnx("Slice", static=(1, 2, 3, 4), sizes=True)
def _slice(
    cx: Context, x: Value, starts: Known = None, ends: Known = None, axes: Known = None,
    steps: Known = None,
) -> Value:  # fmt: skip
    begin = cx.ints("starts") if starts is None else sizes(starts)
    stop = cx.ints("ends") if ends is None else sizes(ends)
    dims = axes_of(cx, axes, x.rank) or tuple(range(len(begin)))
    by = (1,) * len(begin) if steps is None else integers(steps)
    for d, i, j, s in zip(dims, begin, stop, by, strict=True):
        x = _slice_axis(cx, x, d, i, j, s)
    return x


def _slice_axis(cx: Context, x: Value, d: int, start: Size, stop: Size, step: int) -> Value:
    if step == 0:
        raise CompileError("Slice with a step of 0")
    n = x.shape[d]
    if step > 0:
        low = _within(start, n)
        high = _at_least(_within(stop, n), low)
        return ops.slice_axis(cx.b, x, d, low, high, step)
    if not n.is_const or isinstance(start, Expr) or isinstance(stop, Expr):
        far = isinstance(stop, int) and stop < -(1 << 30)
        if step == -1 and start in (-1, (1 << 63) - 1) and far:
            return ops.reverse(cx.b, x, (d,))
        raise UnsupportedError("Slice backwards of a symbolic size")
    size = int(n.value)
    last = None if stop < -size else stop
    places = range(size)[slice(start, last, step)]
    if not len(places):
        return ops.slice_axis(cx.b, x, d, 0, 0)
    part = ops.slice_axis(cx.b, x, d, places[-1], places[0] + 1, -step)
    return ops.reverse(cx.b, part, (d,))


_FAR = 10**9  # exporters write such numbers for "to the end"
_LARGE = 1 << 20  # a size that no dim of such a model passes


def _within(at: Size, n: Expr) -> Expr:
    """A start or stop as a place from 0 to n: negative ones count from the end."""
    if isinstance(at, int) and at >= _FAR and not n.is_const:
        free = min((d for d in dims_of(n) if d.attr.hi is None), key=repr, default=None)
        if at >= 1 << 31 or prove(le(n, as_index(at))):
            return n
        if free is not None:
            raise Assume(free, _LARGE)
    place = as_index(at)
    if isinstance(at, int) and at < 0:
        place = ZERO if at <= -(1 << 31) else simplify(n + at)
    elif not prove_nonneg(simplify(place)):
        raise UnsupportedError(f"Slice at {at}, which may be negative")
    if place.op == "dim" and place.attr.hi is None and n.is_const and n.value > 0:
        raise Assume(
            place, int(n.value)
        )  # a buffer for the longest input, cut to this one's length
    return _at_least(_at_most(simplify(place), n), ZERO)


def _at_least(a: Expr, low: Expr) -> Expr:
    return a if prove(le(low, a)) else low if prove(le(a, low)) else simplify(maximum(a, low))


def _at_most(a: Expr, high: Expr) -> Expr:
    return a if prove(le(a, high)) else high if prove(le(high, a)) else simplify(minimum(a, high))


@onnx("Pad", static=(1, 2, 3), since=11, sizes=True)
def _pad(cx: Context, x: Value, pads: Array, value: Known = None, axes: Known = None) -> Value:
    fill = 0.0 if value is None or not value.size else value.reshape(-1)[0].item()
    return _padded(cx, x, sizes(pads), fill, axes_of(cx, axes, x.rank))


@onnx("Pad")
def _pad_1(cx: Context, x: Value) -> Value:
    pads = cx.ints("pads") if cx.has("pads") else cx.ints("paddings")
    return _padded(cx, x, pads, cx.float("value", 0.0), None)


def _padded(
    cx: Context, x: Value, pads: Sequence[Size], fill: float, axes: tuple[int, ...] | None
) -> Value:
    dims = tuple(range(x.rank)) if axes is None else axes
    low: list[Size] = [0] * x.rank
    high: list[Size] = [0] * x.rank
    for i, d in enumerate(dims):
        low[d], high[d] = pads[i], pads[i + len(dims)]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[cx.text("mode", "constant")]
    if mode == "constant":
        return ops.pad(cx.b, x, low, high, fill)
    return _bordered(cx, x, low, high, mode)


def _bordered(cx: Context, x: Value, low: list[Size], high: list[Size], mode: str) -> Value:
    """Padding with elements of x; amounts larger than x itself by an index of each place.

    What is cropped at one end is gone before the other end is filled by `circular`.
    """
    ints = [v for v in (*low, *high) if isinstance(v, int)]
    known = all(s.is_const for s in x.shape) and len(ints) == 2 * x.rank
    small = known and all(
        0 <= v < (int(s.value) if mode == "reflect" else int(s.value) + 1)
        for s, lo, hi in zip(x.shape, low, high) for v in (lo, hi) if isinstance(v, int)
    )  # fmt: skip
    if small or not known:
        return ops.pad(cx.b, x, low, high, 0.0, mode)
    how = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    for d, (lo, hi) in enumerate(zip(low, high)):
        if lo or hi:
            n, a, z = int(x.shape[d].value), int(str(lo)), int(str(hi))
            first = np.arange(n)
            if mode == "circular":
                first, a, z = first[max(-a, 0) : n - max(-z, 0)], max(a, 0), max(z, 0)
            place = np.pad(first, (max(a, 0), max(z, 0)), how)  # type: ignore[call-overload]
            cut = place[max(-a, 0) : len(place) - max(-z, 0)]
            x = ops.take(cx.b, x, ops.constant(cx.b, cut.tolist(), dtype_of(np.int64)), d)
    return x


@onnx("CenterCropPad", static=(1,))
def _center_crop_pad(cx: Context, x: Value, shape: Array) -> Value:
    axes = axes_of(cx, None, x.rank) or tuple(range(x.rank))
    for d, wanted in zip(axes, integers(shape)):
        if not x.shape[d].is_const:
            raise UnsupportedError("CenterCropPad of a symbolic size")
        n = int(x.shape[d].value)
        if wanted < n:
            start = (n - wanted) // 2
            x = ops.slice_axis(cx.b, x, d, start, start + wanted)
        elif wanted > n:
            low, high = [0] * x.rank, [0] * x.rank
            low[d] = (wanted - n) // 2
            high[d] = wanted - n - low[d]
            x = ops.pad(cx.b, x, low, high)
    return x


# ---- made of nothing -----------------------------------------------------------------------------


@onnx("ConstantOfShape", static=(0,), sizes=True)
def _constant_of_shape(cx: Context, shape: Array) -> Value:
    value = np.asarray(cx.get("value")) if cx.has("value") else np.zeros(1, np.float32)
    given = sizes(shape)
    if any(isinstance(s, int) and s < 0 for s in given):
        raise CompileError(f"ConstantOfShape of {list(given)}: a size is negative")
    return ops.full(cx.b, given, value.reshape(-1)[0].item(), dtype_of(value.dtype))


@onnx("Range", static=(0, 1, 2), sizes=True)
def _range(cx: Context, start: Array, limit: Array, delta: Array) -> Value:
    first, last, step = (x.reshape(-1)[0] for x in (start, limit, delta))
    dtype = dtype_of(np.int64 if start.dtype == np.dtype(object) else start.dtype)
    symbolic = [v for v in (first, last, step) if isinstance(v, Expr)]
    if not symbolic:
        if not step:
            raise CompileError("Range takes a delta other than 0")
        count = max(math.ceil((last.item() - first.item()) / step.item()), 0)
        return ops.arange(cx.b, first.item(), step.item(), count, dtype)
    if isinstance(step, Expr) or int(step) <= 0:
        raise UnsupportedError("Range of symbolic or negative step")
    span = simplify(as_index(_plain(last)) - as_index(_plain(first)))
    count_expr = _at_least(simplify(ceildiv(span, int(step))), ZERO)
    out = ops.arange(cx.b, _plain(first), int(step), count_expr, dtype_of(np.int64))
    return ops.cast(cx.b, out, dtype)


def _plain(x: Any) -> Size:
    return x if isinstance(x, Expr) else int(x)


@onnx("EyeLike")
def _eye_like(cx: Context, x: Value) -> Value:
    dtype = dtype_of(element_type(cx.int("dtype"))) if cx.has("dtype") else x.dtype
    row, column = ops.iota(cx.b, x.shape, 0), ops.iota(cx.b, x.shape, 1)
    return ops.cast(cx.b, ops.eq(cx.b, ops.add(cx.b, row, cx.int("k", 0)), column), dtype)


@onnx("Trilu", static=(1,))
def _trilu(cx: Context, x: Value, k: Known = None) -> Value:
    offset = 0 if k is None else integers(k)[0]
    return (ops.triu if cx.int("upper", 1) else ops.tril)(cx.b, x, offset)
