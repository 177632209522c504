"""Rows: the schedule of kernels without contractions (pointwise, reductions, scans).

1. Adjacent axes that every access walks as one are merged, so that a row is as long as memory
   allows.
2. The lane axis is the one with unit stride in most accesses: an axis local to the stages (a row),
   else a grid axis, of which a tile is then made local to every stage (columns, and all of a
   pointwise kernel).
   A kernel that copies what lies along one axis to where another lies goes by squares instead
   (`transpose`).
3. Neighbouring stages with equal loops, none of which needs the finished result of another, become
   one bundle, and each bundle a nest of vectors (`strips`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.access import accesses, stride
from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.analysis.cost import flops
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, axis, call, const, loads, rewrite
from ferrule.ir.kernel import Item, Kernel, stages
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import (
    Access,
    Compute,
    Reduce,
    Scan,
    Sort,
    Stage,
    map_accesses,
    map_stage,
    substitute_stage,
)
from ferrule.schedule.rows.index_sets import split_index_sets
from ferrule.schedule.rows.prefetch import row_hints
from ferrule.schedule.rows.transpose import transpose, transposition
from ferrule.schedule.rows.vectorize import Shape, is_long, strips
from ferrule.target.cpu import Target


@dataclass(frozen=True)
class RowSizes:
    """What this schedule leaves open: the elements of a tile of a pointwise kernel, and the vectors
    that a light loop has in flight.
    """

    block: int
    vectors: int


def default_sizes(target: Target) -> RowSizes:
    """The sizes that a kernel has by default."""
    return RowSizes(target.machine.rows.block, target.machine.rows.vectors)


def schedule_rows(
    kernel: Kernel,
    target: Target,
    prefix: str = "",
    padded: frozenset[Buf] = frozenset(),
    sizes: RowSizes | None = None,
) -> Kernel:
    """`kernel`, whose body is a flat list of stages, with vectors and loops chosen for `target`.

    `prefix` begins the names of new axes and registers. Of `padded` buffers, which are private,
    what lies past the end of a row up to a whole vector may be read and written. `sizes` are the
    default ones where None.
    """
    sizes = sizes or default_sizes(target)
    kernel = merge_grid(kernel)
    width = lane_count(list(stages(kernel.body)), target)
    if (pair := transposition(kernel, width)) is not None:
        along, across = pair
        side = width * target.machine.rows.squares
        kernel = localise(localise(kernel, along, side), across, side)
        st = next(stages(kernel.body))
        a, c = st.compute.axes
        bare = replace(st, compute=replace(st.compute, axes=()))
        return transpose(replace(kernel, body=(bare,)), a, c, width, prefix)
    kernel = split_index_sets(kernel, target.machine.rows.pieces)
    kernel = replace(kernel, body=tuple(merge_local(st) for st in stages(kernel.body)))
    lane = _grid_lane(kernel, target)
    if lane is not None:
        kernel = localise(kernel, lane, _tile(kernel, target, sizes))
    return _vectorise(kernel, target, prefix, padded, sizes.vectors)


# ---- merging -------------------------------------------------------------------------------------


def merge_grid(kernel: Kernel) -> Kernel:
    """Grid axes in the order of memory, neighbours merged where every access of every stage allows
    it.
    """
    body = tuple(stages(kernel.body))
    grid = list(_by_stride(kernel.grid, body))
    i = len(grid) - 2
    while i >= 0:
        a, b = grid[i], grid[i + 1]
        if all(mergeable(st, a, b) for st in body):
            z = axis(f"{a.name}_{b.name}", simplify(a.extent * b.extent))
            body = tuple(
                simplify_stage(substitute_stage(st, {a: z // b.extent, b: z % b.extent}))
                for st in body
            )
            grid[i : i + 2] = [z]
        i -= 1
    return replace(kernel, grid=tuple(grid), body=body)


def _by_stride(axes: tuple[Expr, ...], body: tuple[Stage, ...]) -> list[Expr]:
    """Axes with the greatest step in the last stage's target first."""
    buf, idx = body[-1].target

    def step(a: Expr) -> int:
        s = stride(buf, idx, a)
        return 0 if s is None else estimate(s)

    return sorted(axes, key=step, reverse=True)


