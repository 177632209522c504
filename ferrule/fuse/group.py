"""Group: stitch stages into kernels.

A group is a set of stages that run at the points of one grid: the axes along which every member
works independently. A stage joins the group of a producer when the two agree on a grid: each
dimension of the group's buffers that a grid axis indexes must be read by the joining stage at a
bare axis of its own, which then *is* that grid axis. Where it isn't (a row that is reduced, then
read again) the axis leaves the grid and becomes local to the members. What remains must be enough
points to share among threads. This is the fusion of FusionStitching (Zheng et al., 2020) with rows
as grid points: intermediates of a group live in registers or scratch, those between groups in the
arena.

A contraction takes its pointwise consumers as an epilogue. Stages over whole rows of its result
(softmax), and a second contraction that consumes those rows, join it when its right operand is
small enough to be read again for each panel of rows.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.contraction import (
    ContractionDims,
    channels,
    contraction,
    operand_bufs,
    simplify_stage,
    untangle,
)
from ferrule.ir.analysis.cost import passed_on
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.calls import Interface, Kernels
from ferrule.ir.expr import Buf, Expr, Space, loads, product
from ferrule.ir.kernel import Kernel
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Access, Compute, Sort, Stage, System, map_accesses, substitute_stage
from ferrule.target.machine import CPU, Machine


class _Group:
    """Members over shared axes; `grid` are those of them that are independent for all members."""

    def __init__(self, number: int, st: Stage, constant: bool, machine: Machine):
        self.number, self.machine = number, machine
        self.members = [st]
        self.constant = constant
        self.grid = _apart(st) if st.update else list(st.compute.axes)
        self.before: set[_Group] = set()  # every group that must run earlier
        self.roles = contraction(st)
        self.panel = self.roles is not None and _small_right(self.roles, machine)

    @property
    def writes(self) -> dict[Buf, Stage]:
        return {b: st for st in self.members for b in st.writes}


def group(system: System, machine: Machine = CPU) -> tuple[Kernels, tuple[Decision, ...]]:
    """Stitch the stages of `system` into kernels, and say why neighbours were not joined. Outputs
    and what crosses kernels stay global; what depends on parameters alone is done in `prepare`.
    """
    constant = constants(system)
    groups: list[_Group] = []
    home: dict[Buf, list[_Group]] = {}
    decisions: list[Decision] = []
    for original in system.stages:
        st = original
        if _is_contracting(st):
            st = untangle(st)
        of_params = constant.issuperset(st.writes)
        producers = {
            g for b in (*st.reads, *(st.writes if st.update else ())) for g in home.get(b, ())
        }
        chosen = None
        for g in sorted(_candidates(st, producers, groups), key=lambda g: -g.number):
            why = _join(g, st, producers, of_params)
            if why is None:
                chosen = g
                break
            if g in producers:
                apart = Decision(st.name, "group", f"apart from {g.members[-1].name}", why)
                if g.constant == of_params:  # else it is written once and not on each call
                    between = [b for b in st.reads if b in g.writes]
                    apart = passed_on(apart, between, machine)
                decisions.append(apart)
        if chosen is None:
            chosen = _Group(len(groups), st, of_params, machine)
            groups.append(chosen)
        for p in (producers | _readers_of(st, groups)) - {chosen}:
            chosen.before |= {p} | p.before
        for g in groups:
            if chosen in g.before:
                g.before |= chosen.before
        for b in st.writes:
            home.setdefault(b, []).append(chosen)
    ordered = _topological(groups)
    readers = _readers(ordered)
    prepare, main = (
        tuple(_kernel(g, readers, system.outputs) for g in ordered if g.constant == first)
        for first in (True, False)
    )
    face = Interface(
        system.name, system.inputs, system.params, system.outputs, system.requires, system.updates
    )
    return Kernels(face, prepare, main), tuple(decisions)


def _readers_of(st: Stage, groups: list[_Group]) -> set[_Group]:
    """The groups that read what an update changes, as it was before."""
    if not st.update:
        return set()
    changed = set(st.writes)
    return {g for g in groups if any(not changed.isdisjoint(m.reads) for m in g.members)}


def _apart(st: Stage) -> list[Expr]:
    """The axes of an update whose points write elements of their own, wherever these lie: each
    counts along a dimension of every target. The last one is left for the lanes.
    """

    def counts(a: Expr, idx: tuple[Expr, ...]) -> bool:
        along = [i for i in idx if a in i.axes]
        return len(along) == 1 and not simplify(along[0] - a).axes

    return [a for a in st.compute.axes[:-1] if all(counts(a, idx) for _, idx in st.targets)]


def _is_contracting(st: Stage) -> bool:
    return st.is_reduction and st.compute.values[0].op == "mul"


def _candidates(st: Stage, producers: set[_Group], groups: list[_Group]) -> list[_Group]:
    """The producers' groups, then groups that read the same buffer."""
    if st.update:
        return []
    read = set(st.reads)
    siblings = [
        g for g in groups[-8:] if g not in producers and any(read & set(m.reads) for m in g.members)
    ]
    return [*producers, *siblings]


