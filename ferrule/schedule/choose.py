"""Choose: which schedule each kernel of a program gets, as a value; and the kernels with it.

    choose(kernels, target)      every kernel with a `schedule`
    schedule(kernels, target)    scheduled kernels, packings, and the calls of both

A schedule that a kernel has already, by a pass or by whoever wrote the text, stays. The kinds:

    rows            block, vectors: `rows.schedule.RowSizes`; for all that is no contraction
    contraction     rows, vectors, depth, block_rows, panels, unroll, straight: a `Blocking`
    winograd        tile, block: a `Choice`
    overlapped      several convolutions by blocks of rows, as `fuse.overlap` has joined them

Equal kernels of a program are scheduled once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

from ferrule.base.digest import digest
from ferrule.base.errors import CompileError
from ferrule.base.watch import each
from ferrule.ir.analysis.cost import kernel_ns, weighed
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Call, Kernels, Scheduled
from ferrule.ir.canonical import canonical
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import OVERLAPPED, Kernel, Schedule
from ferrule.ir.simplify import simplify
from ferrule.ir.text import to_text
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.contraction.dims import schedulable
from ferrule.schedule.contraction.packing import Packed, Packing
from ferrule.schedule.contraction.schedule import fitted, schedule_contraction
from ferrule.schedule.convolution.overlap import schedule_overlapped
from ferrule.schedule.convolution.winograd import Choice, cheapest, schedule_winograd
from ferrule.schedule.rows.schedule import default_sizes, schedule_rows
from ferrule.schedule.space import blocking_from, point_of
from ferrule.target.cpu import Target

ROWS, CONTRACTION, WINOGRAD = "rows", "contraction", "winograd"


@dataclass(frozen=True)
class TuningTask:
    """A contraction of a program that `count` of its kernels are: canonical, with its buffers that
    are `constant`; `key` tells it from others, in every program.
    """

    key: str
    kernel: Kernel
    constant: frozenset[Buf]
    count: int


@dataclass(frozen=True)
class _Form:
    """A kernel with names of its own, what it stands for, and its buffers that are constant."""

    kernel: Kernel
    formal: Kernel
    actual: tuple[Buf, ...]
    constant: frozenset[Buf]


# Both passes here ask it of the kernels of one program.
_canonical = functools.lru_cache(maxsize=512)(canonical)


def _forms(level: Kernels) -> Iterator[_Form]:
    known = level.constant
    for kernel in each(level.kernels):
        formal, actual = _canonical(replace(kernel, schedule=None))
        pairs = zip(formal.globals, actual, strict=True)
        yield _Form(kernel, formal, actual, frozenset(f for f, a in pairs if a in known))


def tuning_key(kernel: Kernel, constant: frozenset[Buf]) -> str:
    """What tells one canonical kernel with these constant buffers from another, as text."""
    return digest(to_text(kernel), *sorted(b.name for b in constant))[:24]


def tasks_of(level: Kernels, target: Target) -> tuple[TuningTask, ...]:
    """The contractions of a program that a blocking is chosen for, each once."""
    found: dict[tuple[Kernel, frozenset[Buf]], int] = {}
    for f in _forms(level):
        if f.kernel.schedule != OVERLAPPED:
            found[f.formal, f.constant] = found.get((f.formal, f.constant), 0) + 1
    return tuple(
        TuningTask(tuning_key(kernel, constant), kernel, constant, count)
        for (kernel, constant), count in found.items()
        if schedulable(kernel, target, constant)
    )


# ---- choosing ------------------------------------------------------------------------------------


def choose(
    level: Kernels, target: Target, tuned: Mapping[str, Blocking], approximate: bool
) -> tuple[Kernels, tuple[Decision, ...]]:
    """`level` with a schedule for each kernel, and why, in the order of `kernels`. `tuned`
    are blockings by tuning key; `approximate` allows algorithms whose rounding errors are larger.
    """
    known: dict[tuple[Kernel, frozenset[Buf]], tuple[Schedule, Decision]] = {}
    decisions: list[Decision] = []
    out: list[Kernel] = []
    for f in _forms(level):
        if f.kernel.schedule is not None:
            chosen, why = f.kernel.schedule, Decision("", "schedule", f.kernel.schedule.kind)
            why = weighed(why, f.formal, target.machine)
        elif (f.formal, f.constant) in known:
            chosen, why = known[f.formal, f.constant]
        else:
            chosen, why = _chosen(f, target, tuned, approximate)
            why = weighed(why, f.formal, target.machine)
            known[f.formal, f.constant] = chosen, why
        decisions.append(replace(why, subject=f.kernel.name))
        out.append(replace(f.kernel, schedule=chosen))
    prepared = len(level.prepare)
    return Kernels(level.interface, tuple(out[:prepared]), tuple(out[prepared:])), tuple(decisions)


def _chosen(
    f: _Form, target: Target, tuned: Mapping[str, Blocking], approximate: bool
) -> tuple[Schedule, Decision]:
    kernel, constant = f.formal, f.constant
    if not schedulable(kernel, target, constant):
        return _schedule(ROWS, asdict(default_sizes(target))), Decision("", "schedule", ROWS)
    key = tuning_key(kernel, constant)
    fewer = cheapest(kernel, target, constant) if approximate else None
    if fewer is not None:
        why = Decision(
            "", "schedule", WINOGRAD, "fewer multiplications", alternatives=(CONTRACTION,), key=key
        )
        return _schedule(WINOGRAD, asdict(fewer)), why
    blocking = tuned.get(key)
    block = fitted(blocking, kernel, target, constant)
    how = f"register blocks of {block.rows} x {block.vectors} vectors, {block.depth} terms deep"
    how += "" if blocking is None else ", as tuned"
    return by_blocks(block), Decision("", "schedule", CONTRACTION, how, key=key)


def by_blocks(blocking: Blocking) -> Schedule:
    """The schedule of a contraction with this blocking."""
    return _schedule(CONTRACTION, point_of(blocking))


def _schedule(kind: str, sizes: Mapping[str, int]) -> Schedule:
    return Schedule(kind, tuple(sizes.items()))


# ---- applying ------------------------------------------------------------------------------------


def schedule(level: Kernels, target: Target) -> tuple[Scheduled, tuple[Decision, ...]]:
    """The scheduled kernels of a program, in which every kernel has a schedule, with their
    packings, and what is packed. Raises CompileError for a schedule that a kernel cannot have.
    """
    known: dict[tuple[Kernel, frozenset[Buf], Schedule], _Unit] = {}
    calls: tuple[list[Call], list[Call]] = [], []  # of prepare and of main
    decisions: list[Decision] = []
    packs = 0
    for number, f in enumerate(_forms(level)):
        if f.kernel.schedule is None:
            raise CompileError(f"{f.kernel.name} has no schedule: the pass choose gives it one")
        key = f.formal, f.constant, f.kernel.schedule
        unit = known.get(key)
        if unit is None:
            unit = known[key] = _unit(*key, target, f"k{len(known)}", f.kernel.name)
        bufs = dict(zip(f.formal.globals, f.actual, strict=True))
        for i, p in enumerate(unit.packings):
            bufs[p.buf] = replace(p.buf, name=f"pack{packs + i}")
        packs += len(unit.packings) + 1
        constant = number < len(level.prepare)
        for p, kernel in zip(unit.packings, unit.kernels):
            cost = simplify(p.buf.size * target.machine.pack_ns)
            note = f"pack for {f.kernel.name}"
            calls[0 if constant or p.constant else 1].append(_call(kernel, bufs, cost, note))
            when = "once" if p.constant else "on each call"
            decisions.append(Decision(f.kernel.name, "pack", p.what, when))
        calls[0 if constant else 1].append(_call(unit.kernels[-1], bufs, unit.cost, f.kernel.name))
    kernels = tuple(k for unit in known.values() for k in unit.kernels)
    return Scheduled(level.interface, kernels, *map(tuple, calls)), tuple(decisions)


def _call(kernel: Kernel, bufs: Mapping[Buf, Buf], cost: Expr, note: str) -> Call:
    return Call(kernel.name, tuple(bufs[b] for b in kernel.globals), cost, note)


@dataclass(frozen=True)
class _Unit:
    """What one kernel becomes: its packings, and the kernels of these and of its own, in the order
    in which they run; its own takes about `cost` ns.
    """

    packings: tuple[Packing, ...]
    kernels: tuple[Kernel, ...]
    cost: Expr


def _unit(
    kernel: Kernel,
    constant: frozenset[Buf],
    how: Schedule,
    target: Target,
    name: str,
    subject: str,
) -> _Unit:
    done = _scheduled(kernel, constant, how, target, subject)
    packs = (replace(p.kernel, name=f"{name}_pack{i}") for i, p in enumerate(done.packings))
    kernels = (*packs, replace(done.kernel, name=name))
    return _Unit(done.packings, kernels, kernel_ns(kernel, target.machine))


def _scheduled(
    kernel: Kernel, constant: frozenset[Buf], how: Schedule, target: Target, subject: str
) -> Packed:
    """The kernel with the schedule `how`."""
    sizes = dict(how.sizes)
    if how == OVERLAPPED:
        return schedule_overlapped(kernel, target, constant)
    fits = sizes.keys() <= {"block", "vectors"} and all(n > 0 for n in sizes.values())
    if how.kind == ROWS and fits:
        own = replace(default_sizes(target), **sizes)
        return Packed(schedule_rows(kernel, target, sizes=own))
    if how.kind in (CONTRACTION, WINOGRAD) and not schedulable(kernel, target, constant):
        raise CompileError(f"{subject} cannot have the schedule {how.kind}: it is no contraction")
    blocking = blocking_from(sizes) if how.kind == CONTRACTION else None
    if blocking is not None:
        return schedule_contraction(kernel, target, constant, blocking)
    if how.kind == WINOGRAD and set(sizes) == {"tile", "block"}:
        return schedule_winograd(kernel, target, constant, Choice(**sizes))
    raise CompileError(
        f"{subject} cannot have the schedule {how}: there are overlapped, rows with block and "
        "vectors, winograd with tile and block, and contraction with "
        f"{', '.join(f.name for f in fields(Blocking))}"
    )
