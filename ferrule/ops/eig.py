"""Eigenvalues and eigenvectors of square matrices, by way of Schur's form.

    eig    a v = v diag(w), and u^H a = diag(w) u^H

Rows and columns are balanced first: multiplied and divided by powers of 2 until each row is about
as large as its column. Real matrices have their conjugate eigenvalues in pairs, the one above the
real line first, and exactly conjugate vectors; of real eigenvalues the vectors are real.

Sources: Parlett and Reinsch, Balancing a Matrix for Calculation of Eigenvalues and Eigenvectors
(1969), with the norms of James, Langou and Lowery, On Matrix Balancing and Eigenvector Computation
(2014); Golub and Van Loan, Matrix Computations, 7.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import boolean, f64, i64
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ops import elementary as el
from ferrule.ops.control import while_loop
from ferrule.ops.create import full, iota
from ferrule.ops.householder import along
from ferrule.ops.loop import loop
from ferrule.ops.numbers import (
    Numbers,
    Parts,
    finite,
    from_states,
    identity,
    marked,
    power_of_two,
    scaled,
    squares,
    states_of,
)
from ferrule.ops.reduce import argmax, reduce_any, reduce_max
from ferrule.ops.schur import Bands, before, blocks, triangular_form
from ferrule.ops.view import reverse, transpose, unsqueeze

_BALANCED = 0.95  # what sums of a row's and a column's size must come down to, to be worth it
_ROUNDS = 20  # at most; two are usual


def eig(
    b: GraphBuilder, a: Parts, left: bool = False, right: bool = True
) -> tuple[Parts, Parts, Parts, Value]:
    """(the eigenvalues w[.., n], left and right eigenvectors as columns u[.., n, n] and
    v[.., n, n], whether all is well [..]) of a[.., n, n]: complex numbers all, u and v () where
    they are not asked for. Vectors have length 1, and their largest part is real. Results are NaN
    where a matrix holds an infinity or NaN. Raises CompileError for what are no square matrices.
    """
    x, good = finite(squares(b, "eig", a))
    n, dtype = x.shape[-1], a[0].dtype
    if n.is_const and not n.value:
        none = x.as_complex().parts
        return x.as_complex().sum(-1).parts, none if left else (), none if right else (), good
    x, by = scaled(x)
    x, sizes = _balanced(x)
    x, again = scaled(x)
    t, z, ended = triangular_form(x)
    good = el.logical_and(b, good, ended)
    second = None if x.is_complex else Bands.of(t).pairs()
    w, t, z = _complex_form(t, z, second)
    u = _finished(z.matmul(_left_vectors(t, w)).over(sizes), w, second) if left else None
    v = _finished(z.matmul(_right_vectors(t, w)) * sizes, w, second) if right else None
    for factor in (again, by):
        w = w * factor.to_shape((*x.shape[:-2], 1))

    def given(found: Numbers | None) -> Parts:
        if found is None:
            return ()
        return marked(found, good).each(lambda p: el.cast(b, p, dtype)).parts

    return given(w), given(u), given(v), good


# ---- balance -------------------------------------------------------------------------------------


def _balanced(x: Numbers) -> tuple[Numbers, Numbers]:
    """(d^-1 x d, d as columns [.., n, 1]), powers of 2 with which rows are as large as columns."""
    b, n = x.b, x.shape[-1]
    other = el.ne(b, iota(b, (n, 1), 0), iota(b, (1, n), 1))
    squares_of = x.where(other, 0.0).squared()
    most = 2.0 ** (400 if x.dtype == f64 else 40)
    count = full(b, (), n, i64)

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        at, changed, _ = states
        begins = el.eq(b, el.rem(b, at, count), 0)
        more = el.logical_and(b, el.lt(b, at, el.mul(b, count, _ROUNDS)), changed)
        return el.logical_or(b, el.logical_not(b, begins), more)

    def body(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
        at, changed, sizes = states
        i, d = el.rem(b, at, count), Numbers(b, (sizes,))
        here, held = el.eq(b, iota(b, (n, 1), 0), i), squares_of.within(b)
        own = along(d, i, -2)
        column = (along(held, i, -1).over(d).over(d)).sum(-2, True).sqrt() * own
        row = (along(held, i, -2).turned() * d * d).sum(-2, True).sqrt().over(own)
        some = el.logical_and(b, el.gt(b, column.value, 0.0), el.gt(b, row.value, 0.0))
        by = power_of_two(b, (row.over(column.where(some, 1.0)).sqrt() * 2**0.5).value)
        factor = Numbers(b, (by,)).where(some, 1.0)
        after = own * factor
        bounded = el.logical_and(
            b, el.le(b, after.value, most), el.ge(b, after.value, 1.0 / most)
        )
        better = el.lt(b, (column * factor + row.over(factor.where(some, 1.0))).value,
                       ((column + row) * _BALANCED).value)  # fmt: skip
        better = el.logical_and(b, el.logical_and(b, some, bounded), better)
        kept = el.logical_and(b, el.ne(b, i, 0), changed)  # a round forgets the one before
        turned = el.logical_or(b, kept, reduce_any(b, better))
        return (el.add(b, at, 1), turned, after.where(el.logical_and(b, better, here), d).value)

    ones = full(b, (*x.shape[:-1], 1), 1.0, x.dtype)
    first = (full(b, (), 0, i64), full(b, (), True, boolean), ones)
    d = Numbers(b, while_loop(b, goes, body, first)[2:])
    return (x * d.turned()).over(d), d


# ---- vectors -------------------------------------------------------------------------------------


def _complex_form(
    t: Numbers, z: Numbers, second: Value | None
) -> tuple[Numbers, Numbers, Numbers]:
    """(the eigenvalues [.., n], triangular t, z) of complex numbers; `second` are the places of
    blocks of real t that become triangular.
    """
    bands = Bands.of(t)
    w = bands.eigenvalues()
    if second is None:
        return w, t, z
    half, high = bands.half_apart(), bands.above_the_line()
    size = (half.squared() + high.squared() + bands.below.squared()).sqrt().where(second, 1.0)
    u = blocks(second, Numbers(t.b, (half.value, high.value)).over(size), bands.below.over(size))
    return w, u.adjoint().matmul(t).matmul(u), z.matmul(u)


def _right_vectors(t: Numbers, w: Numbers) -> Numbers:
    """Columns x [.., n, n] with t x = x diag(w), for triangular t with w on its diagonal: 0 below
    the diagonal, the largest part 1.
    """
    b, n = t.b, t.shape[-1]
    columns, rows = iota(b, (1, n), 1), iota(b, (n, 1), 0)
    least = float(np.finfo(t.dtype.numpy).eps)
    by_rows = t.each(lambda p: transpose(b, p, (p.rank - 2, *range(p.rank - 2), p.rank - 1)))
    start = identity(b, t.shape, t.dtype).as_complex()

    def body(b: GraphBuilder, states: Sequence[Value], given: Sequence[Value]) -> Any:
        i, *row = given
        (x,), own = from_states(b, [start], states), w.within(b)
        later = el.gt(b, columns, i)
        known = (Numbers(b, tuple(row)).as_column() * x).sum(-2, True)
        apart = (own.as_row() - along(own, i, -1).as_row()).where(later, 1.0)
        near = el.lt(b, apart.abs().value, least)
        apart = apart.where(el.logical_not(b, near), least)
        found = known.divided(apart).where(later, 0.0)
        shrink = found.abs().at_least(1.0)
        here = el.logical_and(b, later, el.eq(b, rows, i))
        return states_of(found.where(here, x).over(shrink)), ()

    over = (iota(b, (n,), 0), *by_rows.parts)
    found = loop(b, body, n, states_of(start), over, reverse=True, last=(True, True))
    return Numbers(b, found)


def _left_vectors(t: Numbers, w: Numbers) -> Numbers:
    """Columns y [.., n, n] with y^H t = diag(w) y^H: those of t^H, whose rows and columns in
    reverse are triangular as t is.
    """
    def back(x: Numbers) -> Numbers:
        return x.each(lambda p: reverse(x.b, p, (-2, -1)))

    reversed_w = w.conj().each(lambda p: reverse(t.b, p, (-1,)))
    return back(_right_vectors(back(t.adjoint()), reversed_w))


def _finished(x: Numbers, w: Numbers, second: Value | None) -> Numbers:
    """Columns of length 1 whose largest part is real; of real matrices the `second` of a pair is
    the conjugate of the first, and those of real eigenvalues are real.
    """
    b, n = x.b, x.shape[-2]
    if second is not None:
        x = before(x).conj().where(unsqueeze(b, second, second.rank - 1), x)
    sizes = x.abs().value
    x = x.over(Numbers(b, (reduce_max(b, sizes, -2, True),)))
    here = el.eq(b, iota(b, (n, 1), 0), argmax(b, sizes, -2, True))
    largest = x.where(here, 0.0).sum(-2, True)
    real, imaginary = (x * largest.conj()).parts
    flat = here
    if second is not None:
        flat = el.logical_or(b, here, el.eq(b, w.as_row().parts[1], 0.0))
    x = Numbers(b, (real, el.select(b, flat, 0.0, imaginary)))
    return x.over(x.squared().sum(-2, True).sqrt())
