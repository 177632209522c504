"""Schur's form and Hessenberg's of square matrices, by reflections from both sides.

    hessenberg    a = q h q^H with zeros below the first subdiagonal of h
    schur         a = z t z^H with t triangular, but for 2 x 2 blocks of real numbers whose
                  eigenvalues are a pair of conjugates

A sweep of the QR iteration begins with a reflection that holds two shifts, and takes what it leaves
below the subdiagonal down to the last row, a reflection for each column. Each matrix of a batch is
at a place of its own. Rows and columns lo .. hi are the last ones that do not fall apart yet; `hi`
is 0 where all do.

Sources: Golub and Van Loan, Matrix Computations, 7.4 and 7.5; Wilkinson and Reinsch, Handbook for
Automatic Computation II, hqr2, for the shifts of every tenth sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ferrule.base.dtype import i64
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import simplify
from ferrule.ops import elementary as el
from ferrule.ops.control import while_loop
from ferrule.ops.create import full, iota
from ferrule.ops.householder import product_of_reflections, reflection, reflections
from ferrule.ops.index import take_along_axis
from ferrule.ops.join import pad, triu
from ferrule.ops.numbers import (
    Numbers,
    Parts,
    finite,
    from_states,
    marked,
    scaled,
    squares,
    states_of,
)
from ferrule.ops.reduce import reduce_any, reduce_max
from ferrule.ops.slices import diagonal
from ferrule.ops.view import expand, reshape, roll, unsqueeze

_SWEEPS = 30  # for each row, at most; three are usual
_UNUSUAL = 10  # sweeps after which the shifts are others, once


def hessenberg(b: GraphBuilder, a: Parts) -> tuple[Parts, Parts]:
    """(h and below its subdiagonal the reflections' vectors without their 1, the factors
    tau [.., n - 1]) of a[.., n, n]. Raises CompileError for what are no square matrices.
    """
    return reflections(b, squares(b, "hessenberg", a).parts, 1, both_sides=True)


def schur(b: GraphBuilder, a: Parts) -> tuple[Parts, Parts, Parts, Value]:
    """(t[.., n, n], z[.., n, n], the eigenvalues w[.., n] as complex numbers, whether all is well
    [..]) of a[.., n, n]. The 2 x 2 blocks of real t have equal numbers on their diagonal. Results
    are NaN where a matrix holds an infinity or NaN. Raises CompileError for what are no square
    matrices.
    """
    x, good = finite(squares(b, "schur", a))
    n, dtype = x.shape[-1], a[0].dtype
    if n.is_const and not n.value:
        return a, a, x.as_complex().sum(-1).parts, good
    x, by = scaled(x)
    t, z, ended = triangular_form(x)
    if not t.is_complex:
        t, z = _with_equal_diagonals(t, z)
    good = el.logical_and(b, good, ended)
    given = (t * by, z, Bands.of(t).eigenvalues() * by.to_shape((*x.shape[:-2], 1)))
    t, z, w = (marked(r, good).each(lambda p: el.cast(b, p, dtype)) for r in given)
    return t.parts, z.parts, w.parts, good


# ---- bands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bands:
    """The numbers on, below and above the diagonal of h[.., n, n], each [.., n]: `below` and
    `above` have those of rows k - 1 and k at place k, and 0 at the first.
    """

    middle: Numbers
    below: Numbers
    above: Numbers

    @staticmethod
    def of(h: Numbers) -> Bands:
        b, none = h.b, [0] * (h.rank - 2)

        def band(offset: int) -> Numbers:
            found = h.each(lambda p: diagonal(b, p, offset, -2, -1))
            if not offset:
                return found
            return found.each(lambda p: pad(b, p, [*none, 1], [*none, 0]))

        return Bands(band(0), band(-1), band(1))

    def half_apart(self) -> Numbers:
        """Half of what the diagonal's number before is more than the one at each place."""
        return (before(self.middle) - self.middle) * 0.5

    def pairs(self) -> Value:
        """Which places are second in a 2 x 2 block that stays, as its eigenvalues are conjugates:
        of real numbers, between zeros below the diagonal.
        """
        b, whole = self.middle.b, el.logical_not(self.middle.b, self.below.is_zero())
        alone = el.logical_not(b, el.logical_or(b, moved(b, whole, 1), moved(b, whole, -1)))
        square = self.half_apart().squared() + self.below * self.above
        return el.logical_and(b, el.logical_and(b, whole, alone), el.lt(b, square.value, 0.0))


    def above_the_line(self) -> Numbers:
        """What pairs of conjugates have as imaginary parts, at the second place."""
        return (-(self.half_apart().squared() + self.below * self.above)).root()

    def eigenvalues(self) -> Numbers:
        """Those of triangular matrices, and of the `pairs`, the one above the real line first."""
        if self.middle.is_complex:
            return self.middle
        b, second = self.middle.b, self.pairs()
        mean = (self.middle + before(self.middle)) * 0.5
        lower = Numbers(b, (mean.value, (-self.above_the_line()).value))
        own = self.middle.as_complex()
        return lower.where(second, after(lower.conj()).where(moved(b, second, -1), own))


