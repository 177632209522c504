"""Link: the parts of a module, brought down to programs, as one program.

What one part makes and another reads has a place of its own in the arena for as long as it is
needed; behind these lie the temps of the part that runs. A body's states and rows have no place:
they are parts of larger buffers (`Row`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ferrule.ir.calls import Interface
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, dim, dims
from ferrule.ir.loop import Function
from ferrule.ir.module import Module, Part
from ferrule.ir.program import Placed, Program, Repeat, Row, Run, Step, Variants, walk_rows
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Requirement
from ferrule.lower.memory import Lifetime, plan, total


def link(level: Program | Module[Any]) -> Program:
    """The program that runs the parts of a module, which may be modules, in order; a program is one
    already.
    """
    if isinstance(level, Program):
        return level
    face, linked = level.interface, level.map(link)
    between, own_bytes = plan(_between(face, linked.parts))
    parts = [_Part(f"p{k}", part, own_bytes) for k, part in enumerate(linked.parts)]
    prepare: list[Step] = []
    main: list[Step] = []
    consts: list[Placed] = []
    const_bytes = ZERO
    for part in parts:
        consts += part.consts(const_bytes)
        const_bytes = simplify(const_bytes + part.program.const_bytes)
        prepare += part.steps(part.program.prepare)
        main += part.main()
    programs = [p.program for p in parts]
    found = {d for b in face.bufs for s in b.shape for d in dims(s)}
    found |= {d for p in programs for d in p.dims}
    found |= {d for p in level.parts if p.repeated is not None for d in dims(p.repeated.count)}
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
        main=tuple(main),
        requires=tuple(requires.values()),
    )


def _reads(part: Part[Program]) -> tuple[Buf, ...]:
    """The buffers from outside."""
    r = part.repeated
    if r is None:
        return part.body.inputs
    return (*r.first, *r.over, *part.body.inputs[len(r.first) + len(r.over) :])


def _between(face: Interface, parts: tuple[Part[Program], ...]) -> list[Lifetime]:
    """How long what crosses parts is needed."""
    first: dict[Buf, int] = {}
    last: dict[Buf, int] = {}
    for k, part in enumerate(parts):
        for b in part.outputs:
            first.setdefault(b, k)
            last[b] = k
        last.update((b, k) for b in _reads(part) if b in first)
    elsewhere = set(face.bufs)
    return [Lifetime(b, first[b], last[b]) for b in first if b not in elsewhere]


class _Part:
    """A part with names of its own: its functions, temps and constants begin with `prefix`."""

    def __init__(self, prefix: str, part: Part[Program], shift: Expr) -> None:
        self.prefix, self.part, self.shift = prefix, part, shift
        self.program = p = part.body
        outer = part.outputs if part.repeated is None else tuple(map(self.local, p.outputs))
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
        steps, r = self.steps(self.program.main), self.part.repeated
        if r is None:
            return steps
        t = dim(f"{self.program.name}.step")
        here = r.count - ONE - t if r.reverse else t
        before = here + ONE if r.reverse else here - ONE
        ins, outs = self.program.inputs, [self.renamed[b] for b in self.program.outputs]
        wholes = self.part.outputs
        s = len(r.first)
        rows = [
            *(Row(b, w, simplify(before), f) for b, w, f in zip(ins[:s], wholes, r.first)),
            *(Row(b, w, simplify(here)) for b, w in zip(ins[s : s + len(r.over)], r.over)),
            *(Row(b, w, simplify(here)) for b, w in zip(outs, wholes, strict=True)),
        ]
        return (Repeat(t, r.count, tuple(rows), steps),)

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(map(self.step, steps))

    def step(self, step: Step) -> Step:
        if isinstance(step, Variants):
            return Variants(tuple((guard, self.steps(body)) for guard, body in step.branches))
        if isinstance(step, Repeat):
            rows = tuple(
                Row(
                    self.place(r.buf), self.place(r.whole), r.index, r.first and self.place(r.first)
                )
                for r in step.rows
            )
            return replace(step, rows=rows, steps=self.steps(step.steps))
        phases = tuple(
            tuple(
                replace(c, function=self.function(c.function), args=tuple(map(self.place, c.args)))
                for c in phase
            )
            for phase in step.phases
        )
        return Run(step.name, phases)

    def place(self, b: Buf) -> Buf:
        return self.renamed.get(b, b)
