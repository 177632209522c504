"""Constants and variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, boolean, from_storage
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.read import Foreign
from ferrule.frontend.tensorflow.table import Context, Text, Variable, as_known, rule
from ferrule.ir.graph import Value

_LITERAL = 64


@rule("Const")
def _const(cx: Context) -> Any:
    array, element = cx.attr("value"), cx.attr("dtype")
    if isinstance(array, Foreign):
        raise UnsupportedError(f"a constant of {array.element.name}")
    return Text() if array.dtype == object else literal(cx, array, element.dtype)


def literal(cx: Context, array: Any, dtype: DType) -> Value:
    """An array in storage form: a literal where it is small, else a param."""
    splat = array.size > 0 and not any(array.strides)
    if splat or array.size == 1:
        one = from_storage(array.reshape(-1)[:1], dtype).reshape(())
        out = ops.expand(cx.b, ops.constant(cx.b, one, dtype), array.shape)
        return _told(cx, out, array, dtype)
    if array.size <= _LITERAL:
        return _told(cx, ops.constant(cx.b, from_storage(array, dtype), dtype), array, dtype)
    return cx.param(array, dtype)


def _told(cx: Context, v: Value, array: Any, dtype: DType) -> Value:
    if array.size > _LITERAL:
        return v
    return cx.tell(v, as_known(from_storage(np.array(array), dtype).tolist()))


@rule("VarHandleOp", "VariableV2", "Variable")
def _variable(cx: Context) -> Any:
    handle = Variable(cx.node.name)
    return handle if cx.node.op == "VarHandleOp" else cx.read(handle)


@rule("ReadVariableOp")
def _read(cx: Context, handle: Any) -> Value:
    if not isinstance(handle, Variable):
        raise UnsupportedError("a variable that the program does not hold")
    return cx.read(handle)


@rule("VarIsInitializedOp")
def _is_initialized(cx: Context, handle: Any) -> Value:
    return cx.tell(ops.full(cx.b, (), True, boolean), as_known(True))


@rule("VariableShape")
def _shape(cx: Context, handle: Any) -> Value:
    x = _read(cx, handle)
    numbers = as_known([n.value for n in x.shape])
    return cx.tell(ops.constant(cx.b, numbers.astype(np.int32)), numbers)


@rule("ResourceGather")
def _gather(cx: Context, handle: Any, indices: Value) -> Value:
    if cx.attr("batch_dims", 0):
        raise UnsupportedError("a gather of a variable in batches")
    return ops.take(cx.b, _read(cx, handle), indices)
