"""Cascade: convolutions one after another, by blocks of rows.

    t[h, w, c] = sum k     x[h, w, k] * a[k, c]                         a kernel each, on
    y[h, w, c] = sum i, j  t[h + i - 1, w + j - 1, c] * b[i, j, c]      whole images

    grid g:  t'[r, w, c] = sum k  x[4*g - 1 + r, w, k] * a[k, c]        one kernel, on blocks of
             y[4*g + r, w, c] = sum i, j  t'[r + i, ..] * b[i, j, c]    four rows of y

Where `t` is larger than a core's cache, as in the first layers of a network for images, writing it
and reading it again takes as long as computing it. A block's part of it stays near. Rows that two
blocks need are computed twice, which must cost less than the bytes that are saved; each
convolution's weights are read again for each block, so they must be small.

This is overlapped tiling, as of Alwani et al., "Fused-Layer CNN Accelerators" (2016), and what
Halide calls compute_at (Ragan-Kelley et al., 2013).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ferrule.base.target import Target
from ferrule.ir.compute import Reduce, Stage, map_stage, substitute_stage
from ferrule.ir.contraction import operand_bufs, simplify_stage
from ferrule.ir.cost import flops
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
    load,
    loads,
    lt,
    rewrite,
)  # fmt: skip
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import coefficient, range_of, simplify

BLOCKS = 12  # fewest, for threads to share
WEIGHTS = 2  # of a convolution may be as large as L1 over this
BYTE_PS = 40  # to write a byte beyond L2, or to read it
FLOP_PS = 10  # of a convolution


@dataclass(frozen=True)
class Rows:
    """The rows of its image that a kernel computes in a block: `count` from `low` on. Some may lie
    beyond the image, where nobody reads them.
    """

    low: Expr
    count: int


@dataclass(frozen=True)
class Convolution:
    """A kernel that may be a part of a cascade: it sums products into images. Its grid axis `row`
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


def cascade(
    kernels: Sequence[Kernel], once: frozenset[str], outputs: Sequence[Buf], target: Target
) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
    """`kernels` with those that pay as one joined, and which these are. `once` names the kernels
    that run when parameters are bound. Those that touch what is updated in place stay where they
    are.
    """
    written = Counter(b for k in kernels for b in k.written)
    fixed = [k for k in kernels if all(written[b] <= 1 for b in k.globals)]
    makers = {b: k for k in fixed for b in k.written}
    readers: dict[Buf, list[Kernel]] = {}
    for k in kernels:
        for b in k.globals:
            if makers.get(b) is not k:
                readers.setdefault(b, []).append(k)
    joined: dict[str, Kernel] = {}
    gone: set[str] = set()
    reasons: list[str] = []
    for k in reversed(kernels):
        if k.name in gone or k.name in once:
            continue
        chain: list[Convolution] = []
        while found := _before(chain[0] if chain else k, makers, readers, outputs, target):
            p, c = found
            if p.kernel.name in once:
                break
            chain[:1] = [p, c]
        if len(chain) < 2:
            continue
        made = _best(chain, target)
        if made is not None:
            links, kernel, rows = made
            joined[k.name] = kernel
            gone |= {c.kernel.name for c in links[:-1]}
            names = ", ".join(c.kernel.name for c in links)
            reasons.append(f"{names}: as one, by blocks of {rows} rows, which stay in cache")
    out = tuple(joined.get(k.name, k) for k in kernels if k.name not in gone)
    return out, tuple(reasons)


# ---- what may be joined --------------------------------------------------------------------------