def _small_right(roles: ContractionDims, machine: Machine) -> bool:
    """Whether the right operand, one batch of it, is read again cheaply for each panel of rows."""
    if not roles.batch:
        return False
    size = 1
    for a in (*roles.n, *roles.k):
        size *= estimate(a.extent)
    return size <= machine.panel_elements


# ---- joining -------------------------------------------------------------------------------------


def _join(g: _Group, st: Stage, producers: set[_Group], constant: bool) -> str | None:
    """Make `st` a member of `g`, or say why it can't be."""
    if any(g in p.before for p in producers):
        return "a kernel between them would depend on both"
    if g.constant != constant:
        return "one depends on parameters alone"
    if any(m.update for m in g.members):
        return "it updates a buffer in place"
    if any(_turns(m) for m in (*g.members, st)):
        return "a copy to another order goes by squares"
    sibling = g not in producers
    matched = _match_siblings(g, st) if sibling else _match(g, st)
    if matched is None:
        return "they read different elements"
    mapping, kept = matched
    if set(g.grid) - kept and any(channels(m) for m in g.members):
        return "a channel by itself would be read against the grain"
    why = _contraction_rules(g, st, mapping, kept, sibling) or _grid_rules(g, st, kept)
    if why is not None:
        return why
    g.members.append(_rename(st, mapping))
    g.grid = [a for a in g.grid if a in kept]
    g.panel = g.panel or contraction(st) is not None
    return None


def _match(g: _Group, st: Stage) -> tuple[dict[Expr, Expr], set[Expr]] | None:
    """How `st`'s axes map onto the group's (an axis, or an index made of several), and the grid
    axes that survive.
    """
    kept, mapping = set(g.grid), dict[Expr, Expr]()
    writes = g.writes
    for e in st.exprs():
        for ld in loads(e):
            definer = writes.get(ld.attr)
            if definer is None:
                continue
            target = next(idx for b, idx in definer.targets if b == ld.attr)
            for mine, theirs in zip(ld.args, target, strict=True):
                shared = theirs.axes & kept
                if not shared:
                    continue
                if mine in st.compute.axes and _may_be(mine, theirs, mapping):
                    mapping[mine] = theirs
                else:
                    kept -= shared
    return _settle(mapping, kept)


def _may_be(mine: Expr, theirs: Expr, mapping: dict[Expr, Expr]) -> bool:
    """Whether an axis can stand for an index of the group, a bare axis or one that counts through
    several: it has its length and no other role.
    """
    length = simplify(product([a.extent for a in theirs.axes]))
    return equal(mine.extent, length) and mapping.get(mine, theirs) is theirs


def _match_siblings(g: _Group, st: Stage) -> tuple[dict[Expr, Expr], set[Expr]] | None:
    """The same for stages that only share an input: here the whole grid must survive."""
    mine = {ld.attr: ld.args for e in st.exprs() for ld in loads(e)}
    for m in g.members:
        for e in m.exprs():
            for ld in loads(e):
                if ld.attr not in mine or len(m.compute.axes) != len(st.compute.axes):
                    continue
                pairs = dict(zip(st.compute.axes, m.compute.axes, strict=True))
                if all(equal(a.extent, b.extent) for a, b in pairs.items()) and _same_index(
                    mine[ld.attr], ld.args, pairs
                ):
                    return _settle({a: b for a, b in pairs.items() if b in g.grid}, set(g.grid))
    return None


def _same_index(mine: tuple[Expr, ...], theirs: tuple[Expr, ...], pairs: dict[Expr, Expr]) -> bool:
    for a, b in zip(mine, theirs, strict=True):
        if a.op == "axis" and a in pairs:
            if pairs[a] is not b:
                return False
        elif a.op != b.op or (a.op != "axis" and a is not b):
            return False
    return True


def _settle(
    mapping: dict[Expr, Expr], kept: set[Expr]
) -> tuple[dict[Expr, Expr], set[Expr]] | None:
    """Drop grid axes that are claimed twice or only in part."""
    changed = True
    while changed:
        changed = False
        for x in tuple(kept):
            claims = [m for m, t in mapping.items() if x in t.axes]
            partial = any(not mapping[m].axes <= kept for m in claims)
            if len(claims) != 1 or partial:
                kept.discard(x)
                changed = True
    return {m: t for m, t in mapping.items() if t.axes and t.axes <= kept}, kept


def _rename(st: Stage, mapping: dict[Expr, Expr]) -> Stage:
    c = st.compute
    axes: list[Expr] = []
    for a in c.axes:
        new = mapping.get(a)
        axes += (
            [a]
            if new is None
            else sorted(new.axes, key=lambda x: x.name)
            if new.op != "axis"
            else [new]
        )
    body = Stage(
        st.name,
        st.targets,
        Compute(tuple(axes), c.values, c.fold, c.where),
        st.combine,
        st.when,
        st.update,
    )
    return simplify_stage(substitute_stage(body, dict(mapping)))


