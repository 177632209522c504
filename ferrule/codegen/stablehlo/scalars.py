"""Operators of Expr on the elements of StableHLO tensors of one shape.

    apply     an operator of `ferrule.ir.operators`
    cast      Expr's conversion, which says what becomes of values that do not fit

Where StableHLO leaves a case open or decides it otherwise than Expr (integers divided by 0, shifts
by the width, floats that fit no integer), what is written says it in full.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ferrule.base.dtype import DType, bf16, boolean, f32, f64, from_name, i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.codegen.stablehlo.writer import Tensor, Writer

Operator = Callable[..., Tensor]

_PLAIN = {
    "sqrt": "sqrt", "rsqrt": "rsqrt", "exp": "exponential", "exp_nonpositive": "exponential",
    "expm1": "exponential_minus_one", "log": "log", "log1p": "log_plus_one", "sin": "sine",
    "cos": "cosine", "tan": "tan", "tanh": "tanh", "sigmoid": "logistic", "floor": "floor",
    "ceil": "ceil", "round": "round_nearest_even", "neg": "negate", "not": "not",
}  # fmt: skip
_PAIRS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "min": "minimum", "max": "maximum",
    "atan2": "atan2", "and": "and", "or": "or", "xor": "xor",
}  # fmt: skip
_OF_BOOLS = {"add": "or", "sub": "xor", "mul": "and", "min": "and", "max": "or"}
_CHLO = {
    "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh",
    "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "erf": "erf", "erfc": "erfc",
    "erfinv": "erf_inv", "lgamma": "lgamma", "nextafter": "next_after",
}  # fmt: skip
_COMPARISONS = {"eq": "EQ", "ne": "NE", "lt": "LT", "le": "LE"}
_ROUNDINGS = {"floor", "ceil", "trunc", "round"}
_UNSIGNED = {8: "u8", 16: "u16", 32: "u32", 64: "u64"}


def apply(w: Writer, op: str, *xs: Tensor) -> Tensor:
    """`op` on tensors of one shape and dtype. Raises UnsupportedError for one that is not written.
    """
    dtype = xs[0].dtype
    if op in _COMPARISONS:
        return w.compare(_COMPARISONS[op], *xs)
    if dtype.is_bool and op in _OF_BOOLS:
        return w.binary(_OF_BOOLS[op], *xs)
    if op in _ROUNDINGS and not dtype.is_float:
        return xs[0]
    own = OPERATORS.get(op)
    if own is not None:
        return own(w, *xs)
    if op in _PLAIN:
        return w.unary(_PLAIN[op], *xs)
    if op in _PAIRS:
        return w.binary(_PAIRS[op], *xs)
    if op in _CHLO:
        return w.chlo(_CHLO[op], *xs)
    raise UnsupportedError(f"the operator {op} of {dtype.name} has no form in StableHLO")


# ---- conversions ---------------------------------------------------------------------------------


def cast(w: Writer, x: Tensor, dtype: DType) -> Tensor:
    """`x` converted as Expr says."""
    if x.dtype == dtype:
        return x
    if dtype.is_bool:
        return w.compare("NE", x, w.like(x, 0))
    if x.dtype.is_float and dtype.is_int:
        return _truncated(w, x, dtype)
    if x.dtype == f64 and dtype == bf16:
        x = w.convert(x, f32)
    return w.convert(x, dtype)


def _truncated(w: Writer, x: Tensor, dtype: DType) -> Tensor:
    """A float as an integer, towards zero: what does not fit an i32, or an i64 for targets of 64
    bits, and NaN, become its least value; of unsigned ones, the upper half is truncated less the
    highest bit, which is set after.
    """
    x = x if x.dtype.bits > 16 else w.convert(x, f32)
    via = i64 if dtype.bits == 64 else i32
    if dtype.kind == "u" and dtype.bits >= 32:
        high = w.compare("GE", x, w.like(x, 2.0 ** (via.bits - 1)))
        lowered = w.binary("subtract", x, w.like(x, 2.0 ** (via.bits - 1)))
        bits = [w.bitcast(_signed(w, v, via), dtype) for v in (lowered, x)]
        upper = w.binary("xor", bits[0], w.like(bits[0], 1 << (dtype.bits - 1)))
        return w.select(high, upper, bits[1])
    return w.convert(_signed(w, x, via), dtype)


def _signed(w: Writer, x: Tensor, via: DType) -> Tensor:
    if x.dtype.bits == 32 or via == i64:
        low = w.compare("GE", x, w.like(x, -(2.0 ** (via.bits - 1))))
    else:
        low = w.compare("GT", x, w.like(x, -(2.0 ** (via.bits - 1)) - 1))
    high = w.compare("LT", x, w.like(x, 2.0 ** (via.bits - 1)))
    fits = w.binary("and", low, high)
    number = w.convert(w.select(fits, x, w.like(x, 0.0)), via)
    return w.select(fits, number, w.like(number, int(via.min)))


# ---- arithmetic ----------------------------------------------------------------------------------


def _divided(w: Writer, x: Tensor, y: Tensor, rest: bool = False) -> Tensor:
    """The quotient of integers towards zero, or the rest; 0 where y is."""
    if x.dtype.is_bool:
        raise UnsupportedError("bools are not divided in StableHLO")
    nothing = w.compare("EQ", y, w.like(y, 0))
    safe = w.select(nothing, w.like(y, 1), y)
    found = w.binary("remainder" if rest else "divide", x, safe)
    return w.select(nothing, w.like(x, 0), found)


def _differ(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    """Whether signs differ."""
    signs = [w.compare("LT", v, w.like(v, 0)) for v in (x, y)]
    return w.compare("NE", *signs)


def _div(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    return w.binary("divide", x, y) if x.dtype.is_float else _divided(w, x, y)


def _trunc(w: Writer, x: Tensor) -> Tensor:
    below = w.compare("LT", x, w.like(x, 0.0))
    return w.select(below, w.unary("ceil", x), w.unary("floor", x))


def _truncdiv(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    return _trunc(w, w.binary("divide", x, y)) if x.dtype.is_float else _divided(w, x, y)


def _rem(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    return w.binary("remainder", x, y) if x.dtype.is_float else _divided(w, x, y, True)


def _floordiv(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.is_float:
        return w.unary("floor", w.binary("divide", x, y))
    quotient = _divided(w, x, y)
    if x.dtype.kind == "u":
        return quotient
    rest = _divided(w, x, y, True)
    down = w.binary("and", w.compare("NE", rest, w.like(rest, 0)), _differ(w, x, y))
    return w.select(down, w.binary("subtract", quotient, w.like(x, 1)), quotient)


def _mod(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    rest = _rem(w, x, y)
    if x.dtype.kind == "u":
        return rest
    up = w.binary("and", w.compare("NE", rest, w.like(rest, 0)), _differ(w, rest, y))
    return w.select(up, w.binary("add", rest, y), rest)


def _abs(w: Writer, x: Tensor) -> Tensor:
    return w.unary("abs", x) if x.dtype.is_signed else x


def _sign(w: Writer, x: Tensor) -> Tensor:
    if x.dtype.is_signed:
        return w.unary("sign", x)
    return w.convert(w.compare("NE", x, w.like(x, 0)), x.dtype)


def _neg(w: Writer, x: Tensor) -> Tensor:
    if x.dtype.kind == "u":
        return w.binary("subtract", w.like(x, 0), x)
    return w.unary("negate", x)


def _copysign(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    bits = from_name(_UNSIGNED[x.dtype.bits])
    top = 1 << (bits.bits - 1)
    one, other = w.bitcast(x, bits), w.bitcast(y, bits)
    size = w.binary("and", one, w.like(one, top - 1))
    sign = w.binary("and", other, w.like(other, top))
    return w.bitcast(w.binary("or", size, sign), x.dtype)


def _fma(w: Writer, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    wide = f64 if x.dtype == f32 else x.dtype
    a, b, c = (w.convert(v, wide) for v in (x, y, z))
    return w.convert(w.binary("add", w.binary("multiply", a, b), c), x.dtype)


def _pow(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.is_float or x.dtype.kind == "u":
        return w.binary("power", x, y)
    zero, one = w.like(x, 0), w.like(x, 1)
    odd = w.binary("power", x, w.binary("and", y, one))
    unit = w.compare("EQ", w.unary("abs", x), one)
    inverse = w.select(unit, odd, zero)
    whole = w.binary("power", x, w.binary("maximum", y, zero))
    return w.select(w.compare("LT", y, zero), inverse, whole)


# ---- logic ---------------------------------------------------------------------------------------


def _isnan(w: Writer, x: Tensor) -> Tensor:
    return w.compare("NE", x, x) if x.dtype.is_float else w.number(False, boolean, x.shape)


def _isinf(w: Writer, x: Tensor) -> Tensor:
    if not x.dtype.is_float:
        return w.number(False, boolean, x.shape)
    return w.compare("EQ", w.unary("abs", x), w.like(x, math.inf))


def _shifted(w: Writer, name: str, x: Tensor, by: Tensor, emptied: Tensor) -> Tensor:
    inside = w.compare("LT", by, w.like(by, x.dtype.bits))
    if by.dtype.is_signed:
        inside = w.binary("and", inside, w.compare("GE", by, w.like(by, 0)))
    found = w.binary(name, x, w.select(inside, by, w.like(by, 0)))
    return w.select(inside, found, emptied)


def _shl(w: Writer, x: Tensor, by: Tensor) -> Tensor:
    return _shifted(w, "shift_left", x, by, w.like(x, 0))


def _shr(w: Writer, x: Tensor, by: Tensor) -> Tensor:
    if x.dtype.kind == "u":
        return _shifted(w, "shift_right_logical", x, by, w.like(x, 0))
    signs = w.binary("shift_right_arithmetic", x, w.like(x, x.dtype.bits - 1))
    return _shifted(w, "shift_right_arithmetic", x, by, signs)


# ---- mathematics ---------------------------------------------------------------------------------


def _exp2(w: Writer, x: Tensor) -> Tensor:
    return w.binary("power", w.like(x, 2.0), x)


def _log_of(base: float) -> Operator:
    def written(w: Writer, x: Tensor) -> Tensor:
        return w.binary("multiply", w.unary("log", x), w.like(x, 1 / math.log(base)))

    return written


def _hypot(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    """The greater times sqrt(1 + the quotient squared); infinite where one is, NaN or not."""
    a, b = w.unary("abs", x), w.unary("abs", y)
    large, small = w.binary("maximum", a, b), w.binary("minimum", a, b)
    zero, one, infinite = w.like(x, 0.0), w.like(x, 1.0), w.like(x, math.inf)
    plain = w.binary("and", w.compare("GT", large, zero), w.compare("LT", large, infinite))
    quotient = w.binary("divide", small, w.select(plain, large, one))
    root = w.unary("sqrt", w.binary("add", one, w.binary("multiply", quotient, quotient)))
    found = w.select(plain, w.binary("multiply", large, root), large)
    either = w.binary("or", w.compare("EQ", a, infinite), w.compare("EQ", b, infinite))
    return w.select(either, infinite, found)


def _digamma(w: Writer, x: Tensor) -> Tensor:
    """At 0 it is infinite, with the other sign."""
    pole = _copysign(w, w.like(x, math.inf), w.unary("negate", x))
    return w.select(w.compare("EQ", x, w.like(x, 0.0)), pole, w.chlo("digamma", x))


def _normal_cdf(w: Writer, x: Tensor) -> Tensor:
    tail = w.chlo("erfc", w.binary("multiply", x, w.like(x, -math.sqrt(0.5))))
    return w.binary("multiply", tail, w.like(x, 0.5))


# ---- words ---------------------------------------------------------------------------------------


def _word(w: Writer, *parts: Tensor) -> Tensor:
    total = None
    for k, x in enumerate(parts):
        byte = w.convert(w.bitcast(x, from_name("u8")), i32)
        placed = w.binary("shift_left", byte, w.like(byte, 8 * k))
        total = placed if total is None else w.binary("or", total, placed)
    assert total is not None
    return total


def _dot4(w: Writer, x: Tensor, y: Tensor) -> Tensor:
    total = None
    for k in range(4):
        left = w.binary("shift_right_logical", x, w.like(x, 8 * k))
        unsigned = w.binary("and", left, w.like(x, 255))
        right = w.binary("shift_left", y, w.like(y, 24 - 8 * k))
        signed = w.binary("shift_right_arithmetic", right, w.like(y, 24))
        term = w.binary("multiply", unsigned, signed)
        total = term if total is None else w.binary("add", total, term)
    assert total is not None
    return total


OPERATORS: dict[str, Operator] = {
    "div": _div, "truncdiv": _truncdiv, "rem": _rem, "floordiv": _floordiv, "mod": _mod,
    "trunc": _trunc, "abs": _abs, "sign": _sign, "neg": _neg, "copysign": _copysign, "fma": _fma,
    "pow": _pow, "isnan": _isnan, "isinf": _isinf, "shl": _shl, "shr": _shr, "exp2": _exp2,
    "log2": _log_of(2), "log10": _log_of(10), "hypot": _hypot, "normal_cdf": _normal_cdf,
    "digamma": _digamma, "word": _word, "dot4": _dot4,
}  # fmt: skip