def moved(b: GraphBuilder, x: Value, by: int) -> Value:
    """x[.., n] with what is at place k at place k + `by`, counted round."""
    return roll(b, x, (by,), (-1,))


def before(x: Numbers) -> Numbers:
    """Numbers [.., n] with those at place k - 1 at place k; the last one at the first."""
    return x.each(lambda p: moved(x.b, p, 1))


def after(x: Numbers) -> Numbers:
    """Numbers [.., n] with those at place k + 1 at place k; the first one at the last."""
    return x.each(lambda p: moved(x.b, p, -1))


# ---- the iteration -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Window:
    """Where matrices are, [.., 1] each: rows lo .. hi, the column whose reflection is next, and how
    many sweeps ended at this `hi`.
    """

    lo: Value
    hi: Value
    column: Value
    sweeps: Value

    @property
    def values(self) -> tuple[Value, ...]:
        return self.lo, self.hi, self.column, self.sweeps

    def ends(self, b: GraphBuilder) -> Value:
        """Whether a sweep is through."""
        return el.ge(b, self.column, self.hi)


def triangular_form(x: Numbers) -> tuple[Numbers, Numbers, Value]:
    """(t, z, whether it came to an end [..]) of scaled matrices x[.., n, n] = z t z^H."""
    b, n = x.b, x.shape[-1]
    packed, taus = reflections(b, x.parts, 1, both_sides=True)
    h = Numbers(b, packed).each(lambda p: triu(b, p, -1))
    z = Numbers(b, product_of_reflections(b, packed, taus, n, 1))

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        at, _, hi, *_ = states
        limit = full(b, (), simplify(n * (n * _SWEEPS + 100)), i64)
        return el.logical_and(b, reduce_any(b, el.gt(b, hi, 0)), el.lt(b, at, limit))

    def body(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
        at, *places = states[:5]
        window, *after = _turned(_Window(*places), *from_states(b, [h, z], states[5:]))
        return (el.add(b, at, 1), *window.values, *states_of(*after))

    batch = x.shape[:-2]
    last, zero = full(b, (*batch, 1), n, i64), full(b, (*batch, 1), 0, i64)
    first = (full(b, (), 0, i64), zero, last, last, zero)
    _, _, hi, _, _, *rest = while_loop(b, goes, body, (*first, *states_of(h, z)))
    t, z = from_states(b, [h, z], rest)
    return t, z, reshape(b, el.eq(b, hi, 0), batch)


def _turned(was: _Window, h: Numbers, z: Numbers) -> tuple[_Window, Numbers, Numbers]:
    """The next reflection, of a new sweep where one has ended."""
    b, n = h.b, h.shape[-1]
    rows, columns = iota(b, (n, 1), 0), iota(b, (1, n), 1)
    begins = was.ends(b)
    bands, small = _split(Bands.of(h))
    fall = el.logical_and(b, unsqueeze(b, begins, begins.rank), unsqueeze(b, small, small.rank))
    fall = el.logical_and(b, fall, el.eq(b, rows, el.add(b, columns, 1)))
    h = h.where(el.logical_not(b, fall), 0.0)
    window = _chosen(b, begins, _window(bands, was), was)

    lo, hi, k = (unsqueeze(b, v, v.rank) for v in (window.lo, window.hi, window.column))
    previous = el.sub(b, k, 1)
    starts = el.eq(b, k, lo)
    place = expand(b, el.maximum(b, previous, 0), (*h.shape[:-1], 1))
    left_over = h.each(lambda p: take_along_axis(b, p, place, -1))
    column = _start(bands, window, rows).where(starts, left_over)
    here, below = el.eq(b, rows, k), el.gt(b, rows, k)
    for last in (el.add(b, k, 2), hi):
        below = el.logical_and(b, below, el.le(b, rows, last))
    some = el.gt(b, hi, 0)
    turn = reflection(column.where(some, 0.0), here, below)

    h = turn.off_right(turn.off(h, adjoint=True))
    own = el.logical_and(b, el.eq(b, columns, previous), el.logical_not(b, starts))
    h = turn.beta.where(el.logical_and(b, own, here), h)
    h = h.where(el.logical_not(b, el.logical_and(b, own, below)), 0.0)
    following = replace(window, column=el.add(b, window.column, 1))
    return following, h, turn.off_right(z)


def _chosen(b: GraphBuilder, flag: Value, x: _Window, y: _Window) -> _Window:
    return _Window(*(el.select(b, flag, p, q) for p, q in zip(x.values, y.values)))


def _split(bands: Bands) -> tuple[Bands, Value]:
    """(bands with zeros for what is small enough below the diagonal, which numbers are)."""
    b, info = bands.middle.b, np.finfo(bands.middle.dtype.numpy)
    sizes = bands.middle.abs()
    sizes = sizes + before(sizes)
    none = sizes.is_zero()
    bound = el.mul(b, el.select(b, none, 1.0, sizes.value), float(info.eps))
    bound = el.add(b, bound, float(info.tiny / info.eps))
    small = el.le(b, bands.below.abs().value, bound)
    return replace(bands, below=bands.below.where(el.logical_not(b, small), 0.0)), small


def _window(bands: Bands, was: _Window) -> _Window:
    """The last rows that do not fall apart yet, at the first column."""
    b = bands.middle.b
    i = iota(b, (bands.middle.shape[-1],), 0)
    whole = el.logical_not(b, bands.below.is_zero())
    todo = whole
    if not bands.middle.is_complex:
        todo = el.logical_and(b, whole, el.logical_not(b, bands.pairs()))
    hi = reduce_max(b, el.select(b, todo, i, 0), -1, True)
    ends = el.logical_and(b, el.logical_not(b, whole), el.le(b, i, hi))
    lo = reduce_max(b, el.select(b, ends, i, 0), -1, True)
    again = el.eq(b, hi, was.hi)
    return _Window(lo, hi, lo, el.select(b, again, el.add(b, was.sweeps, 1), 0))


def _start(bands: Bands, window: _Window, rows: Value) -> Numbers:
    """The column [.., n, 1] that a sweep begins with: the first one of (h - s) (h - t) for the
    eigenvalues s and t of the last two rows; of h - s where there are but these two.
    """
    b, lo, hi = bands.middle.b, window.lo, window.hi
    next_lo, last_but_one = el.add(b, lo, 1), el.sub(b, hi, 1)
    a, d = _at(bands.middle, last_but_one), _at(bands.middle, hi)
    under = _at(bands.below, hi)
    product = under * _at(bands.above, hi)
    half = (a - d) * 0.5
    root = (half.squared_number() + product).root()
    away = (half.conj() * root).real
    flipped = el.lt(b, away.value, 0.0)
    alone = half + (-root).where(flipped, root)

    size = under.abs() + _at(bands.below, last_but_one).abs()
    unusual = el.gt(b, window.sweeps, 0)
    unusual = el.logical_and(b, unusual, el.eq(b, el.rem(b, window.sweeps, _UNUSUAL), 0))
    other = (d + size * 0.75).as_complex(d.is_complex)
    a, d = other.where(unusual, a), other.where(unusual, d)
    product = (size.squared() * -0.4375).as_complex(d.is_complex).where(unusual, product)
    h11, h22 = _at(bands.middle, lo), _at(bands.middle, next_lo)
    h21, h12 = _at(bands.below, next_lo), _at(bands.above, next_lo)
    r, s = d - h11, a - h11
    first = r * s - product + h12 * h21
    second = (h22 - h11 - r - s) * h21
    third = _at(bands.below, el.add(b, lo, 2)) * h21

    two = el.eq(b, last_but_one, lo)
    column = Numbers(b, tuple(full(b, (), 0.0, h11.dtype) for _ in h11.parts))
    for k, x in ((2, third.where(el.logical_not(b, two), 0.0)), (1, under.where(two, second)),
                 (0, alone.where(two, first))):  # fmt: skip
        place = el.add(b, unsqueeze(b, lo, lo.rank), k)
        column = x.as_column().where(el.eq(b, rows, place), column)
    return column


def _at(x: Numbers, place: Value) -> Numbers:
    """Of numbers [.., n] those at a place [.., 1]; 0 at one that is none."""
    b = x.b
    return x.where(el.eq(b, iota(b, (x.shape[-1],), 0), place), 0.0).sum(-1, True)


# ---- 2 x 2 blocks --------------------------------------------------------------------------------


def blocks(flags: Value, x: Numbers, y: Numbers) -> Numbers:
    """The unitary matrices [.., n, n] that hold (x, -y^H; y, x^H) in rows and columns k - 1 and k
    for each flag [.., n] at place k, and 1 elsewhere on the diagonal; |x|^2 + |y|^2 is 1.
    """
    b, n = x.b, x.shape[-1]
    rows, columns = iota(b, (n, 1), 0), iota(b, (1, n), 1)
    x, y = x.where(flags, 1.0), y.where(flags, 0.0).as_complex(x.is_complex)
    first = after(x).where(moved(b, flags, -1), 1.0)
    middle = x.conj().where(flags, first).as_row()
    under, over = y.as_column(), (-y.conj()).as_row()
    found = over.where(el.eq(b, columns, el.add(b, rows, 1)), 0.0)
    found = under.where(el.eq(b, rows, el.add(b, columns, 1)), found)
    return middle.where(el.eq(b, rows, columns), found)


def _with_equal_diagonals(t: Numbers, z: Numbers) -> tuple[Numbers, Numbers]:
    """Real t and z, turned so that 2 x 2 blocks have equal numbers on the diagonal, and the larger
    one of the two others above it. One whose eigenvalues turn out to be real is triangular then.
    """
    b, bands, n = t.b, Bands.of(t), t.shape[-1]
    second, both = bands.pairs(), bands.above + bands.below
    sign = (bands.above - bands.below).value
    sides = (el.neg(b, bands.half_apart().value), el.mul(b, both.value, 0.5))
    y, x = (el.select(b, el.lt(b, sign, 0.0), el.neg(b, v), v) for v in sides)
    angle = Numbers(b, (el.mul(b, el.atan2(b, y, x), 0.5),))
    u = blocks(second, angle.each(lambda p: el.cos(b, p)), angle.each(lambda p: el.sin(b, p)))
    turned = u.turned().matmul(t).matmul(u)

    mean = (bands.middle + before(bands.middle)) * 0.5
    middle = after(mean).where(moved(b, second, -1), mean.where(second, bands.middle))
    rows, columns = iota(b, (n, 1), 0), iota(b, (1, n), 1)
    turned = middle.as_row().where(el.eq(b, rows, columns), turned)
    now = Bands.of(turned)
    stays = el.logical_and(b, second, el.lt(b, (now.below * now.above).value, 0.0))
    under = now.below.where(stays, 0.0).as_column()
    low = under.where(el.eq(b, rows, el.add(b, columns, 1)), 0.0)
    return turned.where(el.le(b, rows, columns), low), z.matmul(u)
