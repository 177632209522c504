"""Eigenvalues of Hermitian matrices and singular values, by Jacobi's rotations.

    eigh    a = v diag(w) v^H of Hermitian matrices, by rotations from both sides
    svd     a = u diag(s) v^H of any matrices, by rotations that make rows orthogonal

A step turns n / 2 pairs of rows at once; the pairs of a sweep's n - 1 steps are those of a
tournament in which all meet: rows k and k + n / 2 are a pair, and the rows change places behind
each step, so that they are back where they were after a sweep. An odd n has one more row of
zeros. Sweeps go on until one has met nothing that is larger than rounding makes it.

Sources: Brent and Luk, The Solution of Singular-Value and Symmetric Eigenvalue Problems on
Multiprocessor Arrays (1985); Hestenes, Inversion of Matrices by Biorthogonalization (1958); Golub
and Van Loan, Matrix Computations, 8.5 and 8.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.base.dtype import boolean, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ZERO, Expr
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify
from ferrule.ops import elementary as el
from ferrule.ops.control import while_loop
from ferrule.ops.create import full, iota
from ferrule.ops.householder import product_of_reflections, reflections
from ferrule.ops.index import take, take_along_axis
from ferrule.ops.join import concat, pad, tril
from ferrule.ops.numbers import (
    Numbers,
    Parts,
    finite,
    from_states,
    identity,
    marked,
    numbers,
    scaled,
    squares,
    states_of,
)
from ferrule.ops.reduce import reduce_all, reduce_max
from ferrule.ops.slices import diagonal, least, slice_axis
from ferrule.ops.sort import argsort
from ferrule.ops.view import expand, unsqueeze

SWEEPS = 40  # at most; ten are many
_LENIENT = 64  # times as far from done as wanted is well, too, after so many


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The places of 2 `half` rows, of which `k` and `half + k` are pairs: from where each row comes
    when the places change, and its partner there.
    """

    half: Expr
    source: Value
    partner: Value

    @staticmethod
    def of(b: GraphBuilder, half: Expr) -> _Pairs:
        """Row 0 stays; all others go round: 1 .. half - 1 up, half .. 2 half - 1 down."""
        i = iota(b, (half * 2,), 0)
        middle = full(b, (), half, i64)
        last = el.sub(b, el.mul(b, middle, 2), 1)
        found = el.select(b, el.lt(b, i, middle), el.sub(b, i, 1), el.add(b, i, 1))
        found = el.select(b, el.eq(b, i, last), el.sub(b, middle, 1), found)
        found = el.select(b, el.eq(b, i, 1), middle, found)
        found = el.select(b, el.eq(b, i, 0), 0, found)
        below = el.lt(b, found, middle)
        other = el.select(b, below, el.add(b, found, middle), el.sub(b, found, middle))
        return _Pairs(half, found, other)

    def upper(self, x: Numbers, axis: int = -2) -> Numbers:
        return x.each(lambda p: slice_axis(x.b, p, axis, 0, self.half))

    def lower(self, x: Numbers, axis: int = -2) -> Numbers:
        return x.each(lambda p: slice_axis(x.b, p, axis, self.half, simplify(self.half * 2)))

    def places(self, x: Numbers, of: Value, axis: int = -2) -> Numbers:
        return x.each(lambda p: take(x.b, p, of, axis))


