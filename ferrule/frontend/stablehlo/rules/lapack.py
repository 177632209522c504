"""What JAX calls of LAPACK on a CPU: factors, eigenvalues and singular values of matrices, systems
of tridiagonal ones. LAPACK's functions tell what their results hold.
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
from ferrule.ir.expr import as_index
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal
from ferrule.ops.slices import least

_UNIT, _LEFT, _LOWER, _PLAIN, _ADJOINT, _ALL, _VECTORS = map(ord, "ULLNCAV")


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


# ---- factors -------------------------------------------------------------------------------------


def _joined(parts: Sequence[Value]) -> Any:
    """A tensor, or two as one of complex numbers."""
    return Complex(*parts) if len(parts) == 2 else parts[0]


def _getrf(cx: Context, a: Any) -> Any:
    """(L below the diagonal and U, pivots from 1, the first place from 1 where U has a zero)."""
    b = cx.b
    x, pivots, place = ops.lu(b, flat([a]))
    none = ops.eq(b, place, ops.full(b, (), least(*a.shape[-2:]), i32))
    return _joined(x), ops.add(b, pivots, 1), ops.select(b, none, 0, ops.add(b, place, 1))


def _geqrf(cx: Context, a: Any) -> Any:
    """(R and below it the reflections' vectors without their 1, the reflections' factors)."""
    return tuple(_joined(x) for x in ops.reflections(cx.b, flat([a])))


def _orgqr(cx: Context, a: Any, taus: Any) -> Any:
    """The product of reflections, of which as many columns as `a` has."""
    return _joined(ops.product_of_reflections(cx.b, flat([a]), flat([taus]), a.shape[-1]))


# ---- values and vectors --------------------------------------------------------------------------


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


def _geev(cx: Context, a: Any) -> Any:
    """(eigenvalues, of real matrices as two tensors, left and right vectors, 0 where there are
    such); zeros for vectors that are not asked for.
    """
    wanted = [_config(cx, f"compute_{side}") == _VECTORS for side in ("left", "right")]
    w, *sides, good = ops.eig(cx.b, flat([a]), *wanted)
    none = ops.full(cx.b, a.shape, 0, w[0].dtype)
    values = [Complex(*w)] if isinstance(a, Complex) else w
    return *values, *(Complex(*(s or (none, none))) for s in sides), _info(cx, good)


def _gees(cx: Context, a: Any) -> Any:
    """(T, Z, eigenvalues, of real matrices as two tensors, how many were sorted, 0 where there are
    such).
    """
    if _config(cx, "sort") != _PLAIN:
        raise UnsupportedError("Schur's form with sorted eigenvalues")
    t, z, w, good = ops.schur(cx.b, flat([a]))
    values = [Complex(*w)] if isinstance(a, Complex) else w
    none = ops.full(cx.b, good.shape, 0, i32)
    return _joined(t), _joined(z), *values, none, _info(cx, good)


def _gehrd(cx: Context, a: Any) -> Any:
    """(H and below its subdiagonal the reflections' vectors without their 1, the reflections'
    factors, 0) of whole matrices.
    """
    n = a.shape[-1]
    if _config(cx, "low") != 1 or not equal(n, as_index(_config(cx, "high"))):
        raise UnsupportedError("Hessenberg's form of a part of a matrix")
    h, taus = ops.hessenberg(cx.b, flat([a]))
    return _joined(h), _joined(taus), ops.full(cx.b, a.shape[:-2], 0, i32)


# ---- tridiagonal systems -------------------------------------------------------------------------


def _gtsv(cx: Context, lower: Any, diagonal: Any, upper: Any, y: Any) -> Any:
    """(the diagonals as they were, x, 1 where a matrix is singular) of systems T x = y, by
    elimination that exchanges neighbouring rows where the lower one begins with a larger number.
    """
    b, given = cx.b, (lower, diagonal, upper)
    if any(isinstance(v, Complex) for v in given):
        raise UnsupportedError("it is not supported for complex numbers")
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
          "gesvd": _gesdd, "geev": _geev, "gees": _gees, "gehrd": _gehrd}  # fmt: skip
for _name, _build in _CALLS.items():
    CUSTOM_CALLS.update(dict.fromkeys([f"lapack_{kind}{_name}_ffi" for kind in "sdcz"], _build))
