"""Hints: what a tile of a product asks for while it is computed.

    several tiles of a packed panel     what follows their part of it, each a share
    several tiles of the only panel     the rows of the next tile
    one tile                            what comes next in its panel
"""

from __future__ import annotations

from ferrule.ir.analysis.access import stride
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, Space, eq, loads, product, select, substitute
from ferrule.ir.kernel import Prefetch
from ferrule.ir.simplify import simplify
from ferrule.schedule.contraction.microkernel import Terms, Tile
from ferrule.target.machine import Machine


def hints_of(
    tile: Tile, terms: Terms, panels: frozenset[Buf], folded: int, row: Expr, rows: int
) -> tuple[Prefetch, ...]:
    """The hints of a tile, numbered `row` of `rows` that read the same part of one of the packed
    `panels`, at each of its terms; the sum is over so many `folded` axes.
    """
    inner, panel = terms.k, terms.panel
    packed = [ld for ld in loads(tile.term) if ld.attr in panels]
    depth = simplify(product([a.extent for a in inner]))
    if len(packed) != 1 or (depth.is_const and depth.attr < tile.machine.products.short_run):
        return ()
    here = substitute(packed[0], terms.split)
    if rows == 1:
        return panel_ahead(here, inner, tile.terms, tile.machine)
    shape = here.attr.shape
    if shape[-2 - folded] is ONE:
        return rows_ahead(tile, packed[0], inner, terms.split)
    width = shape[-1]
    skip = simplify(product([a.extent for a in inner]) * width)
    if panel is not None and panel.extent is not ONE:
        whole = simplify(product(shape[-1 - folded : -1]) * width)
        last = eq(panel, panel.extent - 1)
        skip = select(last, simplify(skip - whole * (panel.extent - 1)), whole)
    return ahead(here, inner, skip, row, rows)


def ahead(
    panel: Expr, inner: tuple[Expr, ...], skip: Expr, row: Expr, rows: int
) -> tuple[Prefetch, ...]:
    """Hints that spread over the `rows` tiles of a part of a packed panel, so that when the last is
    done the part `skip` elements further on is in cache.

    `panel` is the load of the panel's element in the first column, `inner` the part's axes.
    """
    start = substitute(panel, dict.fromkeys(inner, ZERO))
    step, depth = _progress(inner)
    width = panel.attr.shape[-1].value
    own = simplify((depth * width + (rows - 1)) // rows)
    place = simplify(skip + row * own + step * -(-width // rows))
    return (Prefetch(panel.attr, (*start.args[:-1], place)),)


def panel_ahead(
    panel: Expr, inner: tuple[Expr, ...], terms: Expr | None, machine: Machine
) -> tuple[Prefetch, ...]:
    """Hints at what the only tile of a packed panel reads soon; none where a step takes so many
    lines that hints at all of them cost more than they bring.
    """
    costs = machine.products
    several = 1 if terms is None else terms.extent.value
    if several * panel.attr.shape[-1].value * panel.dtype.size > costs.hints * machine.line:
        return ()
    start = substitute(panel, dict.fromkeys(inner, ZERO))
    step, _ = _progress(inner)
    place = simplify(step * panel.attr.shape[-1] + costs.ahead // panel.dtype.size)
    return (Prefetch(panel.attr, (*start.args[:-1], place)),)


def _progress(inner: tuple[Expr, ...]) -> tuple[Expr, Expr]:
    """How many terms the loops `inner` have done, and of how many."""
    step, depth = ZERO, ONE
    for a in reversed(inner):
        step, depth = step + a * depth, depth * a.extent
    return step, depth


def rows_ahead(
    tile: Tile, packed: Expr, inner: tuple[Expr, ...], split: dict[Expr, Expr]
) -> tuple[Prefetch, ...]:
    """Hints at the rows of the next tile, which lie behind those of this one where rows are whole
    and one after another in memory; none elsewhere.
    """
    left = [ld for ld in loads(tile.term) if ld is not packed]
    if len(left) != 1 or left[0].attr.space is not Space.GLOBAL:
        return ()
    buf, r = left[0].attr, tile.rows.axis
    idx = tuple(simplify(substitute(i, split)) for i in left[0].args)
    step, depth = _progress(inner)
    depth = simplify(depth)
    if stride(buf, idx, r) is not depth or stride(buf, idx, inner[-1]) is not ONE:
        return ()
    *outer, last = (simplify(substitute(i, dict.fromkeys((r, *inner), ZERO))) for i in idx)
    return (Prefetch(buf, (*outer, simplify(last + (depth + step) * r.extent))),)
