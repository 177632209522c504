"""Which tile each axis of a kernel becomes: the step between an unscheduled Kernel and Triton.

    plan    = point axis | none, grid along.., tiled stage.., scratch (rank 0, or one row)
    along   = axis in blocks                       one dimension of a tile
    block   = grid   a program takes one block of it; programs cover the rest
            | row    one power of two covers it: a scratch tile holds all of it
            | loop   a loop runs over its blocks
    tiled   = stage with at most one axis of its own and one folded axis, and how it folds

A Triton tile has few dimensions, so several axes that lie side by side become one, `t`, and are
decoded from it: `a = t // n`, `b = t % n`. Where a buffer is contiguous in them the normal form of
the address is linear in `t` again, and what is left of the decoding is what the layout needs. So
a convolution's output positions and its kernel window are the two axes of a matrix product.

The grid becomes one blocked axis, or, in a kernel that contracts, a blocked axis for the rows of
the product, one for its columns, and a scalar point for what both factors share.

Scratch is a tile: it is flattened to one row and read whole, by a bare axis. What a kernel
writes to a global buffer and then reads again is kept as a tile too: the threads of one program
have no order between a store and a load. What does not fit this raises UnsupportedError.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from ferrule.base.dtype import f32
from ferrule.base.errors import UnsupportedError
from ferrule.ir.analysis.access import offset
from ferrule.ir.analysis.contraction import contraction, simplify_stage
from ferrule.ir.expr import (
    ONE,
    Buf,
    Expr,
    Space,
    axis,
    conjuncts,
    le,
    load,
    loads,
    lt,
    rewrite,
    walk,
)
from ferrule.ir.kernel import Branch, Kernel, Prefetch, SerialLoop, stages
from ferrule.ir.operators import PROMISES
from ferrule.ir.simplify import equal, prove, simplify
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

STREAM = 4096  # elements of one block of a loop
SQUARE = 64  # elements a side where two axes of a stage are blocked beside the grid
DEEP = 32  # elements of one block of a product's folded axis
LEAST_DOT = 16  # the least side of a matrix product in Triton


class Role(Enum):
    """How the blocks of an axis are covered."""

    GRID = "grid"
    ROW = "row"
    LOOP = "loop"


@dataclass(frozen=True)
class Block:
    """A block size, chosen at launch: at most `most` (any size for a row), at least `least`."""

    role: Role
    extent: Expr
    most: int = 0
    least: int = 1


@dataclass(frozen=True)
class Along:
    """One dimension of a tile: an axis taken in blocks."""

    axis: Expr
    block: Block


@dataclass(frozen=True)
class Factor:
    """One side of a product: its value, its two dimensions (the folded one as `tl.dot` wants it)
    and the guards it carries.
    """

    value: Expr
    dims: tuple[Along, Along]
    guards: tuple[Expr, ...]


@dataclass(frozen=True)
class Tiled:
    """A stage over tiles; `factors` where it is a matrix product."""

    stage: Stage
    own: Along | None = None
    folded: Along | None = None
    factors: tuple[Factor, Factor] | None = None


@dataclass(frozen=True)
class Plan:
    """A kernel over tiles. `rows` maps each scratch buffer to the block of its row, None for one
    element a grid point.
    """

    kernel: Kernel
    point: Expr | None
    grid: tuple[Along, ...]
    stages: tuple[Tiled, ...]
    rows: dict[Buf, Block | None]

    def dims_of(self, e: Expr, domain: tuple[Along, ...]) -> tuple[Along, ...]:
        """The dimensions of `domain` along which `e` differs: a scratch tile has the grid's."""
        held = any(ld.attr in self.rows for ld in loads(e))
        return tuple(d for d in domain if d.axis in e.axes or (held and d in self.grid))


def plan(kernel: Kernel) -> Plan:
    """The tiles of an unscheduled kernel. Raises UnsupportedError for what has no tile form."""
    kernel = _kept_tiles(_checked(kernel))
    split = _product_split(kernel)
    if split is not None:
        found = _planned(kernel, *split)
        if any(t.factors for t in found.stages):
            return found
    return _planned(kernel, (), (kernel.grid,))