@dataclass(frozen=True, eq=False)
class _Rotation:
    """A unitary matrix (c, -s; s^H, c) for each pair of rows, and the change of places.

    Of a place [.., 2 half, 1]: its `sine`, -s or s^H, and its `tangent` of half the angle. A row
    gets what is taken off it, not a multiple of it: then the sizes of rows do not drift
    (Rutishauser, The Jacobi Method for Real Symmetric Matrices, 1966).
    """

    pairs: _Pairs
    sine: Numbers
    tangent: Numbers

    @staticmethod
    def of(pairs: _Pairs, p: Numbers, q: Numbers, r: Numbers) -> _Rotation:
        """What makes the Hermitian matrices (p, r; r^H, q) [.., half] diagonal, the angle at most
        45 degrees.
        """
        b, twice = p.b, r * 2.0
        apart = q - p
        size = el.hypot(b, apart.value, twice.abs().value)
        under = el.copysign(b, el.add(b, size, apart.abs().value), apart.value)
        under = el.select(b, el.eq(b, size, 0.0), 1.0, under)
        tangent = twice.over(Numbers(b, (under,)))
        secant = Numbers(b, (el.sqrt(b, el.add(b, tangent.squared().value, 1.0)),))
        of_half = tangent.over(Numbers(b, (el.add(b, secant.value, 1.0),)))
        below = Numbers(b, (el.add(b, of_half.squared().value, 1.0),))
        sine, half = (
            pairs.places(_both(-x, x.conj()), pairs.source, -1).as_column()
            for x in ((of_half * 2.0).over(below), of_half)
        )
        return _Rotation(pairs, sine, half)

    def turn(self, x: Numbers) -> Numbers:
        """The product of the matrix and x, whose rows are those of the pairs."""
        pairs = self.pairs
        own, other = pairs.places(x, pairs.source), pairs.places(x, pairs.partner)
        return own + self.sine * (other - self.tangent.conj() * own)


def _both(x: Numbers, y: Numbers) -> Numbers:
    """Numbers [.., half] one behind the others."""
    return Numbers(x.b, tuple(concat(x.b, pair, -1) for pair in zip(x.parts, y.parts)))


Step = Callable[[Sequence[Numbers], _Pairs], "tuple[list[Numbers], Value]"]


