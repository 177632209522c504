"""Lists of tensors, which TensorFlow's arrays of tensors are made of: a list is a tensor with a row
for each of them.
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.rules.shapes import reshaped, size_as_tensor, sizes_as_tensor
from ferrule.frontend.tensorflow.table import (
    Context,
    Made,
    Row,
    TensorList,
    list_of,
    rule,
    tensor_of,
)
from ferrule.ir.agree import agree
from ferrule.ir.expr import as_index
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, simplify


def blank(b: GraphBuilder, held: TensorList) -> TensorList:
    """A list without tensors as one of zeros. Raises UnsupportedError where their shape is not
    known.
    """
    if held.tensor is not None:
        return held
    if held.shape is None or any(isinstance(n, int) and n < 0 for n in held.shape):
        raise UnsupportedError("a list of tensors whose shape is not known")
    return list_of(ops.full(b, (held.size, *held.shape), 0, held.dtype))


def _list(v: Any) -> TensorList:
    if not isinstance(v, TensorList):
        raise UnsupportedError(f"it is given {type(v).__name__}, no list of tensors")
    return v


def _shape(cx: Context, shape: Any) -> tuple[Any, ...] | None:
    """What is known of the shape of a list's tensors."""
    found = cx.known(shape)
    return tuple(found.tolist()) if found is not None and found.ndim else None


@rule("TensorListReserve")
def _reserve(cx: Context, shape: Any, count: Any) -> Any:
    (n,) = cx.numbers(count, "the number of tensors in a list")
    return TensorList(None, n, cx.dtype("element_dtype"), _shape(cx, shape))


@rule("EmptyTensorList")
def _empty(cx: Context, shape: Any, most: Any) -> Any:
    return TensorList(None, 0, cx.dtype("element_dtype"), _shape(cx, shape))


@rule("TensorListFromTensor")
def _from_tensor(cx: Context, x: Any, shape: Any) -> Any:
    return list_of(tensor_of(x))


@rule("TensorListLength")
def _length(cx: Context, held: Any) -> Any:
    return size_as_tensor(cx, _list(held).size, i32)


@rule("TensorListElementShape")
def _element_shape(cx: Context, held: Any) -> Any:
    return sizes_as_tensor(cx, _list(held).shape or (), cx.dtype("shape_type", i32))


@rule("TensorListResize")
def _resize(cx: Context, held: Any, count: Any) -> Any:
    own, (n,) = _list(held), cx.numbers(count, "the number of tensors in a list")
    if own.tensor is None:
        return TensorList(None, n, own.dtype, own.shape)
    if equal(as_index(n), as_index(own.size)):
        return own
    raise UnsupportedError("a list whose length changes")


@rule("TensorListGetItem")
def _get(cx: Context, held: Any, place: Value, shape: Any) -> Any:
    if isinstance(held, Row):
        return held.value
    own = _list(held)
    if own.tensor is None:
        own = blank(cx.b, TensorList(None, own.size, own.dtype, own.shape or _shape(cx, shape)))
    known = cx.known(place)
    if known is not None:
        return ops.select_index(cx.b, tensor_of(own.tensor), 0, known.item())
    x = tensor_of(own.tensor)
    starts = [place, *[ops.full(cx.b, (), 0, place.dtype)] * (x.rank - 1)]
    return ops.squeeze(cx.b, ops.dynamic_slice(cx.b, x, starts, (1, *x.shape[1:])), (0,))


@rule("TensorListSetItem")
def _set(cx: Context, held: Any, place: Value, item: Value) -> Any:
    if isinstance(held, Made):
        return Made(item)
    own, known = _list(held), cx.known(place)
    row = ops.unsqueeze(cx.b, tensor_of(item), 0)
    if own.size == 1 and known is not None and known.item() == 0:
        return list_of(row)
    if own.tensor is None:
        own = blank(cx.b, TensorList(None, own.size, own.dtype, item.shape))
    x = tensor_of(own.tensor)
    agree(x.shape[1:], item.shape)
    starts = [place, *[ops.full(cx.b, (), 0, place.dtype)] * (x.rank - 1)]
    return list_of(ops.dynamic_update_slice(cx.b, x, row, starts))


@rule("TensorListStack")
def _stack(cx: Context, held: Any, shape: Any) -> Any:
    own = _list(held)
    given = _shape(cx, shape)
    if own.tensor is None:
        return blank(cx.b, TensorList(None, own.size, own.dtype, own.shape or given)).tensor
    return own.tensor


@rule("TensorListGather")
def _gather(cx: Context, held: Any, places: Value, shape: Any) -> Any:
    return ops.take(cx.b, tensor_of(blank(cx.b, _list(held)).tensor), places)


@rule("TensorListPushBack")
def _push(cx: Context, held: Any, item: Value) -> Any:
    own, row = _list(held), ops.unsqueeze(cx.b, tensor_of(item), 0)
    if own.tensor is None and own.size == 0:
        return list_of(row)
    return list_of(ops.concat(cx.b, [tensor_of(blank(cx.b, own).tensor), row], 0))


@rule("TensorListPopBack", outputs=("output_handle", "tensor"))
def _pop(cx: Context, held: Any, shape: Any) -> Any:
    x = tensor_of(blank(cx.b, _list(held)).tensor)
    last = simplify(x.shape[0] - 1)
    return list_of(ops.slice_axis(cx.b, x, 0, 0, last)), ops.select_index(cx.b, x, 0, last)


@rule("TensorListConcatV2", outputs=("tensor", "lengths"))
def _concat(cx: Context, held: Any, *operands: Any) -> Any:
    x = tensor_of(blank(cx.b, _list(held)).tensor)
    n = x.shape[1]
    lengths = ops.expand(cx.b, ops.cast(cx.b, ops.scalar(cx.b, n), i64), (x.shape[0],))
    return reshaped(cx, x, (simplify(x.shape[0] * n), *x.shape[2:])), lengths
