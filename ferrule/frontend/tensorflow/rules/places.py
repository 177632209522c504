"""Elements and slices at places that data say."""

from __future__ import annotations

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.agree import agree
from ferrule.ir.expr import as_index, product
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


@rule("UnsortedSegmentSum", "SegmentSumV2")
def _segment_sum(cx: Context, x: Value, segments: Value, count: Value) -> Value:
    """Rows added up by their segments; those of a negative one are left out."""
    b, n = cx.b, segments.rank
    (size,) = cx.numbers(count, "a number of segments")
    flat = ops.reshape(b, segments, (product(segments.shape),))
    rows = ops.reshape(b, x, (product(x.shape[:n]), *x.shape[n:]))
    inside = ops.ge(b, flat, 0)
    mask = ops.reshape(b, inside, (*inside.shape, *(1,) * (rows.rank - 1)))
    rows = ops.select(b, mask, rows, 0)
    where = ops.select(b, inside, flat, 0)
    return ops.index_add(b, ops.full(b, (size, *x.shape[n:]), 0, x.dtype), 0, where, rows)


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
