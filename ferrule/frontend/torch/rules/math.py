"""ATen rules: arithmetic, comparisons, mathematics, casts and creation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, f32, f64, i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, Operand, aten, dtype_of, must_fit, truth
from ferrule.ir.expr import Expr
from ferrule.ir.graph import Value

# ---- arithmetic ----------------------------------------------------------------------------------


def _both(cx: Context, x: Operand, y: Operand) -> tuple[Value, Value]:
    return cx.value(x, cx.dtype), cx.value(y, cx.dtype)


def _exactly(cx: Context, x: Operand, y: Operand) -> tuple[Value, Value]:
    """The same, in f32 for f16 and bf16 where one is a number: that is not rounded to these."""
    numbers = any(not isinstance(v, Value) or (v.rank == 0 and v.dtype != cx.dtype) for v in (x, y))
    dtype = cx.dtype.compute if numbers else cx.dtype
    return cx.value(x, dtype), cx.value(y, dtype)


def _sum(name: str) -> Callable[..., Value]:
    """x + alpha * y (or less), rounded once."""

    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def rule(cx: Context, x: Operand, y: Operand, alpha: Any = 1) -> Value:
        combine = getattr(ops, name)
        _check_alpha(cx, alpha)
        if alpha == 1:
            return combine(cx.b, *_both(cx, x, y))
        a, c, factor = (cx.value(v, cx.dtype.compute) for v in (x, y, alpha))
        return combine(cx.b, a, ops.mul(cx.b, c, factor))

    return rule


_add, _sub = _sum("add"), _sum("sub")


def _check_alpha(cx: Context, alpha: Any) -> None:
    if isinstance(alpha, bool) and not cx.dtype.is_bool:
        raise UnsupportedError("PyTorch takes a bool as alpha for bools alone")
    must_fit(alpha, cx.dtype)


@aten("rsub.Scalar", "rsub.Tensor")
def _rsub(cx: Context, x: Operand, y: Operand, alpha: Any = 1) -> Value:
    if isinstance(y, bool):
        raise UnsupportedError("PyTorch does not subtract from a bool")
    return _sub(cx, y, x, alpha)


def _binary(*names: str, op: str, operands: Callable[..., tuple[Value, Value]] = _both) -> None:
    @aten(*names)
    def rule(cx: Context, x: Operand, y: Operand) -> Value:
        return getattr(ops, op)(cx.b, *operands(cx, x, y))


_binary("mul.Tensor", "mul.Scalar", op="mul", operands=_exactly)
_binary("div.Tensor", "div.Scalar", "true_divide.Tensor", op="div", operands=_exactly)
_binary("maximum.default", op="maximum")
_binary("minimum.default", op="minimum")
_binary("atan2.default", op="atan2")
_binary("copysign.Tensor", "copysign.Scalar", op="copysign")
_binary("hypot.default", op="hypot")
_binary("nextafter.default", op="nextafter")
_binary("bitwise_and.Tensor", "bitwise_and.Scalar", "bitwise_and.Scalar_Tensor", op="bitwise_and")
_binary("bitwise_or.Tensor", "bitwise_or.Scalar", "bitwise_or.Scalar_Tensor", op="bitwise_or")
_binary("bitwise_xor.Tensor", "bitwise_xor.Scalar", "bitwise_xor.Scalar_Tensor", op="bitwise_xor")
_binary(
    "bitwise_left_shift.Tensor",
    "bitwise_left_shift.Tensor_Scalar",
    "__lshift__.Tensor",
    "__lshift__.Scalar",
    op="shl",
)
_binary(
    "bitwise_right_shift.Tensor",
    "bitwise_right_shift.Tensor_Scalar",
    "__rshift__.Tensor",
    "__rshift__.Scalar",
    op="shr",
)


def _division(
    *names: str, op: str, operands: Callable[..., tuple[Value, Value]] = _both
) -> None:
    """What refuses to divide an integer by 0."""

    @aten(*names)
    def rule(cx: Context, x: Operand, y: Operand) -> Value:
        return _divided(cx, x, y, op, operands)


def _divided(
    cx: Context,
    x: Operand,
    y: Operand,
    op: str,
    operands: Callable[..., tuple[Value, Value]] = _both,
) -> Value:
    a, c = operands(cx, x, y)
    if cx.dtype.is_bool:
        raise UnsupportedError(f"{op} of bools")
    known = isinstance(y, int) and y % (1 << cx.dtype.bits) != 0  # it wraps as a tensor does
    if cx.dtype.is_int and not known:
        c = ops.ensure(cx.b, c, ops.ne(cx.b, c, 0), "zero_division")
    return getattr(ops, op)(cx.b, a, c)


_division("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor", op="mod")
_division("fmod.Tensor", "fmod.Scalar", op="rem")
_division("floor_divide.default", "floor_divide.Scalar", op="floordiv", operands=_exactly)


@aten("div.Tensor_mode", "div.Scalar_mode")
def _div_mode(cx: Context, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return ops.div(cx.b, *_exactly(cx, x, y))
    return _divided(cx, x, y, {"floor": "floordiv", "trunc": "truncdiv"}[rounding_mode], _exactly)


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
def _pow(cx: Context, x: Operand, y: Operand) -> Value:
    base = cx.value(x, cx.dtype)
    if isinstance(y, int | float) and not isinstance(y, bool):
        if cx.dtype.is_int and y < 0 and isinstance(x, Value):
            raise UnsupportedError("PyTorch refuses integers to a negative power")
        special = _small_power(cx, base, y)
        if special is not None:
            return special
    exponent = cx.fitting(y, cx.dtype) if isinstance(x, Value) else cx.value(y, cx.dtype)
    return ops.pow(cx.b, base, exponent)


def _small_power(cx: Context, x: Value, n: float) -> Value | None:
    if n == 0.5 and x.dtype.is_float:
        return ops.sqrt(cx.b, x)
    if n == -0.5 and x.dtype.is_float:
        return ops.rsqrt(cx.b, x)
    if n == -1 and x.dtype.is_float:
        return ops.reciprocal(cx.b, x)
    if n != int(n) or not (0 <= n <= (3 if x.dtype.is_float else 16)):
        return None
    x = cx.value(x, x.dtype.compute)
    out = ops.full(cx.b, x.shape, 1, x.dtype) if n == 0 else x
    for _ in range(int(n) - 1):
        out = ops.mul(cx.b, out, x)
    return out


@aten("ldexp.Tensor")
def _ldexp(cx: Context, x: Value, y: Value) -> Value:
    two = ops.full(cx.b, (), 2, cx.dtype)
    return ops.mul(cx.b, cx.value(x, cx.dtype), ops.pow(cx.b, two, cx.value(y, cx.dtype)))


def _ignoring_nan(name: str, op: str) -> None:
    """The greater or lesser operand; a NaN counts only where both are."""

    @aten(f"{name}.default")
    def rule(cx: Context, x: Value, y: Value) -> Value:
        a, c = _both(cx, x, y)
        out = getattr(ops, op)(cx.b, a, c)
        if not cx.dtype.is_float:
            return out
        out = ops.select(cx.b, ops.isnan(cx.b, a), c, out)
        return ops.select(cx.b, ops.isnan(cx.b, c), a, out)


_ignoring_nan("fmax", "maximum")
_ignoring_nan("fmin", "minimum")


@aten("angle.default")
def _angle(cx: Context, x: Value) -> Value:
    """0 or pi; NaN stays."""
    if not x.dtype.is_float:
        x = cx.value(x, cx.dtype)
    zero, half = cx.value(0.0, x.dtype), cx.value(math.pi, x.dtype)
    return ops.select(
        cx.b, ops.isnan(cx.b, x), x, ops.select(cx.b, ops.lt(cx.b, x, zero), half, zero)
    )


def _comparison(name: str) -> None:
    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def rule(cx: Context, x: Operand, y: Operand) -> Value:
        dtype = cx.common()
        return getattr(ops, name)(cx.b, cx.value(x, dtype), cx.value(y, dtype))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_name)


def _logical(name: str) -> None:
    @aten(f"logical_{name}.default")
    def rule(cx: Context, x: Value, y: Value) -> Value:
        return getattr(ops, f"logical_{name}")(cx.b, truth(cx, x), truth(cx, y))


for _name in ("and", "or", "xor"):
    _logical(_name)


@aten("logical_not.default")
def _logical_not(cx: Context, x: Value) -> Value:
    return ops.logical_not(cx.b, truth(cx, x))


@aten("bitwise_not.default")
def _bitwise_not(cx: Context, x: Value) -> Value:
    return ops.bitwise_not(cx.b, x)


# ---- unary mathematics ---------------------------------------------------------------------------


def _unary(name: str, op: str | None = None) -> None:
    @aten(f"{name}.default")
    def rule(cx: Context, x: Value) -> Value:
        return getattr(ops, op or name)(cx.b, cx.value(x, cx.dtype))


for _name in (
    "sqrt",
    "rsqrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "erfinv",
    "sigmoid",
    "lgamma",
    "digamma",
    "floor",
    "ceil",
    "trunc",
    "round",
    "neg",
    "abs",
    "relu",
    "reciprocal",
    "silu",
    "mish",
    "selu",
    "relu6",
    "hardswish",
    "hardsigmoid",
    "square",
):
    _unary(_name)
_unary("fix", "trunc")
_unary("absolute", "abs")
_unary("special_erf", "erf")
_unary("i0")
_unary("special_i0e", "i0e")
_unary("special_i1", "i1")
_unary("special_i1e", "i1e")


@aten("hardshrink.default")
def _hardshrink(cx: Context, x: Value, lambd: float = 0.5) -> Value:
    return ops.hardshrink(cx.b, x, lambd)


@aten("log_sigmoid_forward.default")
def _log_sigmoid(cx: Context, x: Value) -> Any:
    """The value, and a buffer for the gradient, which nobody reads here."""
    buffer = cx.results[1]
    return ops.logsigmoid(cx.b, x), ops.full(cx.b, buffer.shape, 0, buffer.dtype)


@aten("sign.default", "sgn.default")
def _sign(cx: Context, x: Value) -> Value:
    """The sign; PyTorch gives 0 for NaN."""
    if x.dtype == boolean:
        return x
    sign = ops.sign(cx.b, x)
    return (
        ops.select(cx.b, ops.isnan(cx.b, x), ops.full(cx.b, (), 0, x.dtype), sign)
        if x.dtype.is_float
        else sign
    )


@aten("frexp.Tensor")
def _frexp(cx: Context, x: Value) -> Any:
    """A mantissa from 1/2 up to 1 and an exponent; 0, infinities and NaN are their own mantissa."""
    whole, bits, digits = (f64, i64, 52) if x.dtype == f64 else (f32, i32, 23)
    half = (1 << (bits.bits - 2 - digits)) - 2  # the biased exponent of 1/2
    x = ops.cast(cx.b, x, whole)
    small = ops.lt(cx.b, ops.abs(cx.b, x), 2.0**-half)
    scaled = ops.select(cx.b, small, ops.mul(cx.b, x, 2.0 ** (digits + 1)), x)
    word, field = ops.bitcast(cx.b, scaled, bits), (2 * half + 3) << digits
    biased = ops.shr(cx.b, ops.bitwise_and(cx.b, word, field), digits)
    offset = ops.select(cx.b, small, cx.value(half + digits + 1, bits), cx.value(half, bits))
    mantissa = ops.bitwise_or(cx.b, ops.bitwise_and(cx.b, word, ~field), half << digits)
    plain = ops.logical_and(cx.b, ops.isfinite(cx.b, x), ops.ne(cx.b, x, 0))
    return (
        ops.select(cx.b, plain, ops.bitcast(cx.b, mantissa, whole), x),
        ops.select(cx.b, plain, ops.sub(cx.b, biased, offset), 0),
    )


@aten("signbit.default")
def _signbit(cx: Context, x: Value) -> Value:
    """Whether the sign is negative, also that of -0 and of a NaN."""
    if x.dtype.is_float:
        x = ops.copysign(cx.b, cx.value(1.0, x.dtype), x)
    return ops.lt(cx.b, x, cx.value(0, x.dtype)) if x.dtype.kind in "fi" else cx.value(False)


def _classify(name: str, of_integer: bool) -> None:
    @aten(f"{name}.default")
    def rule(cx: Context, x: Value) -> Value:
        if x.dtype.is_float:
            return getattr(ops, name)(cx.b, x)
        return ops.full(cx.b, x.shape, of_integer, boolean)


_classify("isnan", False)
_classify("isinf", False)
_classify("isfinite", True)


@aten("logit.default")
def _logit(cx: Context, x: Value, eps: float | None = None) -> Value:
    return ops.logit(cx.b, cx.value(x, cx.dtype), eps)


@aten("round.decimals")
def _round_decimals(cx: Context, x: Value, decimals: int = 0) -> Value:
    if decimals == 0 or not x.dtype.is_float:
        return ops.round(cx.b, x)
    x = cx.value(x, x.dtype.compute)
    scale = cx.value(10.0 ** abs(decimals), x.dtype)
    up, down = (ops.mul, ops.div) if decimals > 0 else (ops.div, ops.mul)
    return down(cx.b, ops.round(cx.b, up(cx.b, x, scale)), scale)


@aten("gelu.default")
def _gelu(cx: Context, x: Value, approximate: str = "none") -> Value:
    return ops.gelu(cx.b, x, approximate=approximate)


@aten("leaky_relu.default")
def _leaky_relu(cx: Context, x: Value, slope: float = 0.01) -> Value:
    return ops.leaky_relu(cx.b, x, slope)


@aten("elu.default")
def _elu(
    cx: Context, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Value:
    return ops.elu(cx.b, x, alpha, scale, input_scale)


@aten("softplus.default")
def _softplus(cx: Context, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return ops.softplus(cx.b, x, beta, threshold)


@aten("hardtanh.default")
def _hardtanh(cx: Context, x: Value, lo: float = -1.0, hi: float = 1.0) -> Value:
    return ops.clamp(cx.b, x, cx.fitting(lo, x.dtype), cx.fitting(hi, x.dtype))


@aten("threshold.default")
def _threshold(cx: Context, x: Value, threshold: float, value: float) -> Value:
    keep = ops.gt(cx.b, x, cx.fitting(threshold, x.dtype))
    nan_too = ops.logical_or(cx.b, keep, ops.isnan(cx.b, x)) if x.dtype.is_float else keep
    return ops.select(cx.b, nan_too, x, cx.fitting(value, x.dtype))


@aten("clamp.default", "clamp.Tensor")
def _clamp(cx: Context, x: Value, lo: Operand | None = None, hi: Operand | None = None) -> Value:
    bounds = [None if v is None else cx.fitting(v, cx.dtype) for v in (lo, hi)]
    return ops.clamp(cx.b, cx.value(x, cx.dtype), *bounds)


@aten("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(cx: Context, x: Value, lo: Operand) -> Value:
    return _clamp(cx, x, lo, None)


@aten("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(cx: Context, x: Value, hi: Operand) -> Value:
    return _clamp(cx, x, None, hi)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(cx: Context, c: Value, x: Operand, y: Operand) -> Value:
    if cx.dtype.is_int:
        must_fit(x, cx.dtype)
        must_fit(y, cx.dtype)
    return ops.select(cx.b, truth(cx, c), *_both(cx, x, y))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(cx: Context, x: Value, mask: Value, value: Operand) -> Value:
    return ops.select(cx.b, mask, cx.fitting(value, x.dtype), x)


@aten("lerp.Scalar", "lerp.Tensor")
def _lerp(cx: Context, x: Value, y: Value, weight: Operand) -> Value:
    return ops.lerp(cx.b, *(cx.value(v, x.dtype.compute) for v in (x, y, weight)))


def _plus_scaled(name: str) -> None:
    """x + value * y * z (or / z), rounded once."""

    @aten(f"{name}.default")
    def rule(cx: Context, x: Value, y: Value, z: Value, value: float = 1) -> Value:
        must_fit(value, cx.dtype)
        a, c, d = (cx.value(v, cx.dtype) for v in (x, y, z))
        if cx.dtype.is_float:
            return getattr(ops, name)(cx.b, a, c, d, value)
        scaled = ops.mul(cx.b, cx.value(value, cx.dtype), c)  # integers: addcmul alone, wrapping
        return ops.add(cx.b, a, ops.mul(cx.b, scaled, d))


_plus_scaled("addcmul")
_plus_scaled("addcdiv")


# ---- casts and creation --------------------------------------------------------------------------


@aten(
    "_to_copy.default",
    "clone.default",
    "alias.default",
    "contiguous.default",
    "detach.default",
    "lift_fresh_copy.default",
    "to.dtype",
    "to.dtype_layout",
    "to.device",
    "type_as.default",
    "positive.default",
    "real.default",
    "alias_copy.default",
    "detach_copy.default",
    "lift.default",
    "conj.default",
    "_conj.default",
    "resolve_conj.default",
    "resolve_neg.default",
)
def _copy(cx: Context, x: Value, *_: Any, **__: Any) -> Value:
    return ops.cast(cx.b, x, cx.dtype)


@aten("copy.default")
def _copy_from(cx: Context, x: Value, source: Value, *_: Any) -> Value:
    return ops.expand(cx.b, ops.cast(cx.b, source, x.dtype), x.shape)


@aten(
    "dropout.default", "native_dropout.default", "alpha_dropout.default", "feature_dropout.default"
)
def _dropout(cx: Context, x: Value, p: float = 0.5, train: bool = False) -> Any:
    if train and p:
        raise UnsupportedError("dropout while training")
    return (x, ops.full(cx.b, x.shape, True, boolean)) if len(cx.results) > 1 else x


@aten("full.default", "full_like.default", "new_full.default")
def _full(cx: Context, shape_or_like: Any, *args: Any, **_: Any) -> Value:
    value = args[0] if isinstance(shape_or_like, Value) and len(args) == 1 else args[-1]
    if isinstance(value, Value | Expr):
        return ops.expand(cx.b, cx.value(value, cx.dtype), cx.shape)
    must_fit(value, cx.dtype)
    return ops.full(cx.b, cx.shape, value, cx.dtype)


def _filled(names: tuple[str, ...], value: int) -> None:
    @aten(*names)
    def rule(cx: Context, *_: Any, **__: Any) -> Value:
        return ops.full(cx.b, cx.shape, value, cx.dtype)


_filled(
    (
        "zeros.default",
        "zeros_like.default",
        "new_zeros.default",
        "empty.memory_format",
        "empty_like.default",
        "new_empty.default",
        "empty_permuted.default",
        "empty_strided.default",
        "new_empty_strided.default",
    ),
    0,
)
_filled(("ones.default", "ones_like.default", "new_ones.default"), 1)


@aten("scalar_tensor.default")
def _scalar_tensor(cx: Context, value: Any, **_: Any) -> Value:
    return cx.fitting(value, cx.dtype)


@aten("fill.Scalar", "fill.Tensor")
def _fill(cx: Context, x: Value, value: Operand) -> Value:
    return ops.expand(cx.b, cx.fitting(value, x.dtype), x.shape)


@aten("arange.default", "arange.start", "arange.start_step")
def _arange(cx: Context, *args: Any, **__: Any) -> Value:
    start, _, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    wide = cx.dtype if cx.dtype.is_float else i64
    return ops.cast(cx.b, ops.arange(cx.b, start, step, cx.shape[0], wide), cx.dtype)


@aten(
    "linspace.default",
    "linspace.Tensor_Tensor",
    "linspace.Tensor_Scalar",
    "linspace.Scalar_Tensor",
)
def _linspace(cx: Context, start: Operand, end: Operand, steps: int, **_: Any) -> Value:
    """Evenly spaced from the nearer end; integers in f64, from ends rounded to zero, and so too."""
    if not isinstance(steps, int):
        raise UnsupportedError("linspace of a symbolic number of steps")
    wide = cx.dtype.compute if cx.dtype.is_float else f64
    first, last = (ops.cast(cx.b, cx.value(e, cx.dtype), wide) for e in (start, end))
    if steps < 2:
        return ops.expand(cx.b, first, cx.shape)
    step = ops.div(cx.b, ops.sub(cx.b, last, first), cx.value(steps - 1, wide))
    i = ops.iota(cx.b, cx.shape, 0)
    left = ops.cast(cx.b, ops.sub(cx.b, cx.value(steps - 1), i), wide)
    near = ops.add(cx.b, ops.mul(cx.b, ops.cast(cx.b, i, wide), step), first)
    far = ops.sub(cx.b, last, ops.mul(cx.b, left, step))
    return ops.select(cx.b, ops.lt(cx.b, i, cx.value(steps // 2)), near, far)


@aten("eye.default", "eye.m")
def _eye(cx: Context, *_: Any, **__: Any) -> Value:
    i, j = (ops.iota(cx.b, cx.shape, d) for d in (0, 1))
    return ops.cast(cx.b, ops.eq(cx.b, i, j), cx.dtype)


@aten("prims.convert_element_type.default")
def _convert(cx: Context, x: Value, dtype: Any) -> Value:
    return ops.cast(cx.b, x, dtype_of(dtype))
