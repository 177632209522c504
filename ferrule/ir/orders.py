"""The standard orders: by the first of the operands that are sorted, NaN above all numbers.

Zeros of both signs are equal. So sort PyTorch and NumPy; descending ones begin with NaN.

An order that compares one integer of each tuple with `<`, whatever that is computed of, is as good
as a standard one: long rows are sorted by it as fast. `total` is such an integer for IEEE-754's
order of all floats, which tells zeros and NaN of both signs apart.
"""

from __future__ import annotations

from functools import cache

from ferrule.base.dtype import DType, from_name
from ferrule.ir.expr import Expr, arg, bitcast, call, cast, compare, const
from ferrule.ir.system import Order


@cache
def ASCENDING(dtypes: tuple[DType, ...]) -> Order:
    """The least first."""
    one, other = _keys(dtypes)
    return Order(dtypes, less(one, other))


@cache
def DESCENDING(dtypes: tuple[DType, ...]) -> Order:
    """The greatest first."""
    one, other = _keys(dtypes)
    return Order(dtypes, less(other, one))


def _keys(dtypes: tuple[DType, ...]) -> tuple[Expr, Expr]:
    key = dtypes[0]
    return cast(arg(0, key), key.compute), cast(arg(len(dtypes), key), key.compute)


def less(x: Expr, y: Expr) -> Expr:
    """Whether x comes before y: a number before a greater one, or before a NaN."""
    if not x.dtype.is_float:
        return compare("lt", x, y)
    return call("and", call("not", call("isnan", x)), call("not", compare("le", y, x)))


def total(x: Expr) -> Expr:
    """A signed integer of the width of the float `x`, in the order of all floats: from -NaN over
    -inf, -0.0, 0.0 and inf to NaN.
    """
    bits = bitcast(x, from_name(f"i{x.dtype.bits}"))
    negative = call("shr", bits, const(x.dtype.bits - 1, bits.dtype))
    flipped = call("and", negative, const(bits.dtype.max, bits.dtype))
    return call("xor", bits, flipped)
