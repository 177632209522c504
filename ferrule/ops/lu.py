"""Gauss's elimination with partial pivoting: the factors L and U.

A step of a loop makes one column of L and takes it off the columns that follow. Source: Golub and
Van Loan, Matrix Computations, 3.4, with the pivots of LAPACK's getrf: of complex numbers those are
compared by the sums of their parts' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule.base.dtype import i32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ops import elementary as el
from ferrule.ops.create import full, iota
from ferrule.ops.householder import along, first_last
from ferrule.ops.loop import loop
from ferrule.ops.numbers import Numbers, Parts, from_states, numbers, states_of
from ferrule.ops.reduce import argmax, reduce_min
from ferrule.ops.slices import least
from ferrule.ops.view import reshape


def lu(b: GraphBuilder, a: Parts) -> tuple[Parts, Value, Value]:
    """(L below the diagonal and U, the rows i32[.., k] that changed places with rows 0 .. k - 1,
    the first place i32[..] where U's diagonal has 0, or k) of a[.., m, n], with k the less of m
    and n. L's diagonal is 1. Raises CompileError for what are no matrices.
    """
    x = numbers(b, a)
    if x.rank < 2:
        raise CompileError(f"lu of {a[0].type}: these are no matrices")
    m, n = x.shape[-2:]
    k, batch = least(m, n), x.shape[:-2]
    if k.is_const and not k.value:
        return x.parts, full(b, (*batch, 0), 0, i32), full(b, batch, 0, i32)
    rows, columns = iota(b, (m, 1), 0), iota(b, (1, n), 1)

    def body(b: GraphBuilder, states: Sequence[Value], given: Sequence[Value]) -> Any:
        (i,), (x,) = given, from_states(b, [start], states)
        here, below = el.eq(b, rows, i), el.gt(b, rows, i)
        sizes = _sizes(along(x, i, -1))
        p = argmax(b, el.select(b, el.ge(b, rows, i), sizes, -1.0), -2, True)
        chosen = el.eq(b, rows, p)
        pivots = x.where(chosen, 0.0).sum(-2, True)
        x = along(x, i, -2).where(chosen, x)
        x = pivots.where(here, x)
        column, pivot = along(x, i, -1), along(pivots, i, -1)
        zero = pivot.is_zero()
        factor = column.divided(pivot.where(el.logical_not(b, zero), 1.0)).where(below, 0.0)
        after = x - factor * pivots.where(el.gt(b, columns, i), 0.0)
        own = factor.where(below, column)
        place = el.select(b, zero, i, full(b, (), k, i.dtype))
        told = [reshape(b, el.cast(b, v, i32), batch) for v in (p, place)]
        return states_of(own.where(el.eq(b, columns, i), after)), told

    start, count = x, len(x.parts)
    out = loop(b, body, k, states_of(x), (iota(b, (k,), 0),), last=(True,) * count)
    pivots, places = (first_last(Numbers(b, (v,))).value for v in out[count:])
    return out[:count], pivots, reduce_min(b, places, -1)


def _sizes(x: Numbers) -> Value:
    sizes = [el.abs(x.b, p) for p in x.parts]
    return sizes[0] if len(sizes) == 1 else el.add(x.b, *sizes)
