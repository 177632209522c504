"""Operations of elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType, i32
from ferrule.frontend.stablehlo.table import (
    RULES,
    Complex,
    Context,
    Rule,
    elementwise,
    is_complex,
    rule,
)
from ferrule.ir.agree import agree
from ferrule.ir.graph import GraphBuilder, Value

_UNARY: dict[str, Callable[[GraphBuilder, Value], Value]] = {
    "stablehlo.abs": ops.abs,
    "stablehlo.cbrt": ops.cbrt,
    "stablehlo.ceil": ops.ceil,
    "stablehlo.cosine": ops.cos,
    "stablehlo.count_leading_zeros": ops.count_leading_zeros,
    "stablehlo.exponential": ops.exp,
    "stablehlo.exponential_minus_one": ops.expm1,
    "stablehlo.floor": ops.floor,
    "stablehlo.is_finite": ops.isfinite,
    "stablehlo.log": ops.log,
    "stablehlo.log_plus_one": ops.log1p,
    "stablehlo.logistic": ops.sigmoid,
    "stablehlo.negate": ops.neg,
    "stablehlo.not": ops.bitwise_not,
    "stablehlo.popcnt": ops.popcount,
    "stablehlo.round_nearest_afz": ops.round_away,
    "stablehlo.round_nearest_even": ops.round,
    "stablehlo.rsqrt": ops.rsqrt,
    "stablehlo.sign": ops.sign,
    "stablehlo.sine": ops.sin,
    "stablehlo.sqrt": ops.sqrt,
    "stablehlo.tan": ops.tan,
    "stablehlo.tanh": ops.tanh,
    "chlo.acos": ops.acos,
    "chlo.acosh": ops.acosh,
    "chlo.asin": ops.asin,
    "chlo.asinh": ops.asinh,
    "chlo.atan": ops.atan,
    "chlo.atanh": ops.atanh,
    "chlo.bessel_i1e": ops.i1e,
    "chlo.cosh": ops.cosh,
    "chlo.digamma": ops.digamma,
    "chlo.erf": ops.erf,
    "chlo.erf_inv": ops.erfinv,
    "chlo.erfc": ops.erfc,
    "chlo.is_inf": ops.isinf,
    "chlo.is_neg_inf": ops.isneginf,
    "chlo.is_pos_inf": ops.isposinf,
    "chlo.lgamma": ops.lgamma,
    "chlo.sinh": ops.sinh,
    "chlo.square": ops.square,
    "chlo.tan": ops.tan,
}


def _divide(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.div(b, x, y) if x.dtype.is_float else ops.quotient(b, x, y)


def _remainder(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.rem(b, x, y) if x.dtype.is_float else ops.remainder(b, x, y)


def _add(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.logical_or(b, x, y) if x.dtype.is_bool else ops.add(b, x, y)


def _multiply(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.logical_and(b, x, y) if x.dtype.is_bool else ops.mul(b, x, y)


_BINARY: dict[str, Callable[[GraphBuilder, Value, Value], Value]] = {
    "add": _add,
    "and": ops.bitwise_and,
    "atan2": ops.atan2,
    "divide": _divide,
    "maximum": ops.max,
    "minimum": ops.min,
    "multiply": _multiply,
    "next_after": ops.nextafter,
    "or": ops.bitwise_or,
    "polygamma": ops.polygamma,
    "power": ops.pow,
    "remainder": _remainder,
    "shift_left": ops.shl,
    "shift_right_arithmetic": ops.shr,
    "shift_right_logical": ops.shift_right_logical,
    "subtract": ops.sub,
    "xor": ops.bitwise_xor,
    "zeta": ops.zeta,
    "mulhi": ops.mulhi,
}
"""By name without the dialect: StableHLO's, CHLO's, and CHLO's that broadcast their operands."""


def _register() -> None:
    for name, one in _UNARY.items():
        RULES[name] = Rule(lambda cx, x, fn=one: fn(cx.b, x), "elements")
    for name, two in _BINARY.items():
        build = lambda cx, x, y, fn=two: fn(cx.b, x, y)  # noqa: E731
        for whole in (f"stablehlo.{name}", f"chlo.{name}", f"chlo.broadcast_{name}"):
            RULES[whole] = Rule(build, "elements")


_register()


