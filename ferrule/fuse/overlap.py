"""Overlapped tiling: convolutions one after another, by blocks of rows.

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
from collections.abc import Sequence
from dataclasses import replace

from ferrule.fuse.overlap_rows import Convolution, compose, parts, reads, window
from ferrule.ir.analysis.contraction import operand_bufs
from ferrule.ir.analysis.cost import flops, points, weighed
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Kernels
from ferrule.ir.expr import Buf, Expr, product
from ferrule.ir.kernel import OVERLAPPED, Kernel, stages
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Reduce
from ferrule.target.cpu import Target


def overlap(level: Kernels, target: Target) -> tuple[Kernels, tuple[Decision, ...]]:
    """`level` with those kernels as one that pay, and which these were. Kernels that touch what is
    updated in place stay where they are, and so do those that have a schedule.
    """
    flow = _Flow(level, target)
    joined: dict[str, Kernel] = {}
    gone: set[str] = set()
    decisions: list[Decision] = []
    for k in reversed(level.main):
        free = k.name not in gone and k.schedule is None
        best = _best(flow.chain(k) if free else [], target)
        if best is not None:
            links, rows = best
            joined[k.name] = replace(compose(links, rows), schedule=OVERLAPPED)
            gone |= {c.kernel.name for c in links[:-1]}
            names = ", ".join(c.kernel.name for c in links)
            chosen = f"as one, by blocks of {rows} rows"
            why = Decision(names, "overlap", chosen, "these stay in cache")
            decisions.append(weighed(why, joined[k.name], target.machine))
    main = tuple(joined.get(k.name, k) for k in level.main if k.name not in gone)
    return replace(level, main=main), tuple(decisions)


# ---- what may be joined --------------------------------------------------------------------------


class _Flow:
    """Which kernel makes a buffer and which read it."""

    def __init__(self, level: Kernels, target: Target):
        kernels = level.kernels
        self.constant, self.target = level.constant, target
        self.outputs = frozenset(level.interface.outputs)
        written = Counter(b for k in kernels for b in k.written)
        written.update(level.interface.updates)
        fixed = [
            k
            for k in level.main
            if k.schedule is None and all(written[b] <= 1 for b in k.globals)
        ]
        self.makers = {b: k for k in fixed for b in k.written}
        self.readers: dict[Buf, list[Kernel]] = {}
        for k in kernels:
            for b in k.globals:
                if self.makers.get(b) is not k:
                    self.readers.setdefault(b, []).append(k)

    def chain(self, last: Kernel) -> list[Convolution]:
        """The convolutions that end in `last`, each read by the next alone; none if it is alone."""
        found = self._before(last, None)
        chain: list[Convolution] = []
        while found is not None:
            p, c = found
            chain = [p, c, *chain[1:]]
            found = self._before(p.kernel, p.row)
        return chain

    def _before(
        self, kernel: Kernel, row: Expr | None
    ) -> tuple[Convolution, Convolution] | None:
        """The convolution whose result `kernel` alone reads, if that is large and read by rows; and
        `kernel` as one. Its row axis is `row` where that is known.
        """
        for buf in dict.fromkeys(b for st in stages(kernel.body) for b in st.reads):
            maker = self.makers.get(buf)
            if maker is None or buf in self.outputs or self.readers[buf] != [kernel]:
                continue
            p = self._convolution(maker)
            if p is None or _bytes(p) <= self.target.l2 // 2:
                continue
            walked = {a for ld in reads(kernel, buf) for a in ld.args[p.row_dim].axes}
            rows = [a for a in kernel.grid if a in walked]
            if len(rows) != 1 or row not in (None, rows[0]):
                continue
            c = self._convolution(kernel, rows[0])
            if c is not None and (p.image is None) == (c.image is None) and window(c, p):
                return p, c
        return None

    def _convolution(self, kernel: Kernel, row: Expr | None = None) -> Convolution | None:
        """The kernel as a part of one, None where it can't be. Its row axis is `row`; where that
        is None, the axis that walks the rows of its result.
        """
        body = list(stages(kernel.body))
        first, (result, idx) = body[0], body[-1].target
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
        weights = [f for f in value.args if set(operand_bufs(f)) <= self.constant]
        if len(weights) != 1 or not self._is_small(weights[0]):
            return None
        image, row = idx[0], row or idx[result.order[1]]
        if row not in kernel.grid or row not in idx or not (image.is_const or image in kernel.grid):
            return None
        return Convolution(kernel, result, row, None if image.is_const else image)

    def _is_small(self, weights: Expr) -> bool:
        """Whether weights may be read again for each block."""
        size = sum(_count(b.shape) * b.dtype.size for b in operand_bufs(weights))
        return size * self.target.machine.overlap_weights <= self.target.l1


# ---- what pays -----------------------------------------------------------------------------------


def _best(chain: list[Convolution], target: Target) -> tuple[list[Convolution], int] | None:
    """The end of a chain and the number of rows of a block that save most, the larger blocks where
    several do.
    """
    height = int(chain[-1].row.extent.value) if chain else 0
    best: tuple[float, int, list[Convolution]] | None = None
    for begin in range(len(chain) - 1):
        links = chain[begin:]
        for rows in range(1, height // target.machine.overlap_blocks + 1):
            saved = None if height % rows else _saved(links, rows, target)
            if saved is not None and saved > 0 and (best is None or (saved, rows) > best[:2]):
                best = saved, rows, links
    return None if best is None else (best[2], best[1])


def _saved(links: list[Convolution], rows: int, target: Target) -> float | None:
    """Picoseconds that an image takes less by blocks of so many rows; None where a block's parts do
    not fit L2, or have few points.
    """
    blocks = int(links[-1].row.extent.value) // rows
    saved, held, machine = 0.0, 0, target.machine
    for c, part in zip(links[:-1], parts(links, rows)[:-1], strict=True):
        height = int(c.row.extent.value)
        across = _count([c.result.shape[d] for d in c.result.order[2:-1]])
        if part.count * across < machine.overlap_points:
            return None
        held += _bytes(c) // height * part.count
        again = max(0, part.count * blocks - height) / height
        saved += 2 * _bytes(c) * machine.cached_byte_ps
        saved -= again * _flops(c) * machine.convolution_flop_ps
    return saved if held <= target.l2 // 2 else None


def _bytes(c: Convolution) -> int:
    """The bytes of a convolution's result, one image of it."""
    return _count(c.result.shape[1:]) * c.result.dtype.size


def _flops(c: Convolution) -> int:
    """Operations for one image."""
    total = 0
    for st in stages(c.kernel.body):
        axes = [a for a in (*c.kernel.grid, *st.compute.all_axes) if a is not c.image]
        work = sum(flops(v) for v in st.compute.values) + (1 if st.is_reduction else 0)
        total += int(points(tuple(axes)).value) * work
    return total


def _count(sizes: Sequence[Expr]) -> int:
    return int(simplify(product(list(sizes))).value)
