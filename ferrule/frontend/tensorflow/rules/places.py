"""Elements and slices at places that data say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.agree import agree
from ferrule.ir.expr import as_index
from ferrule.ir.graph import GraphBuilder, Value


@rule("Gather")
def _old_gather(cx: Context, x: Value, indices: Value) -> Value:
    return ops.take(cx.b, x, indices)


@rule("GatherV2")
def _gather(cx: Context, x: Value, indices: Value, axis: Value) -> Value:
    batch, d = cx.attr("batch_dims", 0), cx.ints(axis)[0] % max(1, x.rank)
    batch = batch % (indices.rank + 1) if batch < 0 else batch
    if not batch:
        return ops.take(cx.b, x, indices, d)
    agree(x.shape[:batch], indices.shape[:batch])
    rest = [k for k in range(batch, x.rank) if k != d]
    x = ops.transpose(cx.b, x, (*range(batch), d, *rest))
    own = [_own_places(cx.b, indices, k) for k in range(batch)]
    y = ops.index(cx.b, x, [*own, ops.cast(cx.b, indices, i64), *[None] * len(rest)])
    before, n = d - batch, indices.rank
    order = [*range(batch), *range(n, n + before), *range(batch, n), *range(n + before, y.rank)]
    return ops.transpose(cx.b, y, order)


def _own_places(b: GraphBuilder, x: Value, d: int) -> Value:
    """Each element's own place along a dimension."""
    return ops.iota(b, x.shape, d, i64)


def _columns(cx: Context, indices: Value) -> list[Value]:
    """The vectors along the last dimension as a tensor for each of their elements."""
    count = indices.shape[-1]
    if not count.is_const:
        raise UnsupportedError("places in an unknown number of dimensions")
    return [ops.select_index(cx.b, indices, -1, k) for k in range(count.value)]


@rule("GatherNd")
def _gather_nd(cx: Context, x: Value, indices: Value) -> Value:
    at = _columns(cx, indices)
    if not at:
        return ops.expand(cx.b, x, (*indices.shape[:-1], *x.shape))
    return ops.index(cx.b, x, [*at, *[None] * (x.rank - len(at))])


def _put(cx: Context, x: Value, indices: Value, updates: Value, add: bool) -> Value:
    at = _columns(cx, indices)
    return ops.index_put(cx.b, x, [*at, *[None] * (x.rank - len(at))], updates, add)


@rule("TensorScatterUpdate")
def _scatter_update(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    return _put(cx, x, indices, updates, False)


@rule("TensorScatterAdd")
def _scatter_add(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    return _put(cx, x, indices, updates, True)


@rule("TensorScatterSub")
def _scatter_sub(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    return _put(cx, x, indices, ops.neg(cx.b, updates), True)


@rule("ScatterNd")
def _scatter_nd(cx: Context, indices: Value, updates: Value, shape: Value) -> Value:
    x = ops.full(cx.b, cx.numbers(shape), 0, updates.dtype)
    return _put(cx, x, indices, updates, True)


@rule("OneHot")
def _one_hot(cx: Context, indices: Value, depth: Value, on: Value, off: Value) -> Value:
    axis = cx.attr("axis", -1)
    d = indices.rank if axis == -1 else axis
    (n,) = cx.numbers(depth, "a depth")
    places = ops.iota(cx.b, (as_index(n),), 0, i64)
    shape = [1] * (indices.rank + 1)
    shape[d] = n
    own = ops.cast(cx.b, ops.unsqueeze(cx.b, indices, d), i64)
    return ops.select(cx.b, ops.eq(cx.b, own, ops.reshape(cx.b, places, shape)), on, off)


@rule("InvertPermutation")
def _inverse(cx: Context, x: Value) -> Value:
    return ops.cast(cx.b, ops.argsort(cx.b, x, 0), x.dtype)


_FOLDS: Mapping[str, tuple[Callable[..., Value], str]] = {
    "Sum": (ops.add, "zero"), "Prod": (ops.mul, "one"), "Max": (ops.maximum, "least"),
    "Min": (ops.minimum, "greatest"),
}  # fmt: skip


def _folded(cx: Context, x: Value, indices: Value, updates: Value, fold: Any) -> Value:
    """`x` with slices folded into those at the vectors of `indices`; those outside are left out."""
    n, k = indices.rank - 1, indices.shape[-1]
    if not k.is_const:
        raise UnsupportedError("places in an unknown number of dimensions")
    dims = tuple(range(k.value))
    (out,) = ops.scatter_slices(
        cx.b, (x,), indices, (updates,), lambda b, old, new: (fold(b, old, new),),
        tuple(range(n, updates.rank)), dims, (), (), dims, n,
    )  # fmt: skip
    return out


@rule("TensorScatterMax", "TensorScatterMin")
def _scatter_extreme(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    return _folded(cx, x, indices, updates, _FOLDS[cx.node.op[-3:]][0])


@rule("UnsortedSegmentSum", "UnsortedSegmentProd", "UnsortedSegmentMax", "UnsortedSegmentMin")
def _segments(cx: Context, x: Value, segments: Value, count: Value) -> Value:
    """Rows folded by their segments; those of a negative one are left out."""
    agree(x.shape[: segments.rank], segments.shape)
    fold, start = _FOLDS[cx.node.op.removeprefix("UnsortedSegment")]
    dtype = x.dtype
    largest = float(np.finfo(dtype.numpy).max) if dtype.is_float else dtype.max
    least = -largest if dtype.is_float else dtype.min
    first = {"zero": 0, "one": 1, "least": least, "greatest": largest}[start]
    (size,) = cx.numbers(count, "a number of segments")
    blank = ops.full(cx.b, (size, *x.shape[segments.rank :]), first, dtype)
    return _folded(cx, blank, ops.unsqueeze(cx.b, segments, -1), x, fold)


@rule("ReverseSequence")
def _reverse_sequence(cx: Context, x: Value, lengths: Value) -> Value:
    """Along `seq_dim` the first `lengths` elements turned round, for each of `batch_dim`."""
    b, d, k = cx.b, cx.attr("seq_dim"), cx.attr("batch_dim", 0)
    place = ops.iota(b, x.shape, d, i64)
    shape = [1] * x.rank
    shape[k] = x.shape[k]
    ends = ops.reshape(b, ops.cast(b, lengths, i64), shape)
    turned = ops.sub(b, ops.sub(b, ends, place), 1)
    at = ops.select(b, ops.lt(b, place, ends), turned, place)
    return ops.take_along_axis(b, x, at, d)


@rule("DenseBincount")
def _bincount(cx: Context, x: Value, size: Value, weights: Value) -> Value:
    """How often each number below `size` stands in x, or in each row of it."""
    b, (n,) = cx.b, cx.numbers(size, "a number of bins")
    if not any(k.is_const and k.value == 0 for k in weights.shape):
        raise UnsupportedError("numbers that are counted by weights")
    own = ops.eq(b, ops.unsqueeze(b, x, -1), ops.iota(b, (as_index(n),), 0, x.dtype))
    if cx.attr("binary_output", False):
        return ops.cast(b, ops.reduce_any(b, own, (-2,)), weights.dtype)
    return ops.reduce_sum(b, ops.cast(b, own, weights.dtype), (-2,))
