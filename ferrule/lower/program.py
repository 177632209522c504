"""Program assembly: kernels in phases, buffers in arenas.

A kernel runs in the first phase after all that it reads is written; kernels of one phase are
independent and run side by side. A kernel that updates a buffer in place runs after that buffer's
earlier readers and writers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.compute import System
from ferrule.ir.expr import ZERO, Buf, Expr
from ferrule.ir.loop import Function
from ferrule.ir.program import Call, Program, Run
from ferrule.ir.simplify import simplify
from ferrule.lower.memory import Lifetime, plan


@dataclass(frozen=True)
class Placement:
    """One kernel of the program: a call of a function, what it writes, and whether it runs once, in
    `prepare`.
    """

    call: Call
    reads: tuple[Buf, ...]
    writes: tuple[Buf, ...]
    constant: bool


def assemble(
    system: System,
    placements: list[Placement],
    functions: tuple[Function, ...],
    scratch_bytes: Expr,
    explain: tuple[str, ...],
) -> Program:
    """The program of `system` whose kernels are `placements`, in an order that respects their
    dependences.
    """
    prepare = [p for p in placements if p.constant]
    main = [p for p in placements if not p.constant]
    given = {*system.inputs, *system.params, *system.outputs}
    made_once = [b for p in prepare for b in p.writes]
    consts, const_bytes = plan(
        [Lifetime(b, i, len(made_once)) for i, b in enumerate(dict.fromkeys(made_once))]
    )
    phases = _phases(main)
    temps, arena_bytes = plan(_lifetimes(phases, given | set(made_once)))
    return Program(
        name=system.name,
        inputs=system.inputs,
        params=system.params,
        outputs=system.outputs,
        dims=system.dims,
        functions=functions,
        consts=consts,
        const_bytes=const_bytes,
        temps=temps,
        arena_bytes=arena_bytes,
        scratch_bytes=simplify(scratch_bytes) if scratch_bytes is not ZERO else ZERO,
        prepare=_runs(_phases(prepare)),
        main=_runs(phases),
        explain=explain,
    )


def _phases(placements: list[Placement]) -> list[list[Placement]]:
    """Kernels by the earliest phase they can run in."""
    written: dict[Buf, int] = {}
    read: dict[Buf, int] = {}
    phases: list[list[Placement]] = []
    for p in placements:
        after = [written[b] for b in (*p.reads, *p.writes) if b in written] + [
            read[b] for b in p.writes if b in read
        ]
        at = max(after, default=-1) + 1
        if at == len(phases):
            phases.append([])
        phases[at].append(p)
        for b in p.writes:
            written[b] = max(at, written.get(b, at))
        for b in p.reads:
            read[b] = max(at, read.get(b, at))
    return phases


def _lifetimes(phases: list[list[Placement]], elsewhere: set[Buf]) -> list[Lifetime]:
    first: dict[Buf, int] = {}
    last: dict[Buf, int] = {}
    for i, phase in enumerate(phases):
        for p in phase:
            for b in (*p.writes, *p.reads):
                if b not in elsewhere:
                    first.setdefault(b, i)
                    last[b] = i
    return [Lifetime(b, first[b], last[b]) for b in first]


def _runs(phases: list[list[Placement]]) -> tuple[Run, ...]:
    return tuple(
        Run(
            "+".join(p.call.note or p.call.function for p in phase), (tuple(p.call for p in phase),)
        )
        for phase in phases
    )
