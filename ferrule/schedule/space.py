"""Space: the blockings of a contraction that are worth measuring.

    candidates(kernel, target, constant)        the default one first, then by the model's time

A blocking is left out when the model of the machine says that it cannot win: its register block
does not fit the registers or takes far more work than the best, its part of a panel of B or of a
block of A does not fit L2, or it makes the same code as another. The model is that of `blocking`:
what remains is what that model cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product as combinations

from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Buf, product
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Stage
from ferrule.schedule.contraction.blocking import Blocking, Walk, rows_time
from ferrule.schedule.contraction.dims import contraction_dims, oriented
from ferrule.schedule.contraction.dot import in_words
from ferrule.schedule.contraction.packing import rows_apart
from ferrule.schedule.contraction.schedule import blocking_of
from ferrule.target.cpu import Target

DEPTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 3072)
BLOCKS = (1, 32, 64, 96, 128, 192, 256, 512)
PANELS = (1, 2, 4, 8, 16)
UNROLLS = (1, 2, 8)
LONGEST, WIDEST = 24, 8
_MOST = 1 << 24
SLACK = 1.5
"""How many times the work of the best register block another one may take."""


@dataclass(frozen=True)
class ContractionSizes:
    """What a contraction's candidates depend on: the likely extents of its m axes, the numbers of
    columns and of terms, the bytes of an element and those between rows of A. `rowwise` says that
    its rows go through further stages, so that register blocks alone are free.
    """

    m: tuple[int, ...]
    n: int
    k: int
    size: int
    apart: int
    fixed: bool
    rowwise: bool

    @property
    def rows(self) -> int:
        whole = 1
        for extent in self.m:
            whole *= extent
        return whole


def sizes_of(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> ContractionSizes:
    """The sizes of a `schedulable` kernel."""
    first, roles = _roles(in_words(kernel, target, constant), constant)
    n, k = (simplify(product([a.extent for a in axes])) for axes in (roles.n, roles.k))
    return ContractionSizes(
        tuple(max(1, estimate(a.extent)) for a in roles.m),
        max(1, estimate(n)),
        max(1, estimate(k)),
        first.compute.values[0].dtype.size,
        rows_apart(roles),
        fixed=bool(roles.m) and roles.m[-1].extent.is_const,
        rowwise=any(a not in kernel.grid for a in roles.n),
    )


def _roles(kernel: Kernel, constant: frozenset[Buf]) -> tuple[Stage, ContractionDims]:
    first = next(iter(stages(kernel.body)))
    roles = contraction_dims(kernel, first)
    assert roles is not None
    return first, oriented(kernel, first, roles, constant)


def candidates(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> tuple[Blocking, ...]:
    """The blockings worth measuring for a `schedulable` kernel, the default one first, the others
    by the time that the model gives them.
    """
    start, sizes = blocking_of(kernel, target, constant), sizes_of(kernel, target, constant)
    found = dict.fromkeys(_normal(b, sizes, target) for b in _all(start, sizes, target))
    found.pop(_normal(start, sizes, target), None)
    fitting = [b for b in found if fits(b, sizes, target)]
    best = min(_work(b, sizes, target) for b in (start, *fitting))
    near = [b for b in fitting if _work(b, sizes, target) <= SLACK * best]
    return (start, *sorted(near, key=lambda b: predicted(b, sizes, target)))


def point_of(b: Blocking) -> dict[str, int]:
    """A blocking as numbers by name, for the tuning database."""
    return {name: int(value) for name, value in asdict(b).items()}


def blocking_from(point: Mapping[str, int]) -> Blocking | None:
    """The blocking that these numbers stand for, or None where they can't be one's: other names, or
    sizes that no schedule takes.
    """
    if set(point) != {f.name for f in fields(Blocking)}:
        return None
    sizes = {name: v for name, v in point.items() if name != "straight"}
    low = all(1 <= v <= _MOST for v in sizes.values())
    small = sizes["rows"] * sizes["vectors"] <= 4 * LONGEST * WIDEST
    return Blocking(**sizes, straight=bool(point["straight"])) if low and small else None


def fits(b: Blocking, sizes: ContractionSizes, target: Target) -> bool:
    """Whether a blocking's register block fits the registers, and what it keeps fits L2."""
    if b.rows * b.vectors + 2 > target.registers:
        return False
    if sizes.rowwise:
        return True
    depth = min(b.depth, sizes.k)
    panel = depth * b.vectors * target.vector_bytes
    block = min(b.block_rows, sizes.rows) * depth * sizes.size
    return panel <= target.l2 // 2 and block <= target.l2


