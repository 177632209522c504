"""In place: a state of a loop that steps update stays in one buffer.

    repeat first x0:  y[i] = x[i]; y[k] = v  gives y        each step copies the state
    y = x0; repeat:   y[k] = v                              it is copied once, in front of the loop

A stage that only copies one buffer to another is left out, and both are one, where all that reads
the first can run before the second is updated. If copies lead from a state's input to its output,
the body has neither of them: it updates a buffer that stands outside, and is read there behind the
loop. So it is for a loop around loops, through whose parts the copies lead. Copies before updates
in a row (a `scatter` of a `scatter`) are left out wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ferrule.fuse.copies import carried_through, face, made_as_output, without_copies
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.expr import Buf, axis, load
from ferrule.ir.module import Part, Repetition, While
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Compute, Stage, System
from ferrule.target.machine import CPU, Machine

Decisions = tuple[Decision, ...]


def in_place(level: Any, machine: Machine = CPU) -> tuple[Any, Decisions]:
    """`level`, a System or a module of them, without the copies that updates do not need. A state
    of at most `machine.handed_on_bytes` is handed on from step to step: that costs little.
    """
    if isinstance(level, System):
        return (level if level.fused else without_copies(level)), ()
    parts: list[Part[Any]] = []
    decisions: list[Decision] = []
    buffers: list[Buf] = []
    for part in level.parts:
        body, inner = in_place(part.body, machine)
        decisions += inner
        part = replace(part, body=body)
        kept = _kept(part, machine)
        if kept is not None:
            names = ", ".join(b.name for b in kept.states.values())
            decisions.append(Decision(names, "loop", "updated in place", "no step needs it whole"))
            parts.append(kept.before(level.interface.params))
            part = kept.part()
            buffers += kept.states.values()
        parts.append(part)
    level = replace(level, parts=tuple(parts))
    return reduce(made_as_output, buffers, level), tuple(decisions)


@dataclass(frozen=True)
class _Kept:
    """A loop whose body has become `body`, and the buffer in which each state of `states`, a place
    among the first inputs, lies all the time.
    """

    old: Part[Any]
    body: Any
    states: Mapping[int, Buf]

    @property
    def firsts(self) -> tuple[Buf, ...]:
        control = self.old.control
        assert isinstance(control, Repetition | While)
        return control.first

    def before(self, params: tuple[Buf, ...]) -> Part[System]:
        """What fills the buffers before the first step."""
        stages = tuple(_copy(self.firsts[k], b) for k, b in self.states.items())
        read = dict.fromkeys(self.firsts[k] for k in self.states)
        inputs = tuple(b for b in read if b not in params)
        known = tuple(b for b in read if b in params)
        made = tuple(self.states.values())
        return Part(System(f"{face(self.body).name}.first", inputs, known, stages, made), made)

    def part(self) -> Part[Any]:
        """The loop with the other states."""
        control, left = self.old.control, self._left(self.firsts)
        if isinstance(control, Repetition):
            last = self._left(tuple(map(control.keeps_last, range(len(self.firsts)))))
            control = replace(control, first=left, last=last if any(last) else ())
        elif isinstance(control, While):
            control = replace(control, first=left)
        return Part(self.body, self._left(self.old.outputs), control)

    def _left(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x for k, x in enumerate(items) if k not in self.states)


def _copy(source: Buf, target: Buf) -> Stage:
    axes = tuple(axis(f"{target.name}_{i}", s) for i, s in enumerate(target.shape))
    value = Compute(axes, (load(source, *axes),))
    return Stage(f"{target.name}_first", (Access(target, axes),), value)


def _kept(part: Part[Any], machine: Machine) -> _Kept | None:
    """`part` with the states that can be updated in place; None where there is none."""
    control, body = part.control, part.body
    if not isinstance(control, Repetition | While) or _is_fused(body):
        return None
    own, states = face(body), dict[int, Buf]()
    for k in range(len(control.first)):
        state, result = own.inputs[k], own.outputs[k]
        if _is_small(state, machine) or not part.passing[k] or own.outputs.count(result) > 1:
            continue
        found = carried_through(body, state, result, part.outputs[k])
        if found is not None:
            body, states[k] = found, part.outputs[k]
    return _Kept(part, body, states) if states else None


def _is_fused(level: Any) -> bool:
    systems = (level,) if isinstance(level, System) else level.straight()
    return any(system.fused for system in systems)


def _is_small(b: Buf, machine: Machine) -> bool:
    size = simplify(b.size * b.dtype.size)
    return size.is_const and size.attr <= machine.handed_on_bytes
