"""Linear systems by triangular matrices, and Cholesky's decomposition.

    triangular_solve    x with op(a) @ x = y, or x @ op(a) = y, of a lower or an upper triangle
    cholesky            the lower l with l @ l^T = a, or the upper u with u^T @ u = a

Rows (columns, of a decomposition) follow from those before by a loop. Large matrices go by blocks:
what is known by then is taken off the rest by one product for each block, which does nearly all of
the work (Golub and Van Loan, Matrix Computations, 3.1 and 4.2). Matrices stand in the last two
dims, the dims before are a batch. f16 and bf16 are computed in f32.
"""

from __future__ import annotations

from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal
from ferrule.ops import elementary as el
from ferrule.ops.contract import matmul
from ferrule.ops.create import full, iota
from ferrule.ops.join import concat
from ferrule.ops.loop import loop
from ferrule.ops.op import check_kind
from ferrule.ops.reduce import reduce_sum
from ferrule.ops.slices import slice_axis
from ferrule.ops.view import squeeze, transpose, unsqueeze

BLOCK = 32  # rows that a loop makes one by one


def triangular_solve(
    b: GraphBuilder,
    a: Value,
    y: Value,
    left_side: bool = True,
    lower: bool = True,
    unit_diagonal: bool = False,
    transpose_a: bool = False,
) -> Value:
    """x with op(a) @ x = y, or x @ op(a) = y unless `left_side`, where op transposes a if
    `transpose_a`. Of a[batch.., n, n] one triangle is read, the `lower` or the upper one, and of a
    `unit_diagonal` not even the diagonal. Raises CompileError for what does not fit.
    """
    check_kind("triangular_solve", a.type, "f")
    n = y.shape[-2 if left_side else -1] if y.rank > 1 else None
    fits = a.rank == y.rank > 1 and a.dtype == y.dtype and n is not None
    sizes = (*y.shape[:-2], n, n)
    if not fits or not all(equal(s, t) for s, t in zip(a.shape, sizes) if t is not None):
        raise CompileError(f"triangular_solve of {a.type} and {y.type}: they do not fit")
    wide = a.dtype.compute
    m, rhs = el.cast(b, a, wide), el.cast(b, y, wide)
    if not left_side:  # the transposed of both sides
        rhs = _turned(b, rhs)
    turns = transpose_a == left_side
    m = _turned(b, m) if turns else m
    x = _solved(b, m, rhs, lower != turns, unit_diagonal)
    return el.cast(b, x if left_side else _turned(b, x), y.dtype)


