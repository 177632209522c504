"""Elementary: the operators of the scalar language, element by element on tensors.

Each takes values, or Python numbers for all but the first operand, broadcasts them as NumPy does,
and is named like the Expr operator that it applies. Where the name is taken by Python, `not` is
`logical_not` or `bitwise_not`, and `and` is `logical_and` (bool) or `bitwise_and` (integers, bool).
Operators that mean something simpler on integers or bool emit that: `add` of bools is
`logical_or`, `floor` of integers is its operand.

Numerics are PyTorch's: `mod` takes the sign of the divisor and `rem` that of the dividend; `min`
and `max` propagate NaN; float `floordiv` is the quotient that agrees with `mod`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ferrule.base.dtype import DType, boolean, from_numpy
from ferrule.base.errors import FAULTS, CompileError, RunError
from ferrule.ir.expr import Buf, Expr, call, checked, compare, load
from ferrule.ir.expr import cast as cast_expr
from ferrule.ir.expr import const as const_expr
from ferrule.ir.expr import select as select_expr
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value
from ferrule.ir.interp.scalar import apply, convert
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Stage
from ferrule.ops.create import Number, full
from ferrule.ops.op import (
    Array,
    at,
    broadcast,
    define,
    elementwise,
    show_types,
    stage,
)

Operand = Value | int | float | bool
Unary = Callable[[GraphBuilder, Value], Value]
Binary = Callable[[GraphBuilder, Value, Operand], Value]


def operand(b: GraphBuilder, x: Operand, dtype: DType) -> Value:
    """A value as it is; a number as a tensor of rank 0 of `dtype`."""
    return x if isinstance(x, Value) else full(b, (), x, dtype)


def _define(name: str, op: str, accepts: str, value: Callable[..., Expr] | None = None) -> None:
    """The elementwise operator `name` that applies the Expr operator `op`."""

    def meaning(*arrays: Array) -> Array:
        return apply(op, from_numpy(arrays[0].dtype), list(arrays))

    result = OPERATORS[op].result
    elementwise(name, value or (lambda *xs: call(op, *xs)), meaning, result=result, accepts=accepts)


# ---- one operand ---------------------------------------------------------------------------------


def _unary(name: str, accepts: str = "f", op: str = "", otherwise: Unary | None = None) -> Unary:
    """Define a unary operator; `otherwise` builds the result for dtypes that it doesn't accept."""
    _define(name, op or name, accepts)

    def build(b: GraphBuilder, x: Value) -> Value:
        if otherwise is not None and x.dtype.kind not in accepts:
            return otherwise(b, x)
        return b.emit(name, x)

    build.__name__ = name
    return build


def _itself(b: GraphBuilder, x: Value) -> Value:
    return x


def _nowhere(b: GraphBuilder, x: Value) -> Value:
    return full(b, x.shape, False, boolean)


neg = _unary("neg", "fiu")
abs = _unary("abs", "fi", otherwise=_itself)
sign = _unary("sign", "fi")
floor = _unary("floor", otherwise=_itself)
ceil = _unary("ceil", otherwise=_itself)
trunc = _unary("trunc", otherwise=_itself)
round = _unary("round", otherwise=_itself)
sqrt = _unary("sqrt")
rsqrt = _unary("rsqrt")
exp = _unary("exp")
exp2 = _unary("exp2")
expm1 = _unary("expm1")
log = _unary("log")
log2 = _unary("log2")
log10 = _unary("log10")
log1p = _unary("log1p")
sin = _unary("sin")
cos = _unary("cos")
tan = _unary("tan")
asin = _unary("asin")
acos = _unary("acos")
atan = _unary("atan")
sinh = _unary("sinh")
cosh = _unary("cosh")
tanh = _unary("tanh")
asinh = _unary("asinh")
acosh = _unary("acosh")
atanh = _unary("atanh")
erf = _unary("erf")
erfc = _unary("erfc")
erfinv = _unary("erfinv")
sigmoid = _unary("sigmoid")
lgamma = _unary("lgamma")
digamma = _unary("digamma")
isnan = _unary("isnan", otherwise=_nowhere)
isinf = _unary("isinf", otherwise=_nowhere)
logical_not = _unary("logical_not", "b", "not")
bitwise_not = _unary("bitwise_not", "iu", "not", otherwise=logical_not)


# ---- two operands --------------------------------------------------------------------------------


def _binary(
    name: str,
    accepts: str,
    op: str = "",
    value: Callable[[Expr, Expr], Expr] | None = None,
    otherwise: Binary | None = None,
) -> Binary:
    """Define a binary operator; `otherwise` builds the result for dtypes that it doesn't accept."""
    _define(name, op or name, accepts, value)

    def build(b: GraphBuilder, x: Value, y: Operand) -> Value:
        if otherwise is not None and x.dtype.kind not in accepts:
            return otherwise(b, x, y)
        return b.emit(name, x, operand(b, y, x.dtype))

    build.__name__ = name
    return build


def _float_quotient(x: Expr, y: Expr) -> Expr:
    """floor(x / y) as in Python: the integer q with x = q*y + mod(x, y); x / y where y is 0."""
    if not x.dtype.is_float:
        return call("floordiv", x, y)
    zero, one = const_expr(0, x.dtype), const_expr(1, x.dtype)
    rest, quotient = call("rem", x, y), x / y
    opposed = call("xor", compare("lt", rest, zero), compare("lt", y, zero))
    whole = (x - rest) / y
    below = call("and", compare("ne", rest, zero), opposed)
    near = call("round", select_expr(below, whole - one, whole))
    signed = select_expr(compare("eq", near, zero), call("copysign", zero, quotient), near)
    return select_expr(compare("eq", y, zero), quotient, signed)


