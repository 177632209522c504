"""The standard monoids, each a function of the dtype it folds; equal ones are the same object.

NaN as in PyTorch: `max`, `min`, `argmax` and `argmin` let NaN win, and the index is that of the
first of equal winners. The text form names a monoid of this table by its name and dtype
(`sum:f32`) and declares any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ferrule.base.dtype import DType, boolean, i64
from ferrule.ir.expr import Expr, arg, call, compare, const, select
from ferrule.ir.operators import OPERATORS
from ferrule.ir.system import Monoid


def _folding(name: str, op: str, dtype: DType, identity: float | None = None) -> Monoid:
    """The fold by an operator, from its unit where no other identity is given."""
    record = OPERATORS[op]
    start = const(record.unit if identity is None else identity, dtype)
    combined = call(op, arg(0, dtype), arg(1, dtype))
    return Monoid(name, (start,), (combined,), record.commutative, record.idempotent)


@cache
def SUM(dtype: DType) -> Monoid:
    """Addition."""
    return _folding("sum", "add", dtype)


@cache
def EXACT_SUM(dtype: DType) -> Monoid:
    """Addition of integers that are held in floats, so few that no sum is rounded. Nothing else may
    be computed in its place (a Winograd convolution rounds).
    """
    return _folding("exact_sum", "add", dtype)


@cache
def PROD(dtype: DType) -> Monoid:
    """Multiplication."""
    return _folding("prod", "mul", dtype)


@cache
def MAX(dtype: DType) -> Monoid:
    """The greatest value; NaN if there is one."""
    return _folding("max", "max", dtype, dtype.min)


@cache
def PEAK(dtype: DType) -> Monoid:
    """The greatest value that is no NaN, the least of all if there is none. Where each value meets
    the result afterwards, as in softmax, NaN need not be carried along in it.
    """
    best, new = arg(0, dtype), arg(1, dtype)
    combined = select(compare("lt", best, new), new, best)
    return Monoid("peak", (const(dtype.min, dtype),), (combined,), True, True)


@cache
def MIN(dtype: DType) -> Monoid:
    """The least value; NaN if there is one."""
    return _folding("min", "min", dtype, dtype.max)


@cache
def ANY(dtype: DType = boolean) -> Monoid:
    """Whether one holds; on integers, bitwise or."""
    return _folding("any", "or", dtype)


@cache
def ALL(dtype: DType = boolean) -> Monoid:
    """Whether all hold; on integers, bitwise and."""
    return _folding("all", "and", dtype)


@cache
def XOR(dtype: DType = boolean) -> Monoid:
    """Exclusive or, bitwise on integers."""
    return _folding("xor", "xor", dtype)


@cache
def LAST(dtype: DType) -> Monoid:
    """The value that comes last; the fold must run in order (a scan, or a scatter)."""
    return Monoid("last", (const(0, dtype),), (arg(1, dtype),), False, True)


def _arg_extremum(
    name: str, dtype: DType, worst: int | float, wins: Callable[[Expr, Expr], Expr],
    last_nan: bool = False,
) -> Monoid:  # fmt: skip
    """Folds (value, index); `wins(new, old)` says that a new value beats the old one. Of several
    NaN the first stays, or the last.
    """
    old, at_old, new, at_new = arg(0, dtype), arg(1, i64), arg(2, dtype), arg(3, i64)
    tie = call("eq", new, old)
    better = wins(new, old)
    if dtype.is_float:
        new_nan, old_nan = call("isnan", new), call("isnan", old)
        better = call("or", better, call("and", new_nan, call("not", old_nan)))
        both_nan = call("and", new_nan, old_nan)
        if last_nan:
            better = call("or", better, call("and", both_nan, call("lt", at_old, at_new)))
        else:
            tie = call("or", tie, both_nan)
    better = call("or", better, call("and", tie, call("lt", at_new, at_old)))
    combine = (select(better, new, old), select(better, at_new, at_old))
    return Monoid(name, (const(worst, dtype), const(i64.max)), combine, True, True)


@cache
def ARGMAX(dtype: DType) -> Monoid:
    """(value, i64 index) of the first greatest value; the first NaN if there is one."""
    return _arg_extremum("argmax", dtype, dtype.min, lambda new, old: compare("lt", old, new))


@cache
def POOLED_ARGMAX(dtype: DType) -> Monoid:
    """(value, i64 index) of the first greatest value; the last NaN if there is one, as in PyTorch's
    pools.
    """
    wins = lambda new, old: compare("lt", old, new)  # noqa: E731
    return _arg_extremum("pooled_argmax", dtype, dtype.min, wins, last_nan=True)


@cache
def ARGMIN(dtype: DType) -> Monoid:
    """(value, i64 index) of the first least value; the first NaN if there is one."""
    return _arg_extremum("argmin", dtype, dtype.max, lambda new, old: compare("lt", new, old))


STANDARD: dict[str, Callable[[DType], Monoid]] = {
    "sum": SUM, "exact_sum": EXACT_SUM, "prod": PROD, "max": MAX, "peak": PEAK, "min": MIN,
    "any": ANY, "all": ALL, "xor": XOR, "last": LAST, "argmax": ARGMAX, "argmin": ARGMIN,
    "pooled_argmax": POOLED_ARGMAX,
}  # fmt: skip


def dtype_of(monoid: Monoid) -> DType:
    """The dtype by which the table knows it: that of the first value."""
    return monoid.identity[0].dtype


def is_standard(monoid: Monoid) -> bool:
    """Whether `monoid` is the entry of STANDARD that its name and dtype say."""
    make = STANDARD.get(monoid.name)
    return make is not None and make(dtype_of(monoid)) == monoid
