"""Logic: comparisons and predicates, whose value is a bool; and, or, xor and not, on bools or
bitwise; shifts.

Shifts by the width or more give 0, or the sign. Comparisons with NaN are false, `ne` is true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import boolean
from ferrule.ir.operators.operator import Meaning, Operator

Array = NDArray[Any]


def _shift_left(x: Array, by: Array) -> Any:
    bits = x.dtype.itemsize * 8
    inside = (by >= 0) & (by < bits)
    return np.where(inside, np.left_shift(x, np.where(inside, by, 0)), 0)


def _shift_right(x: Array, by: Array) -> Any:
    bits = x.dtype.itemsize * 8
    inside = (by >= 0) & (by < bits)
    emptied = np.where(x < 0, x.dtype.type(0) - x.dtype.type(1), x.dtype.type(0))
    return np.where(inside, np.right_shift(x, np.where(inside, by, 0)), emptied)


def _never(x: Array) -> Array:
    return np.zeros(np.shape(x), np.bool_)


def _comparison(
    name: str,
    symbol: str,
    meaning: Meaning,
    exact: Callable[[int, int], int],
    opposite: str | None = None,
) -> Operator:
    return Operator(
        name, 2, result=boolean, floats=meaning, ints=meaning, bools=meaning, exact=exact,
        infix=(4, symbol), commutative=opposite is not None, opposite=opposite,
    )  # fmt: skip


LOGIC = (
    _comparison("eq", "==", np.equal, lambda x, y: int(x == y), "ne"),
    _comparison("ne", "!=", np.not_equal, lambda x, y: int(x != y), "eq"),
    _comparison("lt", "<", np.less, lambda x, y: int(x < y)),
    _comparison("le", "<=", np.less_equal, lambda x, y: int(x <= y)),
    Operator("isnan", 1, 4, result=boolean, floats=np.isnan, ints=_never, bools=_never),
    Operator("isinf", 1, 4, result=boolean, floats=np.isinf, ints=_never, bools=_never),
    Operator(
        "and", 2, ints=np.bitwise_and, bools=np.logical_and, exact=operator.and_,
        infix=(3, "&"), commutative=True, unit=-1, collapse=(0, 0), idempotent=True,
    ),
    Operator(
        "or", 2, ints=np.bitwise_or, bools=np.logical_or, exact=operator.or_,
        infix=(1, "|"), commutative=True, unit=0, collapse=(-1, -1), idempotent=True,
    ),
    Operator(
        "xor", 2, ints=np.bitwise_xor, bools=np.logical_xor, exact=operator.xor,
        infix=(2, "^"), commutative=True, unit=0, cancels=True,
    ),
    Operator(
        "not", 1, ints=np.invert, bools=np.logical_not, involution=True,
        exact=lambda x: int(not x),  # of a condition: sizes have no other
    ),
    Operator("shl", 2, ints=_shift_left, infix=(5, "<<")),
    Operator("shr", 2, ints=_shift_right, infix=(5, ">>")),
)  # fmt: skip
