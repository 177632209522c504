"""Operators: the table of what an Expr may compute, by name.

All operands of an operator have one dtype; `result_of` tells that of its value. Two operators are
for products of bytes, which machines sum in fours:

    word(a, b, c, d)   four bytes (i8 or u8), the first one lowest, as an i32
    dot4(x, y)         sum over i of byte i of x, unsigned, times byte i of y, signed; wraps
"""

from __future__ import annotations

from ferrule.base.dtype import DType, boolean, i32

COMPARISONS = frozenset(("eq", "ne", "lt", "le"))
PREDICATES = frozenset(("isnan", "isinf"))
LOGIC = frozenset(("and", "or", "xor", "not"))  # on bool or, bitwise, on integers
OF_BYTES = frozenset(("word", "dot4"))
_BINARY = (
    "add sub mul div floordiv mod truncdiv rem min max pow atan2 copysign and or xor shl shr "
    "nextafter hypot dot4"
)
_UNARY = (
    "neg abs not sign floor ceil trunc round sqrt rsqrt exp exp2 exp_nonpositive expm1 log log2 "
    "log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv "
    "normal_cdf sigmoid lgamma digamma"
)
OPS: dict[str, int] = {
    **dict.fromkeys((*_BINARY.split(), *COMPARISONS), 2),
    **dict.fromkeys((*_UNARY.split(), *PREDICATES), 1),
    "fma": 3,
    "word": 4,
}


def result_of(op: str, dtype: DType) -> DType:
    """The dtype of the value of `op` on operands of `dtype`."""
    if op in COMPARISONS or op in PREDICATES:
        return boolean
    return i32 if op == "word" else dtype
