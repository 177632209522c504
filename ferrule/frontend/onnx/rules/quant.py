"""ONNX rules: quantised arithmetic, in integers.

A quantised tensor stands for scale * (x - zero point). Products and convolutions are summed in i32
and scaled once; halves round to even, and results saturate.
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType, f32, i32, u8
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.onnx.rules.integer import convolution, matmul, operand
from ferrule.frontend.onnx.table import MICROSOFT, Context, dtype_of, element_type, onnx
from ferrule.ir.expr import ONE, ZERO
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, simplify


def _spread(cx: Context, p: Value, x: Value, axis: int) -> Value:
    """Scales or zero points of `x`: one for all, one a slice of `axis`, or one a block of it."""
    if p.rank == 0 or (p.rank == 1 and p.shape[0] is ONE and x.rank != 1):
        return ops.reshape(cx.b, p, ())
    axis = axis + x.rank if axis < 0 else axis
    if p.rank == 1 and not cx.int("block_size", 0):
        if not equal(p.shape[0], x.shape[axis]):
            raise CompileError(f"{p.type} are no scales for axis {axis} of {x.type}")
        shape = [ONE] * x.rank
        shape[axis] = p.shape[0]
        return ops.reshape(cx.b, p, shape)
    block = cx.int("block_size", 0)
    if not block:
        raise CompileError(f"scales {p.type} of {x.type} need a block size")
    lead, rest = p.shape[: axis + 1], p.shape[axis + 1 :]
    wide = ops.expand(cx.b, ops.unsqueeze(cx.b, p, axis + 1), (*lead, block, *rest))
    full = simplify(p.shape[axis] * block)
    wide = ops.reshape(cx.b, wide, (*p.shape[:axis], full, *rest))
    return ops.slice_axis(cx.b, wide, axis, ZERO, x.shape[axis])


def saturated(cx: Context, x: Value, dtype: DType, low: int | None = None) -> Value:
    """A float, rounded to even, in an integer type: the ends of its range where it is outside."""
    lo = dtype.min if low is None else low
    return ops.cast(cx.b, ops.clamp(cx.b, ops.round(cx.b, x), lo, dtype.max), dtype)


@onnx("QuantizeLinear")
@onnx("QuantizeLinear", domain=MICROSOFT)
def _quantize(cx: Context, x: Value, scale: Value, zero: Value | None = None) -> Value:
    dtype = u8 if zero is None else zero.dtype
    if zero is None and cx.int("output_dtype", 0):
        dtype = dtype_of(element_type(cx.int("output_dtype")))
    if not dtype.is_int:
        raise UnsupportedError(f"QuantizeLinear to {dtype}")
    axis = cx.int("axis", 1)
    wide = ops.cast(cx.b, x, f32)
    y = ops.div(cx.b, wide, ops.cast(cx.b, _spread(cx, scale, x, axis), f32))
    y = ops.round(cx.b, y)
    if zero is not None:
        y = ops.add(cx.b, y, ops.cast(cx.b, _spread(cx, zero, x, axis), f32))
    return saturated(cx, y, dtype)


@onnx("DequantizeLinear")
@onnx("DequantizeLinear", domain=MICROSOFT)
def _dequantize(cx: Context, x: Value, scale: Value, zero: Value | None = None) -> Value:
    axis = cx.int("axis", 1)
    wide = ops.cast(cx.b, x, i32)
    if zero is not None:
        wide = ops.sub(cx.b, wide, ops.cast(cx.b, _spread(cx, zero, x, axis), i32))
    factor = ops.cast(cx.b, _spread(cx, scale, x, axis), f32)
    out = ops.mul(cx.b, ops.cast(cx.b, wide, f32), factor)
    given = cx.int("output_dtype", 0)
    return ops.cast(cx.b, out, dtype_of(element_type(given)) if given else scale.dtype)


@onnx("DynamicQuantizeLinear")
def dynamic_quantize(cx: Context, x: Value) -> tuple[Value, Value, Value]:
    """(x in u8, its scale, its zero point) from its own range, 0 included; of zeros the scale is 1.
    """
    b = cx.b
    high = ops.max(b, ops.reduce_max(b, x, empty=True), 0)
    low = ops.min(b, ops.reduce_min(b, x, empty=True), 0)
    span = ops.sub(b, high, low)
    scale = ops.select(b, ops.eq(b, span, 0), 1.0, ops.div(b, span, 255.0))
    zero = saturated(cx, ops.div(b, ops.neg(b, low), scale), u8)
    shifted = ops.add(b, ops.round(b, ops.div(b, x, scale)), ops.cast(b, zero, f32))
    return saturated(cx, shifted, u8), scale, zero


# ---- products ------------------------------------------------------------------------------------


@onnx("MatMulInteger")
def _matmul_integer(
    cx: Context, x: Value, y: Value, x_zero: Value | None = None, y_zero: Value | None = None
) -> Value:
    return matmul(cx, operand(cx, x, x_zero, 0, 2), operand(cx, y, y_zero, 1, 3))


@onnx("ConvInteger")
def _conv_integer(
    cx: Context, x: Value, w: Value, x_zero: Value | None = None, w_zero: Value | None = None
) -> Value:
    return convolution(cx, operand(cx, x, x_zero, 0, 2), operand(cx, w, w_zero, 1, 3))


def rescaled(cx: Context, total: Value, factor: Value, zero: Value | None, dtype: DType) -> Value:
    """An i32 sum, times a factor, as a quantised result."""
    y = ops.round(cx.b, ops.mul(cx.b, ops.cast(cx.b, total, f32), factor))
    if zero is not None:
        y = ops.add(cx.b, y, ops.cast(cx.b, ops.reshape(cx.b, zero, ()), f32))
    return saturated(cx, y, dtype)


def _factor(cx: Context, x: Value, y: Value, out: Value, shape: tuple[Any, ...]) -> Value:
    """x * y / out of three scales; `y` may be one a slice, of this shape then."""
    per_slice = y.rank and y.shape[-1] is not ONE
    right = ops.reshape(cx.b, y, shape) if per_slice and y.rank == 1 else y
    right = right if per_slice else ops.reshape(cx.b, y, ())
    left = ops.reshape(cx.b, x, ()) if not x.rank or x.shape[-1] is ONE else x
    product = ops.mul(cx.b, ops.cast(cx.b, left, f32), ops.cast(cx.b, right, f32))
    return ops.div(cx.b, product, ops.cast(cx.b, ops.reshape(cx.b, out, ()), f32))


@onnx("QLinearMatMul")
def _qlinear_matmul(
    cx: Context, x: Value, x_scale: Value, x_zero: Value, y: Value, y_scale: Value, y_zero: Value,
    scale: Value, zero: Value,
) -> Value:  # fmt: skip
    total = matmul(cx, operand(cx, x, x_zero, 0, 2), operand(cx, y, y_zero, 3, 5))
    if x_scale.rank == 1 and x_scale.shape[0] is not ONE:
        x_scale = ops.unsqueeze(cx.b, x_scale, 1)
    factor = _factor(cx, x_scale, y_scale, scale, (y_scale.shape[0] if y_scale.rank else ONE,))
    return rescaled(cx, total, factor, zero, zero.dtype)


@onnx("QLinearConv")
def _qlinear_conv(
    cx: Context, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value,
    scale: Value, zero: Value, bias: Value | None = None,
) -> Value:  # fmt: skip
    total = convolution(cx, operand(cx, x, x_zero, 0, 2), operand(cx, w, w_zero, 3, 5))
    if bias is not None:
        total = ops.add(cx.b, total, ops.reshape(cx.b, bias, (*bias.shape, *(1,) * (w.rank - 2))))
    shape = (w.shape[0], *(1,) * (w.rank - 2))
    return rescaled(cx, total, _factor(cx, x_scale, w_scale, scale, shape), zero, zero.dtype)
