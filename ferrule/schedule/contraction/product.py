"""Products: a contraction of a kernel by panels of columns, and its tiles.

    tile     acc[r, u, l] += left(row r, k) * right(k, column n)     n = panel * NR + u*W + l

The left factor is an expression, read one element at a time. What guards it (a convolution's
padding) is tested once for all rows of a tile where no row is in it; a row of its own is selected.
Where few terms share a guard, tiles away from the borders go through loops without it (`Split`).
Where a guard ends the rows (causal attention), so do the loops (`Cut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ferrule.base.dtype import f64
from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    conjuncts,
    const,
    fconst,
    le,
    lt,
    product,
    select,
    substitute,
)  # fmt: skip
from ferrule.ir.kernel import Item, Kind
from ferrule.ir.simplify import coefficient, prove, simplify
from ferrule.ir.system import Stage
from ferrule.schedule.contraction.bounds import NO_LIMITS, Limits, implied
from ferrule.schedule.contraction.contraction import Contraction
from ferrule.schedule.contraction.dims import is_right, left_guards
from ferrule.schedule.contraction.flat import flat
from ferrule.schedule.contraction.microkernel import Cut, Split, Tile, write_tile
from ferrule.schedule.contraction.order import in_order, shares_few_terms, unrolls
from ferrule.schedule.contraction.pieces import Pieces
from ferrule.schedule.contraction.right import Right, right_factor
from ferrule.schedule.contraction.rows import Rows
from ferrule.schedule.sums import is_sum
from ferrule.target.machine import Machine


@dataclass(frozen=True)
class Product:
    """What all tiles of a contraction share: the `machine`, the stage and its roles, the folded
    axes `k` in their order, the right factor, the number of panels of columns, how many vectors of
    how many lanes (`width`) one has, how many terms a step takes, and where axes end (`ends`).
    """

    machine: Machine
    stage: Stage
    roles: ContractionDims
    k: tuple[Expr, ...]
    right: Right
    panels: Expr
    vectors: int
    width: int
    unroll: int
    ends: Limits

    @property
    def columns(self) -> Expr:
        """The number of columns."""
        return simplify(product([a.extent for a in self.roles.n]))

    def pieces(self, tiles: Sequence[Tile], items: tuple[Item, ...]) -> Pieces:
        """`items`, which are made of `tiles`, with what these bring."""
        last = self.k[-1]
        kinds = {last.name: Kind.UNROLL} if unrolls(last, self.roles, self.machine.products) else {}
        for t in tiles:
            kinds |= t.kinds
        totals = tuple(t.total for t in tiles if t.total is not None)
        packings = () if self.right.packing is None else (self.right.packing,)
        return Pieces(items, tuple(t.acc for t in tiles), totals, kinds, packings)

    def written(self, tile: Tile, epilogue: list[Stage]) -> tuple[Item, ...]:
        """The stages that write a tile through its epilogue."""
        t, columns = tile, flat(self.roles.n, tile.n)
        return tuple(write_tile(t.st, epilogue, t.rows, columns, t.wide, t.acc, t.inside))


def product_of(
    c: Contraction, st: Stage, roles: ContractionDims, pack: str, ends: Limits = NO_LIMITS
) -> Product:
    """A contraction of `c`; its right factor is packed into panels called `pack`, if it is."""
    machine = c.target.machine
    n, per = simplify(product([a.extent for a in roles.n])), c.blocking.vectors * c.width
    panels = simplify((n + (per - 1)) // per)
    k = in_order(st, roles, machine.products)
    guard = both(*(g for g in conjuncts(st.compute.where) if is_right(g, roles)))
    right = right_factor(c, roles, guard, k, panels, pack)
    return Product(
        machine, st, roles, k, right, panels,
        c.blocking.vectors, c.width, c.blocking.unroll, ends,
    )  # fmt: skip


def tile_of(p: Product, rows: Rows, panel: Expr, tag: int, full: bool = False) -> Tile:
    """The accumulators of one tile and what is added to them: these rows, the columns of that
    panel, which is `full` if n does not end in it. Names end with `tag`.
    """
    lanes, units = axis(f"l{tag}", p.width), axis(f"u{tag}", p.vectors)
    wide = (rows.axis, units, lanes)
    shape = tuple(a.extent for a in wide)
    acc = Buf(f"acc{tag}", shape, p.stage.compute.values[0].dtype, Space.REG)
    total = Buf(f"total{tag}", shape, f64, Space.SCRATCH) if is_sum(p.stage) else None
    terms = axis(f"t{tag}", p.unroll) if p.unroll > 1 else None
    within = simplify(units * p.width + lanes)
    n = simplify(panel * (p.vectors * p.width) + within)
    inside = both() if full else lt(n, p.columns)
    left, right = _left_at(p, rows, n, inside), p.right.at(panel, within, n, inside)
    where, term = _where_at(p, rows, n), p.roles.term(left, right)
    tile = Tile(
        p.machine, p.stage, rows, wide, acc, n, inside, term, where, terms=terms, total=total
    )
    return _guarded(tile, p, left, right)


def _left_at(p: Product, rows: Rows, n: Expr, inside: Expr) -> Expr:
    """The left factor in these rows; if lanes run along it too, in column `n`."""
    left = simplify(substitute(p.roles.left, rows.clamped | flat(p.roles.n, n)))
    if set(p.roles.n) & p.roles.left.axes and not prove(inside):
        return select(inside, left, fconst(0.0, left.dtype))
    return left


def _where_at(p: Product, rows: Rows, n: Expr) -> Expr | None:
    """The guards that hold for single columns, but for those that a packed panel has zeros for."""
    packed = p.right.packing is not None
    kept = [
        g
        for g in conjuncts(p.stage.compute.where)
        if g.axes & set(p.roles.n) and not (packed and is_right(g, p.roles))
    ]
    place = rows.clamped | flat(p.roles.n, n)
    return simplify(both(*(substitute(g, place) for g in kept))) if kept else None


def _guarded(tile: Tile, p: Product, left: Expr, right: Expr) -> Tile:
    """`tile`, whose terms are of these factors, with the guards of the left one."""
    rows, guards = tile.rows, left_guards(p.stage, p.roles)
    guard = simplify(substitute(both(*guards), rows.clamped))
    if guard is both():
        return tile
    cut = split = None
    if all(implied(g, p.ends) for g in guards) and len(p.k) == 1:
        k = p.k[0]
        cut = Cut(k, rows.at(p.ends[k], 0), rows.at(p.ends[k], -1), tile.term, tile.where)
    if shares_few_terms(p.stage, p.roles, p.machine.products):
        split = _split(tile, guard, p.k)
    each = both(*(g for g in conjuncts(guard) if rows.axis in g.axes))
    if each is not both():
        left = select(each, left, fconst(0.0, left.dtype))
    whole = [g for g in conjuncts(guard) if rows.axis not in g.axes]
    where = both(*conjuncts(tile.where), *whole)
    return replace(
        tile,
        term=p.roles.term(left, right),
        where=None if where is both() else where,
        split=split,
        cut=cut,
    )


def _split(tile: Tile, guard: Expr, k: tuple[Expr, ...]) -> Split | None:
    """Tiles told apart by whether `guard` holds for all rows and all points of `k`. None where that
    can't be told.
    """
    row = tile.rows.axis
    straight = _everywhere(conjuncts(guard), (*k, row))
    if straight is not None:
        return Split(both(*dict.fromkeys(straight)), tile.term, tile.where)
    each = _everywhere(conjuncts(guard), k)
    if each is None:
        return None
    points = [const(r) for r in range(row.extent.attr)]
    inside = [simplify(substitute(g, {row: r})) for g in each for r in points]
    return Split(both(*dict.fromkeys(inside)), tile.term, tile.where)


def _everywhere(guards: tuple[Expr, ...], k: tuple[Expr, ...]) -> tuple[Expr, ...] | None:
    """Conditions that hold where the comparisons `guards` do for all points of `k`; None where that
    can't be told.
    """
    out: list[Expr] = []
    for g in guards:
        if g.op not in ("lt", "le"):
            return None
        least = g.args[1] - g.args[0]
        for a in k:
            step = coefficient(least, a)
            if step is None or not step.is_const:
                return None
            least = substitute(least, {a: ZERO if step.attr >= 0 else a.extent - 1})
        out.append(simplify(le(ONE if g.op == "lt" else ZERO, least)))
    return tuple(out)
