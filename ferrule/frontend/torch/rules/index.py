"""ATen rules: indexing, gathering and scattering by tensors of indices."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, Operand, aten, product
from ferrule.ir.expr import ONE, ZERO, Expr
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal


def _integer(cx: Context, index: Value) -> Value:
    if not index.dtype.is_int:
        raise UnsupportedError(
            f"indexing with a tensor of {index.dtype.name}: the size depends on the data"
        )
    return ops.cast(cx.b, index, i64)


@aten("index.Tensor", "_unsafe_index.Tensor")
def _index(cx: Context, x: Value, indices: Any) -> Value:
    return ops.index(cx.b, x, tuple(None if i is None else _integer(cx, i) for i in indices))


def _row(cx: Context, x: Value) -> Value:
    """x, as a vector of one element if it is 0-d."""
    return x if x.rank else ops.reshape(cx.b, x, (1,))


@aten("index_select.default")
def _index_select(cx: Context, x: Value, dim: int, index: Value) -> Value:
    taken = ops.take(cx.b, _row(cx, x), _row(cx, _integer(cx, index)), dim)
    return ops.reshape(cx.b, taken, cx.shape)


@aten("gather.default")
def _gather(cx: Context, x: Value, dim: int, index: Value, **_: Any) -> Value:
    if any(equal(s, ZERO) for s in cx.shape):
        return ops.full(cx.b, cx.shape, 0, cx.dtype)
    taken = ops.take_along_axis(cx.b, _row(cx, x), _row(cx, _integer(cx, index)), dim)
    return ops.reshape(cx.b, taken, cx.shape)


def _flat(cx: Context, x: Value) -> Value:
    return ops.reshape(cx.b, x, (product(x.shape),))


@aten("take.default")
def _take(cx: Context, x: Value, index: Value) -> Value:
    return ops.take(cx.b, _flat(cx, x), _integer(cx, index), 0, wrap=True)


@aten("put.default")
def _put(cx: Context, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    if accumulate and x.dtype.kind == "b":
        raise UnsupportedError("put that accumulates bools")
    index, values = _flat(cx, _integer(cx, index)), _flat(cx, ops.cast(cx.b, source, x.dtype))
    out = ops.index_put(cx.b, _flat(cx, x), (index,), values, accumulate)
    return ops.reshape(cx.b, out, x.shape)


@aten("as_strided.default", "as_strided_copy.default")
def _as_strided(cx: Context, x: Value, size: Any, stride: Any, offset: Any = None) -> Value:
    all_of_it, order, start = _memory(cx)
    places = _places(cx, cx.shape, stride, start if offset is None else offset)
    return ops.take(cx.b, _flat(cx, ops.transpose(cx.b, all_of_it, order)), places, 0)


@aten("as_strided_scatter.default")
def _as_strided_scatter(
    cx: Context, x: Value, source: Value, size: Any, stride: Any, offset: Any = None
) -> Value:
    all_of_it, order, start = _memory(cx)
    if all_of_it is not x:
        raise UnsupportedError("as_strided_scatter into a tensor that is not all of its memory")
    lying = ops.transpose(cx.b, x, order)
    places = _flat(cx, _places(cx, source.shape, stride, start if offset is None else offset))
    values = _flat(cx, ops.cast(cx.b, source, x.dtype))
    out = ops.index_put(cx.b, _flat(cx, lying), (places,), values)
    back = [order.index(d) for d in range(x.rank)]
    return ops.transpose(cx.b, ops.reshape(cx.b, out, lying.shape), back)


def _memory(cx: Context) -> tuple[Value, tuple[int, ...], Any]:
    found = cx.memory()
    if found is None:
        raise UnsupportedError("as_strided of a tensor whose memory is not known as a whole")
    return found


def _places(cx: Context, shape: tuple[Expr, ...], stride: Any, offset: Any) -> Value:
    """Where each element of a view by strides lies in memory."""
    place = ops.expand(cx.b, cx.value(offset, i64), shape)
    for d, step in enumerate(stride):
        axis = ops.iota(cx.b, shape, d)
        place = ops.add(cx.b, place, ops.mul(cx.b, axis, cx.value(step, i64)))
    return place


@aten("masked_scatter.default")
def _masked_scatter(cx: Context, x: Value, mask: Value, source: Value) -> Value:
    """The n-th element of source where mask is true for the n-th time."""
    wide, chosen = ops.expand(cx.b, x, cx.shape), _flat(cx, ops.expand(cx.b, mask, cx.shape))
    if any(equal(s, ZERO) for s in (*cx.shape, *source.shape)):
        return wide
    one = ops.full(cx.b, (), 1, i64)
    count = ops.sub(cx.b, ops.cumsum(cx.b, ops.cast(cx.b, chosen, i64), 0), one)
    place = ops.select(cx.b, chosen, count, ops.full(cx.b, (), 0, i64))
    taken = ops.take(cx.b, _flat(cx, source), place, 0)
    return ops.reshape(cx.b, ops.select(cx.b, chosen, taken, _flat(cx, wide)), cx.shape)


@aten("index_put.default", "_unsafe_index_put.default")
def _index_put(
    cx: Context, x: Value, indices: Any, values: Value, accumulate: bool = False
) -> Value:
    if accumulate and x.dtype.kind == "b":
        raise UnsupportedError("index_put that accumulates bools")
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(given) == 1 and given[0][1].dtype == boolean:
        return _put_where(cx, x, *given[0], values, accumulate)
    return ops.index_put(
        cx.b,
        x,
        tuple(None if i is None else _integer(cx, i) for i in indices),
        ops.cast(cx.b, values, x.dtype),
        accumulate,
    )


def _put_where(
    cx: Context, x: Value, axis: int, mask: Value, values: Value, accumulate: bool
) -> Value:
    """index_put by a mask over the dims from `axis` on, of one value wherever it is true.

    `values` broadcast to x's shape with one dim, of as many elements as are true, in place of the
    mask's.
    """
    rest = x.rank - axis - mask.rank
    if mask.rank == 0 or (values.rank > rest and values.shape[values.rank - rest - 1] is not ONE):
        raise UnsupportedError("index_put by a mask, of values whose number depends on the data")
    value = ops.cast(cx.b, values, x.dtype)
    if values.rank > rest:
        lead = values.shape[: values.rank - rest - 1]
        tail = values.shape[values.rank - rest :]
        value = ops.reshape(cx.b, value, (*lead, *(ONE,) * mask.rank, *tail))
    mask = ops.reshape(cx.b, mask, (*mask.shape, *(ONE,) * rest))
    new = ops.add(cx.b, x, value) if accumulate else ops.expand(cx.b, value, x.shape)
    return ops.select(cx.b, mask, new, x)


def _scattered(
    cx: Context,
    x: Value,
    dim: int,
    index: Value,
    source: Operand,
    reduce: str | None,
    include_self: bool = True,
) -> Value:
    index = _row(cx, _integer(cx, index))
    if isinstance(source, Value):
        value = _row(cx, ops.cast(cx.b, source, x.dtype))
    else:
        value = ops.expand(cx.b, cx.fitting(source, x.dtype), index.shape)
    out = ops.scatter(
        cx.b, _row(cx, x), dim, index, value, reduce=reduce, include_self=include_self
    )
    return ops.reshape(cx.b, out, x.shape)


@aten("scatter.src", "scatter.value")
def _scatter_set(cx: Context, x: Value, dim: int, index: Value, source: Operand) -> Value:
    return _scattered(cx, x, dim, index, source, None)


@aten("scatter.reduce", "scatter.value_reduce")
def _scatter_named(
    cx: Context, x: Value, dim: int, index: Value, source: Operand, *, reduce: str
) -> Value:
    return _scattered(cx, x, dim, index, source, {"add": "sum", "multiply": "prod"}[reduce])


@aten("scatter_add.default")
def _scatter_add(cx: Context, x: Value, dim: int, index: Value, source: Value) -> Value:
    return _scattered(cx, x, dim, index, source, "sum")


@aten("scatter_reduce.two")
def _scatter_reduce(
    cx: Context,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    *,
    include_self: bool = True,
) -> Value:
    name = {"sum": "sum", "prod": "prod", "mean": "mean", "amax": "max", "amin": "min"}[reduce]
    return _scattered(cx, x, dim, index, source, name, include_self)


@aten("index_add.default")
def _index_add(
    cx: Context, x: Value, dim: int, index: Value, source: Value, alpha: Any = 1
) -> Value:
    if x.dtype == boolean:
        raise UnsupportedError("index_add of bools")
    scaled = source if alpha == 1 else ops.mul(cx.b, source, cx.fitting(alpha, source.dtype))
    index, scaled = _positive(cx, index), _row(cx, ops.cast(cx.b, scaled, x.dtype))
    return ops.reshape(cx.b, ops.index_add(cx.b, _row(cx, x), dim, index, scaled), x.shape)


@aten("index_copy.default")
def _index_copy(cx: Context, x: Value, dim: int, index: Value, source: Value) -> Value:
    rows = _row(cx, x)
    places = (*(None,) * (dim % rows.rank), _positive(cx, index))
    out = ops.index_put(cx.b, rows, places, _row(cx, ops.cast(cx.b, source, x.dtype)))
    return ops.reshape(cx.b, out, x.shape)


@aten("index_fill.int_Scalar", "index_fill.int_Tensor")
def _index_fill(cx: Context, x: Value, dim: int, index: Value, value: Operand) -> Value:
    rows = _row(cx, x)
    places = (*(None,) * (dim % rows.rank), _row(cx, _integer(cx, index)))
    return ops.reshape(cx.b, ops.index_put(cx.b, rows, places, cx.fitting(value, x.dtype)), x.shape)


def _positive(cx: Context, index: Value) -> Value:
    """A vector of indices that must not be negative; `index_put` looks at their other end."""
    rows = _row(cx, _integer(cx, index))
    return ops.ensure(cx.b, rows, ops.ge(cx.b, rows, 0), "index")


@aten("index_reduce.default")
def _index_reduce(
    cx: Context,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    *,
    include_self: bool = True,
) -> Value:
    name = {"prod": "prod", "mean": "mean", "amax": "max", "amin": "min"}[reduce]
    rows, source = _row(cx, x), _row(cx, ops.cast(cx.b, source, x.dtype))
    shape = tuple(source.shape[d] if d == dim % rows.rank else ONE for d in range(rows.rank))
    places = ops.expand(cx.b, ops.reshape(cx.b, _integer(cx, index), shape), source.shape)
    out = ops.scatter(cx.b, rows, dim, places, source, reduce=name, include_self=include_self)
    return ops.reshape(cx.b, out, x.shape)


@aten("one_hot.default")
def _one_hot(cx: Context, x: Value, classes: int = -1) -> Value:
    if classes < 0:
        raise UnsupportedError("one_hot with a number of classes that depends on the data")
    x = _integer(cx, x)
    known = ops.logical_and(cx.b, ops.ge(cx.b, x, 0), ops.lt(cx.b, x, classes))
    return ops.one_hot(cx.b, ops.ensure(cx.b, x, known, "index"), classes)