def merge_local(st: Stage) -> Stage:
    """The stage's own axes, neighbours merged where its accesses allow it."""
    for folded in (False, True):
        axes = list(st.compute.reduce_axes if folded else st.compute.axes)
        i = len(axes) - 2
        while i >= 0:
            a, b = axes[i], axes[i + 1]
            if mergeable(st, a, b):
                z = axis(f"{a.name}_{b.name}", simplify(a.extent * b.extent))
                axes[i : i + 2] = [z]
                c = st.compute
                fold = (
                    replace(c.fold, axes=tuple(axes))
                    if folded and isinstance(c.fold, Reduce)
                    else c.fold
                )
                wide = replace(
                    st, compute=Compute(c.axes if folded else tuple(axes), c.values, fold, c.where)
                )
                st = simplify_stage(substitute_stage(wide, {a: z // b.extent, b: z % b.extent}))
            i -= 1
    return st


def mergeable(st: Stage, a: Expr, b: Expr) -> bool:
    """Whether each access steps over `a` as over whole rows of `b`, and neither is used outside
    addresses.
    """
    used = (*st.compute.exprs(), *((st.when,) if st.when is not None else ()))
    if any(_outside_addresses(e, (a, b)) for e in used):
        return False
    for buf, idx in accesses(st, everywhere=True):
        if not any(x in i.axes for i in idx for x in (a, b)):
            continue
        over_a, over_b = stride(buf, idx, a), stride(buf, idx, b)
        if over_a is None or over_b is None or not equal(over_a, over_b * b.extent):
            return False
    return True


def _outside_addresses(e: Expr, axes: tuple[Expr, ...]) -> bool:
    """Whether an axis's value is used, other than in the index of a load. Of loads inside an index
    the addresses must merge too, which `stride` finds not linear.
    """
    seen: set[Expr] = set()
    stack = [e]
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.op == "load":
            stack += (inner for i in x.args for inner in loads(i))
        elif x in axes:
            return True
        elif not x.axes.isdisjoint(axes):
            stack += x.args
    return False


# ---- the lane axis -------------------------------------------------------------------------------


def score(st: Stage, a: Expr) -> float:
    """How well lanes along `a` suit the stage's memory accesses, each weighed by how many elements
    it touches.
    """
    total = 0.0
    for buf, idx in accesses(st, everywhere=True):
        s = stride(buf, idx, a)
        weight = 1.5 if any(buf == b for b, _ in st.targets) else 1.0
        for x in frozenset().union(*(i.axes for i in idx)):
            weight *= max(1, estimate(x.extent)) if _independent(x) else 1
        if s is ONE:
            total += weight
        elif s is not ZERO:
            total -= weight
    return total


def _independent(a: Expr) -> bool:
    """Whether an axis's extent is known without other axes (a tile's last one may depend on its
    number).
    """
    return not a.extent.axes


def local_lane(st: Stage, target: Target) -> Expr | None:
    """The stage's own best axis for lanes; None where none has unit stride or enough points."""
    if isinstance(st.compute.fold, (Scan, Sort)):
        return None
    width = lane_count([st], target)
    candidates = st.compute.all_axes
    if st.update or st.combine is not None:
        candidates = candidates[-1:] if _writes_apart(st) else ()
    long = [a for a in candidates if not a.extent.is_const or a.extent.attr >= width]
    best = max(long, key=lambda a: score(st, a), default=None)
    return best if best is not None and score(st, best) > 0 else None


def _writes_apart(st: Stage) -> bool:
    """Whether the points of a stage's last axis, with the others as they are, update neighbouring
    elements, and under one condition: as lanes they do what they do one after another.
    """
    if st.compute.fold is not None or not st.compute.axes:
        return False
    a = st.compute.axes[-1]
    conditions = [c for c in (st.when, st.compute.where) if c is not None]
    if any(a in c.axes for c in conditions):
        return False
    return all(
        idx and not any(a in i.axes for i in idx[:-1]) and a not in simplify(idx[-1] - a).axes
        for _, idx in st.targets
    )


def _grid_lane(kernel: Kernel, target: Target) -> Expr | None:
    """The grid axis to take lanes from, None where the stages' own axes are as good."""
    body = tuple(stages(kernel.body))
    if any(st.update or st.combine is not None for st in body) or not kernel.grid:
        return None
    if any(isinstance(st.compute.fold, Sort) for st in body):
        return None  # it runs row by row, and each would have scratch for a whole tile
    width = lane_count(list(body), target)
    own = 0.0
    for st in body:
        lane = local_lane(st, target)
        own += score(st, lane) if lane is not None else 0
    best = max(kernel.grid, key=lambda g: sum(score(st, g) for st in body))
    if best.extent.is_const and best.extent.attr < width and len(kernel.grid) > 1:
        return None
    if not any(st.compute.all_axes for st in body):
        return best
    return best if sum(score(st, best) for st in body) > own else None


def _tile(kernel: Kernel, target: Target, sizes: RowSizes) -> int:
    body = list(stages(kernel.body))
    if not any(st.compute.all_axes for st in body):
        return sizes.block
    return lane_count(body, target) * sizes.vectors


def localise(kernel: Kernel, lane: Expr, tile: int) -> Kernel:
    """A tile of the grid axis `lane` made an axis of every stage; the grid keeps the tiles.

    Scratch gets a dimension for the tile.
    """
    n = lane.extent
    few = n.is_const and n.attr <= tile
    outer = axis(lane.name + "t", simplify((n + (tile - 1)) // tile))
    inner = axis(
        lane.name + "e", n if few else simplify(call("min", const(tile), n - outer * tile))
    )
    grid = tuple(a for g in kernel.grid for a in ((() if few else (outer,)) if g is lane else (g,)))
    size = n if few else const(tile)
    wider = {b: replace(b, shape=(*b.shape, size)) for b in kernel.scratch}

    def widen(at: Access) -> Access | None:
        return Access(wider[at.buf], (*at.idx, inner)) if at.buf in wider else None

    body: list[Item] = []
    for st in stages(kernel.body):
        moved = map_accesses(st, widen)
        c = moved.compute
        moved = replace(moved, compute=replace(c, axes=(*c.axes, inner)))
        here = inner if few else outer * tile + inner
        body.append(simplify_stage(substitute_stage(moved, {lane: here})))
    return replace(kernel, grid=grid, body=tuple(body), scratch=tuple(wider.values()))


def lane_count(body: list[Stage], target: Target) -> int:
    """Lanes of a vector: a full register of the widest value that the stages compute, 4 bytes at
    least.
    """
    widest = max(
        (v.dtype.size for st in body for v in st.compute.values if v.dtype.kind == "f"), default=0
    )
    if not widest:
        widest = max((v.dtype.size for st in body for v in st.compute.values[:1]), default=4)
    return target.vector_bytes // max(4, widest)


# ---- bundles -------------------------------------------------------------------------------------


def _vectorise(
    kernel: Kernel, target: Target, prefix: str, padded: frozenset[Buf], vectors: int
) -> Kernel:
    items: list[Item] = []
    registers: list[Buf] = []
    kinds = dict(kernel.kinds)
    bundles = _bundles(list(stages(kernel.body)), target)
    busy, hints = row_hints(kernel, bundles, target)
    for number, (bundle, lane) in enumerate(bundles):
        if lane is None and not is_long(bundle[0]):
            items += bundle
            continue
        shape = (
            Shape(1, 1, False)
            if lane is None
            else _shape(bundle, lane, target, padded, vectors)
        )
        carried = hints if number == busy else ()
        nest = strips(bundle, lane, shape, f"{prefix}v{number}", carried, target.machine.line)
        items += nest.items
        registers += nest.registers
        kinds |= nest.kinds
    used = {b for st in stages(tuple(items)) for b in (*st.reads, *st.writes)}
    scratch = tuple(b for b in kernel.scratch if b in used)
    return replace(
        kernel,
        body=tuple(items),
        scratch=(*scratch, *registers),
        kinds=tuple(sorted(kinds.items())),
    )


def _shape(
    bundle: list[Stage], lane: Expr, target: Target, padded: frozenset[Buf], vectors: int
) -> Shape:
    work = sum(flops(v) for st in bundle for v in st.compute.values)
    unroll = vectors if work <= target.machine.rows.light else 1
    narrow = any(
        ld.attr.dtype.size < 4 for st in bundle for e in st.exprs() for ld in loads(e)
    ) or any(b.dtype.size < 4 for st in bundle for b in st.writes)
    width = lane_count(bundle, target)
    touched = [
        (buf, idx)
        for st in bundle
        for buf, idx in accesses(st, everywhere=True)
        if any(lane in i.axes for i in idx)
    ]
    whole = all(
        buf in padded
        and idx[-1] is lane
        and not any(lane in i.axes for i in idx[:-1])
        and equal(buf.shape[-1] % width, ZERO)
        for buf, idx in touched
    )
    return Shape(width, unroll, target.has_masks and not narrow, whole)


def _bundles(body: list[Stage], target: Target) -> list[tuple[list[Stage], Expr | None]]:
    """Stages in order, neighbours with equal loops together, each with its lane axis."""
    out: list[tuple[list[Stage], Expr | None]] = []
    for st in body:
        lane = local_lane(st, target)
        if lane is not None and out and out[-1][1] is not None and not st.update:
            joined = _joined(out[-1][0], out[-1][1], st, lane)
            if joined is not None:
                out[-1][0].append(joined)
                continue
        out.append(([st], lane))
    return out


def _joined(bundle: list[Stage], lane: Expr, st: Stage, own: Expr) -> Stage | None:
    """`st` over the bundle's axes, reading the values computed there instead of loading them; None
    if it can't join.
    """
    first = bundle[0]
    theirs, mine = list(first.compute.all_axes), list(st.compute.all_axes)
    if len(theirs) != len(mine) or theirs.index(lane) != mine.index(own):
        return None
    if not all(equal(a.extent, b.extent) for a, b in zip(theirs, mine, strict=True)):
        return None
    if st.is_reduction and first.is_reduction and len(st.compute.axes) != len(first.compute.axes):
        return None
    if isinstance(first.compute.fold, (Scan, Sort)):
        return None
    st = substitute_stage(st, dict(zip(mine, theirs, strict=True)))
    produced = {b: (m, i) for m in bundle for b, i in m.targets}
    blocked = False

    def visit(node: Expr) -> Expr | None:
        nonlocal blocked
        if node.op != "load" or node.attr not in produced:
            return None
        m, idx = produced[node.attr]
        if m.compute.fold is not None or node.args != idx or m.when is not None:
            blocked = True
            return None
        position = [b for b, _ in m.targets].index(node.attr)
        return m.compute.values[position]

    st = map_stage(
        st, lambda e: rewrite(e, visit) if any(ld.attr in produced for ld in loads(e)) else e
    )
    return None if blocked else st
