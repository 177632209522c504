"""Slices and windows: views of a part of their operand.

slice      x[start : stop : step] of each axis; select_index, slice_axis, split by it
diagonal   the elements with equal indices along two axes
unfold     overlapping windows along an axis
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence

import numpy as np

from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    call,
    ceildiv,
    eq,
    le,
    lt,
    maximum,
    minimum,
)
from ferrule.ir.graph import Attrs, GraphBuilder, TensorType, Value
from ferrule.ir.simplify import equal, prove, prove_nonneg, simplify
from ferrule.ops.op import normal_axis
from ferrule.ops.view import define_view, reshape, sizes_of

Size = Expr | int


# ---- slices --------------------------------------------------------------------------------------


def _slice_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    starts, stops, steps = sizes_of(attrs["starts"]), sizes_of(attrs["stops"]), attrs["steps"]
    if not len(starts) == len(stops) == len(steps) == t.rank:
        raise CompileError(f"slice of {t} takes a start, a stop and a step for each of its axes")
    for d, (start, stop, size) in enumerate(zip(starts, stops, t.shape)):
        if any(map(prove, (lt(start, 0), lt(stop, start), lt(size, stop)))):
            raise CompileError(f"slice of {t}: {start} to {stop} is not within axis {d}")
    return [simplify(ceildiv(o - a, step)) for a, o, step in zip(starts, stops, steps)]


def _sliced(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    return tuple(
        start + a * step
        for a, start, step in zip(axes, sizes_of(attrs["starts"]), attrs["steps"], strict=True)
    )


def _within(t: TensorType, attrs: Attrs) -> Iterable[Expr]:
    """No count is negative, and what is counted lies within the axis."""
    starts, stops = sizes_of(attrs["starts"]), sizes_of(attrs["stops"])
    for start, stop, step, size in zip(starts, stops, attrs["steps"], t.shape):
        count = simplify(ceildiv(stop - start, step))
        last = simplify(start + (count - 1) * step)
        yield le(ZERO, count)
        yield call("or", eq(count, ZERO), both(le(ZERO, start), lt(last, size)))


define_view(
    "slice",
    _slice_shape,
    _sliced,
    lambda x, attrs: x[
        tuple(
            builtins.slice(a, max(a, o), s)
            for a, o, s in zip(attrs["starts"], attrs["stops"], attrs["steps"], strict=True)
        )
    ],
    _within,
)


def slice(
    b: GraphBuilder,
    x: Value,
    starts: Sequence[Size],
    stops: Sequence[Size],
    steps: Sequence[int] | None = None,
) -> Value:
    """Elements start, start + step, .. below stop of each axis, with 0 <= start <= stop <= size.

    A program in which this depends on symbolic sizes raises GuardError for sizes that break it.
    """
    begin, end, by = sizes_of(starts), sizes_of(stops), tuple(steps or (1,) * x.rank)
    if (
        all(s is ZERO for s in begin)
        and all(equal(e, n) for e, n in zip(end, x.shape, strict=True))
        and set(by) <= {1}
    ):
        return x
    return b.emit("slice", x, starts=begin, stops=end, steps=by)


def slice_axis(
    b: GraphBuilder, x: Value, axis: int, start: Size, stop: Size, step: int = 1
) -> Value:
    """A slice of one axis."""
    d = normal_axis("slice", axis, x.rank)
    starts: list[Size] = [0] * x.rank
    stops: list[Size] = list(x.shape)
    steps = [1] * x.rank
    starts[d], stops[d], steps[d] = start, stop, step
    return slice(b, x, starts, stops, steps)


def select_index(b: GraphBuilder, x: Value, axis: int, index: Size) -> Value:
    """`x` at one index of an axis, without that axis; a negative number counts from the end."""
    d = normal_axis("select_index", axis, x.rank)
    at = as_index(index)
    at = simplify(at + x.shape[d]) if at.is_const and at.value < 0 else at
    part = slice_axis(b, x, d, at, at + 1)
    return reshape(b, part, (*x.shape[:d], *x.shape[d + 1 :]))


def split(b: GraphBuilder, x: Value, sizes: Sequence[Size], axis: int) -> tuple[Value, ...]:
    """Consecutive pieces of the given sizes along an axis."""
    out, start = [], ZERO
    for n in sizes_of(sizes):
        stop = simplify(start + n)
        out.append(slice_axis(b, x, axis, start, stop))
        start = stop
    return tuple(out)


def diagonal_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    """The other dims, and the diagonal's length."""
    k, d, e = attrs["offset"], attrs["axis1"], attrs["axis2"]
    rows, columns = (t.shape[d], t.shape[e] - k) if k >= 0 else (t.shape[d] + k, t.shape[e])
    length = least(simplify(rows), simplify(columns))
    if not prove_nonneg(length):
        length = maximum(length, ZERO)
    return (*(s for i, s in enumerate(t.shape) if i not in (d, e)), length)


def least(a: Expr, b: Expr) -> Expr:
    """The less of two sizes: one of the two if that can be proved."""
    if prove_nonneg(simplify(b - a)):
        return a
    return b if prove_nonneg(simplify(a - b)) else minimum(a, b)


def _on_diagonal(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    k, d, e = attrs["offset"], attrs["axis1"], attrs["axis2"]
    rest = iter(axes[:-1])
    place = {d: axes[-1] + builtins.max(-k, 0), e: axes[-1] + builtins.max(k, 0)}
    return tuple(place[i] if i in place else next(rest) for i in range(len(buf.shape)))


define_view(
    "diagonal",
    diagonal_shape,
    _on_diagonal,
    lambda x, attrs: np.diagonal(x, attrs["offset"], attrs["axis1"], attrs["axis2"]),
)


def diagonal(b: GraphBuilder, x: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """The diagonal of two axes as the last axis."""
    d, e = normal_axis("diagonal", axis1, x.rank), normal_axis("diagonal", axis2, x.rank)
    return b.emit("diagonal", x, offset=offset, axis1=d, axis2=e)


def _windows(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    d, n, step = attrs["axis"], attrs["size"], attrs["step"]
    count = simplify((t.shape[d] - n) // step + 1)
    return (*t.shape[:d], count, *t.shape[d + 1 :], n)


def _in_window(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    d = attrs["axis"]
    return tuple(a * attrs["step"] + axes[-1] if i == d else a for i, a in enumerate(axes[:-1]))


define_view(
    "unfold",
    _windows,
    _in_window,
    lambda x, attrs: np.moveaxis(
        np.lib.stride_tricks.sliding_window_view(x, attrs["size"], attrs["axis"]),
        attrs["axis"],
        attrs["axis"],
    )[(builtins.slice(None),) * attrs["axis"] + (builtins.slice(None, None, attrs["step"]),)],
    lambda t, attrs: (le(as_index(attrs["size"]), t.shape[attrs["axis"]]),),
)


def unfold(b: GraphBuilder, x: Value, axis: int, size: int, step: int) -> Value:
    """Windows of `size` elements every `step` along an axis; the window is the last axis."""
    return b.emit("unfold", x, axis=normal_axis("unfold", axis, x.rank), size=size, step=step)
