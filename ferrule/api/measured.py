"""What a profile has recorded, as a report: sums by share and by kernel, floors, a timeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ferrule.base.errors import ParseError
from ferrule.base.shapes import evaluate
from ferrule.ir.analysis.decision import Decision
from ferrule.report.data import (
    CALL,
    COMPUTE,
    ENTRY,
    FORK_JOIN,
    FRAMEWORK,
    IDLE,
    MEMORY,
    PRODUCTS,
    SHARES,
    Kernel,
    Outside,
    Peaks,
    Report,
    Span,
)  # fmt: skip
from ferrule.runtime.trace import ENTRY as WHOLE
from ferrule.runtime.trace import LAUNCH, Clock, Sums, Trace

Facts = Mapping[str, Any]  # of a call: see ferrule.pipeline.launches
_WIDE = 8  # bytes of an f64, of which half as many take part in a multiply-add


@dataclass(frozen=True)
class Recorded:
    """`calls` are (thread, from, to) and `spans` (thread, name, from, to) by
    `time.perf_counter_ns`; `framework` counts and seconds by place and operator.
    """

    name: str
    date: str
    traces: tuple[Trace, ...]
    clock: Clock
    calls: tuple[tuple[int, int, int], ...]
    framework: Mapping[tuple[str, str], tuple[int, float]]
    spans: tuple[tuple[int, str, int, int], ...]
    elapsed: float
    threads: int
    counters: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)


def report_of(r: Recorded, peaks: Peaks | None) -> Report:
    """The report; without `peaks` kernels have no floors."""
    shares = dict.fromkeys(SHARES, 0.0)
    kernels: dict[tuple[int, int], _Kernel] = {}
    entries = 0.0
    for trace in r.traces:
        entries += r.clock.seconds(trace.entry.whole)
        launched = 0.0
        for launch in _launches(trace, r.clock):
            launched += launch.seconds
            launch.add_to(shares)
            for i in launch.numbers:
                key = id(trace.program), i
                known = kernels.setdefault(key, _Kernel(trace.program, launch.facts[i]))
                known.add(trace, launch, i, peaks)
        shares[ENTRY] += r.clock.seconds(trace.entry.whole) - launched
    shares[FRAMEWORK] = sum(t for _, t in r.framework.values())
    wall = sum(end - start for _, start, end in r.calls) * 1e-9
    wall = max(wall, entries + shares[FRAMEWORK])  # programs may run outside of calls too
    shares[CALL] = wall - entries - shares[FRAMEWORK]
    names = _names(r.traces)
    finished = (k.done(names[id(k.program)]) for k in kernels.values() if k.calls)
    outside = [Outside(p, op, n, t) for (p, op), (n, t) in r.framework.items()]
    return Report(
        name=r.name,
        date=r.date,
        calls=len(r.calls),
        wall=wall,
        elapsed=r.elapsed,
        threads=r.threads,
        shares=shares,
        kernels=tuple(sorted(finished, key=lambda k: -k.seconds)),
        framework=tuple(sorted(outside, key=lambda o: -o.seconds)),
        timeline=tuple(sorted(_timeline(r, names), key=lambda s: (s.start, -s.end))),
        lost=sum(t.lost for t in r.traces),
        peaks=peaks,
        counters=r.counters,
        uncounted=r.uncounted,
    )


# ---- launches ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Launch:
    """A launch of the calls `numbers` in a trace, all its times together."""

    facts: Sequence[Facts]
    numbers: tuple[int, ...]
    first: Sums
    parts: tuple[Sums, ...]
    clock: Clock

    @property
    def seconds(self) -> float:
        return self.clock.seconds(self.first.whole)

    @property
    def threads(self) -> float:
        return self.first.threads / self.first.launches

    @property
    def working(self) -> int:
        return sum(p.working for p in self.parts)

    def add_to(self, shares: dict[str, float]) -> None:
        """Adds the time by share; what is left on one thread is between the calls."""
        first, seconds = self.first, self.clock.seconds
        for i, part in zip(self.numbers, self.parts):
            shares[_kind(self.facts[i])] += seconds(part.working)
        rest = first.whole - self.working
        if first.threads == first.launches:
            shares[ENTRY] += seconds(rest)
            return
        shares[FORK_JOIN] += seconds(first.fork + first.join)
        shares[IDLE] += seconds(rest - first.fork - first.join)


def _launches(trace: Trace, clock: Clock) -> Iterator[_Launch]:
    facts: Sequence[Facts] = trace.program.meta["launches"]
    sums = trace.calls
    phases: dict[int, list[int]] = {}
    for i, f in enumerate(facts):
        phases.setdefault(f["phase"], []).append(i)
    for numbers in phases.values():
        first = sums[numbers[0]]
        if first.launches:
            parts = tuple(sums[i] for i in numbers)
            yield _Launch(facts, tuple(numbers), first, parts, clock)


def _kind(facts: Facts) -> str:
    return COMPUTE if facts["kind"] == "compute" else MEMORY


# ---- kernels -------------------------------------------------------------------------------------


@dataclass
class _Kernel:
    """A kernel while it is summed over traces."""

    program: Any
    facts: Facts
    calls: int = 0
    seconds: float = 0.0
    working: float = 0.0
    least: float | None = None
    threads: float = 0.0
    amounts: dict[str, float | None] = field(
        default_factory=lambda: {"bytes": 0.0, "flops": 0.0, "ns": 0.0}
    )
    floors: dict[str, float] = field(default_factory=dict)

    def add(self, trace: Trace, launch: _Launch, i: int, peaks: Peaks | None) -> None:
        """Adds what a trace has of the call `i`."""
        sums = trace.calls[i]
        if not sums.ran:
            return
        clock, whole = launch.clock, launch.first
        self.calls += sums.ran
        self.seconds += launch.seconds * sums.working / max(launch.working, 1)
        self.working += clock.seconds(sums.working)
        self.threads += launch.threads * sums.ran
        if len(launch.numbers) == 1:
            least = clock.seconds(whole.least)
            self.least = least if self.least is None else min(self.least, least)
        dims = dict(zip(trace.program.dim_names, trace.dims))
        found = {name: _amount(self.facts[name], dims) for name in self.amounts}
        for name, each in found.items():
            total = self.amounts[name]
            known = total is not None and each is not None
            self.amounts[name] = (total or 0.0) + (each or 0) * sums.ran if known else None
        if peaks is not None and found["bytes"] is not None and found["flops"] is not None:
            floor, bound = _floor(
                found["flops"], found["bytes"], launch.threads, self.facts["width"], peaks
            )
            self.floors[bound] = self.floors.get(bound, 0.0) + floor * sums.ran

    def done(self, program: str) -> Kernel:
        """The sum."""
        meta, facts = self.program.meta, self.facts
        bound = max(self.floors, key=lambda b: self.floors[b], default="")
        ns = self.amounts["ns"]
        return Kernel(
            name=facts["name"],
            program=program,
            kind=_kind(facts),
            calls=self.calls,
            seconds=self.seconds,
            working=self.working,
            least=self.least,
            threads=self.threads / max(self.calls, 1),
            bytes=self.amounts["bytes"],
            flops=self.amounts["flops"],
            predicted=None if ns is None else ns * 1e-9,
            floor=sum(self.floors.values()) if self.floors else None,
            bound=bound,
            packs=facts["kind"] == "pack",
            operators=tuple(dict.fromkeys(op for op, _ in facts["operators"])),
            places=tuple(dict.fromkeys(at for _, at in facts["operators"] if at)),
            module=module_of([at for _, at in facts["operators"] if at]),
            why=tuple(_why(meta.get("decisions", ()), set(facts["subjects"]))),
            equations=tuple(facts["equations"]),
        )


def module_of(places: Iterable[str]) -> str:
    """The path of the innermost module that all these places of operators are in."""
    paths = [_module(at) for at in places]
    shared = []
    for names in zip(*paths):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)


def _module(place: str) -> list[str]:
    """The module of a place: "path, file:line" of PyTorch's, or a node's name in an ONNX model,
    which ends with the operator's own ("/encoder/layer.0/MatMul").
    """
    if place.startswith("/"):
        return [name for part in place.split("/")[1:-1] for name in part.split(".")]
    path = place.partition(", ")[0]
    return [] if ":" in path else path.split(".")


def _amount(size: int | str | None, dims: dict[str, int]) -> int | None:
    if size is None:
        return None
    try:
        return int(evaluate(size, dims))
    except (ParseError, ZeroDivisionError):  # it depends on a loop's step
        return None


def _floor(
    flops: float, size: float, threads: float, width: int, peaks: Peaks
) -> tuple[float, str]:
    """The least seconds that a machine with these peaks takes, and what that is by."""
    peak = peaks.flops_on(threads) / (2 if width == _WIDE else 1)
    level = peaks.level(size, threads)
    by_flops, by_bytes = flops / peak, size / peaks.bandwidth_on(level, threads)
    return (by_flops, PRODUCTS) if by_flops >= by_bytes else (by_bytes, level)


def _why(decisions: Sequence[Mapping[str, Any]], subjects: set[str]) -> Iterator[str]:
    """The decisions about a kernel's buffers, in words."""
    for d in decisions:
        names = {d["subject"], *d["subject"].replace("+", ", ").split(", ")}
        if names & subjects and (d["reason"] or d["kind"] == "schedule"):
            yield str(Decision(**{**d, "alternatives": tuple(d["alternatives"])}))