@rule("stablehlo.select", "chlo.broadcast_select")
def _select(cx: Context, c: Value, x: Any, y: Any) -> Any:
    agree(x.shape, y.shape)
    if c.rank:
        agree(c.shape, x.shape)
    if isinstance(x, Complex):
        return Complex(ops.select(cx.b, c, x.real, y.real), ops.select(cx.b, c, x.imag, y.imag))
    return ops.select(cx.b, c, x, y)


@rule("stablehlo.clamp")
def _clamp(cx: Context, lo: Value, x: Value, hi: Value) -> Value:
    return ops.min(cx.b, ops.max(cx.b, x, lo), hi)


_COMPARISONS = {
    "EQ": ops.eq, "NE": ops.ne, "LT": ops.lt, "LE": ops.le, "GT": ops.gt, "GE": ops.ge,
}  # fmt: skip


@elementwise("stablehlo.compare", "chlo.broadcast_compare")
def _compare(cx: Context, x: Value, y: Value) -> Value:
    if cx.op.attributes.get("compare_type") == "TOTALORDER" and x.dtype.is_float:
        x, y = ops.total_order(cx.b, x), ops.total_order(cx.b, y)
    return _COMPARISONS[cx.attr("comparison_direction")](cx.b, x, y)


@rule("stablehlo.convert")
def _convert(cx: Context, x: Any) -> Any:
    b, dtype = cx.b, cx.dtype
    if is_complex(cx.result()):
        if isinstance(x, Complex):
            return x.map(lambda v: ops.cast(b, v, dtype))
        real = ops.cast(b, x, dtype)
        return Complex(real, ops.full(b, real.shape, 0, dtype))
    if isinstance(x, Complex):
        x = x.real
    if x.dtype.is_float and dtype.is_bool:
        return ops.ne(b, x, 0.0)
    if x.dtype.is_float and dtype.is_int:
        return _saturated(b, x, dtype)
    return ops.cast(b, x, dtype)


def _saturated(b: GraphBuilder, x: Value, dtype: DType) -> Value:
    """Floats as integers the way XLA has them: NaN is 0, what is too large or too small the last
    integer on that side.
    """
    x = ops.cast(b, x, x.dtype.compute)
    low, high = dtype.min, dtype.max
    last = float(high) if dtype.bits < 32 else float(high + 1)  # float(high + 1) is a power of 2
    inside = ops.select(b, ops.ge(b, x, float(low)), x, float(low))
    found = ops.cast(b, ops.select(b, ops.lt(b, inside, last), inside, 0.0), dtype)
    found = ops.select(b, ops.ge(b, x, last), high, found)
    return ops.select(b, ops.eq(b, x, x), found, 0)


@rule("stablehlo.bitcast_convert")
def _bitcast(cx: Context, x: Any) -> Any:
    b, dtype = cx.b, cx.dtype
    if isinstance(x, Complex):
        if is_complex(cx.result()) and x.dtype == dtype:
            return x
        x = ops.stack(b, [x.real, x.imag], x.rank)
    parts = ops.bitcast(b, x, dtype)
    if is_complex(cx.result()):
        return Complex(*(ops.select_index(b, parts, parts.rank - 1, i) for i in (0, 1)))
    return parts


@rule("stablehlo.reduce_precision")
def _reduce_precision(cx: Context, x: Value) -> Value:
    return ops.reduce_precision(cx.b, x, cx.attr("exponent_bits"), cx.attr("mantissa_bits"))


@rule("stablehlo.complex", "chlo.broadcast_complex")
def _complex(cx: Context, x: Value, y: Value) -> Complex:
    return Complex(x, y)


@rule("stablehlo.real")
def _real(cx: Context, x: Any) -> Value:
    return x.real if isinstance(x, Complex) else x


@elementwise("chlo.conj")
def _conj(cx: Context, x: Value) -> Value:
    return x


@rule("stablehlo.imag")
def _imag(cx: Context, x: Any) -> Value:
    return x.imag if isinstance(x, Complex) else ops.full(cx.b, x.shape, 0, x.dtype)


@rule("stablehlo.map")
def _map(cx: Context, *xs: Any) -> Any:
    """The region is one of elements, so it is one of whole tensors as well."""
    shape = xs[0].shape
    results = cx.run_whole(cx.op.regions[0], cx.b, xs)
    return tuple(ops.expand(cx.b, v, shape) for v in results)


@rule("stablehlo.get_dimension_size")
def _get_dimension_size(cx: Context, x: Any) -> Value:
    return ops.full(cx.b, (), x.shape[cx.attr("dimension")], i32)


