"""Reflections that make zeros below the diagonals of matrices: the factors Q and R.

    reflections                A = Q R with Q = H_1 H_2 .. and H_i = 1 - tau_i v_i v_i^H
    product_of_reflections     Q of these

A column is divided by its largest part before it is squared. Source: Golub and Van Loan, Matrix
Computations, 5.1 and 5.2, with the conventions of LAPACK's geqrf: R's diagonal is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import simplify
from ferrule.ops import elementary as el
from ferrule.ops.create import full, iota
from ferrule.ops.gather import dynamic_slice
from ferrule.ops.loop import loop
from ferrule.ops.numbers import Numbers, Parts, from_states, identity, numbers, states_of
from ferrule.ops.reduce import reduce_max
from ferrule.ops.slices import least
from ferrule.ops.view import transpose


@dataclass(frozen=True, eq=False)
class Reflection:
    """1 - tau v v^H of columns [.., m, 1]: what makes a column (.., beta, 0 ..)."""

    v: Numbers
    tau: Numbers  # [.., 1, 1]
    beta: Numbers

    def off(self, x: Numbers, adjoint: bool = False) -> Numbers:
        """x without what the reflection takes off it: H x, or H^H x if `adjoint`."""
        tau = self.tau.conj() if adjoint else self.tau
        return x - self.v * (tau * (self.v.conj() * x).sum(-2, True))

    def off_right(self, x: Numbers) -> Numbers:
        """x H: the rows without what the reflection takes off them."""
        return x - (x * self.v.turned()).sum(-1, True) * self.tau * self.v.adjoint()


def reflection(column: Numbers, here: Value, below: Value) -> Reflection:
    """The H with H^H column = (beta `here`, 0 `below`); the column counts in these rows alone."""
    b = column.b
    column = column.where(el.logical_or(b, here, below), 0.0)
    largest = reduce_max(b, column.abs().value, -2, True, True)
    top = Numbers(b, (el.select(b, el.gt(b, largest, 0.0), largest, 1.0),))
    column = column.over(top)
    alpha, rest = column.where(here, 0.0).sum(-2, True), column.where(below, 0.0)
    others = rest.squared().sum(-2, True)
    if alpha.is_complex:
        others = others + Numbers(b, alpha.parts[1:]).squared()
    none = others.is_zero()
    size = (others + alpha.real.squared()).sqrt()
    beta = Numbers(b, (el.neg(b, el.copysign(b, size.value, alpha.parts[0])),))
    beta = alpha.real.where(none, beta)
    under = Numbers(b, (el.select(b, none, 1.0, beta.value),))
    tau = (beta - alpha).over(under)
    tau = tau.where(el.logical_not(b, none), 0.0)
    by = alpha - beta
    inverse = by.conj().over(Numbers(b, (el.select(b, none, 1.0, by.squared().value),)))
    v = (rest * inverse).where(el.logical_not(b, here), 1.0)
    return Reflection(v, tau, beta * top)


def along(x: Numbers, i: Value, axis: int) -> Numbers:
    """Row or column `i` of x, of size 1."""
    starts = [full(x.b, (), 0, i.dtype)] * x.rank
    starts[axis] = i
    sizes = list(x.shape)
    sizes[axis] = ONE
    return x.each(lambda p: dynamic_slice(x.b, p, starts, sizes))


def last_first(x: Numbers) -> Numbers:
    """x[.., n] as [n, ..]."""
    return x.each(lambda p: transpose(x.b, p, (p.rank - 1, *range(p.rank - 1))))


def first_last(x: Numbers) -> Numbers:
    """x[n, ..] as [.., n]."""
    return x.each(lambda p: transpose(x.b, p, (*range(1, p.rank), 0)))


def reflections(
    b: GraphBuilder, a: Parts, offset: int = 0, both_sides: bool = False
) -> tuple[Parts, Parts]:
    """(R and below it the vectors without their 1, the factors tau [.., k]) of a[.., m, n], with
    k the less of m - `offset` and n - `offset`. With an offset of 1 zeros begin below the first
    subdiagonal; from `both_sides`, H^H A H, the matrices stay similar to a.
    """
    x = numbers(b, a)
    m, n = x.shape[-2:]
    k = simplify(least(m, n) - offset)
    if k.is_const and k.value <= 0:
        return x.parts, x.each(lambda p: full(b, (*p.shape[:-2], 0), 0.0, p.dtype)).parts
    rows, columns = iota(b, (m, 1), 0), iota(b, (1, n), 1)

    def body(b: GraphBuilder, states: Sequence[Value], given: Sequence[Value]) -> Any:
        (i,), (x,) = given, from_states(b, [start], states)
        place = el.add(b, i, offset) if offset else i
        here, below = el.eq(b, rows, place), el.gt(b, rows, place)
        column = along(x, i, -1)
        h = reflection(column, here, below)
        after = h.off(x, adjoint=True).where(el.gt(b, columns, i), x)
        own = h.beta.where(here, h.v.where(below, column))
        x = own.where(el.eq(b, columns, i), after)
        x = h.off_right(x) if both_sides else x
        return states_of(x), states_of(h.tau.to_shape(h.tau.shape[:-2]))

    start = x
    count = len(x.parts)
    out = loop(b, body, k, states_of(x), (iota(b, (k,), 0),), last=(True,) * count)
    return out[:count], first_last(Numbers(b, out[count:])).parts


def product_of_reflections(
    b: GraphBuilder, packed: Parts, taus: Parts, columns: Expr, offset: int = 0
) -> Parts:
    """The first `columns` of H_1 H_2 .. [.., m, columns], of reflections that lie in columns of
    packed[.., m, n].
    """
    vectors, factors = Numbers(b, packed), Numbers(b, taus)
    m, k = vectors.shape[-2], factors.shape[-1]
    shape = (*vectors.shape[:-2], m, columns)
    start = identity(b, shape, vectors.dtype).as_complex(vectors.is_complex)
    if k.is_const and not k.value:
        return start.parts
    rows = iota(b, (m, 1), 0)

    def body(b: GraphBuilder, states: Sequence[Value], given: Sequence[Value]) -> Any:
        i, *tau = given
        (q,) = from_states(b, [start], states)
        place = el.add(b, i, offset) if offset else i
        v = along(vectors.within(b), i, -1).where(el.gt(b, rows, place), 0.0)
        v = v.where(el.logical_not(b, el.eq(b, rows, place)), 1.0)
        t = Numbers(b, tuple(tau)).to_shape((*q.shape[:-2], 1, 1))
        return states_of(Reflection(v, t, t).off(q)), ()

    count = len(start.parts)
    over = (iota(b, (k,), 0), *last_first(factors).parts)
    return loop(b, body, k, states_of(start), over, reverse=True, last=(True,) * count)
