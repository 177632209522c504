"""Program assembly: kernels in phases, buffers in arenas.

A kernel runs in the first phase after all that it reads is written; kernels of one phase are
independent and run side by side. A kernel that updates a buffer in place runs after that buffer's
earlier readers and writers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.calls import Call, Functions
from ferrule.ir.expr import ZERO, Buf, Expr
from ferrule.ir.program import Program, Run
from ferrule.ir.simplify import simplify
from ferrule.lower.memory import Lifetime, plan


@dataclass(frozen=True)
class _Placement:
    """A call, with what it reads and writes."""

    call: Call
    reads: tuple[Buf, ...]
    writes: tuple[Buf, ...]


def assemble(level: Functions, scratch_bytes: Expr) -> Program:
    """The program whose calls are those of `level`, of which each may use so many bytes of scratch
    in a thread.
    """
    face, written = level.interface, {f.name: f.written for f in level.functions}
    prepare, main = (
        [_Placement(c, c.args[written[c.function] :], c.args[: written[c.function]]) for c in calls]
        for calls in (level.prepare, level.main)
    )
    given = set(face.bufs)
    constants = [b for p in prepare for b in p.writes]
    consts, const_bytes = plan(
        [Lifetime(b, i, len(constants)) for i, b in enumerate(dict.fromkeys(constants))]
    )
    phases = _phases(main)
    temps, arena_bytes = plan(_lifetimes(phases, given | set(constants)))
    return Program(
        name=face.name,
        inputs=face.inputs,
        params=face.params,
        outputs=face.outputs,
        dims=level.dims,
        functions=level.functions,
        consts=consts,
        const_bytes=const_bytes,
        temps=temps,
        arena_bytes=arena_bytes,
        scratch_bytes=simplify(scratch_bytes) if scratch_bytes is not ZERO else ZERO,
        prepare=_runs(_phases(prepare)),
        main=_runs(phases),
        requires=face.requires,
        updates=face.updates,
    )


def _phases(placements: list[_Placement]) -> list[list[_Placement]]:
    """Kernels by the earliest phase they can run in."""
    written: dict[Buf, int] = {}
    read: dict[Buf, int] = {}
    phases: list[list[_Placement]] = []
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


def _lifetimes(phases: list[list[_Placement]], elsewhere: set[Buf]) -> list[Lifetime]:
    first: dict[Buf, int] = {}
    last: dict[Buf, int] = {}
    for i, phase in enumerate(phases):
        for p in phase:
            for b in (*p.writes, *p.reads):
                if b not in elsewhere:
                    first.setdefault(b, i)
                    last[b] = i
    return [Lifetime(b, first[b], last[b]) for b in first]


def _runs(phases: list[list[_Placement]]) -> tuple[Run, ...]:
    return tuple(
        Run(
            "+".join(p.call.note or p.call.function for p in phase), (tuple(p.call for p in phase),)
        )
        for phase in phases
    )
