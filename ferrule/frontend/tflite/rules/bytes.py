"""Products of quantised operands: (x - a) * (w - b) summed in i32, and the sums scaled once.

The sums are those of ONNX's quantised products, which `transform/byte_products.py` knows. Scaling
is TensorFlow Lite's own, by a factor of 31 bits and a shift: rounded once (ruy's) or twice
(gemmlowp's SaturatingRoundingDoublingHighMul and RoundingDivideByPOT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, f32, i8, i32, i64, u8
from ferrule.frontend.tensorflow.rules.elements import broadcast
from ferrule.frontend.tensorflow.rules.products import as_given, channels_first, paddings, spatial
from ferrule.frontend.tensorflow.table import RULES, Context
from ferrule.frontend.tflite.model import Array, Quant
from ferrule.frontend.tflite.rules.products import PRODUCTS, Product, biased, transposed
from ferrule.frontend.tflite.table import lite
from ferrule.ir.graph import Value

_MIDDLES = (128, -128)  # zero points with which bytes of one sign are those of the other
_SPAN = 255  # the largest distance of bytes


def centred(cx: Context, x: Value, quant: Quant) -> Value:
    """Bytes less their zero point, in i32."""
    wide = ops.cast(cx.b, x, i32)
    if not quant.zero.any():
        return wide
    if quant.one and quant.number in _MIDDLES:
        return ops.sub(cx.b, wide, ops.full(cx.b, (), quant.number, i32))
    zeros = quant.along(quant.zero, x.rank)
    low = cx.param(zeros.astype(x.dtype.numpy), x.dtype)  # a parameter: equal layers stay equal
    return ops.sub(cx.b, wide, ops.cast(cx.b, low, i32))


def bound(cx: Context) -> int | None:
    """What the terms of one sum come to at most, a power of two; None for unknown weights."""
    known, quant = cx.attr("bytes", None), cx.attr("weights")
    if known is None:
        return None
    kept = 3 if "DEPTHWISE" in cx.node.op else 0
    own = np.abs(known.astype(np.int64) - quant.along(quant.zero, known.ndim))
    largest = int(own.sum(tuple(d for d in range(known.ndim) if d != kept)).max(initial=0)) * _SPAN
    return 1 << max(largest - 1, 0).bit_length()


def factors(scale: Array) -> tuple[Array, Array]:
    """Scales as m * 2^(shift - 31), with m of 31 bits."""
    share, shift = np.frexp(scale.astype(np.float64))
    wide = np.floor(share * (1 << 31) + 0.5).astype(np.int64)
    over = wide == 1 << 31
    wide, shift = np.where(over, wide // 2, wide), shift + over
    small = shift < -31
    return np.where(small, 0, wide), np.where(small, 0, shift).astype(np.int64)


def scaled(cx: Context, total: Value, scale: Array) -> Value:
    """i32 sums times a scale, one for all or one for each element of the last dimension, rounded
    once to the nearest, halves up: what convolutions and layers do.
    """
    b = cx.b
    wide, shift = factors(scale.reshape(() if scale.size == 1 else (-1,)))
    down = 31 - shift
    x = ops.mul(b, ops.cast(b, total, i64), cx.param(wide, i64))
    x = ops.add(b, x, cx.param(np.int64(1) << (down - 1), i64))
    return ops.shr(b, x, cx.param(down, i64))


def scaled_twice(cx: Context, total: Value, scale: float) -> Value:
    """i32 sums times a scale, rounded behind the product and behind the shift, then halves away
    from 0: what other operators do.
    """
    b = cx.b
    wide, shift = (int(n) for n in factors(np.array(scale)))
    x = ops.mul(b, ops.cast(b, total, i64), wide << max(shift, 0))
    x = ops.shr(b, ops.add(b, x, 1 << 30), 31)
    if shift >= 0:
        return x
    down = ops.cast(b, ops.lt(b, x, 0), i64)
    return ops.shr(b, ops.sub(b, ops.add(b, x, 1 << (-shift - 1)), down), -shift)


def finished(cx: Context, x: Value, quant: Quant, dtype: DType, low: int, high: int) -> Value:
    """Whole steps as a quantised result between `low` and `high`."""
    if quant.number:
        x = ops.add(cx.b, x, cx.param(np.array(quant.number, x.dtype.numpy), x.dtype))
    return ops.cast(cx.b, ops.clamp(cx.b, x, low, high), dtype)


def _bytes(build: Product) -> Callable[..., Value]:
    def built(cx: Context, x: Value, w: Value, *rest: Any) -> Value:
        given, own, made = (cx.attr(n) for n in ("given", "weights", "made"))
        bias = rest[0] if rest else None
        left, right = centred(cx, x, given), centred(cx, w, own)
        total = biased(cx, build(cx, left, right, *rest[1:], bound=bound(cx)), bias)
        # TensorFlow Lite rounds the product of the scales as doubles
        scale = np.float64(given.factor) * own.scale.astype(np.float64) / np.float64(made.factor)
        y = scaled(cx, total, scale)
        return finished(cx, y, made, cx.attr("dtype"), cx.attr("low"), cx.attr("high"))

    return built


for _name, _build in (*PRODUCTS.items(), ("TRANSPOSE_CONV", transposed)):
    lite(f"{_name}.BYTES")(_bytes(_build))


@lite("BATCH_MATMUL.BYTES")
def _batch_matmul(cx: Context, x: Value, y: Value) -> Value:
    given, own, made = (cx.attr(n) for n in ("given", "weights", "made"))
    total = RULES["BatchMatMulV2"].build(cx, centred(cx, x, given), centred(cx, y, own))
    scale = given.factor * own.factor / made.factor
    ends = cx.attr("low"), cx.attr("high")
    return finished(cx, scaled_twice(cx, total, scale), made, cx.attr("dtype"), *ends)


@lite("SQUARED_DIFFERENCE.BYTES")
def _squared_difference(cx: Context, x: Value, y: Value) -> Value:
    """Of numbers that are brought to one scale, with 7 bits behind the point."""
    b, one, other, made = cx.b, *(cx.attr(n) for n in ("one", "other", "made"))
    twice = 2.0 * max(one.factor, other.factor)
    left, right = (
        scaled_twice(cx, ops.shl(b, centred(cx, v, q), 7), q.factor / twice)
        for v, q in ((x, one), (y, other))
    )
    broadcast(left, right)
    square = ops.square(b, ops.cast(b, ops.sub(b, left, right), i32))
    dtype, scale = cx.attr("dtype"), twice * twice / ((1 << 14) * made.factor)
    ends = int(dtype.min), int(dtype.max)
    return finished(cx, scaled_twice(cx, square, scale), made, dtype, *ends)


@lite("AVERAGE_POOL_2D.BYTES")
def _avg_pool(cx: Context, x: Value) -> Value:
    """The mean of integers, halves away from 0; what lies outside does not count."""
    b, kernel, strides = cx.b, spatial(cx, cx.attr("ksize")), spatial(cx, cx.attr("strides"))
    wide = channels_first(cx, ops.cast(b, x, i32))
    pads = paddings(cx, wide.shape[2:], kernel, strides)
    one = ops.full(b, (1, 1, *wide.shape[2:]), 1, i32)
    total, count = (
        ops.avg_pool(b, v, kernel, strides, pads, divisor_override=1) for v in (wide, one)
    )
    half = ops.shr(b, count, 1)
    near = ops.add(b, total, ops.select(b, ops.gt(b, total, 0), half, ops.neg(b, half)))
    y = ops.clamp(b, ops.truncdiv(b, near, count), cx.attr("low"), cx.attr("high"))
    return as_given(cx, ops.cast(b, y, x.dtype))


# ---- between bytes and floats --------------------------------------------------------------------


def _along(cx: Context, values: Array, quant: Quant, rank: int, dtype: DType) -> Value:
    return cx.param(np.ascontiguousarray(quant.along(values.astype(dtype.numpy), rank)), dtype)


@lite("DEQUANTIZE")
def dequantize(cx: Context, x: Value) -> Value:
    """scale * (x - zero point)."""
    quant: Quant = cx.attr("quant")
    wide = x if x.dtype == i64 else ops.cast(cx.b, x, i32)
    if quant.zero.any():
        wide = ops.sub(cx.b, wide, _along(cx, quant.zero, quant, x.rank, wide.dtype))
    return ops.mul(cx.b, ops.cast(cx.b, wide, f32), _along(cx, quant.scale, quant, x.rank, f32))


@lite("QUANTIZE")
def quantize(cx: Context, x: Value) -> Value:
    """x / scale + zero point, halves away from 0, at the ends of the type's range beyond them;
    rounded down with the attribute `down`.
    """
    quant, dtype = cx.attr("quant"), cx.attr("dtype")
    y = ops.div(cx.b, x, _along(cx, quant.scale, quant, x.rank, f32))
    y = ops.floor(cx.b, y) if cx.attr("down") else ops.round_away(cx.b, y)
    if quant.zero.any():
        y = ops.add(cx.b, y, _along(cx, quant.zero, quant, x.rank, f32))
    return ops.cast(cx.b, ops.clamp(cx.b, y, dtype.min, dtype.max), dtype)


@lite("REQUANTIZE")
def _requantize(cx: Context, x: Value) -> Value:
    """Quantised numbers by another scale."""
    given, made, dtype = (cx.attr(n) for n in ("given", "made", "dtype"))
    apart = made.number - given.number
    if given.factor == made.factor and {x.dtype, dtype} == {i8, u8} and abs(apart) == 128:
        return ops.cast(cx.b, ops.add(cx.b, ops.cast(cx.b, x, i32), apart), dtype)
    wide = centred(cx, x, given) if x.dtype in (i8, u8) else ops.cast(cx.b, x, i32)
    y = scaled_twice(cx, wide, given.factor / made.factor)
    return finished(cx, y, made, dtype, int(dtype.min), int(dtype.max))
