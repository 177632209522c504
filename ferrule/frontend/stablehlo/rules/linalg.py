"""Linear algebra, row by row: triangular systems and Cholesky's factors.

A step of the loops is one product of a row with all rows that are done: n rows take n steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.frontend.stablehlo.rules.complex import divide, pair, subtract, whole
from ferrule.frontend.stablehlo.rules.control import flat, like
from ferrule.frontend.stablehlo.rules.products import bilinear
from ferrule.frontend.stablehlo.rules.shapes import each
from ferrule.frontend.stablehlo.table import Complex, Context, rule
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Value

Matrix = Any  # a Value or Complex of shape [batch.., rows, columns]


def _turned(b: GraphBuilder, x: Matrix) -> Matrix:
    """The last two dims changed."""
    order = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    return each(x, lambda v: ops.transpose(b, v, order))


def _conjugate(b: GraphBuilder, x: Matrix) -> Matrix:
    return Complex(x.real, ops.neg(b, x.imag)) if isinstance(x, Complex) else x


def _times(b: GraphBuilder, x: Matrix, y: Matrix) -> Matrix:
    """The product of matrices."""
    return bilinear(b, x, y, ops.matmul)


def _minus(b: GraphBuilder, x: Matrix, y: Matrix) -> Matrix:
    if isinstance(x, Complex):
        return whole(subtract(pair(b, x), pair(b, y)))
    return ops.sub(b, x, y)


def _over(b: GraphBuilder, x: Matrix, y: Matrix) -> Matrix:
    if isinstance(x, Complex):
        y = each(y, lambda v: ops.expand(b, v, x.shape))
        return whole(divide(pair(b, x), pair(b, y)))
    return ops.div(b, x, y)


def _row(b: GraphBuilder, x: Matrix, i: Value) -> Matrix:
    """Row `i` of the matrices, [batch.., 1, columns]."""
    zero = ops.full(b, (), 0, i64)
    starts = [zero] * x.rank
    starts[-2] = i
    sizes = (*x.shape[:-2], 1, x.shape[-1])
    return each(x, lambda v: ops.dynamic_slice(b, v, starts, sizes))


def _with_row(b: GraphBuilder, x: Matrix, row: Matrix, i: Value) -> Matrix:
    zero = ops.full(b, (), 0, i64)
    starts = [zero] * x.rank
    starts[-2] = i
    pairs = zip(flat([x]), flat([row]), strict=True)
    return like([x], [ops.dynamic_update_slice(b, v, r, starts) for v, r in pairs])[0]


def _rows(b: GraphBuilder, count: Expr, first: Matrix, step: Any) -> Matrix:
    """`first` with each row as `step(builder, matrix, i)` makes it, one after another."""

    def body(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
        i, *own = states
        (x,) = like([first], own)
        return (ops.add(b, i, 1), *flat([_with_row(b, x, step(b, x, i), i)]))

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        return ops.lt(b, states[0], ops.full(b, (), count, i64))

    out = ops.while_loop(b, goes, body, (ops.full(b, (), 0, i64), *flat([first])))
    return like([first], out[1:])[0]


@rule("stablehlo.triangular_solve")
def _triangular_solve(cx: Context, a: Matrix, y: Matrix) -> Matrix:
    how = cx.attr("transpose_a")
    return triangular(
        cx.b, a, y, cx.attr("left_side"), cx.attr("lower"), how != "NO_TRANSPOSE",
        how == "ADJOINT", cx.attr("unit_diagonal"),
    )  # fmt: skip


def triangular(
    b: GraphBuilder, a: Matrix, y: Matrix, left: bool, lower: bool, transposes: bool,
    conjugates: bool, unit: bool,
) -> Matrix:  # fmt: skip
    """x with op(a) x = y, or x op(a) = y unless `left`, of one triangle of `a`. Of complex numbers
    every case is made L x = y, with L of lower triangles.
    """
    if isinstance(a, Value):
        return ops.triangular_solve(b, a, y, left, lower, unit, transposes)
    if transposes:
        a, lower = _turned(b, a), not lower
        a = _conjugate(b, a) if conjugates else a
    if not left:  # x a = y, so a^T x^T = y^T
        a, y, lower = _turned(b, a), _turned(b, y), not lower
    if not lower:
        a = each(a, lambda v: ops.reverse(b, v, (a.rank - 2, a.rank - 1)))
        y = each(y, lambda v: ops.reverse(b, v, (y.rank - 2,)))
    x = _solved(b, a, y, unit)
    if not lower:
        x = each(x, lambda v: ops.reverse(b, v, (x.rank - 2,)))
    return x if left else _turned(b, x)


def _solved(b: GraphBuilder, a: Matrix, y: Matrix, unit: bool) -> Matrix:
    """x with L x = y, for the lower triangles L of `a`, whose diagonal counts as 1 if `unit`."""
    below = each(a, lambda v: ops.tril(b, v, -1))

    def step(b: GraphBuilder, x: Matrix, i: Value) -> Matrix:
        rest = _minus(b, _row(b, y, i), _times(b, _row(b, below, i), x))
        return rest if unit else _over(b, rest, _element(b, _row(b, a, i), i))

    return _rows(b, y.shape[-2], _zeros(b, y), step)


def _zeros(b: GraphBuilder, x: Matrix) -> Matrix:
    return each(x, lambda v: ops.full(b, v.shape, 0, v.dtype))


def _element(b: GraphBuilder, row: Matrix, i: Value) -> Matrix:
    """Element `i` of the rows [batch.., 1, n], as [batch.., 1, 1]."""
    zero = ops.full(b, (), 0, i64)
    starts = [*[zero] * (row.rank - 1), i]
    return each(row, lambda v: ops.dynamic_slice(b, v, starts, (*v.shape[:-1], 1)))


@rule("stablehlo.cholesky")
def _cholesky(cx: Context, a: Matrix) -> Matrix:
    return cholesky(cx.b, a, cx.attr("lower"))


def cholesky(b: GraphBuilder, a: Matrix, lower: bool) -> Matrix:
    """L with L L^H = a, of its lower triangles; of the upper ones U with U^H U = a.

    The loop makes the rows of L^T: L_ij L_jj = a_ij - sum_k<j L_ik conj(L_jk).
    """
    if isinstance(a, Value):
        return ops.cholesky(b, a, lower)
    columns = _turned(b, a) if lower else _conjugate(b, a)

    def step(b: GraphBuilder, x: Matrix, i: Value) -> Matrix:
        others = _conjugate(b, _row(b, _turned(b, x), i))
        row = _minus(b, _row(b, columns, i), _times(b, others, x))
        root = ops.sqrt(b, _element(b, real(row), i))
        below = ops.ge(b, ops.iota(b, (row.shape[-1],), 0), i)
        return each(row, lambda v: ops.select(b, below, ops.div(b, v, root), 0.0))

    x = _rows(b, a.shape[-2], _zeros(b, a), step)
    return _turned(b, x) if lower else _conjugate(b, x)


def real(x: Matrix) -> Value:
    """The real part."""
    return x.real if isinstance(x, Complex) else x