def _turned(b: GraphBuilder, x: Value) -> Value:
    return transpose(b, x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _blocks(n: Expr) -> list[tuple[int, int]]:
    """(start, stop) of each block of rows, where there are several."""
    if not n.is_const or n.value <= BLOCK:
        return []
    size = int(n.value)
    return [(k, min(k + BLOCK, size)) for k in range(0, size, BLOCK)]


def _part(b: GraphBuilder, m: Value, rows: tuple[int, int], columns: tuple[int, int]) -> Value:
    return slice_axis(b, slice_axis(b, m, -2, *rows), -1, *columns)


def _solved(b: GraphBuilder, m: Value, y: Value, low: bool, unit: bool) -> Value:
    """x with m @ x = y, of a lower or an upper triangle."""
    blocks = _blocks(m.shape[-1])
    if not blocks:
        return _rows(b, m, y, low, unit)
    found: list[Value] = []
    for start, stop in blocks if low else blocks[::-1]:
        rest = slice_axis(b, y, -2, start, stop)
        if found:
            known = (0, start) if low else (stop, blocks[-1][1])
            x = concat(b, found, -2)
            rest = el.sub(b, rest, matmul(b, _part(b, m, (start, stop), known), x))
        rows = _rows(b, _part(b, m, (start, stop), (start, stop)), rest, low, unit)
        found = [*found, rows] if low else [rows, *found]
    return concat(b, found, -2)


def _first(b: GraphBuilder, x: Value) -> Value:
    """The rows of matrices as the first dim."""
    return transpose(b, x, (x.rank - 2, *range(x.rank - 2), x.rank - 1))


def _rows(b: GraphBuilder, m: Value, y: Value, low: bool, unit: bool) -> Value:
    """The same, one row after another: each is known from those before."""
    n = m.shape[-1]

    def body(
        inner: GraphBuilder, states: tuple[Value, ...], rows: tuple[Value, ...]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        (x,), (row, rest, at) = states, rows
        places = iota(inner, (n,), 0)
        before = el.lt(inner, places, at) if low else el.gt(inner, places, at)
        here = el.eq(inner, places, at)
        known = el.select(inner, before, row, 0.0)
        new = el.sub(
            inner, unsqueeze(inner, rest, -2), matmul(inner, unsqueeze(inner, known, -2), x)
        )
        if not unit:
            pivot = reduce_sum(inner, el.select(inner, here, row, 0.0), -1)
            new = el.div(inner, new, unsqueeze(inner, unsqueeze(inner, pivot, -1), -1))
        after = el.select(inner, unsqueeze(inner, here, -1), new, x)
        return (after,), (squeeze(inner, new, (-2,)),)

    start = full(b, y.shape, 0.0, y.dtype)
    over = _first(b, m), _first(b, y), iota(b, (n,), 0)
    _, found = loop(b, body, n, (start,), over, reverse=not low)
    return transpose(b, found, (*range(1, found.rank - 1), 0, found.rank - 1))


def cholesky(b: GraphBuilder, a: Value, lower: bool = True) -> Value:
    """The lower triangle l with l @ l^T = a, or the upper u with u^T @ u = a, of symmetric matrices
    that are positive definite; 0 in the other triangle, and NaN from where one is not. The same
    triangle of `a` is read.
    """
    check_kind("cholesky", a.type, "f")
    if a.rank < 2 or not equal(a.shape[-1], a.shape[-2]):
        raise CompileError(f"cholesky of {a.type}: these are no square matrices")
    m = el.cast(b, a, a.dtype.compute)
    found = _decomposed(b, m if lower else _turned(b, m))
    return el.cast(b, found if lower else _turned(b, found), a.dtype)


def _decomposed(b: GraphBuilder, m: Value) -> Value:
    blocks = _blocks(m.shape[-1])
    if not blocks:
        return _columns(b, m)
    size, columns = blocks[-1][1], list[Value]()
    for start, stop in blocks:  # m is what is left from (start, start) on
        width, left = stop - start, size - start
        top = _columns(b, _part(b, m, (0, width), (0, width)))
        parts = [top]
        if left > width:
            below = _part(b, m, (width, left), (0, width))
            below = triangular_solve(b, top, below, left_side=False, transpose_a=True)
            parts.append(below)
            rest = _part(b, m, (width, left), (width, left))
            m = el.sub(b, rest, matmul(b, below, _turned(b, below)))
        if start:
            parts.insert(0, full(b, (*m.shape[:-2], start, width), 0.0, m.dtype))
        columns.append(concat(b, parts, -2))
    return concat(b, columns, -1)


def _columns(b: GraphBuilder, m: Value) -> Value:
    """The decomposition one column after another: each is taken off what is left of the matrix."""
    n = m.shape[-1]

    def body(
        inner: GraphBuilder, states: tuple[Value, ...], rows: tuple[Value, ...]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        (left,), (at,) = states, rows
        places = iota(inner, (n,), 0)
        here = el.eq(inner, places, at)
        column = reduce_sum(inner, el.select(inner, here, left, 0.0), -1)
        pivot = reduce_sum(inner, el.select(inner, here, column, 0.0), -1, keepdims=True)
        column = el.div(inner, column, el.sqrt(inner, pivot))
        column = el.select(inner, el.ge(inner, places, at), column, 0.0)
        across = el.mul(inner, unsqueeze(inner, column, -1), unsqueeze(inner, column, -2))
        return (el.sub(inner, left, across),), (column,)

    _, found = loop(b, body, n, (m,), (iota(b, (n,), 0),))
    return transpose(b, found, (*range(1, found.rank), 0))
