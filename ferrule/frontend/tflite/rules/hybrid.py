"""Products of floats and weights of bytes: the floats are rounded to bytes by the range of a row or
an image, and the integer sums are scaled by both scales.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i8, i32
from ferrule.frontend.tensorflow.table import Context
from ferrule.frontend.tflite.rules.bytes import bound, centred
from ferrule.frontend.tflite.rules.products import PRODUCTS, Product, as_rows, biased, transposed
from ferrule.frontend.tflite.table import lite
from ferrule.ir.graph import Value


def symmetric(cx: Context, x: Value, over: tuple[int, ...]) -> tuple[Value, Value]:
    """(x in bytes, their scale), by the largest size along the dims `over`."""
    b = cx.b
    most = ops.reduce_max(b, ops.abs(b, x), over, True)
    none = ops.eq(b, most, 0)
    steps = ops.mul(b, x, ops.div(b, ops.full(b, (), 127.0, f32), ops.select(b, none, 1.0, most)))
    y = ops.clamp(b, ops.round_away(b, steps), -127, 127)
    return ops.cast(b, y, i8), ops.select(b, none, 1.0, ops.div(b, most, 127.0))


def asymmetric(cx: Context, x: Value, over: tuple[int, ...]) -> tuple[Value, Value, Value]:
    """(x in bytes, their scale, their zero point in i8), by the range along the dims `over`, with 0
    in it.
    """
    b = cx.b
    high = ops.max(b, ops.reduce_max(b, x, over, True), 0)
    low = ops.min(b, ops.reduce_min(b, x, over, True), 0)
    none = ops.eq(b, high, low)
    scale = ops.select(b, none, 1.0, ops.div(b, ops.sub(b, high, low), 255.0))
    first, last = ops.div(b, low, scale), ops.div(b, high, scale)
    nearer = ops.lt(b, ops.add(b, ops.abs(b, first), 128.0), ops.add(b, ops.abs(b, last), 127.0))
    zero = ops.select(
        b, nearer, ops.add(b, ops.neg(b, first), -128.0), ops.add(b, ops.neg(b, last), 127.0)
    )
    zero = ops.round_away(b, ops.clamp(b, zero, -128, 127))
    zero = ops.select(b, none, 0.0, zero)
    inverse = ops.div(b, ops.full(b, (), 1.0, f32), scale)
    steps = ops.round_away(b, ops.add(b, zero, ops.mul(b, x, inverse)))
    return ops.cast(b, ops.clamp(b, steps, -128, 127), i8), scale, ops.cast(b, zero, i8)


def _hybrid(build: Product, rows: bool) -> Callable[..., Value]:
    def built(cx: Context, x: Value, w: Value, *rest: Any) -> Value:
        b, own = cx.b, cx.attr("weights")
        if rows and not cx.attr("keep"):
            x = as_rows(cx, x, w)
        over = (x.rank - 1,) if rows else tuple(range(1, x.rank))
        bias = rest[0] if rest else None
        if cx.attr("asymmetric") or not rows:
            small, scale, zero = asymmetric(cx, x, over)
            wide = ops.sub(b, ops.cast(b, small, i32), ops.cast(b, zero, i32))
        else:
            small, scale = symmetric(cx, x, over)
            wide = ops.cast(b, small, i32)
        total = build(cx, wide, centred(cx, w, own), *rest[1:], bound=bound(cx))
        each = own.scale if not own.one else own.scale.reshape(())
        factor = ops.mul(b, scale, cx.param(np.ascontiguousarray(each), f32))
        return biased(cx, ops.mul(b, ops.cast(b, total, f32), factor), bias)

    return built


for _name, _build in (*PRODUCTS.items(), ("TRANSPOSE_CONV", transposed)):
    lite(f"{_name}.HYBRID")(_hybrid(_build, _name == "FULLY_CONNECTED"))
