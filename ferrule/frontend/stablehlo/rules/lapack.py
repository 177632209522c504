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
from ferrule.frontend.stablehlo.rules.control import CUSTOM_CALLS, flat
from ferrule.frontend.stablehlo.rules.linalg import cholesky, real, triangular
from ferrule.frontend.stablehlo.rules.shapes import each
from ferrule.frontend.stablehlo.table import Complex, Context
from ferrule.ir.expr import ONE
from ferrule.ir.graph import GraphBuilder, Value

_UNIT, _LEFT, _LOWER, _PLAIN, _ADJOINT, _ALL = map(ord, "ULLNCA")


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
    return tuple(_joined(x) for x in ops.reflections(cx.b, flat([a])))


def _orgqr(cx: Context, a: Any, taus: Any) -> Any:
    """The product of reflections, of which as many columns as `a` has."""
    return _joined(ops.product_of_reflections(cx.b, flat([a]), flat([taus]), a.shape[-1]))


# ---- values and vectors --------------------------------------------------------------------------


def _joined(parts: Sequence[Value]) -> Any:
    """A tensor, or two as one of complex numbers."""
    return Complex(*parts) if len(parts) == 2 else parts[0]


def _info(cx: Context, good: Value) -> Value:
    """0 where all is well, else 1."""
    return ops.cast(cx.b, ops.logical_not(cx.b, good), i32)


def _unwritten(cx: Context, a: Any, i: int) -> Any:
    """Zeros for matrices that are not asked for, of `a`'s sizes where result `i` has none."""
    sizes = cx.result(i).shape
    assert sizes is not None
    shape = [own if n is None else n for n, own in zip(sizes, a.shape)]
    return each(a, lambda v: ops.full(cx.b, shape, 0, v.dtype))


def _syevd(cx: Context, a: Any) -> Any:
    """(eigenvectors as columns, eigenvalues in ascending order, 0 where there are such) of one
    triangle of `a`.
    """
    w, v, good = ops.eigh(cx.b, flat([a]), _config(cx, "uplo") == _LOWER)
    return _joined(v), w, _info(cx, good)


def _gesdd(cx: Context, a: Any) -> Any:
    """(`a`, singular values, u, v^H, 0 where there are such); zeros where no vectors are asked."""
    mode = _config(cx, "mode")
    s, *sides, good = ops.svd(cx.b, flat([a]), mode == _ALL, mode != _PLAIN)
    if mode == _PLAIN:
        u, vh = _unwritten(cx, a, 2), _unwritten(cx, a, 3)
    else:
        u, vh = map(_joined, sides)
    return a, s, u, vh, _info(cx, good)


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
          "ungqr": _orgqr, "gtsv": _gtsv, "syevd": _syevd, "heevd": _syevd, "gesdd": _gesdd,
          "gesvd": _gesdd}  # fmt: skip
for _name, _build in _CALLS.items():
    CUSTOM_CALLS.update(dict.fromkeys([f"lapack_{kind}{_name}_ffi" for kind in "sdcz"], _build))