logical_and = _binary("logical_and", "b", "and")
logical_or = _binary("logical_or", "b", "or")
logical_xor = _binary("logical_xor", "b", "xor")
bitwise_and = _binary("bitwise_and", "iu", "and", otherwise=logical_and)
bitwise_or = _binary("bitwise_or", "iu", "or", otherwise=logical_or)
bitwise_xor = _binary("bitwise_xor", "iu", "xor", otherwise=logical_xor)
shl = _binary("shl", "iu")
shr = _binary("shr", "iu")
add = _binary("add", "fiu", otherwise=logical_or)
sub = _binary("sub", "fiu", otherwise=logical_xor)
mul = _binary("mul", "fiu", otherwise=logical_and)
truncdiv = _binary("truncdiv", "fiu")
div = _binary("div", "f", otherwise=truncdiv)
rem = _binary("rem", "fiu")
mod = _binary("mod", "fiu")
minimum = min = _binary("min", "fiu", otherwise=logical_and)
maximum = max = _binary("max", "fiu", otherwise=logical_or)
pow = _binary("pow", "fiu")
atan2 = _binary("atan2", "f")
copysign = _binary("copysign", "f")
hypot = _binary("hypot", "f")
eq = _binary("eq", "fiub")
ne = _binary("ne", "fiub")
lt = _binary("lt", "fiub")
le = _binary("le", "fiub")


def gt(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """x > y, as y < x."""
    return lt(b, operand(b, y, x.dtype), x)


def ge(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """x >= y, as y <= x."""
    return le(b, operand(b, y, x.dtype), x)


elementwise("floordiv", _float_quotient, np.floor_divide, accepts="fiu")


def floordiv(b: GraphBuilder, x: Value, y: Operand) -> Value:
    """x / y rounded down; for floats, the quotient that goes with `mod` as in Python."""
    return b.emit("floordiv", x, operand(b, y, x.dtype))


# ---- conversions ---------------------------------------------------------------------------------


def cast(b: GraphBuilder, x: Value, dtype: DType) -> Value:
    """`x` converted: floats truncate to integers, and to bool is `x != 0`."""
    return x if x.dtype == dtype else b.emit("cast", x, dtype=dtype)


def _cast_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    return TensorType(types[0].shape, attrs["dtype"])


def _cast_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    return convert(arrays[0], from_numpy(arrays[0].dtype), attrs["dtype"])


def _cast_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes = ctx.axes(outs[0].shape)
    return [stage(outs[0], axes, cast_expr(load(ins[0], *axes), attrs["dtype"]))]


define("cast", _cast_type, _cast_meaning, _cast_compute)


# ---- choice --------------------------------------------------------------------------------------


def select(b: GraphBuilder, c: Value, x: Operand, y: Operand) -> Value:
    """`x` where the bool `c` holds, else `y`, all three broadcast; one of x, y may be a number."""
    typed = x if isinstance(x, Value) else y
    if not isinstance(typed, Value):
        raise CompileError("select takes at least one tensor to choose from, got two numbers")
    return b.emit("select", c, operand(b, x, typed.dtype), operand(b, y, typed.dtype))


def _select_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    c, x, y = types
    if not c.dtype.is_bool or x.dtype != y.dtype:
        raise CompileError(
            f"select takes a bool and two operands of one dtype, got {show_types(types)}"
        )
    return TensorType(broadcast(t.shape for t in types), x.dtype)


def _select_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    return np.where(*arrays)


def _select_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes = ctx.axes(outs[0].shape)
    c, x, y = (load(b, *at(b, axes)) for b in ins)
    return [stage(outs[0], axes, select_expr(c, x, y))]


define("select", _select_type, _select_meaning, _select_compute)


# ---- promises ------------------------------------------------------------------------------------


def ensure(b: GraphBuilder, x: Value, holds: Value, fault: str) -> Value:
    """`x`, where the bool `holds` must be true, both broadcast: a run that reads an element where
    it is not reports `fault` of `base.errors.FAULTS`.
    """
    return b.emit("ensure", x, holds, fault=fault)


def _ensure_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, holds = types
    if not holds.dtype.is_bool or attrs["fault"] not in FAULTS:
        raise CompileError(
            f"ensure takes a value, a bool and one of {', '.join(FAULTS)}, "
            f"got {show_types(types)} and {attrs['fault']}"
        )
    return TensorType(broadcast(t.shape for t in types), x.dtype)


def _ensure_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    if not arrays[1].all():
        raise RunError(FAULTS[attrs["fault"]])
    return np.broadcast_arrays(*arrays)[0]


def _ensure_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes = ctx.axes(outs[0].shape)
    x, holds = (load(b, *at(b, axes)) for b in ins)
    return [stage(outs[0], axes, checked(x, holds, attrs["fault"]))]


define("ensure", _ensure_type, _ensure_meaning, _ensure_compute)


def clamp(
    b: GraphBuilder, x: Value, lo: Value | Number | None = None, hi: Value | Number | None = None
) -> Value:
    """min(max(x, lo), hi), each bound optional; NaN stays NaN, and hi wins where lo > hi."""
    if lo is not None:
        x = max(b, x, lo)
    return x if hi is None else min(b, x, hi)