def predicted(b: Blocking, sizes: ContractionSizes, target: Target) -> float:
    """A time to order candidates by, in products of vectors: the work of the register blocks, and
    what comes from caches further away.
    """
    lanes = target.lanes(sizes.size)
    depth = min(b.depth, sizes.k)
    passes = -(-sizes.k // depth)
    columns = -(-sizes.n // (b.vectors * lanes))
    tiles = -(-sizes.rows // b.rows) * columns
    panel = depth * b.vectors * target.vector_bytes
    reload = tiles * panel * passes / target.vector_bytes * (0.2 if panel > target.l1 // 2 else 0.0)
    partial = tiles * b.rows * b.vectors * (passes - 1) * 2
    blocks = -(-sizes.rows // b.block_rows)
    stream = blocks * sizes.n * sizes.k * sizes.size / target.vector_bytes * 0.5
    return _work(b, sizes, target) * sizes.k + reload + partial + stream


def _work(b: Blocking, sizes: ContractionSizes, target: Target) -> float:
    """The time of a term of the sum, by the model of `blocking`."""
    along = sizes.m[-1] if b.straight else sizes.rows
    walk = Walk(sizes.k, target, sizes.apart, even=len(sizes.m) == 1)
    times = sizes.rows // max(1, along)
    down = rows_time(along, b.rows, b.vectors, walk) * times
    return down * -(-sizes.n // (b.vectors * target.lanes(sizes.size)))


def _all(start: Blocking, sizes: ContractionSizes, target: Target) -> Iterator[Blocking]:
    """Every combination, the default's own values among them."""
    rows = range(1, min(LONGEST, sizes.rows) + 1)
    vectors = range(1, min(WIDEST, -(-sizes.n // target.lanes(sizes.size))) + 1)
    straight = (False, True) if len(sizes.m) > 1 and sizes.fixed else (start.straight,)
    depths = dict.fromkeys((*(d for d in DEPTHS if d < sizes.k), start.depth, _whole(sizes)))
    blocks = dict.fromkeys((*BLOCKS, start.block_rows))
    inner = [(start.depth, start.block_rows, start.panels)]
    if not sizes.rowwise:
        inner = list(combinations(depths, blocks, dict.fromkeys((*PANELS, start.panels))))
    yield from (replace(start, unroll=u) for u in UNROLLS)
    for r, v, s in combinations(rows, vectors, straight):
        if r * v + 2 <= target.registers:
            for d, b, p in inner:
                yield replace(start, rows=r, vectors=v, depth=d, block_rows=b, panels=p, straight=s)


def _whole(sizes: ContractionSizes) -> int:
    """A depth that takes the whole sum at once."""
    return -(-sizes.k // DEPTHS[0]) * DEPTHS[0]


def _normal(b: Blocking, sizes: ContractionSizes, target: Target) -> Blocking:
    """The same code with the least numbers: what a size beyond the kernel's own makes no difference
    to.
    """
    if sizes.rowwise:
        return b
    columns = -(-sizes.n // (b.vectors * target.lanes(sizes.size)))
    tiles = -(-sizes.rows // b.rows)
    rows = min(max(1, b.block_rows // b.rows), tiles) * b.rows
    if b.depth >= sizes.k:
        return replace(b, depth=_whole(sizes), block_rows=rows, panels=1)
    return replace(b, block_rows=rows, panels=min(b.panels, columns))
