"""ONNX rules: gathering and scattering by tensors of integers."""

from __future__ import annotations

import numpy as np

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.table import Context, integers, onnx, sizes
from ferrule.ir.expr import Expr, as_index, lt, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import prove, simplify


def _counted(cx: Context, indices: Value, size: Expr) -> Value:
    """Indices of an axis, negative ones counted from its end, as i64."""
    place = ops.cast(cx.b, indices, i64)
    return ops.select(
        cx.b, ops.lt(cx.b, place, 0), ops.add(cx.b, place, ops.scalar(cx.b, size)), place
    )


@onnx("Gather")
def _gather(cx: Context, x: Value, indices: Value) -> Value:
    return ops.take(cx.b, x, indices, cx.int("axis", 0), wrap=True)


@onnx("GatherElements")
def _gather_elements(cx: Context, x: Value, indices: Value) -> Value:
    return ops.take_along_axis(cx.b, x, indices, cx.int("axis", 0), wrap=True)


def _columns(cx: Context, indices: Value) -> list[Value]:
    """The last axis of indices taken apart."""
    last = indices.shape[-1]
    if not last.is_const:
        raise UnsupportedError("indices with a last axis of symbolic size")
    return [ops.select_index(cx.b, indices, -1, k) for k in range(int(last.value))]


@onnx("GatherND")
def _gather_nd(cx: Context, x: Value, indices: Value) -> Value:
    batch = cx.int("batch_dims", 0)
    wide = indices.shape[batch:-1]
    own = [
        ops.reshape(
            cx.b,
            ops.iota(cx.b, (x.shape[d],), 0),
            [x.shape[d] if e == d else 1 for e in range(batch)] + [1] * len(wide),
        )
        for d in range(batch)
    ]
    return ops.index(cx.b, x, [*own, *_columns(cx, indices)])


@onnx("TopK", static=(1,), sizes=True)
def _top_k(cx: Context, x: Value, k: Array | None = None) -> tuple[Value, Value]:
    """The first ones in order also where `sorted` asks for none: of equal ones those with the least
    indices.
    """
    count = as_index(cx.int("k") if k is None else sizes(np.asarray(k).reshape(-1))[0])
    axis = cx.int("axis", -1)
    n = x.shape[axis]
    if prove(lt(count, 0)) or prove(lt(n, count)):
        raise UnsupportedError(f"TopK of {count} elements from an axis of {n}")
    return ops.top_k(cx.b, x, count, axis, bool(cx.int("largest", 1)))


_FOLDS = {"none": None, "add": "sum", "mul": "prod", "min": "min", "max": "max"}


@onnx("ScatterElements", "Scatter")
def _scatter_elements(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    axis = cx.int("axis", 0)
    axis = axis + x.rank if axis < 0 else axis
    how = _FOLDS[cx.text("reduction", "none")]
    place = _counted(cx, indices, x.shape[axis])
    return ops.scatter(cx.b, x, axis, place, updates, how)


@onnx("ScatterND")
def _scatter_nd(cx: Context, x: Value, indices: Value, updates: Value) -> Value:
    how = cx.text("reduction", "none")
    columns = _columns(cx, indices)
    if how == "none":
        return ops.index_put(cx.b, x, columns, updates)
    return _scatter_flat(cx, x, columns, updates, _FOLDS[how])


def _scatter_flat(
    cx: Context, x: Value, columns: list[Value], updates: Value, how: str | None
) -> Value:
    """Folds of whole slices: a scatter of rows at flat places."""
    k = len(columns)
    inner = simplify(product(x.shape[k:]))
    rows = simplify(product(x.shape[:k]))
    place: Value | None = None
    for d, c in enumerate(columns):
        own = _counted(cx, c, x.shape[d])
        step = ops.scalar(cx.b, x.shape[d])
        place = own if place is None else ops.add(cx.b, ops.mul(cx.b, place, step), own)
    assert place is not None
    count = simplify(product(place.shape))
    flat = ops.reshape(cx.b, place, (count, 1))
    at = ops.expand(cx.b, flat, (count, inner))
    source = ops.reshape(cx.b, updates, (count, inner))
    out = ops.scatter(cx.b, ops.reshape(cx.b, x, (rows, inner)), 0, at, source, how)
    return ops.reshape(cx.b, out, x.shape)


@onnx("OneHot", static=(1,))
def _one_hot(cx: Context, indices: Value, depth: Array, values: Value) -> Value:
    n, axis = integers(depth)[0], cx.int("axis", -1)
    axis = axis + indices.rank + 1 if axis < 0 else axis
    place = ops.cast(cx.b, indices, i64)
    wrapped = ops.select(cx.b, ops.lt(cx.b, place, 0), ops.add(cx.b, place, n), place)
    column = ops.reshape(
        cx.b, ops.iota(cx.b, (n,), 0), [1] * axis + [n] + [1] * (indices.rank - axis)
    )
    hit = ops.eq(cx.b, ops.unsqueeze(cx.b, wrapped, axis), column)
    off, on = (ops.select_index(cx.b, values, 0, k) for k in (0, 1))
    return ops.select(cx.b, hit, on, off)


@onnx("ReverseSequence")
def _reverse_sequence(cx: Context, x: Value, lengths: Value) -> Value:
    time, batch = cx.int("time_axis", 0), cx.int("batch_axis", 1)
    shape = [1] * x.rank
    step = ops.iota(cx.b, x.shape, time)
    sizes: list[Expr | int] = [*shape]
    sizes[batch] = x.shape[batch]
    count = ops.reshape(cx.b, ops.cast(cx.b, lengths, i64), sizes)
    turned = ops.sub(cx.b, ops.sub(cx.b, count, 1), step)
    place = ops.select(cx.b, ops.lt(cx.b, step, count), turned, step)
    return ops.take_along_axis(cx.b, x, place, time)


@onnx("TensorScatter")
def _tensor_scatter(cx: Context, past: Value, update: Value, start: Value | None = None) -> Value:
    """A cache with `update` written along an axis from each row's own start."""
    axis = cx.int("axis", -2)
    axis = axis + past.rank if axis < 0 else axis
    place = ops.iota(cx.b, update.shape, axis)
    if start is not None:
        sizes: list[Expr | int] = [1] * past.rank
        sizes[0] = past.shape[0]
        place = ops.add(cx.b, place, ops.reshape(cx.b, ops.cast(cx.b, start, i64), sizes))
    if cx.text("mode", "linear") == "circular":
        place = ops.mod(cx.b, place, ops.scalar(cx.b, past.shape[axis]))
    return ops.scatter(cx.b, past, axis, place, update)