def _convolution(kernel: Kernel, target: Target, row: Expr | None = None) -> Convolution | None:
    """The kernel as one of a cascade, None where it can't be. Its row axis is `row`; where that is
    None, the axis that walks the rows of its result.
    """
    body = list(stages(kernel.body))
    first, (result, idx) = body[0], body[-1].targets[0]
    fold, value = first.compute.fold, first.compute.values[0]
    if not isinstance(fold, Reduce) or value.op != "mul" or kernel.written != (result,):
        return None
    if any(st.combine or st.update or st.when or st.compute.axes for st in body):
        return None
    if any(st.compute.fold for st in body[1:]) or any(len(st.targets) > 1 for st in body):
        return None
    sizes = [a.extent for a in (*kernel.grid, *fold.axes)]
    if len(result.shape) < 3 or result.order[0] != 0 or not all(e.is_const for e in sizes):
        return None
    weights = min(_elements(f) for f in value.args)
    if weights * value.dtype.size * WEIGHTS > target.l1:
        return None
    image, row = idx[0], row or idx[result.order[1]]
    if row not in kernel.grid or row not in idx or not (image.is_const or image in kernel.grid):
        return None
    return Convolution(kernel, result, row, None if image.is_const else image)


def _elements(factor: Expr) -> int:
    return sum(int(simplify(b.size).value) for b in operand_bufs(factor))


def _before(
    reader: Convolution | Kernel,
    makers: dict[Buf, Kernel],
    readers: dict[Buf, list[Kernel]],
    outputs: Sequence[Buf],
    target: Target,
) -> tuple[Convolution, Convolution] | None:
    """The convolution whose result `reader` alone reads, if that is large and read by rows; and the
    reader as one.
    """
    kernel = reader if isinstance(reader, Kernel) else reader.kernel
    for buf in {b: None for st in stages(kernel.body) for b in st.reads}:
        maker = makers.get(buf)
        if maker is None or buf in outputs or readers[buf] != [kernel]:
            continue
        p = _convolution(maker, target)
        if p is None or _bytes(p) <= target.l2 // 2:
            continue
        walked = {a for ld in _reads(kernel, buf) for a in ld.args[p.row_dim].axes}
        rows = [a for a in kernel.grid if a in walked]
        if len(rows) != 1 or (isinstance(reader, Convolution) and rows[0] is not reader.row):
            continue
        c = _convolution(kernel, target, rows[0])
        if c is None or (p.image is None) != (c.image is None) or _window(c, p) is None:
            continue
        return p, c
    return None


def _bytes(c: Convolution) -> int:
    """The bytes of a convolution's result, one image of it."""
    images = c.result.shape[0].value
    return int(simplify(c.result.size).value) // int(images) * c.result.dtype.size


def _window(c: Convolution, p: Convolution) -> Window | None:
    """How the rows that `c` reads of p's result follow from its own."""
    found: set[Window] = set()
    for ld in _reads(c.kernel, p.result):
        row = ld.args[p.row_dim]
        step = coefficient(row, c.row)
        image = ld.args[0]
        if step is None or not step.is_const or step.attr < 1:
            return None
        if image is not c.image and not (image.is_const and c.image is None):
            return None
        if any(c.row in i.axes for i in ld.args if i is not row):
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


def _reads(kernel: Kernel, buf: Buf) -> Iterator[Expr]:
    for st in stages(kernel.body):
        for e in st.exprs():
            yield from (ld for ld in loads(e) if ld.attr == buf)


# ---- what pays -----------------------------------------------------------------------------------


