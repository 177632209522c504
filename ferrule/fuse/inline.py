"""Inline: substitute pointwise stages into their consumers, where that costs less than storing
them.

Stages are visited in order, producers first. A stage's own loads are replaced first; then the stage
itself is kept or inlined, by the rules of `_verdict`, each of which gives its reason. Views (a load
with an index map) are inlined, unless an expression would grow too deep: below Graph there are no
views. What depends on parameters alone is not inlined into what does not: it is computed once.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.base.dtype import i64
from ferrule.ir.algebra import algebra
from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.contraction import channels, contraction, simplify_stage, untangle, widens
from ferrule.ir.analysis.cost import flops
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import (
    DEEP,
    ZERO,
    Buf,
    Expr,
    arg,
    both,
    checked,
    le,
    loads,
    lt,
    promises,
    rewrite,
    show,
    substitute,
    walk,
)
from ferrule.ir.system import Compute, Order, Sort, Stage, System, map_stage, substitute_stage
from ferrule.target.machine import CPU, Machine


def inline(system: System, machine: Machine = CPU) -> tuple[System, tuple[Decision, ...]]:
    """`system` with the stages that are left when each pointwise one was decided on, and why."""
    return _Inliner(system, machine).run()


class _Inliner:
    def __init__(self, system: System, machine: Machine):
        self.system, self.machine = system, machine
        self.outputs = set(system.outputs)
        self.constant = constants(system)
        self.values: dict[Buf, tuple[tuple[Expr, ...], Expr]] = {}  # target index and value
        self.contracted: set[Buf] = set()
        self.readers: dict[Buf, dict[int, Stage]] = {}  # by identity: stages compare field by field
        for st in system.stages:
            for b in st.reads:
                self.readers.setdefault(b, {})[id(st)] = st
        self.literal: set[Buf] = set()  # what depends on no parameter either
        for st in system.stages:
            if self.literal.issuperset(st.reads) and not st.update:
                self.literal |= set(st.writes)
        self.updates: dict[Buf, list[int]] = {}  # the places in the order of stages
        for k, st in enumerate(system.stages):
            for b in st.writes if st.update else ():
                self.updates.setdefault(b, []).append(k)
        self.place = {id(st): k for k, st in enumerate(system.stages)}

    def run(self) -> tuple[System, tuple[Decision, ...]]:
        kept: list[Stage] = []
        decisions: list[Decision] = []
        for original in _alive(self.system):
            st = simplify_stage(map_stage(self._expand(drop_unit_axes(original)), algebra))
            buf = st.target.buf
            inlined, reason = self._verdict(st, buf)
            if inlined and self._changes(original, st):
                inlined, reason = False, "what it reads is updated before it is read"
            if reason:
                chosen = "inlined" if inlined else "kept"
                decisions.append(Decision(buf.name, "inline", chosen, reason))
            if inlined:
                self.values[buf] = (st.target.idx, st.compute.values[0])
                self._pass_on(original, st, buf)
                if self._reads_contraction(st):
                    self.contracted.add(buf)
            if not inlined or buf in self.outputs:
                kept.append(st)
                if contraction(st) is not None:
                    self.contracted.add(buf)
        needed = _needed(kept, self.outputs | set(self.system.updates))
        return replace(self.system, stages=tuple(needed)), tuple(decisions)

    def _expand(self, st: Stage) -> Stage:
        """`st` with loads of inlined buffers replaced by their values."""

        def visit(node: Expr) -> Expr | None:
            if node.op == "load" and node.attr in self.values:
                idx, value = self.values[node.attr]
                placed = {a: i for a, i in zip(idx, node.args, strict=True) if not a.is_const}
                return _still_checked(substitute(value, placed), node.args)
            return None

        return map_stage(
            st, lambda e: rewrite(e, visit) if any(ld.attr in self.values for ld in loads(e)) else e
        )

    def _reads_contraction(self, st: Stage) -> bool:
        return any(b in self.contracted for b in st.reads)

    def _users(self, buf: Buf) -> list[Stage]:
        """The stages that read `buf`, or what it is inlined into."""
        return list(self.readers.get(buf, {}).values())

    def _pass_on(self, original: Stage, st: Stage, buf: Buf) -> None:
        """The users of an inlined stage now read what it read."""
        users = self.readers.get(buf, {})
        for b in st.reads:
            readers = self.readers.setdefault(b, {})
            readers.pop(id(original), None)
            readers.update(users)

    def _changes(self, original: Stage, st: Stage) -> bool:
        """Whether a user stands behind an update of what `st` reads."""
        first = self.place[id(original)]
        last = max((self.place[id(u)] for u in self._users(st.target.buf)), default=first)
        return any(first < k <= last for b in st.reads for k in self.updates.get(b, ()))

    def _widened_for_product(self, user: Stage) -> bool:
        """Whether a stage makes wider integers of bytes that a product reads."""
        if not inlinable(user) or not widens(user.compute.values[0]):
            return False
        readers = self._users(user.target.buf)
        return any(contraction(r) is not None for r in readers)

    def _verdict(self, st: Stage, buf: Buf) -> tuple[bool, str]:
        """(inline it, the reason for a decision that somebody may ask about)."""
        if not inlinable(st) or buf in self.updates:
            return False, ""
        value = st.compute.values[0]
        if value.depth > DEEP:
            return False, f"its expression is {value.depth} operations deep"
        users = self._users(buf)
        work, sources = flops(value), loads(value)
        if _turns(st) and any(_convolves(u, buf) for u in users):
            return False, "laid out anew for a window over it"
        if buf.layout is not None and len(users) == 1 and _copies_turned(users[0], buf):
            return False, "computed in this order, then copied to its output"
        if value.op == "load" and not any(i.op == "load" for a in value.args for i in loads(a)):
            return True, ""
        if not sources and work <= self.machine.cheap_flops:
            return True, ""
        if widens(value) and any(contraction(u) is not None for u in users):
            return True, "bytes that a product widens"
        if value.dtype.size == 1 and any(self._widened_for_product(u) for u in users):
            return False, "bytes that a product widens"
        if buf in self.constant - self.literal:
            if len(users) == 1 and self.constant.issuperset(users[0].writes):
                return True, ""
            return False, "depends on parameters alone, computed once"
        if buf in self.outputs:
            return False, ""
        if any(contraction(u) is not None or _window(u, buf) for u in users):
            if work <= 1 and len(sources) == 1 and value.op == "cast":
                return True, "a cast of one operand"
            return False, "each element is read many times by its consumer"
        if self._reads_contraction(st):
            alone = len(users) == 1 and inlinable(users[0])
            return (
                alone,
                "" if alone else "epilogue of a contraction, read by more than one stage",
            )
        if _chases(value) and any(_indexes_by(u, buf) for u in users):
            return False, "a step of a walk from index to index"
        if len(users) == 1:
            return True, "one consumer"
        if work <= self.machine.cheap_flops and len(users) <= self.machine.cheap_readers:
            return (
                True,
                f"{work} flops are cheaper than storing and reading it {len(users)} times",
            )
        return False, f"{work} flops, {len(users)} consumers"


def _still_checked(value: Expr, idx: tuple[Expr, ...]) -> Expr:
    """`value`, which stands for an element at `idx`, with those promises about the index that it no
    longer mentions: a broadcast or a literal is the same at each.
    """
    promised: set[Expr] = set().union(*map(promises, idx))
    for e in sorted(promised - promises(value), key=show) if promised else ():
        index, extent = e.args
        value = checked(value, both(le(ZERO, index), lt(index, extent)), "index")
    return value


def _chases(value: Expr) -> bool:
    """Whether an index is loaded at a place that was itself loaded."""
    return value.dtype == i64 and any(loads(i) for ld in loads(value) for i in ld.args)


def _indexes_by(user: Stage, buf: Buf) -> bool:
    """Whether a stage takes what is in `buf` as an index; each copy of it would be computed anew
    where the index is read at several places.
    """
    places = (i for e in user.exprs() for ld in loads(e) for i in ld.args)
    return any(ld.attr == buf for i in places for ld in loads(i))


def _turns(st: Stage) -> bool:
    """Whether a stage copies a buffer into a layout in which another index is innermost."""
    (buf, idx), value = st.target, st.compute.values[0]
    if buf.layout is None or value.op != "load":
        return False
    return idx[buf.order[-1]] is not value.args[value.attr.order[-1]]


def _convolves(user: Stage, buf: Buf) -> bool:
    """Whether a convolution reads `buf` through a window."""
    st = untangle(user)
    return (contraction(st) or channels(st)) is not None and _window(user, buf)


def _copies_turned(st: Stage, buf: Buf) -> bool:
    """Whether a stage only copies `buf` to a buffer with another dimension innermost."""
    (value, *others), (target, idx) = st.compute.values, st.target
    copies = not others and value.op == "load" and value.attr == buf and value.args == idx
    return copies and inlinable(st) and target.order[-1] != buf.order[-1]


def inlinable(st: Stage) -> bool:
    """A stage whose value can stand in place of a load of its target."""
    return st.is_pointwise and st.compute.where is None and len(st.targets) == 1


def _window(st: Stage, buf: Buf) -> bool:
    """Whether a folding stage reads elements of `buf` several times: its points outnumber the
    elements.
    """
    if not st.is_reduction:
        return False
    points = 1
    for a in st.compute.all_axes:
        points *= estimate(a.extent)
    return points > 1.5 * max(1, estimate(buf.size))


def _alive(system: System) -> list[Stage]:
    return _needed(list(system.stages), {*system.outputs, *system.updates})


def _needed(stages: list[Stage], outputs: set[Buf]) -> list[Stage]:
    """Dead stages removed, and what sorts only carry along; order kept. What updates a buffer needs
    what it held, of each target.
    """
    wanted = set(outputs)
    out: list[Stage] = []
    for st in reversed(stages):
        if any(b in wanted for b in st.writes):
            st = _without_idle_columns(st, wanted)
            wanted |= {*st.reads, *(st.writes if st.update else ())}
            out.append(st)
    return out[::-1]


def _without_idle_columns(st: Stage, wanted: set[Buf]) -> Stage:
    """A sort without the values that its order does not look at and that nobody wants."""
    c, fold = st.compute, st.compute.fold
    if not isinstance(fold, Sort):
        return st
    n = len(c.values)
    looked_at = {e.attr % n for e in walk(fold.order.before) if e.op == "arg"}
    kept = [k for k, to in enumerate(st.targets) if to.buf in wanted or k in looked_at]
    if len(kept) == n:
        return st
    dtypes = tuple(fold.order.dtypes[k] for k in kept)
    places = {
        arg(k + at * n, d): arg(i + at * len(kept), d)
        for i, (k, d) in enumerate(zip(kept, dtypes, strict=True))
        for at in (0, 1)
    }
    order = Order(dtypes, substitute(fold.order.before, places))
    values = tuple(c.values[k] for k in kept)
    return replace(
        st,
        targets=tuple(st.targets[k] for k in kept),
        compute=replace(c, values=values, fold=Sort(fold.axis, order)),
    )


def drop_unit_axes(st: Stage) -> Stage:
    """`st` without space axes of extent one: they become 0."""
    unit = [a for a in st.compute.axes if a.extent.is_const and a.extent.attr == 1]
    if not unit:
        return st
    c = st.compute
    axes = tuple(a for a in c.axes if a not in unit)
    lean = Stage(
        st.name,
        st.targets,
        Compute(axes, c.values, c.fold, c.where),
        st.combine,
        st.when,
        st.update,
    )
    return substitute_stage(lean, dict.fromkeys(unit, ZERO))
