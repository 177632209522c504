"""ferrule.elements: what the value of an operator of your own is made of.

    @ferrule.define_operator(meaning=lambda x, bound: np.where(np.abs(x) <= bound, 0, x))
    def shrink(x, *, bound=0.5):
        return el.where(el.le(el.abs(x), bound), 0.0, x)

An element is an expression of ferrule's scalar language (`ferrule.ir.expr`): + - * / // % and the
functions here take elements of one dtype, and numbers in place of all but one of them, which are
taken in that dtype. Comparisons are functions too: `x == y` of elements compares expressions, not
their values. What each means, on floats, integers and bools, is said in `ferrule.ir.expr`; a
function that has no meaning on a dtype makes the operator refuse tensors of that dtype.
"""

from __future__ import annotations

from collections.abc import Callable

from ferrule.base.dtype import DType, boolean, from_name
from ferrule.base.errors import InputTypeError
from ferrule.ir import expr
from ferrule.ir.expr import Expr
from ferrule.ir.operators import OPERATORS

Element = Expr
Operand = Expr | int | float | bool
Unary = Callable[[Expr], Expr]
Binary = Callable[[Operand, Operand], Expr]


def _together(name: str, operands: tuple[Operand, ...]) -> list[Expr]:
    """Elements of one dtype. Raises InputTypeError where there is none, or several dtypes."""
    first = next((x for x in operands if isinstance(x, Expr)), None)
    strange = [x for x in operands if not isinstance(x, Expr | int | float)]
    if first is None or strange:
        shown = ", ".join(type(x).__name__ for x in operands)
        raise InputTypeError(
            f"elements.{name} takes elements and numbers, one element at least, got: {shown}"
        )
    found = [expr.like(x, first) for x in operands]
    if any(x.dtype != first.dtype for x in found):
        shown = ", ".join(x.dtype.name for x in found)
        raise InputTypeError(
            f"elements.{name} takes elements of one dtype, got {shown}: convert with elements.cast"
        )
    return found


def _unary(op: str) -> Unary:
    assert OPERATORS[op].arity == 1

    def build(x: Expr) -> Expr:
        return expr.call(op, *_together(op, (x,)))

    build.__name__ = build.__qualname__ = op
    return build


def _binary(op: str) -> Binary:
    assert OPERATORS[op].arity == 2
    compared = OPERATORS[op].result == boolean

    def build(x: Operand, y: Operand) -> Expr:
        a, b = _together(op, (x, y))
        return expr.compare(op, a, b) if compared else expr.call(op, a, b)

    build.__name__ = build.__qualname__ = op
    return build


# ---- choosing and converting ---------------------------------------------------------------------


def where(condition: Expr, x: Operand, y: Operand) -> Expr:
    """`x` where the condition holds, a comparison or another bool, else `y`. One of `x` and `y` is
    an element.
    """
    if not isinstance(condition, Expr) or condition.dtype != boolean:
        raise InputTypeError(
            "elements.where takes a bool element first, as elements.lt gives it (x == y and x is y "
            f"compare expressions), got {condition!r}"
        )
    a, b = _together("where", (x, y))
    return expr.select(condition, a, b)


def cast(x: Operand, dtype: DType | str) -> Expr:
    """An element or a number in a dtype, given as one (`x.dtype`) or by its name ("f32", "i64")."""
    to = from_name(dtype) if isinstance(dtype, str) else dtype
    return expr.cast(x, to) if isinstance(x, Expr) else expr.const(x, to)


eq, ne, lt, le = map(_binary, ("eq", "ne", "lt", "le"))
isnan, isinf = map(_unary, ("isnan", "isinf"))


def gt(x: Operand, y: Operand) -> Expr:
    """x > y."""
    return lt(y, x)


def ge(x: Operand, y: Operand) -> Expr:
    """x >= y."""
    return le(y, x)


# ---- bits and bools ------------------------------------------------------------------------------

not_ = _unary("not")
and_, or_, xor, shl, shr = map(_binary, ("and", "or", "xor", "shl", "shr"))

# ---- arithmetic ----------------------------------------------------------------------------------

neg, abs, sign = map(_unary, ("neg", "abs", "sign"))
floor, ceil, trunc, round = map(_unary, ("floor", "ceil", "trunc", "round"))
add, sub, mul, div = map(_binary, ("add", "sub", "mul", "div"))
floordiv, mod, truncdiv, rem = map(_binary, ("floordiv", "mod", "truncdiv", "rem"))
min, max, pow = map(_binary, ("min", "max", "pow"))
copysign, nextafter = map(_binary, ("copysign", "nextafter"))


def fma(x: Operand, y: Operand, z: Operand) -> Expr:
    """x * y + z, rounded once."""
    return expr.call("fma", *_together("fma", (x, y, z)))


# ---- functions of floats -------------------------------------------------------------------------

sqrt, rsqrt, exp, exp2, expm1 = map(_unary, ("sqrt", "rsqrt", "exp", "exp2", "expm1"))
log, log2, log10, log1p = map(_unary, ("log", "log2", "log10", "log1p"))
sin, cos, tan, asin, acos, atan = map(_unary, ("sin", "cos", "tan", "asin", "acos", "atan"))
sinh, cosh, tanh = map(_unary, ("sinh", "cosh", "tanh"))
asinh, acosh, atanh = map(_unary, ("asinh", "acosh", "atanh"))
sigmoid, erf, erfc, erfinv = map(_unary, ("sigmoid", "erf", "erfc", "erfinv"))
normal_cdf, lgamma, digamma = map(_unary, ("normal_cdf", "lgamma", "digamma"))
hypot, atan2 = map(_binary, ("hypot", "atan2"))
