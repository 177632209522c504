"""Blocks: the kernel of a product whose results are stored by tiles.

    for (batch, m_b, n_o):                        the grid: blocks of rows by panels of columns
        for k_o, m_o:                             a panel of B, KC deep, stays near for a block
            acc[r, u, l] = 0                      MR x NR accumulators in registers
            for k_i: acc[r, u, l] += A[m_b, m_o*MR + r, k] * B[n_o, k, u*W + l]
            part[m_o, r, u, l] += acc[r, u, l]
        for m_o: out[..] = epilogue(part[..])     guarded at the edges

A sum that is not deep has no parts: its tiles are written as soon as they are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ferrule.base.dtype import f64
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import (
    ONE,
    Buf,
    Expr,
    Space,
    axis,
    both,
    call,
    cast,
    const,
    eq,
    fconst,
    le,
    load,
    select,
)  # fmt: skip
from ferrule.ir.kernel import Item, SerialLoop
from ferrule.ir.simplify import prove, simplify
from ferrule.ir.system import Access, Compute, Stage
from ferrule.schedule.contraction.blocking import tiles_to_share
from ferrule.schedule.contraction.contraction import Contraction
from ferrule.schedule.contraction.dims import points
from ferrule.schedule.contraction.flat import flat_index
from ferrule.schedule.contraction.microkernel import Terms, Tile, either
from ferrule.schedule.contraction.order import Parts, parts
from ferrule.schedule.contraction.packing import Packed
from ferrule.schedule.contraction.pieces import Pieces
from ferrule.schedule.contraction.prefetch import hints_of
from ferrule.schedule.contraction.product import Product, product_of, tile_of
from ferrule.schedule.sums import is_sum

MANY_PARTS = 64  # of a sum, so many that what they come to is kept in f64


def block_kernel(c: Contraction) -> Packed:
    """The kernel of tiles, whose first stage is a product that each point of the grid has its own
    element of.
    """
    p = product_of(c, c.body[0], c.roles, "pack0")
    rows = _row_blocks(c, p.panels)
    steps = parts(p.k, c.blocking.depth)
    unknown = not c.tiling.count.is_const
    if not steps.outer or (unknown and rows.per == 1):
        return _at_once(c, p, rows, steps.whole)
    return _in_parts(c, p, rows, steps)


@dataclass(frozen=True)
class _RowBlocks:
    """Tiles of rows in blocks of `per`, as a rule of `expected`: the axis of blocks, that of the
    tiles in one, and the number of a tile among all.
    """

    block: Expr
    tile: Expr
    number: Expr
    per: int
    expected: int


def _row_blocks(c: Contraction, panels: Expr) -> _RowBlocks:
    """The blocks of rows that pass by so many panels of columns."""
    tiles, block = c.tiling.count, c.blocking
    per = max(1, block.block_rows // block.rows)
    expected = min(per, max(1, estimate(tiles)))
    if tiles.is_const or estimate(panels) < c.target.machine.products.many_panels:
        per = expected
    if tiles.is_const and tiles.attr:
        roles = c.roles
        others = points((*roles.batch, axis("no", panels)))
        work = points((*roles.m, *roles.n, *roles.k))
        most = tiles_to_share(tiles.attr, others, work, points(roles.k), block, c.target)
        per = min(per, most)
        per = expected = -(-tiles.attr // -(-tiles.attr // per))
    outer = axis("mb", simplify((tiles + (per - 1)) // per))
    inner = axis("mo", simplify(call("min", const(per), tiles - outer * per)))
    return _RowBlocks(outer, inner, simplify(outer * per + inner), per, expected)


def _tiles(c: Contraction, p: Product, number: Expr, panel: Expr) -> list[Tile]:
    """What the tile with that number may be, in that panel of columns."""
    alternatives = c.tiling.alternatives(number)
    return [tile_of(p, rows, panel, tag) for tag, rows in enumerate(alternatives)]


def _sum(p: Product, tile: Tile, terms: Terms, rows: _RowBlocks) -> tuple[Item, ...]:
    """The sum of a tile over these terms, and what it asks for meanwhile."""
    if tile.rows.axis.extent is ONE:
        return tile.items(terms.k, terms.split)
    packed = frozenset() if p.right.packing is None else frozenset({p.right.packing.buf})
    hints = hints_of(tile, terms, packed, len(p.k), rows.tile, rows.expected)
    return tile.items(terms.k, terms.split, hints)


def _at_once(c: Contraction, p: Product, rows: _RowBlocks, k: tuple[Expr, ...]) -> Packed:
    """The kernel whose tiles take all terms, over the loops `k`, and are then written."""
    panel, epilogue = axis("no", p.panels), c.body[1:]
    tiles = _tiles(c, p, rows.number, panel)
    made = [(t, (*_sum(p, t, Terms(k, {}), rows), *p.written(t, epilogue))) for t in tiles]
    items = (SerialLoop(rows.tile, either(made)),)
    return p.pieces(tiles, items).kernel(c.kernel.name, (*c.roles.batch, rows.block, panel))


def _in_parts(c: Contraction, p: Product, rows: _RowBlocks, steps: Parts) -> Packed:
    """The kernel that takes a part of the terms for all tiles of a block and of a group of panels,
    then the next part. Between parts the sums lie in scratch, [panel, tile, r, u, l]. They are 0
    before the first part, which writes them; where there may be none, they are written before.
    """
    several = min(c.blocking.panels, max(1, estimate(p.panels)))
    group = axis("nb", simplify((p.panels + (several - 1)) // several))
    panel = axis("no", simplify(call("min", const(several), p.panels - group * several)))
    tiles = _tiles(c, p, rows.number, simplify(group * several + panel))
    part = _part(p, tiles[0], steps, (several, rows.per))
    some = all(prove(le(ONE, a.extent)) for a in steps.outer)
    first = both(*(eq(a, 0) for a in steps.outer)) if some else None
    terms, epilogue = Terms(steps.inner, steps.split, panel), c.body[1:]
    starts, sums, ends = [], [], []
    for t in tiles:
        place = (panel, rows.tile, *t.wide)
        starts.append((t, (_zero(part, place, t),)))
        sums.append((t, (*_sum(p, t, terms, rows), _kept(part, place, t, first))))
        ends.append((t, (_again(part, place, t), *p.written(t, epilogue))))

    def for_tiles(made: Sequence[tuple[Tile, tuple[Item, ...]]]) -> tuple[Item, ...]:
        return (SerialLoop(panel, (SerialLoop(rows.tile, either(made)),)),)

    loops = for_tiles(sums)
    for a in reversed(steps.outer):
        loops = (SerialLoop(a, loops),)
    before = () if some else for_tiles(starts)
    pieces = p.pieces(tiles, (*before, *loops, *for_tiles(ends)))
    pieces += Pieces(scratch=(part,))
    return pieces.kernel(c.kernel.name, (*c.roles.batch, rows.block, group))


def _part(p: Product, tile: Tile, steps: Parts, tiles: tuple[int, ...]) -> Buf:
    """The scratch for the sums of so many tiles between parts: in f64 where parts are many."""
    many = is_sum(p.stage) and estimate(flat_index(steps.outer)[1]) > MANY_PARTS
    shape = (*(const(n) for n in tiles), *tile.acc.shape)
    return Buf("part", shape, f64 if many else tile.acc.dtype, Space.SCRATCH)


def _zero(part: Buf, place: tuple[Expr, ...], tile: Tile) -> Stage:
    """The stage that begins a tile's sums."""
    value = fconst(0.0, part.dtype)
    return Stage("start", (Access(part, place),), Compute(tile.wide, (value,)))


def _kept(part: Buf, place: tuple[Expr, ...], tile: Tile, first: Expr | None) -> Stage:
    """The stage that adds a tile's accumulators to `part`, which is 0 at the `first` if there is a
    condition for that.
    """
    before = load(part, *place)
    if first is not None:
        before = select(first, fconst(0.0, part.dtype), before)
    so_far = before + cast(load(tile.acc, *tile.wide), part.dtype)
    return Stage("keep", (Access(part, place),), Compute(tile.wide, (so_far,)))


def _again(part: Buf, place: tuple[Expr, ...], tile: Tile) -> Stage:
    """The stage that loads a tile's accumulators from `part`."""
    value = cast(load(part, *place), tile.acc.dtype)
    return Stage("again", (Access(tile.acc, tile.wide),), Compute(tile.wide, (value,)))