# ---- what is covered -----------------------------------------------------------------------------


def _refuse(kernel: Kernel, stage: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"Triton code for kernel {kernel.name}, stage {stage}: {why}")


def _name(step: SerialLoop | Branch | Prefetch) -> str:
    if isinstance(step, Branch):
        return f"if {step.cond}"
    return step.axis.name if isinstance(step, SerialLoop) else step.buf.name


def _checked(kernel: Kernel) -> Kernel:
    """`kernel`, if each of its stages is one that tiles can compute."""
    for st in kernel.body:
        if not isinstance(st, Stage):
            name = _name(st)
            raise _refuse(kernel, name, "a schedule's step; pass the kernel before it is scheduled")
        if st.combine is not None:
            raise _refuse(kernel, st.name, "a scatter would need atomic updates in a fixed order")
        if isinstance(st.compute.fold, Scan):
            raise _refuse(kernel, st.name, "a scan runs in order along an axis")
        if isinstance(st.compute.fold, Sort):
            raise _refuse(kernel, st.name, "a sort would need exchanges between lanes")
        if isinstance(st.compute.fold, Reduce) and not st.compute.fold.axes:
            raise _refuse(kernel, st.name, "it folds over no axis")
        if any(node.op in PROMISES for e in st.exprs() for node in walk(e)):
            raise _refuse(kernel, st.name, "what must be checked cannot report an error")
    return kernel


def _kept_tiles(kernel: Kernel) -> Kernel:
    """`kernel` with each global buffer that it reads after writing it held in scratch as well."""
    body = list(stages(kernel.body))
    scratch = list(kernel.scratch)
    for buf in kernel.written:
        first = next(i for i, st in enumerate(body) if buf in st.writes)
        readers = [i for i, st in enumerate(body) if buf in st.reads]
        if not readers or (readers == [first] and _reads_its_place(body[first], buf)):
            continue
        st = body[first]
        partial = st.when is not None or (st.compute.fold is None and st.compute.where is not None)
        if min(readers) <= first or partial or sum(buf in s.writes for s in body) > 1:
            raise _refuse(kernel, st.name, f"{buf.name} is written and read in another order")
        idx = next(i for b, i in st.targets if b == buf)
        left = [d for d, i in enumerate(idx) if i.axes & set(st.compute.axes)]
        tile = Buf(f"{buf.name}.tile", tuple(buf.shape[d] for d in left), buf.dtype, Space.SCRATCH)
        place = tuple(idx[d] for d in left)
        body[first + 1 :] = [_from_tile(kernel, s, buf, idx, tile, left) for s in body[first + 1 :]]
        targets = tuple(Access(tile, place) if at.buf == buf else at for at in st.targets)
        own = st.compute.axes
        copy = Stage(buf.name, (Access(buf, idx),), Compute(own, (load(tile, *place),)))
        body[first : first + 1] = [replace(st, targets=targets), copy]
        scratch.append(tile)
    return replace(kernel, body=tuple(body), scratch=tuple(scratch))


def _reads_its_place(st: Stage, buf: Buf) -> bool:
    places = [idx for b, idx in st.targets if b == buf]
    read = [ld.args for e in st.exprs() for ld in loads(e) if ld.attr == buf]
    return all(args == place for args in read for place in places)


def _from_tile(
    kernel: Kernel, st: Stage, buf: Buf, idx: tuple[Expr, ...], tile: Buf, left: list[int]
) -> Stage:
    """`st` reading `tile` in place of `buf`, whose other dimensions the grid point fixes."""

    def visit(node: Expr) -> Expr | None:
        if node.op != "load" or node.attr != buf:
            return None
        if any(a is not b for d, (a, b) in enumerate(zip(node.args, idx)) if d not in left):
            raise _refuse(kernel, st.name, f"{buf.name} is read at another grid point's place")
        return load(tile, *(node.args[d] for d in left))

    return map_stage(st, lambda e: rewrite(e, visit))


# ---- the grid ------------------------------------------------------------------------------------

Axes = tuple[Expr, ...]
Steps = tuple[dict[Expr, Expr], ...]


