"""Small loops: a repeated part whose steps are short as one function that loops itself.

    part = body (new states, rows) [while flag (first..)]       one launch for each call of a step
    part = one function { alloc state..  while goes { the body's functions in a row } }

A launch costs some ten ns, and its results go by way of memory. Steps of a few numbers, as of a
search for a root or of a recurrence, take less than that. So the loops of the body's functions are
put in a row into one function, for one thread, as long as

- a step takes less than what another thread is woken for,
- what a step makes is of constant size, and fits the stack with room to spare,
- its states are so few bytes that handing them on by a copy costs less than a launch.

The states are buffers of the function's own, which scalars among them leave for registers; what
steps update in place is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Call, Functions, Interface
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, Space, axis, dims, load, mul, rewrite
from ferrule.ir.kernel import Kind, Prefetch
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store, While, walk_stmts
from ferrule.ir.module import Module, Part, Repetition
from ferrule.ir.module import While as AsLongAs
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access
from ferrule.target.machine import Machine

LOOP_OF = "loop of "  # what the note of such a call begins with; the notes of its steps follow
_OWN = 16 << 10  # bytes of what a step makes
_STATEMENTS = 400  # more of them take long to compile, and a launch is little beside them
Decisions = tuple[Decision, ...]
Move = Callable[[Access], Access]


def small_loops(level: Any, machine: Machine) -> tuple[Any, Decisions]:
    """`level` with one function for each of its loops that is small; Functions as they are."""
    if not isinstance(level, Module):
        return level, ()
    parts: list[Part[Any]] = []
    decisions: list[Decision] = []
    for part in level.parts:
        if isinstance(part.body, Module):
            body, inner = small_loops(part.body, machine)
            part = replace(part, body=body)
            decisions += inner
        elif _is_small(part, machine):
            part = Part(_Looped.of(part).functions(), part.outputs)
            why = "its steps are shorter than the launches they would take"
            decisions.append(Decision(part.body.interface.name, "loop", "one function", why))
        parts.append(part)
    return replace(level, parts=tuple(parts)), tuple(decisions)


def _is_small(part: Part[Functions], machine: Machine) -> bool:
    control, body = part.control, part.body
    outputs = body.interface.outputs
    if not isinstance(control, Repetition | AsLongAs) or not body.main:
        return False
    if len(set(outputs)) < len(outputs):
        return False
    looped = _Looped.of(part)
    used = [looped.function(c) for c in body.main]
    states = [_bytes(b) for b in looped.states]
    own = [*states, *map(_bytes, looped.made), *(_bytes(b) for f in used for b in _allocated(f))]
    costs = [simplify(c.cost) for c in body.main]
    if not all(n.is_const for n in (*own, *costs)):
        return False
    return (
        _total(costs) < machine.grain_ns
        and _total(states) <= machine.handed_on_bytes
        and _total(own) <= _OWN
        and sum(1 for f in used for _ in walk_stmts(f.body)) <= _STATEMENTS
    )


def _bytes(b: Buf) -> Expr:
    return simplify(mul(b.size, ONE * b.dtype.size))


def _total(sizes: list[Expr]) -> int:
    return sum(int(n.attr) for n in sizes)


def _allocated(f: Function) -> Iterator[Buf]:
    return (s.buf for s in walk_stmts(f.body) if isinstance(s, Alloc))


@dataclass(frozen=True)
class _Looped:
    """A part as one function. A step reads its state from `own[input]`, and writes what `own` tells
    in place of each buffer that is made in it, or row `here` of what `rows` tells. `prepared` are
    its constants by names of their own: around the loop, what has the same name may be a state.
    """

    part: Part[Functions]
    control: Repetition | AsLongAs
    own: Mapping[Buf, Buf]
    rows: Mapping[Buf, Buf]
    here: Expr
    prepared: Mapping[Buf, Buf]

    @staticmethod
    def of(part: Part[Functions]) -> _Looped:
        control, face = part.control, part.body.interface
        assert isinstance(control, Repetition | AsLongAs)
        rows: dict[Buf, Buf] = {}
        here = ZERO
        s = len(control.first)
        if isinstance(control, Repetition):
            rows |= dict(zip(face.inputs[s:], control.over))
            rows |= dict(zip(face.outputs[s:], part.outputs[s:]))
            t = axis(f"{face.name}.step", control.count)
            here = simplify(control.count - ONE - t) if control.reverse else t
        written = {f.name: f.written for f in part.body.functions}
        made = [b for c in part.body.main for b in c.args[: written[c.function]]]
        outside = {*rows, *face.updates}
        kept = dict.fromkeys(b for b in (*face.inputs[:s], *made) if b not in outside)
        own = {b: _private(b, f"{face.name}.{b.name}") for b in kept}
        known = (b for c in part.body.prepare for b in c.args[: written[c.function]])
        prepared = {b: replace(b, name=f"{face.name}.{b.name}") for b in known}
        return _Looped(part, control, own, rows, here, prepared)

    @property
    def face(self) -> Interface:
        return self.part.body.interface

    @property
    def states(self) -> list[Buf]:
        return [self.own[b] for b in self.face.inputs[: len(self.control.first)]]

    @property
    def made(self) -> list[Buf]:
        """The buffers that a step writes for itself, or for the next one."""
        return list(self.own.values())[len(self.control.first) :]

    @cached_property
    def by_name(self) -> Mapping[str, Function]:
        return {f.name: f for f in self.part.body.functions}

    def function(self, call: Call) -> Function:
        return self.by_name[call.function]

    def functions(self) -> Functions:
        """The straight program whose one call runs all steps."""
        part, body, control = self.part, self.part.body, self.control
        inside = {*self.own, *self.rows}
        used = (self.outside(b) for c in body.main for b in c.args if b not in inside)
        written = (*part.outputs, *self.face.updates)
        read = dict.fromkeys((*part.asked, *part.carried, *used))
        args = (*written, *(b for b in read if b not in written))
        sizes = {d for b in args for n in b.shape for d in dims(n)}
        sizes |= {d for c in body.main for d in self.function(c).dims}
        if isinstance(control, Repetition):
            sizes |= dims(control.count)
        ordered = tuple(sorted(sizes, key=lambda d: d.name))
        function = Function("loop", args, len(written), ordered, (), self.statements())
        notes = ", ".join(dict.fromkeys(c.note or c.function for c in body.main))
        call = Call(function.name, args, self.cost(), f"{LOOP_OF}{notes}")
        prepare = tuple(
            replace(c, args=tuple(map(self.outside, c.args))) for c in body.prepare
        )
        early = {c.function for c in prepare}
        kept = tuple(f for f in body.functions if f.name in early)
        captured = self.face.inputs[len(part.carried) :]
        inputs = tuple(dict.fromkeys((*part.asked, *part.carried, *captured)))
        face = replace(self.face, inputs=inputs, outputs=part.outputs)
        return Functions(face, (*kept, function), prepare, (call,))

    def outside(self, b: Buf) -> Buf:
        """What the function is given for a buffer that no step makes."""
        return self.prepared.get(b, b)

    def cost(self) -> Expr:
        """Of all steps; of one where nobody knows how many."""
        step: Expr = ZERO
        for c in self.part.body.main:
            step = step + c.cost
        return simplify(self.control.count * step if isinstance(self.control, Repetition) else step)

    def statements(self) -> tuple[Stmt, ...]:
        part, control, states = self.part, self.control, self.states
        s = len(states)
        new = [self.own[b] for b in self.face.outputs[:s]]
        first = [_copy(b, f) for b, f in zip(states, control.first, strict=True)]
        again: list[Stmt] = [*map(Alloc, self.made), *self.step()]
        for j in range(s):
            if not part.passing[j]:
                again.append(_copy(part.outputs[j], new[j], (self.here,)))
        again += map(_copy, states, new)
        repeated: tuple[Stmt, ...]
        if isinstance(control, AsLongAs):
            goes = _private(control.flag, f"{self.face.name}.flag")
            again.append(_copy(goes, self.own[self.face.outputs[-1]]))
            repeated = Alloc(goes), _copy(goes, control.flag), While(goes, tuple(again))
        else:
            t = axis(f"{self.face.name}.step", control.count)
            repeated = (For(t, ZERO, control.count, Kind.SERIAL, tuple(again)),)
        last = [_copy(part.outputs[j], states[j]) for j in range(s) if part.passing[j]]
        return (*map(Alloc, states), *first, *repeated, *last)

    def step(self) -> Iterator[Stmt]:
        """The body's calls in a row, each of them all points of its function's grid."""
        for k, call in enumerate(self.part.body.main):
            f = self.function(call)
            actual = dict(zip(f.bufs, call.args, strict=True))
            actual |= {b: replace(b, name=f"call{k}.{b.name}") for b in _allocated(f)}
            body = _on(f.body, self.placing(actual))
            for a in reversed(f.grid):
                body = (For(a, ZERO, a.extent, Kind.SERIAL, body),)
            yield from body

    def placing(self, actual: Mapping[Buf, Buf]) -> Move:
        """Where an access to a formal buffer goes in a step."""

        def place(at: Access) -> Access:
            buf = actual[at.buf]
            if buf in self.rows:
                return Access(self.rows[buf], (self.here, *at.idx))
            return Access(self.own.get(buf, self.outside(buf)), at.idx)

        return place


def _private(b: Buf, name: str) -> Buf:
    return replace(b, name=name, space=Space.SCRATCH)


def _copy(to: Buf, of: Buf, row: tuple[Expr, ...] = ()) -> Stmt:
    """`to[row] = of`, element by element."""
    axes = tuple(axis(f"{to.name}.{k}", n) for k, n in enumerate(of.shape))
    out: Stmt = Store((Access(to, (*row, *axes)),), (load(of, *axes),))
    for a in reversed(axes):
        out = For(a, ZERO, a.extent, Kind.SERIAL, (out,))
    return out


def _on(body: tuple[Stmt, ...], move: Move) -> tuple[Stmt, ...]:
    """Statements that read, write and allocate elsewhere."""

    def visit(e: Expr) -> Expr | None:
        if e.op != "load":
            return None
        at = move(Access.of(e))
        return load(at.buf, *at.idx)

    def moved(e: Expr) -> Expr:
        return rewrite(e, visit)

    def place(buf: Buf, idx: tuple[Expr, ...]) -> Access:
        return move(Access(buf, tuple(map(moved, idx))))

    def stmt(s: Stmt) -> Stmt:
        if isinstance(s, For):
            return For(s.axis, moved(s.lo), moved(s.hi), s.kind, block(s.body))
        if isinstance(s, If):
            return If(moved(s.cond), block(s.body), block(s.orelse))
        if isinstance(s, While):
            return While(place(s.flag, ()).buf, block(s.body))
        if isinstance(s, Alloc):
            return Alloc(place(s.buf, ()).buf)
        if isinstance(s, Prefetch):
            at = place(s.buf, s.idx)
            return Prefetch(at.buf, at.idx, s.write)
        return Store(
            tuple(place(b, idx) for b, idx in s.targets), tuple(map(moved, s.values)), s.monoid
        )

    def block(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(map(stmt, stmts))

    return block(body)
