"""What JAX calls of LAPACK on a CPU, of real numbers: factors by columns, and systems by them.

A step of a loop makes one column and takes it off the columns that follow. Sources: Golub and Van
Loan, Matrix Computations, 3.4 (LU with partial pivoting) and 5.2 (Householder's QR); LAPACK's
getrf, geqrf, orgqr and gtsv for what their results hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.rules.control import CUSTOM_CALLS
from ferrule.frontend.stablehlo.rules.linalg import cholesky, real, triangular
from ferrule.frontend.stablehlo.table import Complex, Context
from ferrule.ir.expr import ONE
from ferrule.ir.graph import GraphBuilder, Value

_UNIT, _LEFT, _LOWER, _PLAIN, _ADJOINT = map(ord, "ULLNC")


def _config(cx: Context, name: str) -> int:
    """A letter or number of the call."""
    return int(cx.attr("backend_config")[name])


def _potrf(cx: Context, a: Any) -> Any:
    """(the factor, 1 where a matrix is not positive definite)."""
    b = cx.b
    x = cholesky(b, a, _config(cx, "uplo") == _LOWER)
    bad = ops.reduce_any(b, ops.isnan(b, real(x)), (-2, -1))
    return x, ops.cast(b, bad, i32)


def _trsm(cx: Context, a: Any, y: Any) -> Any:
    how = _config(cx, "trans_x")
    return triangular(
        cx.b, a, y, _config(cx, "side") == _LEFT, _config(cx, "uplo") == _LOWER,
        how != _PLAIN, how == _ADJOINT, _config(cx, "diag") == _UNIT,
    )  # fmt: skip


# ---- columns -------------------------------------------------------------------------------------


class _Step:
    """A step of a loop over the columns of x[batch.., rows, columns]: column `i`."""

    def __init__(self, b: GraphBuilder, shape: Sequence[Any], i: Value) -> None:
        self.b, self.i, self.rank = b, i, len(shape)
        self.rows = ops.iota(b, (shape[-2], 1), 0)
        self.columns = ops.iota(b, (1, shape[-1]), 1)

    def along(self, x: Value, axis: int) -> Value:
        """Row or column `i` of x, of size 1."""
        starts = [ops.full(self.b, (), 0, self.i.dtype)] * x.rank
        starts[axis] = self.i
        sizes = list(x.shape)
        sizes[axis] = ONE
        return ops.dynamic_slice(self.b, x, starts, sizes)

    def above(self, x: Value, places: Value) -> Value:
        """x where places are greater than `i`, else 0."""
        return ops.select(self.b, ops.gt(self.b, places, self.i), x, 0.0)

    def total(self, x: Value) -> Value:
        """The sum of each column."""
        return ops.reduce_sum(self.b, x, (-2,), True)

    def diagonal(self, x: Value) -> Value:
        """x in row `i`, else 0."""
        return ops.select(self.b, ops.eq(self.b, self.rows, self.i), x, 0.0)

    def put(self, x: Value, column: Value) -> Value:
        """x with this column in its place."""
        return ops.select(self.b, ops.eq(self.b, self.columns, self.i), column, x)


def _plain(b: GraphBuilder, x: Value) -> Value:
    """x[batch.., 1, 1] as [batch..]."""
    return ops.reshape(b, x, x.shape[:-2])


def _last(b: GraphBuilder, x: Value) -> Value:
    """x[steps, batch..] as [batch.., steps]."""
    return ops.transpose(b, x, (*range(1, x.rank), 0))


def _real_only(x: Any) -> Value:
    if isinstance(x, Complex):
        raise UnsupportedError("it is not supported for complex numbers")
    found: Value = x
    return found


def _count(x: Value) -> int:
    """How many columns a factorisation of x goes through."""
    m, n = x.shape[-2:]
    if not (m.is_const and n.is_const):
        raise UnsupportedError("matrices whose sizes are not known")
    return min(int(m.attr), int(n.attr))


# ---- factors -------------------------------------------------------------------------------------


def _getrf(cx: Context, a: Any) -> Any:
    """(L below the diagonal and U, pivots from 1, the first place from 1 where U has a zero)."""
    b, x = cx.b, _real_only(a)
    k = _count(x)

    def body(b: GraphBuilder, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (x,) = states
        s = _Step(b, x.shape, rows[0])
        column = s.along(x, -1)
        size = ops.select(b, ops.ge(b, s.rows, s.i), ops.abs(b, column), -1.0)
        p = ops.argmax(b, size, -2, True)
        chosen = ops.eq(b, s.rows, p)
        pivots = s.total(ops.select(b, chosen, x, 0.0))
        x = ops.select(b, chosen, s.along(x, -2), x)
        x = ops.select(b, ops.eq(b, s.rows, s.i), pivots, x)
        column, pivot = s.along(x, -1), s.along(pivots, -1)
        zero = ops.eq(b, pivot, 0.0)
        factor = s.above(ops.div(b, column, ops.select(b, zero, 1.0, pivot)), s.rows)
        after = ops.sub(b, x, ops.mul(b, factor, s.above(pivots, s.columns)))
        below = ops.gt(b, s.rows, s.i)
        x = s.put(after, ops.select(b, below, factor, column))
        place = ops.select(b, zero, ops.add(b, s.i, 1), k + 1)
        return (x,), (ops.cast(b, _plain(b, p), i32), ops.cast(b, _plain(b, place), i32))

    x, pivots, places = _loop(b, body, x, k)
    first = ops.reduce_min(b, places, (-1,)) if k else ops.full(b, x.shape[:-2], 1, i32)
    info = ops.select(b, ops.gt(b, first, k), 0, first)
    return x, ops.add(b, pivots, 1), info


def _loop(b: GraphBuilder, body: Any, x: Value, k: int, reverse: bool = False) -> list[Value]:
    """x after all steps, and what each step tells, along a last dim."""
    last, *told = ops.loop(b, body, k, (x,), (ops.iota(b, (k,), 0),), reverse)
    return [ops.select_index(b, last, 0, 0 if reverse else k - 1), *(_last(b, t) for t in told)]


def _geqrf(cx: Context, a: Any) -> Any:
    """(R and below it the reflections' vectors without their 1, the reflections' factors)."""
    b, x = cx.b, _real_only(a)

    def body(b: GraphBuilder, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (x,) = states
        s = _Step(b, x.shape, rows[0])
        column = s.along(x, -1)
        alpha, rest = s.total(s.diagonal(column)), s.above(column, s.rows)
        squares = s.total(ops.mul(b, rest, rest))
        none = ops.eq(b, squares, 0.0)
        size = ops.sqrt(b, ops.add(b, ops.mul(b, alpha, alpha), squares))
        beta = ops.select(b, none, alpha, ops.neg(b, ops.copysign(b, size, alpha)))
        by = ops.select(b, none, 1.0, ops.sub(b, alpha, beta))
        under = ops.select(b, none, 1.0, beta)
        tau = ops.select(b, none, 0.0, ops.div(b, ops.sub(b, beta, alpha), under))
        here = ops.eq(b, s.rows, s.i)
        v = ops.select(b, here, 1.0, ops.div(b, rest, by))
        x = ops.sub(b, x, ops.mul(b, v, s.above(_reflected(s, v, x, tau), s.columns)))
        below = ops.select(b, ops.gt(b, s.rows, s.i), v, column)
        return (s.put(x, ops.select(b, here, beta, below)),), (_plain(b, tau),)

    return tuple(_loop(b, body, x, _count(x)))


def _reflected(s: _Step, v: Value, x: Value, tau: Value) -> Value:
    """What a reflection by v takes off the rows of x, by v's elements."""
    return ops.mul(s.b, tau, s.total(ops.mul(s.b, v, x)))


