"""Link: the programs of a graph's segments and of its loops' bodies as one program.

What one piece makes and another reads has a place of its own in the arena for as long as it is
needed; behind these lie the temps of the piece that runs. A body's states and rows have no place:
they are parts of larger buffers (`Row`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ferrule.ir.compute import System
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, dim, dims
from ferrule.ir.loop import Function
from ferrule.ir.program import Placed, Program, Repeat, Row, Run, Step, Variants, walk_rows
from ferrule.ir.simplify import simplify
from ferrule.lower.memory import Lifetime, plan, total


@dataclass(frozen=True)
class Repetition:
    """How a piece is repeated. The first inputs of its program are states, which have the values
    `first` before the first step, then rows of the buffers `over`; the first outputs are the states
    behind the step.
    """

    count: Expr
    reverse: bool
    first: tuple[Buf, ...]
    over: tuple[Buf, ...]


@dataclass(frozen=True)
class Piece:
    """A program whose inputs have the names of other pieces' `outputs`, which stand for its own;
    those of a repeated one have a row for each step.
    """

    program: Program
    outputs: tuple[Buf, ...]
    repeated: Repetition | None = None

    @property
    def reads(self) -> tuple[Buf, ...]:
        """The buffers from outside."""
        if self.repeated is None:
            return self.program.inputs
        r = self.repeated
        return (*r.first, *r.over, *self.program.inputs[len(r.first) + len(r.over) :])


def link(whole: System, pieces: tuple[Piece, ...]) -> Program:
    """The program that runs `pieces` in order. `whole` has its inputs, params and outputs, of which
    each is an output of a piece.
    """
    between, own_bytes = plan(_between(whole, pieces))
    parts = [_Part(f"p{k}", piece, own_bytes) for k, piece in enumerate(pieces)]
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
    found = {*whole.dims, *(d for p in programs for d in p.dims)}
    found |= {d for p in pieces if p.repeated is not None for d in dims(p.repeated.count)}
    return Program(
        name=whole.name,
        inputs=whole.inputs,
        params=whole.params,
        outputs=whole.outputs,
        dims=tuple(sorted(found, key=lambda d: d.name)),
        functions=tuple(f for p in parts for f in p.functions()),
        consts=tuple(consts),
        const_bytes=const_bytes,
        temps=(*between, *(t for p in parts for t in p.temps())),
        arena_bytes=simplify(own_bytes + total([p.arena_bytes for p in programs])),
        scratch_bytes=total([p.scratch_bytes for p in programs]),
        prepare=tuple(prepare),
        main=tuple(main),
        explain=tuple(line for p in parts for line in p.explain()),
    )


def _between(whole: System, pieces: tuple[Piece, ...]) -> list[Lifetime]:
    """How long what crosses pieces is needed."""
    elsewhere = {*whole.inputs, *whole.params, *whole.outputs}
    first: dict[Buf, int] = {}
    last: dict[Buf, int] = {}
    for k, piece in enumerate(pieces):
        for b in piece.outputs:
            first.setdefault(b, k)
            last[b] = k
        last.update((b, k) for b in piece.reads if b in first)
    return [Lifetime(b, first[b], last[b]) for b in first if b not in elsewhere]


class _Part:
    """A piece with names of its own: its functions, temps and constants begin with `prefix`."""

    def __init__(self, prefix: str, piece: Piece, shift: Expr) -> None:
        self.prefix, self.piece, self.shift = prefix, piece, shift
        self.program = p = piece.program
        outer = piece.outputs if piece.repeated is None else tuple(map(self.local, p.outputs))
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
        steps, r = self.steps(self.program.main), self.piece.repeated
        if r is None:
            return steps
        t = dim(f"{self.program.name}.step")
        here = r.count - ONE - t if r.reverse else t
        before = here + ONE if r.reverse else here - ONE
        ins, outs = self.program.inputs, [self.renamed[b] for b in self.program.outputs]
        wholes = self.piece.outputs
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

    def explain(self) -> list[str]:
        r = self.piece.repeated
        lines = list(self.program.explain)
        if r is None or not lines:
            return lines
        return [f"loop of {r.count} steps {{", *(f"    {line}" for line in lines), "}"]
