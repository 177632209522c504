"""ONNX rules: elementwise arithmetic, comparisons, activations, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, f32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.table import Context, dtype_of, element_type, onnx
from ferrule.ir.expr import ONE
from ferrule.ir.graph import Value

# ---- one operand ---------------------------------------------------------------------------------


def _unary(name: str, build: Callable[[Any, Value], Value], since: int = 1) -> None:
    @onnx(name, since=since)
    def rule(cx: Context, x: Value) -> Value:
        return build(cx.b, x)


_UNARY = {
    "Abs": ops.abs, "Acos": ops.acos, "Acosh": ops.acosh, "Asin": ops.asin, "Asinh": ops.asinh,
    "Atan": ops.atan, "Atanh": ops.atanh, "BitwiseNot": ops.bitwise_not, "Ceil": ops.ceil,
    "Cos": ops.cos, "Cosh": ops.cosh, "Erf": ops.erf, "Exp": ops.exp, "Floor": ops.floor,
    "HardSwish": ops.hardswish, "IsNaN": ops.isnan, "Log": ops.log, "Mish": ops.mish,
    "Neg": ops.neg, "Not": ops.logical_not, "Reciprocal": ops.reciprocal, "Relu": ops.relu,
    "Round": ops.round, "Sigmoid": ops.sigmoid, "Sin": ops.sin, "Sinh": ops.sinh,
    "Softsign": ops.softsign, "Sqrt": ops.sqrt, "Tan": ops.tan, "Tanh": ops.tanh,
}  # fmt: skip
for _name, _build in _UNARY.items():
    _unary(_name, _build)


@onnx("Identity")
def _identity(cx: Context, x: Value) -> Value:
    return x


@onnx("Sign")
def _sign(cx: Context, x: Value) -> Value:
    if x.dtype.kind == "u":
        return ops.cast(cx.b, ops.ne(cx.b, x, 0), x.dtype)
    return ops.sign(cx.b, x)


@onnx("Softplus")
def _softplus(cx: Context, x: Value) -> Value:
    return ops.softplus(cx.b, x, threshold=80.0)


@onnx("IsInf")
def _is_inf(cx: Context, x: Value) -> Value:
    below, above = cx.int("detect_negative", 1), cx.int("detect_positive", 1)
    out = ops.isinf(cx.b, x)
    if not below:
        out = ops.logical_and(cx.b, out, ops.gt(cx.b, x, 0))
    return out if above else ops.logical_and(cx.b, out, ops.lt(cx.b, x, 0))


# ---- activations ---------------------------------------------------------------------------------


@onnx("Elu")
def _elu(cx: Context, x: Value) -> Value:
    return ops.elu(cx.b, x, cx.float("alpha", 1.0))


@onnx("Celu")
def _celu(cx: Context, x: Value) -> Value:
    alpha = cx.float("alpha", 1.0)
    return ops.elu(cx.b, x, alpha, 1.0, 1 / alpha)


@onnx("Selu")
def _selu(cx: Context, x: Value) -> Value:
    alpha = cx.float("alpha", 1.67326319217681884765625 if cx.version >= 6 else 1.6732)
    gamma = cx.float("gamma", 1.05070102214813232421875 if cx.version >= 6 else 1.0507)
    return ops.elu(cx.b, x, alpha, gamma)


@onnx("LeakyRelu")
def _leaky(cx: Context, x: Value) -> Value:
    return ops.leaky_relu(cx.b, x, cx.float("alpha", 0.01))


@onnx("ThresholdedRelu")
def _thresholded(cx: Context, x: Value) -> Value:
    return ops.select(cx.b, ops.gt(cx.b, x, cx.float("alpha", 1.0)), x, 0)


@onnx("HardSigmoid")
def _hard_sigmoid(cx: Context, x: Value) -> Value:
    alpha, beta = cx.float("alpha", 0.2), cx.float("beta", 0.5)
    return ops.clamp(cx.b, ops.add(cx.b, ops.mul(cx.b, x, alpha), beta), 0, 1)


@onnx("Gelu")
def _gelu(cx: Context, x: Value) -> Value:
    return ops.gelu(cx.b, x, cx.text("approximate", "none"))


@onnx("Swish")
def _swish(cx: Context, x: Value) -> Value:
    alpha = cx.float("alpha", 1.0)
    if alpha == 1:
        return ops.silu(cx.b, x)
    return ops.mul(cx.b, x, ops.sigmoid(cx.b, ops.mul(cx.b, x, alpha)))


@onnx("PRelu")
def _prelu(cx: Context, x: Value, slope: Value) -> Value:
    if cx.version < 7 and slope.rank == 1 and slope.shape[0] is not ONE:
        slope = ops.reshape(cx.b, slope, (*slope.shape, *(1,) * (x.rank - 2)))
    return ops.select(cx.b, ops.lt(cx.b, x, 0), ops.mul(cx.b, x, slope), x)


@onnx("Shrink")
def _shrink(cx: Context, x: Value) -> Value:
    bias, lambd = cx.float("bias", 0.0), cx.float("lambd", 0.5)
    wide = x if x.dtype.is_float else ops.cast(cx.b, x, f32)
    above = ops.select(cx.b, ops.gt(cx.b, wide, lambd), ops.sub(cx.b, wide, bias), 0)
    out = ops.select(cx.b, ops.lt(cx.b, wide, -lambd), ops.add(cx.b, wide, bias), above)
    return ops.cast(cx.b, out, x.dtype)


@onnx("Clip", since=11)
def _clip(cx: Context, x: Value, lo: Value | None = None, hi: Value | None = None) -> Value:
    return ops.clamp(cx.b, x, lo, hi)


@onnx("Clip")
def _clip_6(cx: Context, x: Value) -> Value:
    lo = cx.float("min") if cx.has("min") else None
    return ops.clamp(cx.b, x, lo, cx.float("max") if cx.has("max") else None)


# ---- two operands --------------------------------------------------------------------------------


def _aligned(cx: Context, x: Value, y: Value) -> Value:
    """The second operand as it was broadcast before version 7: at `axis`, and if told so."""
    if cx.version >= 7 or not cx.int("broadcast", 0) or y.rank == x.rank:
        return y
    axis = cx.int("axis", x.rank - y.rank)
    axis = axis + x.rank if axis < 0 else axis
    return ops.reshape(cx.b, y, (*y.shape, *(1,) * (x.rank - axis - y.rank)))


def _binary(name: str, build: Callable[..., Value]) -> None:
    @onnx(name)
    def rule(cx: Context, x: Value, y: Value) -> Value:
        return build(cx.b, x, _aligned(cx, x, y))


_BINARY: dict[str, Callable[..., Value]] = {
    "Add": ops.add, "Sub": ops.sub, "Mul": ops.mul, "Div": ops.div,
    "And": ops.logical_and, "Or": ops.logical_or, "Xor": ops.logical_xor,
    "BitwiseAnd": ops.bitwise_and, "BitwiseOr": ops.bitwise_or, "BitwiseXor": ops.bitwise_xor,
    "Equal": ops.eq, "Less": ops.lt, "LessOrEqual": ops.le, "Greater": ops.gt,
    "GreaterOrEqual": ops.ge,
}  # fmt: skip
for _name, _make in _BINARY.items():
    _binary(_name, _make)


@onnx("Mod")
def _mod(cx: Context, x: Value, y: Value) -> Value:
    return ops.rem(cx.b, x, y) if cx.int("fmod", 0) else ops.mod(cx.b, x, y)


@onnx("Pow")
def _pow(cx: Context, x: Value, y: Value) -> Value:
    y = _aligned(cx, x, y)
    if x.dtype == y.dtype:
        return ops.pow(cx.b, x, y)
    if x.dtype.is_float:
        return ops.pow(cx.b, x, ops.cast(cx.b, y, x.dtype))
    if y.dtype.is_int:
        return ops.pow(cx.b, x, ops.cast(cx.b, y, x.dtype))
    power = ops.pow(cx.b, ops.cast(cx.b, x, y.dtype), y)
    return ops.cast(cx.b, power, x.dtype)


@onnx("BitShift")
def _bit_shift(cx: Context, x: Value, y: Value) -> Value:
    build = ops.shl if cx.text("direction") == "LEFT" else ops.shr
    return build(cx.b, x, y)


def _variadic(name: str, build: Callable[..., Value]) -> None:
    @onnx(name)
    def rule(cx: Context, *xs: Value) -> Value:
        out = xs[0]
        for x in xs[1:]:
            out = build(cx.b, out, x)
        return out


_variadic("Max", ops.max)
_variadic("Min", ops.min)
_variadic("Sum", ops.add)


@onnx("Mean")
def _mean(cx: Context, *xs: Value) -> Value:
    out = xs[0]
    for x in xs[1:]:
        out = ops.add(cx.b, out, x)
    return ops.div(cx.b, out, len(xs))


@onnx("Where")
def _where(cx: Context, c: Value, x: Value, y: Value) -> Value:
    return ops.select(cx.b, c, x, y)


# ---- conversions ---------------------------------------------------------------------------------


@onnx("Cast")
def _cast(cx: Context, x: Value) -> Value:
    return ops.cast(cx.b, x, dtype_of(element_type(cx.int("to"))))


@onnx("CastLike")
def _cast_like(cx: Context, x: Value, y: Value) -> Value:
    return ops.cast(cx.b, x, y.dtype)


@onnx("BitCast")
def _bit_cast(cx: Context, x: Value) -> Value:
    dtype = dtype_of(element_type(cx.int("to")))
    if dtype.bits != x.dtype.bits or boolean in (dtype, x.dtype):
        raise UnsupportedError(f"BitCast of {x.dtype} to {dtype}")
    return ops.bitcast(cx.b, x, dtype)


@onnx("Dropout", since=12, static=(1, 2))
def _dropout(cx: Context, x: Value, ratio: Array | None = None, train: Array | None = None) -> Any:
    rate = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
    if train is not None and bool(train.reshape(-1)[0]) and rate:
        raise UnsupportedError("Dropout in training mode")
    return x, ops.full(cx.b, x.shape, True, boolean)


@onnx("Dropout")
def _dropout_1(cx: Context, x: Value) -> Any:
    kept = x.dtype if cx.version < 10 else boolean
    return x, ops.full(cx.b, x.shape, True, kept)


@onnx("CumSum", static=(1,))
def _cumsum(cx: Context, x: Value, axis: Array) -> Value:
    return _running(cx, x, axis, ops.cumsum)


@onnx("CumProd", static=(1,))
def _cumprod(cx: Context, x: Value, axis: Array) -> Value:
    return _running(cx, x, axis, ops.cumprod)


def _running(cx: Context, x: Value, axis: Array, build: Callable[..., Value]) -> Value:
    exclusive, reverse = bool(cx.int("exclusive", 0)), bool(cx.int("reverse", 0))
    return build(cx.b, x, int(axis.reshape(-1)[0]), exclusive, reverse)