def _names(traces: Iterable[Trace]) -> dict[int, str]:
    """The names of programs, by identity, with a number where several have one."""
    names: dict[int, str] = {}
    for program in (t.program for t in traces):
        if id(program) not in names:
            taken = set(names.values())
            name, n = program.name, 2
            while name in taken:
                name, n = f"{program.name} ({n})", n + 1
            names[id(program)] = name
    return names


# ---- the timeline --------------------------------------------------------------------------------


def _timeline(r: Recorded, names: Mapping[int, str]) -> list[Span]:
    """All that was recorded until the first block's memory was full."""
    full = [r.clock.at(t.events[-1, 3]) for t in r.traces if t.lost]
    until = min(full, default=None)
    return [s for s in _spans(r, names) if until is None or s.end <= until]


def _spans(r: Recorded, names: Mapping[int, str]) -> Iterator[Span]:
    rows: dict[int, str] = {}
    for thread, start, end in r.calls:
        yield Span(rows.setdefault(thread, f"caller {len(rows) + 1}"), r.name, CALL, start, end)
    for thread, name, start, end in r.spans:
        yield Span(rows.get(thread, "caller"), name, FRAMEWORK, start, end)
    for trace in r.traces:
        yield from _launched(trace, r.clock, rows, names[id(trace.program)])


def _launched(trace: Trace, clock: Clock, rows: dict[int, str], program: str) -> Iterator[Span]:
    """The spans of one trace. Launches are told before the entry that tells the thread."""
    facts = trace.program.meta["launches"]
    several = {f["phase"] for f, after in pairwise(facts) if f["phase"] == after["phase"]}
    waiting: list[tuple[str, str, int, int]] = []
    shared = WHOLE  # until when the last launch on several threads lasted
    for number, who, start, end, _ in trace.events.tolist():
        if number == WHOLE:
            row = rows.setdefault(who, f"caller {len(rows) + 1}")
            yield Span(row, program, ENTRY, clock.at(start), clock.at(end), program)
            yield from (Span(row, *span, program) for span in waiting)
            waiting = []
            continue
        f, alone = facts[number], facts[number]["phase"] not in several
        span = (f["name"], _kind(f), clock.at(start), clock.at(end))
        if who == LAUNCH:
            shared = end
            waiting += [span] if alone else []
        elif who:
            yield Span(f"worker {who}", *span, program)
        elif start > shared or not alone:  # else the launch as a whole tells of it
            waiting.append(span)