def _orgqr(cx: Context, a: Any, taus: Any) -> Any:
    """The product of reflections, of which as many columns as `a` has."""
    b, vectors = cx.b, _real_only(a)
    m, n = vectors.shape[-2:]
    k = int(taus.shape[-1].attr)

    def body(b: GraphBuilder, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (q,) = states
        s = _Step(b, vectors.shape, rows[0])
        tau = ops.reshape(b, s.along(taus, -1), (*q.shape[:-2], 1, 1))
        rest = s.above(s.along(vectors, -1), s.rows)
        v = ops.select(b, ops.eq(b, s.rows, s.i), 1.0, rest)
        return (ops.sub(b, q, ops.mul(b, v, _reflected(s, v, q, tau))),), ()

    one = ops.eq(b, ops.iota(b, (m, 1), 0), ops.iota(b, (1, n), 1))
    start = ops.expand(b, ops.cast(b, one, vectors.dtype), vectors.shape)
    return _loop(b, body, start, k, reverse=True)[0] if k else start


# ---- tridiagonal systems -------------------------------------------------------------------------


def _gtsv(cx: Context, lower: Any, diagonal: Any, upper: Any, y: Any) -> Any:
    """(the diagonals as they were, x, 1 where a matrix is singular) of systems T x = y, by
    elimination that exchanges neighbouring rows where the lower one begins with a larger number.
    """
    b, given = cx.b, [_real_only(v) for v in (lower, diagonal, upper)]
    bands = [ops.unsqueeze(b, ops.transpose(b, v, (v.rank - 1, *range(v.rank - 1))), v.rank)
             for v in given]  # fmt: skip
    right = ops.transpose(b, y, (y.rank - 2, *range(y.rank - 2), y.rank - 1))
    low, main, up = bands
    n, zero = main.shape[0], ops.full(b, main.shape[1:], 0, main.dtype)

    def down(b: GraphBuilder, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (d, u, r), (l, d1, u1, r1) = states, rows
        stays = ops.ge(b, ops.abs(b, d), ops.abs(b, l))
        by, top = ops.select(b, stays, d, l), ops.select(b, stays, l, d)
        f = ops.div(b, top, ops.select(b, ops.eq(b, by, 0.0), 1.0, by))
        pairs = ((u, d1), (zero, u1), (r, r1))
        kept = [ops.select(b, stays, one, other) for one, other in pairs]
        rest = [ops.select(b, stays, other, one) for one, other in pairs]
        after = [ops.sub(b, x, ops.mul(b, f, k)) for x, k in zip(rest, kept)]
        return after, (by, *kept)

    def back(b: GraphBuilder, states: Sequence[Value], rows: Sequence[Value]) -> Any:
        (x1, x2), (d, u, u2, r) = states, rows
        known = ops.add(b, ops.mul(b, u, x1), ops.mul(b, u2, x2))
        x = ops.div(b, ops.sub(b, r, known), d)
        return (x, x1), (x,)

    starts = [ops.select_index(b, v, 0, 0) for v in (main, up, right)]
    following = [_next(b, v) for v in (low, main, up, right)]
    eliminated = ops.loop(b, down, n, starts, following)[3:]
    none = ops.full(b, right.shape[1:], 0, right.dtype)
    x = ops.loop(b, back, n, (none, none), eliminated, reverse=True)[2]
    singular = ops.reduce_any(b, ops.eq(b, eliminated[0], 0.0), (0, -1))
    found = ops.transpose(b, x, (*range(1, x.rank - 1), 0, x.rank - 1))
    return (*given, found, ops.cast(b, singular, i32))


def _next(b: GraphBuilder, x: Value) -> Value:
    """The rows of x from the second on, and one of zeros."""
    moved = ops.slice(b, x, [1, *[0] * (x.rank - 1)], x.shape, [1] * x.rank)
    return ops.pad(b, moved, [0] * x.rank, [1, *[0] * (x.rank - 1)], 0.0)


_CALLS = {"potrf": _potrf, "trsm": _trsm, "getrf": _getrf, "geqrf": _geqrf, "orgqr": _orgqr,
          "ungqr": _orgqr, "gtsv": _gtsv}  # fmt: skip
for _name, _build in _CALLS.items():
    CUSTOM_CALLS.update(dict.fromkeys([f"lapack_{kind}{_name}_ffi" for kind in "sdcz"], _build))