def _sweeps(
    b: GraphBuilder, half: Expr, near: Value, given: Sequence[Numbers], step: Step
) -> tuple[Value, list[Numbers]]:
    """(whether the matrices are as good as done [batch..], the matrices), after sweeps of which the
    last one met nothing greater than `near` [batch..].

    `step(matrices, pairs)` gives the matrices behind a step, and the greatest size [batch..] that
    it met.
    """
    period = full(b, (), simplify(half * 2 - 1), i64)
    pairs = _Pairs.of(b, half)

    def starts(b: GraphBuilder, at: Value) -> Value:
        return el.eq(b, el.rem(b, at, period), 0)

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        at, worst, *_ = states
        done = reduce_all(b, el.le(b, worst, near))
        ends = el.logical_and(b, starts(b, at), done)
        more = el.lt(b, at, el.mul(b, period, SWEEPS))
        return el.logical_and(b, el.logical_not(b, ends), more)

    def body(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
        at, worst, *rest = states
        after, met = step(from_states(b, given, rest), pairs)
        kept = el.select(b, starts(b, at), 0.0, worst)
        return (el.add(b, at, 1), el.maximum(b, kept, met), *states_of(*after))

    worst = full(b, near.shape, float("inf"), near.dtype)
    _, worst, *rest = while_loop(b, goes, body, (full(b, (), 0, i64), worst, *states_of(*given)))
    return el.le(b, worst, el.mul(b, near, _LENIENT)), from_states(b, given, rest)


def _half(n: Expr) -> Expr:
    return simplify((n + 1) // 2)


def _padded(x: Numbers, rows: Expr, columns: Expr | None = None) -> Numbers:
    """Matrices with zeros behind, up to so many rows (and columns)."""
    none = [0] * (x.rank - 2)
    m, n = x.shape[-2:]
    wide = n if columns is None else columns
    high: list[Expr | int] = [*none, simplify(rows - m), simplify(wide - n)]
    return x.each(lambda p: pad(x.b, p, [0] * x.rank, high))


def _first_rows(x: Numbers, n: Expr) -> Numbers:
    return x.each(lambda p: slice_axis(x.b, p, -2, 0, n))


def _rows_at(x: Numbers, places: Value) -> Numbers:
    """Rows [.., n, columns] in the order of places [.., n]."""
    b = x.b
    wide = expand(b, unsqueeze(b, places, places.rank), x.shape)
    return x.each(lambda p: take_along_axis(b, p, wide, -2))


# ---- Hermitian matrices --------------------------------------------------------------------------


def eigh(
    b: GraphBuilder, a: Parts, lower: bool = True, vectors: bool = True
) -> tuple[Value, Parts, Value]:
    """(the eigenvalues w[.., n] in ascending order, the eigenvectors as columns v[.., n, n],
    whether all is well [..]) of the Hermitian matrices whose `lower` or upper triangle a[.., n, n]
    holds; without `vectors` v is (). Results are NaN where the triangle holds an infinity or NaN.
    Raises CompileError for what are no square matrices.
    """
    whole = _from_triangle(squares(b, "eigh", a), lower)
    n, dtype = whole.shape[-1], a[0].dtype
    if n.is_const and not n.value:
        none, well = whole.real.sum(-1).value, full(b, a[0].shape[:-2], True, boolean)
        return el.cast(b, none, dtype), a if vectors else (), well
    x, good = finite(whole)
    x, by = scaled(x)
    w, rows, ended = _diagonal_of(x, vectors)
    good = el.logical_and(b, good, ended)
    w = w * by.to_shape((*by.shape[:-2], 1))
    order = argsort(b, w.value, -1)
    w = Numbers(b, (take_along_axis(b, w.value, order, -1),))
    v = [_rows_at(r, order).adjoint() for r in rows]
    w, *rest = (marked(r, good).each(lambda p: el.cast(b, p, dtype)) for r in (w, *v))
    return w.value, rest[0].parts if vectors else (), good


def _from_triangle(a: Numbers, lower: bool) -> Numbers:
    b = a.b
    a = a if lower else a.adjoint()
    below = a.each(lambda p: tril(b, p, -1))
    n = a.shape[-1]
    here = el.eq(b, iota(b, (n, 1), 0), iota(b, (1, n), 1))
    return below + below.adjoint() + a.real.where(here, 0.0)


def _diagonal_of(x: Numbers, vectors: bool) -> tuple[Numbers, list[Numbers], Value]:
    """(eigenvalues [.., n], eigenvectors' conjugates as rows if wanted, whether it came to an end).
    """
    b, n = x.b, x.shape[-1]
    half = _half(n)
    size = simplify(half * 2)
    norm = x.squared().sum(-1).sum(-1).sqrt()
    near = norm * float(np.finfo(x.dtype.numpy).eps)
    start = [_padded(x, size, size)]
    if vectors:
        rows = identity(b, (*x.shape[:-2], size, n), x.dtype)
        start.append(rows.as_complex(x.is_complex))

    def step(given: Sequence[Numbers], pairs: _Pairs) -> tuple[list[Numbers], Value]:
        a, *rows = given
        b = a.b
        top, bottom = pairs.upper(a), pairs.lower(a)
        p, q = (_diagonal(r.real) for r in (pairs.upper(top, -1), pairs.lower(bottom, -1)))
        r = _diagonal(pairs.lower(top, -1))
        turned = _Rotation.of(pairs, p, q, r)
        after = turned.turn(turned.turn(a).adjoint())
        return [after, *map(turned.turn, rows)], reduce_max(b, r.abs().value, -1)

    ended, (a, *found) = _sweeps(b, half, near.value, start, step)
    w = _diagonal(a.real).each(lambda p: slice_axis(b, p, -1, 0, n))
    return w, [_first_rows(r, n) for r in found], ended


def _diagonal(x: Numbers) -> Numbers:
    return x.each(lambda p: diagonal(x.b, p, 0, -2, -1))


# ---- any matrices --------------------------------------------------------------------------------


def svd(
    b: GraphBuilder, a: Parts, full_matrices: bool = False, vectors: bool = True
) -> tuple[Value, Parts, Parts, Value]:
    """(the singular values s[.., k] in descending order, u[.., m, k], v^H[.., k, n], whether all
    is well [..]) of a[.., m, n], with k the less of m and n; with `full_matrices` u and v^H are
    square. Without `vectors` they are (). Results are NaN where a matrix holds an infinity or NaN.
    Raises CompileError for what are no matrices.
    """
    given = numbers(b, a)
    if given.rank < 2:
        raise CompileError(f"svd of {a[0].type}: these are no matrices")
    m, n = given.shape[-2:]
    dtype = a[0].dtype
    if any(size.is_const and not size.value for size in (m, n)):
        return _of_nothing(given, full_matrices, vectors)
    wide = not equal(m, n) and prove_nonneg(simplify(n - m))
    x, good = finite(given.adjoint() if wide else given)
    x, by = scaled(x)
    s, u, vh, ended = _orthogonal(x, full_matrices, vectors)
    good = el.logical_and(b, good, ended)
    s = s * by.to_shape((*by.shape[:-2], 1))
    if wide:
        u, vh = [r.adjoint() for r in vh], [r.adjoint() for r in u]
    s, *rest = (marked(r, good).each(lambda p: el.cast(b, p, dtype)) for r in (s, *u, *vh))
    left, right = [r.parts for r in rest] or [(), ()]
    return s.value, left, right, good


def _of_nothing(x: Numbers, whole: bool, vectors: bool) -> tuple[Value, Parts, Parts, Value]:
    """The same of matrices without elements."""
    b, (m, n), batch = x.b, x.shape[-2:], x.shape[:-2]
    s, good = full(b, (*batch, 0), 0.0, x.dtype), full(b, batch, True, boolean)
    if not vectors:
        return s, (), (), good
    shapes = ((m, m), (n, n)) if whole else ((m, ZERO), (ZERO, n))
    u, vh = (identity(b, (*batch, *t), x.dtype).as_complex(x.is_complex) for t in shapes)
    return s, u.parts, vh.parts, good


def _orthogonal(
    x: Numbers, whole: bool, vectors: bool
) -> tuple[Numbers, list[Numbers], list[Numbers], Value]:
    """The same of scaled matrices. The columns of x, turned until they are orthogonal, are
    u diag(s): their factors Q and R are u and s up to signs, with columns of u where s is 0. More
    columns than rows take more steps.
    """
    b, (m, n) = x.b, x.shape[-2:]
    k = least(m, n)
    half = _half(n)
    size = simplify(half * 2)
    eps = float(np.finfo(x.dtype.numpy).eps)
    count = el.cast(b, full(b, x.shape[:-2], m, i64), x.dtype)
    near = el.mul(b, el.add(b, el.sqrt(b, count), 4.0), eps)
    floor = eps / 16  # the largest part is 1 or more: what is smaller than this needs no direction
    given = [_padded(x.adjoint(), size)]
    if vectors:
        turned = identity(b, (*x.shape[:-2], size, n), x.dtype)
        given.append(turned.as_complex(x.is_complex))

    def step(given: Sequence[Numbers], pairs: _Pairs) -> tuple[list[Numbers], Value]:
        rows, b = given[0], given[0].b
        top, bottom = pairs.upper(rows), pairs.lower(rows)
        p, q = top.squared().sum(-1), bottom.squared().sum(-1)
        r = (top * bottom.conj()).sum(-1)
        below = p.sqrt().at_least(floor) * q.sqrt().at_least(floor)
        rotation = _Rotation.of(pairs, p, q, r)
        met = reduce_max(b, r.abs().over(below).value, -1)
        return [rotation.turn(g) for g in given], met

    ended, found = _sweeps(b, half, near, given, step)
    found = [_first_rows(f, n) for f in found]
    s = found[0].squared().sum(-1).sqrt()
    order = argsort(b, s.value, -1, descending=True)
    s = Numbers(b, (slice_axis(b, take_along_axis(b, s.value, order, -1), -1, 0, k),))
    if not vectors:
        return s, [], [], ended
    rows, vh = (_rows_at(f, order) for f in found)
    packed, taus = reflections(b, rows.adjoint().parts)
    u = Numbers(b, product_of_reflections(b, packed, taus, m if whole else k))
    one = full(b, s.shape, 1.0, s.dtype)
    signs = Numbers(b, (el.copysign(b, one, _diagonal(Numbers(b, packed).real).value),))
    if whole and not equal(k, m):
        rest = Numbers(b, (full(b, (*s.shape[:-1], simplify(m - k)), 1.0, s.dtype),))
        signs = _both(signs, rest)
    return s, [u * signs.as_row()], [vh if whole else _first_rows(vh, k)], ended