def _best(
    chain: list[Convolution], target: Target
) -> tuple[list[Convolution], Kernel, int] | None:
    """The end of the chain and the number of rows of a block that save most, as a kernel."""
    height = int(chain[-1].row.extent.value)
    best: tuple[float, list[Convolution], int] | None = None
    for begin in range(len(chain) - 1):
        links = chain[begin:]
        for rows in range(1, height // BLOCKS + 1):
            if height % rows:
                continue
            saved = _saved(links, rows, target)
            if saved is not None and saved > 0 and (best is None or saved > best[0]):
                best = saved, links, rows
    if best is None:
        return None
    _, links, rows = best
    return links, _compose(links, rows), rows


def _saved(links: list[Convolution], rows: int, target: Target) -> float | None:
    """Picoseconds that an image takes less by blocks of so many rows; None where a block's parts do
    not fit L2.
    """
    blocks = int(links[-1].row.extent.value) // rows
    saved, held = 0.0, 0
    for c, r in zip(links[:-1], _rows(links, rows)[:-1], strict=True):
        height = int(c.row.extent.value)
        held += _bytes(c) // height * r.count
        again = max(0, r.count * blocks - height) / height
        saved += 2 * _bytes(c) * BYTE_PS - again * _flops(c) * FLOP_PS
    return saved if held <= target.l2 // 2 else None


def _flops(c: Convolution) -> int:
    """Operations for one image."""
    total = 0
    for st in stages(c.kernel.body):
        points = 1
        for a in (*c.kernel.grid, *st.compute.all_axes):
            points *= 1 if a is c.image else int(a.extent.value)
        work = sum(flops(v) for v in st.compute.values) + (1 if st.is_reduction else 0)
        total += points * work
    return total


# ---- the kernel ----------------------------------------------------------------------------------


def _block(links: list[Convolution], rows: int) -> Expr:
    return axis("block", int(links[-1].row.extent.value) // rows)


def _rows(links: list[Convolution], rows: int) -> list[Rows]:
    """The rows of each convolution in a block of so many rows of the last one."""
    out = [Rows(simplify(_block(links, rows) * rows), rows)]
    for p, c in reversed(list(pairwise(links))):
        window = _window(c, p)
        assert window is not None
        low = simplify(out[0].low * window.step + window.before)
        height = window.after - window.before + 1
        out.insert(0, Rows(low, window.step * (out[0].count - 1) + height))
    return out


def _compose(links: list[Convolution], rows: int) -> Kernel:
    """The convolutions as one kernel, whose grid are the images and blocks of rows."""
    image = None if links[-1].image is None else axis("image", links[-1].image.extent)
    body: list[Stage] = []
    scratch: list[Buf] = []
    kept: dict[Buf, tuple[Buf, Expr]] = {}
    for c, r in zip(links, _rows(links, rows), strict=True):
        own = axis(f"{c.row.name}_row", r.count)
        place = {c.row: simplify(r.low + own)}
        if c.image is not None and image is not None:
            place[c.image] = image
        inside = (le(ZERO, place[c.row]), lt(place[c.row], c.row.extent))
        guards = [g for e in inside if (g := simplify(e)) is not TRUE]
        inner = tuple(own if g is c.row else g for g in c.kernel.grid if g is not c.image)
        sizes = tuple(a.extent for a in inner)
        wide = {b: replace(b, shape=(*sizes, *b.shape)) for b in c.kernel.scratch}
        scratch += wide.values()
        if c is not links[-1]:
            kept[c.result] = _part(c, r), r.low
            scratch.append(kept[c.result][0])
        index = _Index(kept, wide, inner)
        for st in stages(c.kernel.body):
            moved = index.moved(substitute_stage(st, place))
            where = both(*conjuncts(moved.compute.where), *guards)
            compute = replace(moved.compute, axes=inner, where=where)
            when = both(*guards) if guards else None
            body.append(simplify_stage(replace(moved, compute=compute, when=when)))
    grid = (*((image,) if image is not None else ()), _block(links, rows))
    return Kernel(links[-1].kernel.name, grid, tuple(body), tuple(scratch))


def _part(c: Convolution, r: Rows) -> Buf:
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
        moved = map_stage(st, lambda e: rewrite(e, self._load))
        return replace(moved, targets=tuple(self._place(b, idx) for b, idx in moved.targets))

    def _load(self, node: Expr) -> Expr | None:
        if node.op != "load" or not (node.attr in self.kept or node.attr in self.wide):
            return None
        buf, idx = self._place(node.attr, node.args)
        return load(buf, *idx)

    def _place(self, buf: Buf, idx: tuple[Expr, ...]) -> tuple[Buf, tuple[Expr, ...]]:
        if buf in self.wide:
            return self.wide[buf], (*self.inner, *idx)
        if buf in self.kept:
            part, low = self.kept[buf]
            row, *rest = buf.order[1:]
            return part, (simplify(idx[row] - low), *(idx[d] for d in rest))
        return buf, idx
