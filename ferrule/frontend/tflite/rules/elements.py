"""Activations and norms that TensorFlow writes as several operators."""

from __future__ import annotations

import numpy as np

from ferrule import ops
from ferrule.frontend.tensorflow.rules.elements import broadcast
from ferrule.frontend.tensorflow.table import Context
from ferrule.frontend.tflite.table import lite
from ferrule.ir.graph import Value


@lite("RELU_N1_TO_1")
def _relu_n1(cx: Context, x: Value) -> Value:
    return ops.clamp(cx.b, x, -1, 1)


@lite("RELU_0_TO_1")
def _relu_01(cx: Context, x: Value) -> Value:
    return ops.clamp(cx.b, x, 0, 1)


@lite("SIGN_BIT")
def _sign_bit(cx: Context, x: Value) -> Value:
    return ops.cast(cx.b, ops.lt(cx.b, x, 0), x.dtype)


@lite("HARD_SWISH")
def _hard_swish(cx: Context, x: Value) -> Value:
    return ops.hardswish(cx.b, x)


@lite("GELU")
def _gelu(cx: Context, x: Value) -> Value:
    return ops.gelu(cx.b, x, "tanh" if cx.attr("approximate") else "none")


@lite("PRELU")
def _prelu(cx: Context, x: Value, slope: Value) -> Value:
    broadcast(x, slope)
    return ops.select(cx.b, ops.ge(cx.b, x, 0), x, ops.mul(cx.b, x, slope))


@lite("L2_NORMALIZATION")
def _l2_norm(cx: Context, x: Value) -> Value:
    total = ops.reduce_sum(cx.b, ops.square(cx.b, x), (-1,), True)
    return ops.div(cx.b, x, ops.max(cx.b, ops.sqrt(cx.b, total), float(np.float32(1e-6))))


@lite("DYNAMIC_UPDATE_SLICE")
def _update_slice(cx: Context, x: Value, part: Value, places: Value) -> Value:
    starts = [ops.select_index(cx.b, places, 0, d) for d in range(x.rank)]
    return ops.dynamic_update_slice(cx.b, x, part, starts)


@lite("SET_ROW")
def _set_row(cx: Context, x: Value, place: Value, row: Value) -> Value:
    """`x` with another row at a place."""
    first = ops.reshape(cx.b, place, ())
    starts = [first, *[ops.full(cx.b, (), 0, place.dtype)] * (x.rank - 1)]
    return ops.dynamic_update_slice(cx.b, x, row, starts)
