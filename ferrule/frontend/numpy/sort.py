"""NumPy's sorts on traced arrays, all stable. NaN comes last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    REFUSED,
    Operand,
    Traced,
    call_ufunc,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.frontend.numpy.shape import normal, reshape
from ferrule.ir.expr import Expr, arg, both, call, cast, either
from ferrule.ir.graph import Value
from ferrule.ir.orders import less
from ferrule.ir.simplify import simplify


def _along(a: Traced, axis: int | None, order: Any) -> tuple[Traced, int]:
    """The array and the axis that are sorted."""
    if order is not None:
        raise UnsupportedError("a sort by fields, which traced arrays do not have")
    if axis is None or a.ndim == 0:
        return reshape(a, -1), 0
    return a, normal(axis, a.ndim)


@numpy_function("sort")
def _sort(
    a: Traced, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Traced:
    x, d = _along(a, axis, order)
    return x.wrap(ops.sort_values(x.b, x.value, d))


@numpy_function("argsort")
def _argsort(
    a: Traced, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Traced:
    x, d = _along(a, axis, order)
    return x.wrap(ops.argsort(x.b, x.value, d))


@numpy_function("lexsort")
def _lexsort(keys: Any, axis: int = -1) -> Traced:
    """The indices that sort by the last key, where these are equal by the one before, and so on."""
    tape = tape_of(keys) if isinstance(keys, Traced) else tape_of(*keys)
    given: Sequence[Operand] = list(keys)
    arrays = [traced(tape, k) for k in reversed(given)]
    if not arrays or arrays[0].ndim == 0:
        raise InputError("numpy.lexsort takes keys of one axis or more")
    first = arrays[0]
    d = normal(axis, first.ndim)
    values = [x.value for x in arrays]
    places = ops.iota(first.b, first.value.shape, d)
    found = ops.sort_together(first.b, (*values, places), d, _one_by_one(values))
    return first.wrap(found[-1])


def _one_by_one(keys: Sequence[Value]) -> Expr:
    """The order by the first of `keys`, then by the next; another operand follows behind them."""
    n = len(keys) + 1
    found: Expr | None = None
    for k in reversed(range(len(keys))):
        stored = keys[k].dtype
        one, other = (cast(arg(i, stored), stored.compute) for i in (k, k + n))
        before, after = less(one, other), less(other, one)
        found = before if found is None else either(before, both(call("not", after), found))
    assert found is not None
    return found


@numpy_function("median")
def _median(
    a: Operand, axis: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Traced:
    """The mean of the two middle elements, which may be one; NaN if there is one."""
    x = traced(tape_of(a), a)
    if isinstance(axis, tuple):
        raise UnsupportedError("numpy.median over several axes")
    if x.dtype.kind not in "f":
        x = x.astype(np.float64)
    flat, d = _along(x, axis, None)
    n = flat.value.shape[d]
    if n.is_const and n.value == 0:
        raise UnsupportedError("numpy.median of nothing")
    ordered = ops.sort_values(flat.b, flat.value, d)
    low, high, last = (
        flat.wrap(ops.slice_axis(flat.b, ordered, d, at, simplify(at + 1)))
        for at in (simplify((n - 1) // 2), simplify(n // 2), simplify(n - 1))
    )
    half = np.asarray(0.5, x.dtype)
    middle = call_ufunc(np.multiply, (call_ufunc(np.add, (low, high)), half))
    middle = FUNCTIONS["where"](call_ufunc(np.equal, (low, high)), low, middle)
    missing = call_ufunc(np.isnan, (last,))
    out: Traced = FUNCTIONS["where"](missing, last, middle)
    if axis is None:
        return reshape(out, (1,) * x.ndim if keepdims else ())
    return out if keepdims else out.wrap(ops.squeeze(out.b, out.value, (d,)))


REFUSED["ndarray.sort"] = "it sorts in place; numpy.sort gives a sorted array"
REFUSED.update(dict.fromkeys(
    ("partition", "argpartition"), "of numpy.sort and numpy.argsort every element has its place"
))  # fmt: skip
