"""The schedule of overlapped tiling: each convolution on a block of rows, as if it were alone.

    grid g: t'[r, ..] = sum .. when 0 <= 4*g - 1 + r < 56     grid g: for r: if 0 <= ..: tiles of t'
            y[4*g + r, ..] = sum ..                                   tiles of y

A convolution of the kernel and its pointwise stages are a kernel with the block fixed; that is
scheduled, and its grid becomes loops. A row that may lie beyond the image has a loop of its own,
with a branch inside.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.canonical import rename_items, renamed
from ferrule.ir.expr import (
    TRUE,
    Buf,
    Expr,
    both,
    conjuncts,
    loads,
)  # fmt: skip
from ferrule.ir.kernel import Branch, Item, Kernel, Kind, SerialLoop, stages
from ferrule.ir.simplify import equal
from ferrule.ir.system import Access, Stage, map_accesses, substitute_stage
from ferrule.schedule.contraction.dims import schedulable
from ferrule.schedule.contraction.packing import Packed, Packing
from ferrule.schedule.contraction.schedule import schedule_contraction
from ferrule.schedule.rows.schedule import schedule_rows
from ferrule.target.cpu import Target


def schedule_overlapped(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Packed:
    """Each convolution scheduled for a block, one after another."""
    items: list[Item] = []
    scratch: list[Buf] = []
    kinds: dict[str, Kind] = {}
    packings: list[Packing] = []
    parts = _parts(kernel)
    for number, part in enumerate(parts):
        rows, inside, alone = _alone(part)
        known = constant & frozenset(alone.globals)
        done = (
            schedule_contraction(alone, target, known)
            if schedulable(alone, target, known)
            else Packed(schedule_rows(alone, target))
        )
        main, names = renamed(done.kernel, f"_c{number}", tuple(p.buf for p in done.packings))
        body = main.body
        for a in reversed(main.grid):
            body = (SerialLoop(a, body),)
        if inside is not TRUE:
            body = (Branch(inside, body),)
        for a in reversed(rows):
            body = (SerialLoop(a, body),)
        items += body
        scratch += main.scratch
        kinds |= dict(main.kinds)
        packings += [_renamed(p, names) for p in done.packings]
    shared = {st.target.buf for st in (part[-1] for part in parts[:-1])}
    kept = [b for b in kernel.scratch if b in shared]
    ways = tuple(sorted(kinds.items()))
    whole = Kernel(kernel.name, kernel.grid, tuple(items), (*kept, *scratch), ways)
    return Packed(whole, tuple(packings))


def _renamed(p: Packing, names: dict[Buf, Buf]) -> Packing:
    kernel = replace(p.kernel, body=rename_items(p.kernel.body, {}, names))
    return replace(p, buf=names[p.buf], kernel=kernel)


def _parts(kernel: Kernel) -> list[list[Stage]]:
    """The stages of each convolution: a fold and what follows it point by point."""
    out: list[list[Stage]] = []
    for st in stages(kernel.body):
        if out and _follows(st, out[-1]):
            out[-1].append(st)
        else:
            out.append([st])
    return out


def _follows(st: Stage, part: list[Stage]) -> bool:
    """Whether a stage is pointwise over the axes of a part, and reads the part at its own point."""
    axes, made = part[0].compute.axes, {b for s in part for b in s.writes}
    mine = st.compute.axes
    if st.compute.fold is not None or len(mine) != len(axes):
        return False
    read = [ld for e in st.exprs() for ld in loads(e) if ld.attr in made]
    alike = all(equal(a.extent, b.extent) for a, b in zip(mine, axes, strict=True))
    return alike and bool(read) and all(ld.args == mine for ld in read)


def _alone(part: list[Stage]) -> tuple[tuple[Expr, ...], Expr, Kernel]:
    """The loops over rows that may lie beyond the image, what holds for those that do not, and the
    kernel that the part is for one of these (or for all rows), whose grid are its other axes.
    """
    first = part[0].compute
    edges = conjuncts(part[0].when)
    rows = tuple(a for a in first.axes if any(a in c.axes for c in edges))
    inside = {b: replace(b, shape=()) for st in part[:-1] for b in st.writes}

    def place(at: Access) -> Access | None:
        return Access(inside[at.buf], ()) if at.buf in inside else None

    body: list[Stage] = []
    for st in part:
        st = substitute_stage(st, dict(zip(st.compute.axes, first.axes, strict=True)))
        st = map_accesses(st, place)
        rest = [c for c in conjuncts(st.compute.where) if c not in edges]
        compute = replace(st.compute, axes=(), where=both(*rest) if rest else None)
        body.append(replace(st, compute=compute, when=None))
    grid = tuple(a for a in first.axes if a not in rows)
    return rows, both(*edges), Kernel("part", grid, tuple(body), tuple(inside.values()))
