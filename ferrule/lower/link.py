"""Link: the parts of a module, brought down to programs, as one program.

What one part makes and another reads has a place of its own in the arena for as long as it is
needed; behind these lie the temps of the part that runs. A body's states and rows have no place:
they are parts of larger buffers (`Row`). The states of a `while` are two rows in turn, one that is
read and one that is written, and what it leaves is the one that was written last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ferrule.base.dtype import boolean
from ferrule.ir.calls import Interface
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, const, dim, dims, mod
from ferrule.ir.loop import Function
from ferrule.ir.module import Branch, Module, Part, Repetition, While
from ferrule.ir.program import Case, Placed, Program, Repeat, Row, Run, Step, Variants, walk_rows
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Requirement
from ferrule.lower.memory import Lifetime, plan, total

TWO = const(2)


def link(level: Program | Module[Any]) -> Program:
    """The program that runs the parts of a module, which may be modules, in order; a program is one
    already.
    """
    if isinstance(level, Program):
        return level
    face, linked = level.interface, level.map(link)
    between, own_bytes = plan(_between(face, linked.parts))
    parts = [_Part(f"p{k}", part, own_bytes) for k, part in enumerate(linked.parts)]
    run: list[Step] = []
    for k, part in enumerate(parts):
        control = part.part.control
        if not isinstance(control, Branch):
            run += part.main()
        elif control.case == 0:
            run.append(Case(control.index, tuple(p.main() for p in _cases(parts[k:]))))
    prepare: list[Step] = []
    consts: list[Placed] = []
    const_bytes = ZERO
    for part in parts:
        consts += part.consts(const_bytes)
        const_bytes = simplify(const_bytes + part.program.const_bytes)
        prepare += part.steps(part.program.prepare)
    programs = [p.program for p in parts]
    found = {d for b in face.bufs for s in b.shape for d in dims(s)}
    found |= {d for p in programs for d in p.dims}
    counts = (p.control.count for p in level.parts if isinstance(p.control, Repetition))
    found |= {d for count in counts for d in dims(count)}
    requires: dict[Expr, Requirement] = {}
    for r in (*face.requires, *(r for p in programs for r in p.requires)):
        requires.setdefault(r.fact, r)
    return Program(
        name=face.name,
        inputs=face.inputs,
        params=face.params,
        outputs=face.outputs,
        dims=tuple(sorted(found, key=lambda d: d.name)),
        functions=tuple(f for p in parts for f in p.functions()),
        consts=tuple(consts),
        const_bytes=const_bytes,
        temps=(*between, *(t for p in parts for t in p.temps())),
        arena_bytes=simplify(own_bytes + total([p.arena_bytes for p in programs])),
        scratch_bytes=total([p.scratch_bytes for p in programs]),
        prepare=tuple(prepare),
        main=tuple(run),
        requires=tuple(requires.values()),
        updates=face.updates,
    )


def _cases(parts: list[_Part]) -> Iterator[_Part]:
    """The branches that the first of `parts` begins."""
    for k, part in enumerate(parts):
        control = part.part.control
        if not isinstance(control, Branch) or control.case != k:
            return
        yield part


def _reads(part: Part[Program]) -> tuple[Buf, ...]:
    """The buffers from outside."""
    return (*part.asked, *part.carried, *part.body.inputs[len(part.carried) :])


def _between(face: Interface, parts: tuple[Part[Program], ...]) -> list[Lifetime]:
    """How long what crosses parts is needed, and what the loops among them keep."""
    stand_for: dict[Buf, tuple[Buf, ...]] = {b: (b,) for b in face.bufs}
    first: dict[Buf, int] = {}
    last: dict[Buf, int] = {}
    for k, part in enumerate(parts):
        last.update((s, k) for b in _reads(part) for s in stand_for[b])
        own = _wholes(part)
        for b in own:
            first.setdefault(b, k)
            last[b] = k
        for j, (b, whole) in enumerate(zip(part.outputs, own)):
            passes = part.passing[j]
            stand_for[b] = (whole, *stand_for[part.carried[j]]) if passes else (b,)
    elsewhere = set(face.bufs)
    return [Lifetime(b, first[b], last[b]) for b in first if b not in elsewhere]


def _wholes(part: Part[Program]) -> list[Buf]:
    """What a part's outputs lie in: two of each state of which the last is the output, which the
    steps write in turn; and two flags of a `while`.
    """
    found = [
        Buf(f"{b.name}.pair", (TWO, *b.shape), b.dtype) if passes else b
        for b, passes in zip(part.outputs, part.passing, strict=True)
    ]
    if isinstance(part.control, While):
        found.append(Buf(f"{part.body.name}.goes", (TWO,), boolean))
    return found


class _Part:
    """A part with names of its own: its functions, temps and constants begin with `prefix`."""

    def __init__(self, prefix: str, part: Part[Program], shift: Expr) -> None:
        self.prefix, self.part, self.shift = prefix, part, shift
        self.program = p = part.body
        loops = isinstance(part.control, Repetition | While)
        outer = tuple(map(self.local, p.outputs)) if loops else part.outputs
        own = [t.buf for t in (*p.consts, *p.temps)] + [r.buf for r in walk_rows(p.main)]
        self.renamed: Mapping[Buf, Buf] = {
            **{b: self.local(b) for b in own},
            **dict(zip(p.outputs, outer, strict=True)),
        }

    def local(self, b: Buf) -> Buf:
        return replace(b, name=f"{self.prefix}.{b.name}")

    def function(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def functions(self) -> list[Function]:
        return [replace(f, name=self.function(f.name)) for f in self.program.functions]

    def consts(self, shift: Expr) -> list[Placed]:
        return [
            Placed(self.renamed[c.buf], simplify(c.offset + shift)) for c in self.program.consts
        ]

    def temps(self) -> list[Placed]:
        return [
            Placed(self.renamed[t.buf], simplify(t.offset + self.shift)) for t in self.program.temps
        ]

    def main(self) -> tuple[Step, ...]:
        steps, r = self.steps(self.program.main), self.part.control
        if not isinstance(r, Repetition | While):
            return steps
        t = dim(f"{self.program.name}.step")
        return (self.loop(r, t, steps),)

    def loop(self, r: Repetition | While, t: Expr, steps: tuple[Step, ...]) -> Repeat:
        """The steps that run many times: in each, states are what the one before has written."""
        p, part, wholes = self.program, self.part, _wholes(self.part)
        here, before, over = t, t - ONE, tuple[Buf, ...]()
        if isinstance(r, Repetition):
            over = r.over
            if r.reverse:
                here, before = r.count - ONE - t, r.count - t
        passing = (*part.passing, True)
        at = [mod(t, TWO) if passes else simplify(here) for passes in passing]
        prior = [mod(t + ONE, TWO) if passes else simplify(before) for passes in passing]
        s = len(r.first)
        ins, firsts = list(p.inputs[:s]), list(r.first)
        if isinstance(r, While):
            ins.append(self.local(Buf("goes", (), boolean)))
            firsts.append(r.flag)
        rows = [Row(b, w, i, f) for b, w, i, f in zip(ins, wholes, prior, firsts)]
        rows += [Row(b, w, simplify(here)) for b, w in zip(p.inputs[s:], over)]
        outs = [self.renamed[b] for b in p.outputs]
        rows += [Row(b, w, i) for b, w, i in zip(outs, wholes, at, strict=False)]
        left = zip(part.outputs, wholes, prior, r.first, part.passing)
        gives = tuple(Row(b, w, i, f) for b, w, i, f, passes in left if passes)
        return Repeat(t, ins[-1] if isinstance(r, While) else r.count, tuple(rows), steps, gives)

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(map(self.step, steps))

    def step(self, step: Step) -> Step:
        if isinstance(step, Variants):
            return Variants(tuple((guard, self.steps(body)) for guard, body in step.branches))
        if isinstance(step, Repeat):
            until = step.until
            return Repeat(
                step.iteration,
                self.place(until) if isinstance(until, Buf) else until,
                tuple(map(self.row, step.rows)),
                self.steps(step.steps),
                tuple(map(self.row, step.gives)),
            )
        if isinstance(step, Case):
            return Case(self.place(step.index), tuple(map(self.steps, step.branches)))
        phases = tuple(
            tuple(
                replace(c, function=self.function(c.function), args=tuple(map(self.place, c.args)))
                for c in phase
            )
            for phase in step.phases
        )
        return Run(step.name, phases)

    def row(self, r: Row) -> Row:
        first = None if r.first is None else self.place(r.first)
        return Row(self.place(r.buf), self.place(r.whole), r.index, first)

    def place(self, b: Buf) -> Buf:
        return self.renamed.get(b, b)
