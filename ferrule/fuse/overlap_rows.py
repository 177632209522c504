"""Row blocks: convolutions one after another as one kernel, whose grid are blocks of rows of the
last one's result.

A block keeps of each image between them the rows that it needs, in scratch. Rows of it that lie
beyond the image are not computed, and nobody reads them. Which convolutions become one so, and why,
is decided in `overlap`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.expr import (
    TRUE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    conjuncts,
    const,
    le,
    loads,
    lt,
)  # fmt: skip
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import coefficient, range_of, simplify
from ferrule.ir.system import Access, Stage, map_accesses, substitute_stage


@dataclass(frozen=True)
class Convolution:
    """A kernel that may become a part of one: it sums products into images. Its grid axis `row`
    is that of their rows, `image` that of images, None where there is one.
    """

    kernel: Kernel
    result: Buf
    row: Expr
    image: Expr | None

    @property
    def row_dim(self) -> int:
        """The dimension of rows, of an image whose rows lie one after another."""
        return self.result.order[1]


@dataclass(frozen=True)
class Window:
    """The rows of an image that one row of a result reads: `step` times its number, from `before`
    to `after`.
    """

    step: int
    before: int
    after: int


@dataclass(frozen=True)
class RowBlock:
    """The rows of its image that a kernel computes in a block: `count` from `step` times the
    block's number + `first` on. Some may lie beyond the image, where nobody reads them.
    """

    step: int
    first: int
    count: int


def window(c: Convolution, p: Convolution) -> Window | None:
    """How the rows that `c` reads of p's result follow from its own."""
    found: set[Window] = set()
    for ld in reads(c.kernel, p.result):
        row = ld.args[p.row_dim]
        step = coefficient(row, c.row)
        image = ld.args[0]
        if step is None or not step.is_const or step.attr < 1:
            return None
        if image is not c.image and not (image.is_const and c.image is None):
            return None
        if any(c.row in i.axes for d, i in enumerate(ld.args) if d != p.row_dim):
            return None
        before, after = range_of(simplify(row - step * c.row))
        if before is None or after is None:
            return None
        found.add(Window(step.attr, before, after))
    if len({w.step for w in found}) != 1:
        return None
    return Window(
        next(iter(found)).step, min(w.before for w in found), max(w.after for w in found)
    )


def reads(kernel: Kernel, buf: Buf) -> Iterator[Expr]:
    """The loads of a buffer in a kernel."""
    for st in stages(kernel.body):
        for e in st.exprs():
            yield from (ld for ld in loads(e) if ld.attr == buf)


def _unused(name: str, used: set[str]) -> str:
    """A name that is not among the used ones, and then is."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def parts(links: list[Convolution], rows: int) -> list[RowBlock]:
    """The rows of each convolution in a block of so many rows of the last one."""
    out = [RowBlock(rows, 0, rows)]
    for p, c in reversed(list(pairwise(links))):
        w = window(c, p)
        assert w is not None
        of = out[0]
        count = w.step * (of.count - 1) + w.after - w.before + 1
        out.insert(0, RowBlock(w.step * of.step, w.step * of.first + w.before, count))
    return out


def compose(links: list[Convolution], rows: int) -> Kernel:
    """The convolutions as one kernel, whose grid are the images and blocks of rows."""
    used = {a.name for c in links for st in stages(c.kernel.body) for a in st.compute.all_axes}
    used |= {a.name for c in links for a in c.kernel.grid}
    last = links[-1]
    image = None if last.image is None else axis(_unused("image", used), last.image.extent)
    block = axis(_unused("block", used), last.row.extent.value // rows)
    body: list[Stage] = []
    scratch: list[Buf] = []
    kept: dict[Buf, tuple[Buf, Expr]] = {}
    for c, r in zip(links, parts(links, rows), strict=True):
        low = simplify(block * r.step + r.first)
        own = axis(_unused(f"{c.row.name}_row", used), r.count)
        place = {c.row: simplify(low + own)}
        if c.image is not None and image is not None:
            place[c.image] = image
        inside = (le(ZERO, place[c.row]), lt(place[c.row], c.row.extent))
        guards = [g for e in inside if (g := simplify(e)) is not TRUE]
        inner = tuple(own if g is c.row else g for g in c.kernel.grid if g is not c.image)
        sizes = tuple(a.extent for a in inner)
        wide = {b: replace(b, shape=(*sizes, *b.shape)) for b in c.kernel.scratch}
        scratch += wide.values()
        if c is not links[-1]:
            kept[c.result] = _part(c, r), low
            scratch.append(kept[c.result][0])
        index = _Index(kept, wide, inner)
        for st in stages(c.kernel.body):
            moved = index.moved(substitute_stage(st, place))
            where = both(*conjuncts(moved.compute.where), *guards)
            compute = replace(moved.compute, axes=inner, where=where)
            when = both(*guards) if guards else None
            body.append(simplify_stage(replace(moved, compute=compute, when=when)))
    grid = (block,) if image is None else (image, block)
    return Kernel(last.kernel.name, grid, tuple(body), tuple(scratch))


def _part(c: Convolution, r: RowBlock) -> Buf:
    """The rows of a convolution's result that a block keeps, in the order that they have there."""
    order = c.result.order[1:]
    shape = tuple(const(r.count) if d == c.row_dim else c.result.shape[d] for d in order)
    return replace(c.result, shape=shape, space=Space.SCRATCH, layout=None)


@dataclass(frozen=True)
class _Index:
    """Where elements of images and of the scratch of kernels lie in a block: `kept` parts of
    images, and their first rows; scratch made as `wide` as the loops `inner`.
    """

    kept: dict[Buf, tuple[Buf, Expr]]
    wide: dict[Buf, Buf]
    inner: tuple[Expr, ...]

    def moved(self, st: Stage) -> Stage:
        return map_accesses(st, self._place)

    def _place(self, at: Access) -> Access | None:
        buf, idx = at
        if buf in self.wide:
            return Access(self.wide[buf], (*self.inner, *idx))
        if buf in self.kept:
            part, low = self.kept[buf]
            row, *rest = buf.order[1:]
            return Access(part, (simplify(idx[row] - low), *(idx[d] for d in rest)))
        return None
