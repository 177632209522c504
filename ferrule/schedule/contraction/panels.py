"""Panels: the kernel of rows that go through further stages, and further products (attention).

    for (batch, m_o):                             the grid: panels of MR rows
        for n_o: s[r, n] = sum[k] ..              the first product writes its rows to scratch
        for r: softmax over s[r, ..]              row stages, one row after another
        for n_o: out[.., n] = sum[k] s[r, k] ..   a product whose left factor is in scratch

What the stages share of a row is scratch, [MR, ..], in whole vectors. Where a guard ends the rows
(causal attention), so do the loops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.contraction import ContractionDims, contraction, simplify_stage
from ferrule.ir.expr import (
    Buf,
    Expr,
    Space,
    axis,
    call,
    loads,
    product,
    substitute,
)
from ferrule.ir.kernel import Item, Kernel, SerialLoop
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Access, Stage, map_accesses, substitute_stage
from ferrule.schedule.contraction.bounds import Limits, grows, limited, limits
from ferrule.schedule.contraction.contraction import Contraction
from ferrule.schedule.contraction.dims import contraction_dims, is_epilogue
from ferrule.schedule.contraction.microkernel import Tile
from ferrule.schedule.contraction.packing import Packed
from ferrule.schedule.contraction.pieces import Pieces
from ferrule.schedule.contraction.product import Product, product_of, tile_of
from ferrule.schedule.contraction.rows import Rows
from ferrule.schedule.rows.schedule import schedule_rows


def panel_kernel(c: Contraction) -> Packed:
    """The kernel of panels, whose first stage is a product that each point of the grid has a whole
    row of.
    """
    outer = axis("mo", c.tiling.count)
    rows = c.tiling.tile(outer)
    wider = {b: _wider(b, rows, c.width) for b in c.kernel.scratch}
    wide = (_widened(st, wider, rows.axis) for st in c.body)
    steps = [_Step(st, ends) for st, ends in zip(wide, _ends(c), strict=True)]
    pieces = Pieces(scratch=tuple(wider.values()))
    for group in _groups(c):
        make = _row_stages if _by_rows(c, c.body[group.start]) else _product
        pieces += make(c, steps[group.start : group.stop], rows, pieces)
    return pieces.kernel(c.kernel.name, (*c.roles.batch, outer))


@dataclass(frozen=True)
class _Step:
    """A stage on a panel of rows, and where its axes end."""

    stage: Stage
    ends: Limits


def _ends(c: Contraction) -> list[Limits]:
    """Where the axes of each stage end: all of them nowhere, unless later rows end no earlier."""
    found = limits(c.body, frozenset(c.kernel.scratch), c.kernel.grid)
    if all(grows(e, c.kernel.grid) for own in found for e in own.values()):
        return found
    return [{} for _ in found]


def _by_rows(c: Contraction, st: Stage) -> bool:
    """Whether a stage is no product."""
    return contraction_dims(c.kernel, st) is None


def _groups(c: Contraction) -> list[range]:
    """The stages that are scheduled together, by number: row stages side by side, and products with
    their epilogues.
    """
    out, body, i = [], c.body, 0
    while i < len(body):
        after = i + 1
        if _by_rows(c, body[i]):
            while after < len(body) and _by_rows(c, body[after]):
                after += 1
        else:
            after += _epilogue(body, i)
        out.append(range(i, after))
        i = after
    return out


def _epilogue(body: list[Stage], i: int) -> int:
    """How many pointwise stages right behind the product `i` consume it element by element, all of
    it and no more, and nobody else does.
    """
    value, axes = body[i].target.buf, body[i].compute.axes
    for j in range(i + 1, len(body)):
        st = body[j]
        users = [s for s in body if value in s.reads]
        alone = users == [st] and value.space is Space.SCRATCH
        if not alone or not _elementwise(st, value, axes):
            return j - i - 1
        value = st.target.buf
    return len(body) - i - 1


def _elementwise(st: Stage, buf: Buf, axes: tuple[Expr, ...]) -> bool:
    """Whether a stage reads `buf` only at its own point, and has the points of `axes`."""
    own = st.compute.axes
    same = len(own) == len(axes) and all(
        equal(a.extent, b.extent) for a, b in zip(own, axes, strict=True)
    )
    reads = (ld for e in st.exprs() for ld in loads(e) if ld.attr == buf)
    return is_epilogue(st) and same and all(ld.args == own for ld in reads)


# ---- scratch -------------------------------------------------------------------------------------


def _wider(buf: Buf, rows: Rows, width: int) -> Buf:
    """`buf`, which holds a row, for each row of a panel and in whole vectors."""
    shape = buf.shape
    if shape:
        whole = simplify((shape[-1] + (width - 1)) // width * width)
        shape = (*shape[:-1], whole)
    return replace(buf, shape=(rows.axis.extent, *shape))


def _widened(st: Stage, wider: dict[Buf, Buf], row: Expr) -> Stage:
    """`st` with the kernel's scratch indexed by the row of the panel first."""

    def place(at: Access) -> Access | None:
        return Access(wider[at.buf], (row, *at.idx)) if at.buf in wider else None

    return map_accesses(st, place)


