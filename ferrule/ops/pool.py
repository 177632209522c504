"""Pooling: folds over windows of the spatial dims of x[n, channels, spatial..].

    max_pool   y[n, c, p..] = max over k.. of x[n, c, p*stride + k*dilation - low]
    avg_pool   y[n, c, p..] = sum over k.. of the same, divided by the number of elements

What lies outside of x is left out. Adaptive pooling splits a dim of size s into m windows, the
i-th from floor(i*s/m) up to ceil((i+1)*s/m): where m divides s these are plain windows of s/m.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ferrule.base.dtype import from_numpy, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    call,
    cast,
    ceildiv,
    const,
    le,
    load,
    lt,
    maximum,
    minimum,
    product,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.interp.scalar import apply
from ferrule.ir.monoids import MAX, POOLED_ARGMAX, SUM
from ferrule.ir.simplify import equal, prove, prove_nonneg, simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage
from ferrule.ops.conv import Padding, paddings, spatial
from ferrule.ops.op import Array, Index, check_kind, define, element, stage, upcast
from ferrule.ops.reduce import max_with_index, mean
from ferrule.ops.view import reshape

Size = Expr | int


# ---- windows -------------------------------------------------------------------------------------


def _pooled_shape(name: str, x: TensorType, attrs: Attrs) -> tuple[Expr, ...]:
    n = len(attrs["kernel"])
    if x.rank != n + 2 or not all(len(attrs[k]) == n for k in ("stride", "padding", "dilation")):
        raise CompileError(
            f"{name} over {n} dims takes x[n, channels, ..] of rank {n + 2}, got {x}"
        )
    return (*x.shape[:2], *(_windows(x.shape[d + 2], d, attrs) for d in range(n)))


def _windows(size: Expr, d: int, attrs: Attrs) -> Expr:
    """How many windows dim `d` has. With `ceil_mode` one may run over the high end; it must start
    inside of x or of its low padding.
    """
    low, high = attrs["padding"][d]
    stride, reach = attrs["stride"][d], (attrs["kernel"][d] - 1) * attrs["dilation"][d] + 1
    span = simplify(size + low + high - reach)
    floor = simplify(span // stride + 1)
    if not attrs["ceil_mode"] or stride == 1:
        return floor
    count = simplify(ceildiv(span, stride) + 1)
    starts = simplify(ceildiv(size + low, stride))  # windows that start before the high end
    if prove_nonneg(simplify(starts - count)):
        return count
    return simplify(minimum(count, starts))


def _window(x: Buf, place: Index, window: Index, attrs: Attrs) -> tuple[Index, list[Expr]]:
    """The spatial index into x, and what must hold of it."""
    index, guards = [], []
    for d, (p, k) in enumerate(zip(place, window, strict=True)):
        low, high = attrs["padding"][d]
        i = simplify(p * attrs["stride"][d] + k * attrs["dilation"][d] - low)
        guards += [] if low is ZERO else [le(ZERO, i)]
        overhangs = attrs["ceil_mode"] and attrs["stride"][d] > 1
        guards += [lt(i, x.shape[d + 2])] if overhangs or high is not ZERO else []
        index.append(i)
    return tuple(index), guards


def _guard(guards: list[Expr]) -> Expr | None:
    where = simplify(both(*guards))
    return None if where.is_const and where.value else where


def _gather(x: Array, out: tuple[int, ...], attrs: Attrs) -> tuple[Array, Array, Array]:
    """The elements of each window, last; whether each is inside of x, and its flat place in x."""
    inside: Any = True
    place: Any = 0
    values = x
    n = len(attrs["kernel"])
    for d in range(n):
        low, _ = attrs["padding"][d]
        first = np.arange(out[d]) * attrs["stride"][d] - low
        i = first[:, None] + np.arange(attrs["kernel"][d]) * attrs["dilation"][d]
        size = x.shape[d + 2]
        axis = 2 + 2 * d
        if size:
            values = np.take(values, np.clip(i, 0, size - 1), axis=axis)
        else:  # all windows are outside
            shape = (*values.shape[:axis], *i.shape, *values.shape[axis + 1 :])
            values = np.zeros(shape, values.dtype)
        spread = [1] * (2 * n)
        spread[2 * d : 2 * d + 2] = i.shape
        inside = inside & ((i >= 0) & (i < size)).reshape(spread)
        place = place * size + i.reshape(spread)
    order = (*range(0, 2 * n, 2), *range(1, 2 * n, 2))
    flat = (*out, prod(attrs["kernel"]))
    lead = (0, 1, *(o + 2 for o in order))
    values = values.transpose(lead).reshape(*x.shape[:2], *flat)
    inside = np.broadcast_to(inside, np.broadcast_shapes(np.shape(inside), np.shape(place)))
    return values, inside.transpose(order).reshape(flat), place.transpose(order).reshape(flat)


def _counts(x: tuple[int, ...], attrs: Attrs) -> tuple[int, ...]:
    """The numbers of windows as integers."""
    shape = (_windows(as_index(s), d, attrs) for d, s in enumerate(x[2:]))
    return tuple(int(s.value) for s in shape)


def _exprs(attrs: Attrs) -> Attrs:
    """`attrs` with the padding as Exprs again, for the type rule."""
    pairs = tuple((as_index(lo), as_index(hi)) for lo, hi in attrs["padding"])
    return {**attrs, "padding": pairs}


# ---- max_pool ------------------------------------------------------------------------------------


def _max_infer(types: tuple[TensorType, ...], attrs: Attrs) -> Any:
    (x,) = types
    check_kind("max_pool", x, "fiu")
    shape = _pooled_shape("max_pool", x, attrs)
    out = tensor(shape, x.dtype)
    return (out, tensor(shape, i64)) if attrs["with_indices"] else out


def _max_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,) = ins
    n, c, *place = axes = ctx.axes(outs[0].shape)
    window = ctx.axes(map(as_index, attrs["kernel"]), "k")
    index, guards = _window(x, tuple(place), window, attrs)
    value = element(x, n, c, *index)
    if not attrs["with_indices"]:
        return _narrowed(ctx, outs, axes, (value,), Reduce(window, MAX(value.dtype)), guards)
    at: Expr = ZERO
    for i, size in zip(index, x.shape[2:], strict=True):
        at = at * size + i
    fold = Reduce(window, POOLED_ARGMAX(value.dtype))
    return _narrowed(ctx, outs, axes, (value, simplify(at)), fold, guards)


def _narrowed(
    ctx: ComputeContext,
    outs: tuple[Buf, ...],
    axes: Index,
    values: Index,
    fold: Reduce,
    guards: list[Expr],
) -> list[Stage]:
    """The fold of `values` into `outs`; f16 and bf16 by way of f32."""
    wide = [
        ctx.buf("wide", o.shape, v.dtype) if o.dtype != v.dtype else o
        for o, v in zip(outs, values, strict=True)
    ]
    compute = Compute(axes, values, fold, _guard(guards))
    stages = [Stage(wide[0].name, tuple(Access(w, axes) for w in wide), compute)]
    for o, w in zip(outs, wide, strict=True):
        stages += [stage(o, axes, load(w, *axes))] if o is not w else []
    return stages


def _last_nan(found: Array, nan: Array) -> Array:
    """The indices `found` along the last axis, but the last where `nan` where that is anywhere."""
    last = nan.shape[-1] - 1 - nan[..., ::-1].argmax(-1)
    return np.where(nan.any(-1), last, found)


def _max_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Any:
    (x,) = arrays
    worst = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    values, inside, place = _gather(x, _counts(x.shape, _exprs(attrs)), attrs)
    values = np.where(inside, values, np.asarray(worst, x.dtype))
    if not attrs["with_indices"]:
        return values.max(-1)
    # Only what is inside can be found, also where all of it is as small as what is not.
    rank = np.where(np.isnan(values), 2, np.where(values == values.max(-1, keepdims=True), 1, 0))
    found = _last_nan(np.where(inside, rank, -1).argmax(-1), inside & np.isnan(values))
    index = np.take_along_axis(np.broadcast_to(place, values.shape), found[..., None], -1)
    index = np.where(inside.any(-1), index[..., 0], np.iinfo(np.int64).max)
    return values.max(-1), index


define("max_pool", _max_infer, _max_meaning, _max_compute)


def max_pool(
    b: GraphBuilder,
    x: Value,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    with_indices: bool = False,
) -> Any:
    """The greatest element of each window of x[n, channels, spatial..].

    `stride` is the kernel by default; `padding` gives one amount a dim or (low, high);
    `with_indices` also gives where each was found: an i64 index into the flattened spatial dims,
    the greatest i64 for a window of padding alone.
    """
    n = x.rank - 2
    size = spatial(kernel, n)
    return b.emit(
        "max_pool",
        x,
        kernel=size,
        stride=size if stride is None else spatial(stride, n),
        padding=paddings(padding, n),
        dilation=spatial(dilation, n),
        ceil_mode=ceil_mode,
        with_indices=with_indices,
    )


# ---- avg_pool ------------------------------------------------------------------------------------


def _avg_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (x,) = types
    check_kind("avg_pool", x, "fi")
    return tensor(_pooled_shape("avg_pool", x, attrs), x.dtype)


def _avg_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (out,) = ins, outs
    n, c, *place = axes = ctx.axes(out.shape)
    window = ctx.axes(map(as_index, attrs["kernel"]), "k")
    index, guards = _window(x, tuple(place), window, attrs)
    value = element(x, n, c, *index)
    total = ctx.buf("total", out.shape, value.dtype)
    summed = stage(total, axes, value, Reduce(window, SUM(value.dtype)), _guard(guards))
    again = ctx.axes(out.shape)
    count = _count(x, again[2:], attrs)
    part = load(total, *again)
    if not part.dtype.is_float:
        return [summed, stage(out, again, call("truncdiv", part, cast(count, part.dtype)))]
    if count.is_const:
        return [summed, stage(out, again, part * const(1 / count.value, part.dtype))]
    return [summed, stage(out, again, part / cast(count, part.dtype))]


def _count(x: Buf, place: Index, attrs: Attrs) -> Expr:
    """What the sum of the window at `place` is divided by."""
    if attrs["divisor"]:
        return as_index(attrs["divisor"])
    sizes = []
    for d, p in enumerate(place):
        low, high = attrs["padding"][d]
        size, first = x.shape[d + 2], simplify(p * attrs["stride"][d] - low)
        stop = simplify(first + attrs["kernel"][d])
        if attrs["include_pad"]:
            sizes.append(_least(stop, simplify(size + high)) - first)
        else:
            start = first if low is ZERO else maximum(first, ZERO)
            sizes.append(_least(stop, size) - start)
    return simplify(product(sizes))


def _least(stop: Expr, end: Expr) -> Expr:
    return stop if prove(le(stop, end)) else minimum(stop, end)


def _avg_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x = upcast(arrays[0])
    out = _counts(x.shape, _exprs(attrs))
    values, inside, _ = _gather(x, out, attrs)
    floats = x.dtype.kind == "f"
    total = np.where(inside, values, 0).sum(-1, dtype=np.float64 if floats else x.dtype)
    count: Any = 1
    for d in range(len(out)):
        low, high = attrs["padding"][d]
        first = np.arange(out[d]) * attrs["stride"][d] - low
        stop = first + attrs["kernel"][d]
        if attrs["include_pad"]:
            size = np.minimum(stop, x.shape[d + 2] + high) - first
        else:
            size = np.minimum(stop, x.shape[d + 2]) - np.maximum(first, 0)
        count = count * size.reshape([-1 if e == d else 1 for e in range(len(out))])
    parts = attrs["divisor"] or count
    if floats:
        return np.asarray(total / parts).astype(x.dtype)
    return apply("truncdiv", from_numpy(x.dtype), [total, np.asarray(parts, x.dtype)])


define("avg_pool", _avg_infer, _avg_meaning, _avg_compute)


def avg_pool(
    b: GraphBuilder,
    x: Value,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean of each window of x[n, channels, spatial..]; of integers, rounded to zero.

    Padding counts as zeros with `count_include_pad`, else it is left out of the mean;
    `divisor_override` is what the sums are divided by instead.
    """
    n = x.rank - 2
    size = spatial(kernel, n)
    out: Value = b.emit(
        "avg_pool",
        x,
        kernel=size,
        stride=size if stride is None else spatial(stride, n),
        padding=paddings(padding, n),
        dilation=(1,) * n,
        ceil_mode=ceil_mode,
        include_pad=count_include_pad,
        divisor=divisor_override or 0,
    )
    return out


