"""Arithmetic: sums, products, quotients, extrema and roundings.

On bools add, sub, mul, min and max are or, xor, and, and, or. Integers wrap; divided by 0 they give
0, as quotient and as rest.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.ir.operators.operator import Operator

Array = NDArray[Any]


def same(x: Array) -> Array:
    return x


def _sign(x: Array) -> Any:
    return np.where(x > 0, x.dtype.type(1), np.where(x < 0, x.dtype.type(-1), x))


def _floored_rest(x: Array, y: Array) -> Any:
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def _truncdiv(x: Array, y: Array) -> Any:
    down = np.floor_divide(x, y)
    rest = x - y * down
    up = (y != 0) & (rest != 0) & ((x < 0) != (y < 0))
    return down + up.astype(x.dtype)


def _power(x: Array, y: Array) -> Any:
    """Wraps; a negative exponent gives 0 unless x is 1 or -1."""
    if x.dtype.kind == "u":
        return np.power(x, y)
    odd = np.power(x, y & 1)
    inverse = np.where((x == 1) | (x == -1), odd, 0)
    return np.where(y < 0, inverse, np.power(x, np.maximum(y, 0)))


def _fma(x: Array, y: Array, z: Array) -> Any:
    return x * y + z


def _fused(x: Array, y: Array, z: Array) -> Any:
    """x*y + z in f64 as of exact sums, but that what two roundings lost is rounded itself: the
    errors of the product and of the sum are added to it (Dekker, 1971; Knuth's sum of two numbers).
    """
    product = x * y
    (x1, x2), (y1, y2) = _halves(x), _halves(y)
    lost = ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2
    total = product + z
    part = total - product
    rest = ((product - (total - part)) + (z - part)) + lost
    return np.where(np.isfinite(rest) & (rest != 0), total + rest, total)  # -0.0 stays


def _halves(x: Array) -> tuple[Any, Any]:
    bits = np.asarray(x, np.float64).view(np.int64)
    upper = (bits & -(1 << 27)).view(np.float64)
    return upper, x - upper


ARITHMETIC = (
    Operator(
        "add", 2, floats=np.add, ints=np.add, bools=np.logical_or, exact=operator.add,
        infix=(6, "+"), folds="iu", commutative=True, unit=0, float_unit=-0.0,
    ),
    Operator(
        "sub", 2, floats=np.subtract, ints=np.subtract, bools=np.logical_xor, exact=operator.sub,
        infix=(6, "-"), folds="iu", unit=0, float_unit=0.0, cancels=True,
    ),
    Operator(
        "mul", 2, floats=np.multiply, ints=np.multiply, bools=np.logical_and, exact=operator.mul,
        infix=(7, "*"), folds="iu", commutative=True, unit=1, float_unit=1.0, collapse=(0, 0),
    ),
    Operator("neg", 1, floats=np.negative, ints=np.negative, exact=operator.neg, involution=True),
    Operator("fma", 3, floats=_fused, ints=_fma, wide=True),
    Operator("div", 2, 4, floats=np.divide, ints=_truncdiv, infix=(7, "/"), divides=True),
    Operator(
        "truncdiv", 2, 6, floats=lambda x, y: np.trunc(x / y), ints=_truncdiv, divides=True
    ),
    Operator("rem", 2, 8, floats=np.fmod, ints=np.fmod, divides=True),
    Operator(
        "floordiv", 2, 6, floats=lambda x, y: np.floor(x / y), ints=np.floor_divide,
        exact=lambda x, y: x // y if y else 0,
        infix=(7, "//"), folds="iu", unit=1, divides=True, of_indices=True,
    ),
    Operator(
        "mod", 2, 6, floats=_floored_rest, ints=np.mod, exact=lambda x, y: x % y if y else 0,
        infix=(7, "%"), folds="iu", collapse=(1, 0), divides=True, of_indices=True,
    ),
    Operator(
        "min", 2, floats=np.minimum, ints=np.minimum, bools=np.logical_and, exact=min,
        folds="fiub", commutative=True, idempotent=True, of_indices=True,
    ),
    Operator(
        "max", 2, floats=np.maximum, ints=np.maximum, bools=np.logical_or, exact=max,
        folds="fiub", commutative=True, idempotent=True, of_indices=True,
    ),
    Operator("abs", 1, floats=np.abs, ints=np.abs, bools=same),
    Operator("sign", 1, 4, floats=_sign, ints=np.sign),
    Operator("copysign", 2, floats=np.copysign),
    Operator("nextafter", 2, 24, floats=np.nextafter),
    Operator("floor", 1, floats=np.floor, ints=same),
    Operator("ceil", 1, floats=np.ceil, ints=same),
    Operator("trunc", 1, floats=np.trunc, ints=same),
    Operator("round", 1, floats=np.rint, ints=same),
    Operator("pow", 2, 136, floats=np.power, ints=_power, wide=True),
)  # fmt: skip