def _product_split(kernel: Kernel) -> tuple[Axes, tuple[Axes, ...]] | None:
    """The grid by the first contraction: scalar axes, then the blocked groups; None without one."""
    for st in stages(kernel.body):
        if not isinstance(st.compute.fold, Reduce):
            continue
        own = set(st.compute.axes)
        full = replace(st, compute=replace(st.compute, axes=kernel.grid + st.compute.axes))
        roles = contraction(full)
        if roles is None or roles.left.dtype != f32 or own & set(roles.batch):
            continue
        sides = [s for s in (roles.m, roles.n) if s]
        if len(sides) < 2 or all(own & set(s) for s in sides):
            continue
        blocked = [s for s in sides if not own & set(s)]
        points = {a for a in kernel.grid if not any(a in s for s in blocked)}
        blocked.sort(key=lambda s: min(kernel.grid.index(a) for a in s))
        return tuple(a for a in kernel.grid if a in points), tuple(blocked)
    return None


def _merged(axes: Axes) -> tuple[Expr | None, Steps]:
    """One axis for several, and the substitutions that decode them, innermost pair first.

    Simplified after each step, an address that is contiguous in the pair is linear in their axis.
    """
    if len(axes) < 2:
        return (axes[0] if axes else None), ()
    steps: list[dict[Expr, Expr]] = []
    inner = axes[-1]
    for a in reversed(axes[:-1]):
        one = axis(f"{a.name}_{inner.name}", simplify(a.extent * inner.extent))
        steps.append({a: one // inner.extent, inner: one % inner.extent})
        inner = one
    return inner, tuple(steps)


# ---- the stages ----------------------------------------------------------------------------------


def _planned(kernel: Kernel, points: Axes, blocked: tuple[Axes, ...]) -> Plan:
    """The plan with `points` as one scalar axis and each group of `blocked` as one dimension."""
    point, steps = _merged(points)
    grid: list[Along] = []
    for group in blocked:
        one, decoded = _merged(group)
        steps += decoded
        if one is not None:
            most = SQUARE if len(blocked) > 1 or points else STREAM
            grid.append(Along(one, Block(Role.GRID, one.extent, most)))
    flat = {b: replace(b, shape=_row(b)) for b in kernel.scratch}
    rows = {f: Block(Role.ROW, f.shape[0]) if f.shape else None for f in flat.values()}
    draft = Plan(kernel, point, tuple(grid), (), rows)
    tiled = [_tiled(draft, _flattened(st, steps, flat)) for st in stages(kernel.body)]
    return _with_least(replace(draft, stages=tuple(tiled)))


def _row(b: Buf) -> tuple[Expr, ...]:
    """The shape of a scratch buffer as one row; none for a single element."""
    size = simplify(b.size)
    return () if size is ONE else (size,)


def _flattened(st: Stage, steps: Steps, flat: dict[Buf, Buf]) -> Stage:
    """`st` with its own axes as one, its folded axes as one, and scratch as rows."""
    c = st.compute
    own, decoded = _merged(c.axes)
    folded, more = _merged(c.reduce_axes)
    fold = c.fold
    if isinstance(fold, Reduce):
        fold = replace(fold, axes=() if folded is None else (folded,))
    compute = Compute(() if own is None else (own,), c.values, fold, c.where)
    st = replace(st, compute=compute)
    for step in (*steps, *decoded, *more):
        st = simplify_stage(substitute_stage(st, step))

    def place(at: Access) -> Access | None:
        if at.buf not in flat:
            return None
        return Access(flat[at.buf], (offset(*at),) if flat[at.buf].shape else ())

    return simplify_stage(map_accesses(st, place))


def _tiled(p: Plan, st: Stage) -> Tiled:
    """`st` with a block for each of its axes, as a product of matrices where it can be one."""
    c = st.compute
    _check_scratch(p, st)
    both = bool(c.axes and c.reduce_axes)
    own = _along(p, c.axes[0], SQUARE if both else STREAM) if c.axes else None
    folded = _along(p, c.reduce_axes[0], SQUARE if both else STREAM) if c.reduce_axes else None
    domain = tuple(d for d in (*p.grid, own, folded) if d is not None)
    deep = _along(p, c.reduce_axes[0], DEEP) if folded is not None else None
    factors = _factors(p, st, (*domain[:-1], deep)) if deep is not None else None
    if factors is not None:
        return Tiled(st, own, deep, factors)
    if folded is not None and len(domain) > 2 and len(p.grid) > 1:
        raise _refuse(p.kernel, st.name, "it folds beside the rows and columns of a product")
    return Tiled(st, own, folded)


def _along(p: Plan, a: Expr, most: int) -> Along:
    extent = simplify(a.extent)
    row = next((b for b in p.rows.values() if b is not None and equal(b.extent, extent)), None)
    return Along(a, row or Block(Role.LOOP, extent, most))


def _check_scratch(p: Plan, st: Stage) -> None:
    """Every scratch tile must be written whole and read whole, by a bare axis of the stage."""
    c = st.compute
    places = [(b, idx, c.axes) for b, idx in st.targets]
    places += [(ld.attr, ld.args, c.all_axes) for e in st.exprs() for ld in loads(e)]
    for buf, idx, axes in places:
        if buf in p.rows and idx and not (idx[0] in axes and equal(idx[0].extent, buf.shape[0])):
            why = f"{buf.name} is used at {idx[0]}, not whole by one axis"
            raise _refuse(p.kernel, st.name, why)
    if st.when is not None and any(b in p.rows for b in st.writes):
        raise _refuse(p.kernel, st.name, "scratch is written under a condition")


# ---- products ------------------------------------------------------------------------------------


def _factors(p: Plan, st: Stage, domain: tuple[Along, ...]) -> tuple[Factor, Factor] | None:
    """The two sides of a matrix product over exactly the three dimensions of `domain`."""
    c = st.compute
    value = c.values[0]
    folded = domain[-1]
    summed = isinstance(c.fold, Reduce) and c.fold.monoid.name == "sum" and len(c.values) == 1
    if not summed or len(domain) != 3 or value.op != "mul" or value.dtype != f32:
        return None
    sides = [(v, p.dims_of(v, domain)) for v in value.args]
    sides.sort(key=lambda s: domain.index(s[1][0]) if s[1] else 0)
    (left, rows), (right, columns) = sides
    if rows != (domain[0], folded) or columns != (domain[1], folded):
        return None
    held: tuple[list[Expr], list[Expr]] = ([], [])
    for g in conjuncts(c.where):
        dims = set(p.dims_of(g, domain))
        side = 0 if dims <= set(rows) else 1 if dims <= set(columns) else None
        if side is None:
            return None
        held[side].append(g)
    if (held[0] and not _in_bounds(p, right)) or (held[1] and not _in_bounds(p, left)):
        return None
    return (
        Factor(left, (domain[0], folded), tuple(held[0])),
        Factor(right, (folded, domain[1]), tuple(held[1])),
    )


def _in_bounds(p: Plan, e: Expr) -> bool:
    """Whether every global load of `e` is in bounds wherever its axes are."""
    return all(
        prove(le(i * 0, i)) and prove(lt(i, n))
        for ld in loads(e) if ld.attr not in p.rows
        for i, n in zip(ld.args, ld.attr.shape)
    )  # fmt: skip


def _with_least(p: Plan) -> Plan:
    """`p` with the blocks of every product at least as large as Triton's."""
    large = {d.block for t in p.stages if t.factors for f in t.factors for d in f.dims}

    def block(b: Block) -> Block:
        return replace(b, least=LEAST_DOT) if b in large else b

    def along(d: Along) -> Along:
        return replace(d, block=block(d.block))

    def factor(f: Factor) -> Factor:
        return replace(f, dims=(along(f.dims[0]), along(f.dims[1])))

    tiled = tuple(
        Tiled(
            t.stage,
            along(t.own) if t.own else None,
            along(t.folded) if t.folded else None,
            (factor(t.factors[0]), factor(t.factors[1])) if t.factors else None,
        )
        for t in p.stages
    )
    rows = {b: block(r) if r else None for b, r in p.rows.items()}
    return replace(p, grid=tuple(map(along, p.grid)), stages=tiled, rows=rows)
