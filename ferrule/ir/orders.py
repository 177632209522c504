"""The standard orders: by the first of the operands that are sorted, NaN above all numbers.

Zeros of both signs are equal. So sort PyTorch and NumPy; descending ones begin with NaN.
"""

from __future__ import annotations

from functools import cache

from ferrule.base.dtype import DType
from ferrule.ir.expr import Expr, arg, call, cast, compare
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