# ---- adaptive pooling ----------------------------------------------------------------------------


def _cut(x: Value, sizes: tuple[Expr, ...]) -> tuple[int, ...] | None:
    """The plain window that cuts x into `sizes`, if every size divides and is known."""
    ratios = [simplify(s // m) for s, m in zip(x.shape[2:], sizes, strict=True)]
    fits = all(equal(r * m, s) for r, m, s in zip(ratios, sizes, x.shape[2:], strict=True))
    return tuple(int(r.value) for r in ratios) if fits and all(r.is_const for r in ratios) else None


def _adaptive_infer(types: tuple[TensorType, ...], attrs: Attrs) -> Any:
    (x,) = types
    sizes = attrs["sizes"]
    if x.rank != len(sizes) + 2:
        raise CompileError(f"adaptive pooling to {len(sizes)} dims of {x}: expected 2 more dims")
    out = tensor((*x.shape[:2], *sizes), x.dtype)
    return (out, tensor(out.shape, i64)) if attrs["kind"] == "max" else out


def _span(p: Expr, size: Expr) -> tuple[Expr, Expr]:
    """Where the window of `p` starts and stops."""
    return simplify(p * size // p.extent), simplify(ceildiv((p + 1) * size, p.extent))


def _widest(size: Expr, count: Expr) -> Expr:
    """No window has more elements: ceil(size / count), one more where they do not divide."""
    return simplify(size // count) if equal(size % count, ZERO) else simplify(size // count + 2)


def _adaptive_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,) = ins
    n, c, *place = axes = ctx.axes(outs[0].shape)
    sizes = x.shape[2:]
    window = ctx.axes((_widest(s, p.extent) for p, s in zip(place, sizes, strict=True)), "k")
    spans = [_span(p, s) for p, s in zip(place, sizes, strict=True)]
    index = [simplify(first + k) for (first, _), k in zip(spans, window, strict=True)]
    guards = [lt(i, stop) for i, (_, stop) in zip(index, spans, strict=True)]
    value = element(x, n, c, *index)
    if attrs["kind"] == "max":
        at: Expr = ZERO
        for i, size in zip(index, sizes, strict=True):
            at = at * size + i
        fold = Reduce(window, POOLED_ARGMAX(value.dtype))
        return _narrowed(ctx, outs, axes, (value, simplify(at)), fold, guards)
    total = ctx.buf("total", outs[0].shape, value.dtype)
    summed = stage(total, axes, value, Reduce(window, SUM(value.dtype)), _guard(guards))
    again = ctx.axes(outs[0].shape)
    ends = [_span(p, s) for p, s in zip(again[2:], sizes, strict=True)]
    count = product([stop - first for first, stop in ends])
    mean_ = call("div", load(total, *again), cast(count, value.dtype))
    return [summed, stage(outs[0], again, mean_)]


def _adaptive_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Any:
    x, sizes = upcast(arrays[0]), attrs["sizes"]
    out = np.zeros((*x.shape[:2], *sizes), x.dtype)
    index = np.zeros(out.shape, np.int64)
    flat = np.arange(int(np.prod(x.shape[2:]))).reshape(x.shape[2:])
    for p in np.ndindex(*sizes):
        cut = tuple(
            slice(i * s // m, -((i + 1) * s // -m))
            for i, s, m in zip(p, x.shape[2:], sizes, strict=True)
        )
        at = (slice(None), slice(None), *p)
        values = x[(slice(None),) * 2 + cut]
        values = values.reshape(*x.shape[:2], prod(values.shape[2:]))
        if attrs["kind"] == "max":
            out[at] = values.max(-1)
            found = _last_nan(values.argmax(-1), np.isnan(values))
            index[at] = flat[cut].reshape(-1)[found]
        else:
            out[at] = values.astype(np.float64).mean(-1)
    return (out, index) if attrs["kind"] == "max" else out


def _has_points(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    return [lt(ZERO, s) for s in types[0].shape[2:]]


define(
    "adaptive_pool", _adaptive_infer, _adaptive_meaning, _adaptive_compute, requires=_has_points
)


def adaptive_avg_pool(b: GraphBuilder, x: Value, output_size: Sequence[Size]) -> Value:
    """The mean of each of `output_size` windows that together cover x[n, channels, spatial..]."""
    check_kind("adaptive_avg_pool", x.type, "f")
    sizes = tuple(simplify(as_index(s)) for s in output_size)
    axes = tuple(range(2, x.rank))
    if all(s is ONE for s in sizes) and len(sizes) == len(axes):
        return mean(b, x, axes, keepdims=True)
    cut = _cut(x, sizes) if len(sizes) == len(axes) else None
    if cut is not None:
        return avg_pool(b, x, cut, cut)
    out: Value = b.emit("adaptive_pool", x, sizes=sizes, kind="avg")
    return out


def adaptive_max_pool(
    b: GraphBuilder, x: Value, output_size: Sequence[Size]
) -> tuple[Value, Value]:
    """(greatest elements, i64 indices into the flattened spatial dims) of each of `output_size`
    windows that together cover x[n, channels, spatial..].
    """
    sizes = tuple(simplify(as_index(s)) for s in output_size)
    check_kind("adaptive_max_pool", x.type, "fiu")
    if all(s is ONE for s in sizes) and len(sizes) == x.rank - 2:
        values, index = max_with_index(b, reshape(b, x, (*x.shape[:2], product(x.shape[2:]))), 2)
        shape = (*x.shape[:2], *sizes)
        return reshape(b, values, shape), reshape(b, index, shape)
    cut = _cut(x, sizes) if len(sizes) == x.rank - 2 else None
    if cut is not None:
        plain: tuple[Value, Value] = max_pool(b, x, cut, cut, with_indices=True)
        return plain
    out: tuple[Value, Value] = b.emit("adaptive_pool", x, sizes=sizes, kind="max")
    return out