# ---- products ------------------------------------------------------------------------------------


def _product(c: Contraction, steps: list[_Step], rows: Rows, before: Pieces) -> Pieces:
    """A product of a panel of rows and its epilogue, behind the pieces `before`: columns up to
    where the last row ends, and terms up to where each row does.
    """
    st, ends = steps[0].stage, steps[0].ends
    roles = _roles_on(c, st, rows)
    n = simplify(product([a.extent for a in roles.n]))
    if n.is_const:
        vectors = max(1, min(c.blocking.vectors, -(-n.attr // c.width)))
        c = replace(c, blocking=replace(c.blocking, vectors=vectors))
    p = product_of(c, st, roles, f"pack{len(before.packings)}", ends)
    epilogue = [_over(s.stage, st.compute.axes) for s in steps[1:]]
    tag = len(before.scratch)

    def tile(panel: Expr, tag: int, full: bool = False) -> tuple[Tile, tuple[Item, ...]]:
        made = tile_of(p, rows, panel, tag, full)
        return made, (*made.items(p.k, {}), *p.written(made, epilogue))

    count = _panels(p, rows)
    if n.is_const or roles.n[0] in c.kernel.grid:
        columns = axis(f"no{tag}", count)
        made, items = tile(columns, tag)
        return p.pieces([made], (SerialLoop(columns, items),))
    whole = simplify(n // (p.vectors * p.width))
    if count is not p.panels:
        whole = simplify(call("min", whole, count))
    inner, edge = axis(f"no{tag}f", whole), axis(f"no{tag}e", simplify(count - whole))
    full, body = tile(inner, tag, True)
    last, rest = tile(simplify(whole + edge), tag + 1)
    return p.pieces([full, last], (SerialLoop(inner, body), SerialLoop(edge, rest)))


def _roles_on(c: Contraction, st: Stage, rows: Rows) -> ContractionDims:
    """The roles of a product of a panel of rows; its batch are the grid axes that are not rows."""
    roles = contraction(st)
    assert roles is not None
    roles = roles if roles.n else roles.swapped()
    free = [g for g in c.kernel.grid if g not in rows.exact and g in roles.right.axes]
    return replace(roles, batch=tuple(free), m=())


def _over(st: Stage, axes: tuple[Expr, ...]) -> Stage:
    """`st` with `axes` in place of its own."""
    return substitute_stage(st, dict(zip(st.compute.axes, axes, strict=True)))


def _panels(p: Product, rows: Rows) -> Expr:
    """The number of panels of columns, those behind the end of the last row left out."""
    if len(p.roles.n) == 1 and (end := p.ends.get(p.roles.n[0])) is not None:
        per = p.vectors * p.width
        return simplify((rows.at(end, -1) + (per - 1)) // per)
    return p.panels


# ---- row stages ----------------------------------------------------------------------------------


def _row_stages(c: Contraction, steps: list[_Step], rows: Rows, before: Pieces) -> Pieces:
    """Stages over whole rows, one row of the panel after another, behind the pieces `before`."""
    serial = axis(f"row{len(before.scratch)}", rows.axis.extent)
    here = {rows.axis: serial}
    place = {a: substitute(e, here) for a, e in rows.clamped.items()}
    run = [limited(s.stage, s.ends, place, "h") for s in steps]
    moved = tuple(simplify_stage(substitute_stage(substitute_stage(s, here), place)) for s in run)
    private = tuple(dict.fromkeys(b for s in moved for b in s.writes))
    kernel = Kernel("rows", (), moved, private)
    kernel = schedule_rows(kernel, c.target, serial.name, frozenset(before.scratch))
    scratch = tuple(b for b in kernel.scratch if b not in private)
    return Pieces((SerialLoop(serial, kernel.body),), scratch, kinds=dict(kernel.kinds))
