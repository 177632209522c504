"""Slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.strided import Entry, Unknown, entries
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, call
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify


@rule("Slice")
def _slice(cx: Context, x: Value, begin: Value, size: Value) -> Value:
    first, count = cx.partly(begin), cx.numbers(size, "the size of a slice")
    if first is None or any(n is None for n in first):
        if any(isinstance(n, int) and n < 0 for n in count):
            raise UnsupportedError("a slice whose size depends on data")
        starts = [ops.select_index(cx.b, begin, 0, d) for d in range(x.rank)]
        return ops.dynamic_slice(cx.b, x, starts, count)
    low = [as_index(n) for n in first]
    stops = [
        n if isinstance(c, int) and c == -1 else simplify(b + c)
        for b, c, n in zip(low, count, x.shape)
    ]
    return ops.slice(cx.b, x, low, stops)


@rule("StridedSlice")
def _strided_slice(cx: Context, x: Value, begin: Value, end: Value, steps: Value) -> Value:
    by = cx.known(steps)
    if by is None:
        raise UnsupportedError("a slice whose step is no constant")
    blank = np.full(len(by), None, object)
    low, high = (blank if (k := cx.partly(v)) is None else k for v in (begin, end))
    d = 0
    for e in entries(cx, x.rank, low, high, by):
        if e.kind == "new":
            x = ops.unsqueeze(cx.b, x, d)
            d += 1
        elif e.kind == "at":
            x = _at(cx, x, d, e, begin)
        else:
            x = _cut(cx, x, d, e)
            d += 1
    return x


def _at(cx: Context, x: Value, d: int, e: Entry, begin: Value) -> Value:
    """`x` at one place of a dimension, without it."""
    if e.begin is None:
        at = ops.cast(cx.b, ops.select_index(cx.b, begin, 0, e.place), i64)
        return ops.squeeze(cx.b, ops.take(cx.b, x, ops.unsqueeze(cx.b, at, 0), d, True), (d,))
    place = as_index(e.begin)
    if place.is_const and place.value < 0:
        place = simplify(x.shape[d] + place)
    return ops.select_index(cx.b, x, d, place)


def _cut(cx: Context, x: Value, d: int, e: Entry) -> Value:
    """A slice of one dimension."""
    if isinstance(e.begin, Unknown) or isinstance(e.end, Unknown):
        raise UnsupportedError("a slice whose size depends on data")
    n = x.shape[d]
    if e.step > 0:
        low = ZERO if e.begin is None else _bound(e.begin, n)
        high = n if e.end is None else _bound(e.end, n)
        step = e.step
    else:  # from behind: places of the dimension turned round
        low = ZERO if e.begin is None else simplify(n - 1 - _last(e.begin, n))
        high = n if e.end is None else simplify(n - 1 - _last(e.end, n))
        x, step = ops.reverse(cx.b, x, (d,)), -e.step
    if equal(low, ZERO) and equal(high, n) and step == 1:
        return x
    if low.is_const and high.is_const and low.value > high.value:
        high = low
    if not prove_nonneg(simplify(high - low)) and not (low.is_const and low.value == 0):
        high = simplify(call("max", high, low))
    return ops.slice_axis(cx.b, x, d, low, high, step)


def _bound(place: Any, n: Expr) -> Expr:
    """A bound as one in [0, n]; negative ones count from the end."""
    at = as_index(place)
    if (at.is_const and at.value < 0) or _is_negative(at):
        at = simplify(n + at)
    if not prove_nonneg(at):
        at = simplify(call("max", at, ZERO))
    return at if prove_nonneg(simplify(n - at)) else simplify(call("min", at, n))


def _last(place: Any, n: Expr) -> Expr:
    """A bound of a slice from behind as one in [-1, n - 1]."""
    at = as_index(place)
    if (at.is_const and at.value < 0) or _is_negative(at):
        at = simplify(n + at)
    if not prove_nonneg(simplify(at + 1)):
        at = simplify(call("max", at, as_index(-1)))
    top = simplify(n - 1)
    return at if prove_nonneg(simplify(top - at)) else simplify(call("min", at, top))


def _is_negative(at: Expr) -> bool:
    """Whether a size is known to be below 0."""
    return not at.is_const and prove_nonneg(simplify(ZERO - at - ONE))
