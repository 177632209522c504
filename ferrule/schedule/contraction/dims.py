"""Contraction dims: how a first stage contracts, and which of its factors the lanes run along."""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import (
    ContractionDims,
    contraction,
    depthwise,
    operand_bufs,
    simplify_stage,
)
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ONE, Buf, Expr, axis, conjuncts, loads, product
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Reduce, Stage, substitute_stage
from ferrule.schedule.rows.schedule import mergeable
from ferrule.target.cpu import Target


def schedulable(kernel: Kernel, target: Target, constant: frozenset[Buf] = frozenset()) -> bool:
    """Whether the kernel starts with a contraction that has lanes to fill, is worth copying a
    factor for, if that is needed, and touches buffers in plain ways. `constant` are the buffers
    whose copies are made once.
    """
    body = list(stages(kernel.body))
    roles = contraction_dims(kernel, body[0])
    if roles is None or any(st.combine or st.update for st in body):
        return False
    roles = oriented(kernel, body[0], roles, constant)
    placed = in_place(roles.right, roles.n) or set(operand_bufs(roles.right)) <= constant
    if not placed and points(roles.m) < target.machine.products.few_rows:
        return False
    if 0 < len(set(roles.n) & set(kernel.grid)) < len(roles.n) or set(roles.m) - set(kernel.grid):
        return False
    if set(kernel.grid) - {*roles.batch, *roles.m, *roles.n}:
        return False  # an axis that guards alone mention
    if any(contraction_dims(kernel, st) and contraction(st) is None for st in body[1:]):
        return False  # a product without columns (attention with values of size 1)
    later = [r for st in body[1:] if (r := contraction(st)) is not None]
    rights = [(r if r.n else r.swapped()).right for r in later]
    if any(set(roles.m) & e.axes or set(operand_bufs(e)) & set(kernel.scratch) for e in rights):
        return False  # a panel of rows would need a right factor for each of its rows
    if set(roles.n) <= set(kernel.grid) and not all(is_epilogue(st) for st in body[1:]):
        return False  # a tile is written by stages that have a value at each of its points
    width = target.vector_bytes // body[0].compute.values[0].dtype.size
    return points(roles.n) * 2 >= width


def is_epilogue(st: Stage) -> bool:
    """Whether a stage has one value for each of its points, of which it folds and leaves out none.
    """
    c = st.compute
    plain = c.fold is None and c.where is None and st.combine is None and not st.update
    return plain and len(st.targets) == 1


def points(axes: tuple[Expr, ...]) -> int:
    """About how many points axes have together."""
    return estimate(product([a.extent for a in axes]))


def contraction_dims(kernel: Kernel, st: Stage) -> ContractionDims | None:
    """The roles of a stage of `kernel`, the grid axes that it mentions counted among its axes."""
    if not isinstance(st.compute.fold, Reduce):
        return None
    mentioned = frozenset().union(*(v.axes for v in st.compute.values))
    grid = tuple(g for g in kernel.grid if g in mentioned)
    whole = replace(st, compute=replace(st.compute, axes=(*grid, *st.compute.axes)))
    return contraction(whole) or _stencil(kernel, whole)


def _stencil(kernel: Kernel, st: Stage) -> ContractionDims | None:
    """The roles of a kernel's one fold, where it is depthwise in what the kernel writes."""
    body = list(stages(kernel.body))
    if st.compute.axes != tuple(g for g in kernel.grid if g in st.compute.axes):
        return None
    if any(s.compute.fold is not None or s.compute.axes for s in body[1:]):
        return None
    return depthwise(replace(st, targets=body[-1].targets))


def oriented(
    kernel: Kernel, st: Stage, roles: ContractionDims, constant: frozenset[Buf]
) -> ContractionDims:
    """The roles with the better side along the lanes: packed once, of unit stride in the result,
    readable in place.
    """
    if set(roles.n) & roles.left.axes:
        return roles  # depthwise: the sides differ
    local = set(st.compute.axes)

    def rating(r: ContractionDims) -> int:
        if not r.n or (set(r.m) & local):
            return -9
        n = r.n[-1]
        last = list(stages(kernel.body))[-1] if not local else st
        points = 4 if set(operand_bufs(r.right)) <= constant and constant else 0
        buf, idx = last.target
        points += 3 if stride(buf, idx, n) is ONE else 0
        return points + (2 if in_place(r.right, r.n) else 0)

    return max((roles, roles.swapped()), key=rating)


def flattened(kernel: Kernel, constant: frozenset[Buf]) -> Kernel:
    """`kernel` with neighbouring m axes of its first stage as one where every access walks them so
    (rows and columns of an image under a pointwise convolution): tiles then run across them.
    """
    first = next(stages(kernel.body))
    roles = contraction_dims(kernel, first)
    assert roles is not None
    m = list(oriented(kernel, first, roles, constant).m)
    body, grid = tuple(stages(kernel.body)), list(kernel.grid)
    for i in range(len(m) - 2, -1, -1):
        a, b = m[i], m[i + 1]
        if not {a, b} <= set(grid) or not all(mergeable(st, a, b) for st in body):
            continue
        z = axis(f"{a.name}_{b.name}", simplify(a.extent * b.extent))
        place = {a: z // b.extent, b: z % b.extent}
        body = tuple(simplify_stage(substitute_stage(st, place)) for st in body)
        grid = [z if g is b else g for g in grid if g is not a]
        m[i : i + 2] = [z]
    return replace(kernel, grid=tuple(grid), body=body)


def left_guards(st: Stage, roles: ContractionDims) -> tuple[Expr, ...]:
    """The guards that are the left factor's to keep, those that n is not in."""
    return tuple(c for c in conjuncts(st.compute.where) if not c.axes & set(roles.n))


def is_right(guard: Expr, roles: ContractionDims) -> bool:
    """Whether a guard is the right factor's alone: then its packed panel can hold zeros for it, and
    where it is of folded axes alone it must, lest packing reads past the factor.
    """
    batch = {b for b in roles.batch if b in roles.right.axes}
    return guard.axes <= {*roles.n, *roles.k, *batch}


def in_place(e: Expr, n: tuple[Expr, ...]) -> bool:
    """Whether vectors along the one n axis can be read where they lie."""
    return len(n) == 1 and all(
        stride(ld.attr, ld.args, n[0]) is ONE for ld in loads(e) if n[0] in ld.axes
    )