def _contraction_rules(
    g: _Group, st: Stage, mapping: dict[Expr, Expr], kept: set[Expr], sibling: bool
) -> str | None:
    mine = contraction(st)
    first = g.roles
    if mine is not None:
        if sibling or first is None or not g.panel:
            return "a contraction starts a kernel of its own"
        inside = set(g.writes)
        sides = (mine, mine.swapped())
        small = [s for s in sides if _small_right(s, g.machine)]
        if not any(not inside & set(operand_bufs(s.right)) for s in small):
            return "its operands are too large to read again for every panel of rows"
        theirs = {mapping[a] for a in mine.batch if a in mapping}
        if theirs & set(first.m):
            return "each row of the first contraction has a right operand of its own"
    if first is None:
        return None
    if isinstance(st.compute.fold, Sort):
        return "it orders the contraction's result"
    if sibling:
        return "a contraction takes only its own epilogue"
    dropped = set(g.grid) - kept
    if not dropped:
        if mine is None and not st.is_pointwise and set(first.n) & set(g.grid):
            return "it folds the contraction's result"
        tiled = not first.n or set(first.n) & set(g.grid)
        if mine is None and tiled and set(st.compute.axes) - set(mapping):
            return "it repeats the contraction's result along further axes"
        return None
    if not g.panel:
        return "a stage over whole rows would read the right operand again for every panel of rows"
    if dropped & (set(first.m) | set(first.batch)):
        return "it reads other rows of the contraction"
    return None


def _turns(st: Stage) -> bool:
    """Whether a stage only copies a buffer to another order with another dimension innermost."""
    value, (target, idx) = st.compute.values[0], st.target
    copies = st.is_pointwise and value.op == "load" and value.args == idx
    return copies and value.attr.order[-1:] != target.order[-1:]


def _grid_rules(g: _Group, st: Stage, kept: set[Expr]) -> str | None:
    work = 1
    for m in (*g.members, st):
        points = 1
        for a in m.compute.all_axes:
            points *= estimate(a.extent)
        work = max(work, points)
    if not kept and (g.grid or st.compute.axes) and work > g.machine.serial_points:
        return "they share no axis that threads could divide"
    before, after = (estimate(product([a.extent for a in axes])) for axes in (g.grid, kept))
    if after < g.machine.shared_units <= before and work >= g.machine.shared_points:
        return "they share too few points for threads to divide"
    scratch = 1
    for a in g.grid:
        if a not in kept:
            scratch *= estimate(a.extent)
    fixed = any(a.extent.is_const for a in g.grid if a not in kept)
    if scratch * 4 > g.machine.scratch_bytes and fixed:
        return f"a grid point would keep {scratch * 4 >> 10} KiB"
    return None


# ---- kernels -------------------------------------------------------------------------------------


def _topological(groups: list[_Group]) -> list[_Group]:
    done: dict[_Group, None] = {}
    pending = list(groups)
    while pending:
        ready = next((g for g in pending if g.before - {g} <= done.keys()), None)
        if ready is None:
            raise AssertionError("kernels depend on each other in a circle")
        done[ready] = None
        pending.remove(ready)
    return list(done)


def _readers(groups: list[_Group]) -> dict[Buf, set[int]]:
    """The groups that read a buffer or rewrite parts of it, by number."""
    readers: dict[Buf, set[int]] = {}
    for g in groups:
        for m in g.members:
            for b in (*m.reads, *(m.writes if m.update else ())):
                readers.setdefault(b, set()).add(g.number)
    return readers


def _kernel(g: _Group, readers: dict[Buf, set[int]], outputs: tuple[Buf, ...]) -> Kernel:
    """The group as an unscheduled kernel: grid axes taken out of the members, private buffers
    turned into scratch.
    """
    updates = any(m.update for m in g.members)
    private = {
        b: st
        for b, st in g.writes.items()
        if b not in outputs and not updates and readers.get(b, set()) <= {g.number}
    }
    shrunk = {
        b: _shrink(b, next(i for t, i in st.targets if t == b), g.grid) for b, st in private.items()
    }
    body = tuple(_local(m, g.grid, shrunk) for m in g.members)
    scratch = tuple(s for s, _ in shrunk.values())
    return Kernel(g.members[-1].target.buf.name, tuple(g.grid), body, scratch)


def _shrink(buf: Buf, idx: tuple[Expr, ...], grid: list[Expr]) -> tuple[Buf, tuple[int, ...]]:
    """The scratch form of a private buffer and the dimensions that remain: those not fixed by the
    grid point.
    """
    left = tuple(
        d for d, i in enumerate(idx) if not i.is_const and not (i.axes and i.axes <= set(grid))
    )
    return replace(
        buf, shape=tuple(buf.shape[d] for d in left), space=Space.SCRATCH, layout=None
    ), left


def _local(st: Stage, grid: list[Expr], shrunk: dict[Buf, tuple[Buf, tuple[int, ...]]]) -> Stage:
    def place(at: Access) -> Access | None:
        if at.buf not in shrunk:
            return None
        buf, left = shrunk[at.buf]
        return Access(buf, tuple(at.idx[d] for d in left))

    moved = map_accesses(st, place)
    axes = tuple(a for a in moved.compute.axes if a not in grid)
    return replace(moved, compute=replace(moved.compute, axes=axes))
