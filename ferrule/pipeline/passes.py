"""The whole pipeline, from a Graph to machine code, as a flat list of passes. With `compile`, the
only file that joins rooms.

    state, seconds = run(begin(graph, target), steps("graph", "program"))

`PASSES` is the list. A `State` is a program on its way down it: each pass fills the fields of the
level that it leads to. `ferrule.compile` runs all of it; `python -m ferrule opt` runs a part of it
on text. A graph with loops is split first, and its segments and bodies go down on their own until
their programs are linked (`ferrule.transform.split_loops`, `ferrule.lower.link`).

Three settings look in after each pass: `logs` tells timings and texts, `dump_dir` keeps each
level as a file, `verify` checks each level against its rules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ferrule.base import config, log
from ferrule.base.errors import CompileError, InputError, VerifyError
from ferrule.codegen.host.entry import emit_host
from ferrule.codegen.llvm.compile import compile_module
from ferrule.codegen.llvm.emit import emit_module, scratch_layout
from ferrule.fuse.group import group
from ferrule.fuse.inline import inline
from ferrule.fuse.layout import assign_layouts
from ferrule.fuse.merge_products import batched
from ferrule.fuse.overlap import cascade
from ferrule.fuse.split_reductions import partial
from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.cost import kernel_ns
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.canonical import canonical
from ferrule.ir.compute import System
from ferrule.ir.explain import describe
from ferrule.ir.expr import Buf, as_index
from ferrule.ir.graph import Graph, Value, requirements
from ferrule.ir.kernel import Kernel, Scope
from ferrule.ir.loop import Function, map_stmts
from ferrule.ir.program import Call, Program
from ferrule.ir.simplify import simplify
from ferrule.ir.text import Level, to_text
from ferrule.ir.unit import Part, Unit, Use
from ferrule.ir.verify import verify
from ferrule.ir.verify.defined import check_defined, check_order
from ferrule.lower.equations import equations
from ferrule.lower.link import Piece, Repetition, link
from ferrule.lower.loops import lower_kernel
from ferrule.lower.math.expand import lower_math
from ferrule.lower.memory import total
from ferrule.lower.program import Placement, assemble
from ferrule.runtime import cache
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.contraction.dims import schedulable
from ferrule.schedule.contraction.schedule import Scheduled, schedule_contraction
from ferrule.schedule.convolution.overlap import schedule_cascade
from ferrule.schedule.convolution.winograd import winograd
from ferrule.schedule.rows.schedule import schedule_rows
from ferrule.target.cpu import Target
from ferrule.transform.split_loops import LoopPart, Segment, has_loops, split

AS_GIVEN = Decision("", "schedule", "as given")  # of kernels that were read scheduled
LEVELS = ("graph", "system", "kernels", "scheduled", "functions", "program", "llvm", "object")

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """A program at `level`, with what the levels above left for those below.

    `constant` are the buffers that depend on parameters alone, `once` the kernels that do,
    `cascades` those that are several convolutions by blocks of rows; `decisions` are those
    taken so far. `key` ends the names of the exported functions. `blockings` are those of
    contractions whose `tuning_key` they name; others take their default. `sites` are the
    contractions that were scheduled. `numerics` is the setting of that name. Of a graph with loops,
    `parts` are its segments and bodies, in the order in which they run, until they are one Program.
    """

    name: str
    level: str
    target: Target
    key: str = "program"
    graph: Graph | None = None
    system: System | None = None
    constant: frozenset[Buf] = frozenset()
    kernels: tuple[Kernel, ...] = ()
    once: frozenset[str] = frozenset()
    cascades: frozenset[str] = frozenset()
    units: tuple[Unit, ...] = ()
    uses: tuple[Use, ...] = ()
    functions: tuple[Function, ...] = ()
    program: Program | None = None
    llvm: str = ""
    object_code: bytes = b""
    decisions: tuple[Decision, ...] = ()
    blockings: Mapping[str, Blocking] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    numerics: str = field(default_factory=lambda: config.get("numerics"))
    parts: tuple[State, ...] = ()


@dataclass(frozen=True)
class Site:
    """A contraction of a program that `count` of its kernels are: canonical, with its buffers that
    are `constant`; `key` is its tuning key.
    """

    key: str
    kernel: Kernel
    constant: frozenset[Buf]
    count: int


@dataclass(frozen=True)
class Pass:
    """One step of the pipeline, from one of LEVELS to the same one or the next."""

    name: str
    source: str
    result: str
    run: Callable[[State], State]
    doc: str


# ---- the passes ----------------------------------------------------------------------------------


def _equations(s: State) -> State:
    return replace(s, system=equations(_given(s.graph, "a graph")))


def _layout(s: State) -> State:
    return replace(s, system=assign_layouts(_given(s.system, "a system"), s.target.machine))


def _inline(s: State) -> State:
    system = _given(s.system, "a system")
    done = inline(system, s.target.machine)
    return replace(s, system=done.system, decisions=done.decisions)


def _batch(s: State) -> State:
    system = _given(s.system, "a system")
    kept, machine = frozenset(system.outputs), s.target.machine
    stages, decisions = batched(system.stages, constants(system), kept, machine)
    return replace(s, system=replace(system, stages=stages), decisions=(*s.decisions, *decisions))


def _partial(s: State) -> State:
    system = _given(s.system, "a system")
    stages, decisions = partial(system.stages, constants(system), s.target.machine)
    return replace(s, system=replace(system, stages=stages), decisions=(*s.decisions, *decisions))


def _group(s: State) -> State:
    system = _given(s.system, "a system")
    done = group(system, s.target.machine)
    decisions = (*s.decisions, *done.decisions)
    return replace(
        s, kernels=done.kernels, constant=done.constant, once=done.once, decisions=decisions
    )


def _cascade(s: State) -> State:
    if s.system is None:
        return s  # kernels alone: any result may be wanted
    done = cascade(s.kernels, s.constant, s.once, s.system.outputs, s.target)
    decisions = (*s.decisions, *done.decisions)
    return replace(s, kernels=done.kernels, cascades=done.joined, decisions=decisions)


def _schedule(s: State) -> State:
    """Schedules each distinct kernel once."""
    units: dict[tuple[Kernel, frozenset[Buf], bool], Unit] = {}
    uses: list[Use] = []
    for kernel in s.kernels:
        formal, actual = canonical(kernel)
        pairs = zip(formal.globals, actual, strict=True)
        known = frozenset(f for f, a in pairs if a in s.constant)
        key = formal, known, kernel.name in s.cascades
        unit = units.get(key)
        if unit is None:
            unit = units[key] = _unit(*key, s, f"k{len(units)}")
        uses.append(Use(kernel, unit, actual))
    sites = [
        Site(tuning_key(kernel, known), kernel, known, sum(use.unit is unit for use in uses))
        for (kernel, known, joined), unit in units.items()
        if not joined and schedulable(kernel, s.target, known)
    ]
    chosen = [replace(use.unit.choice, subject=use.kernel.name) for use in uses]
    return replace(
        s, units=tuple(units.values()), uses=tuple(uses), sites=tuple(sites),
        decisions=(*s.decisions, *chosen),
    )  # fmt: skip


def tuning_key(kernel: Kernel, known: frozenset[Buf]) -> str:
    """What tells one canonical kernel with the constant buffers `known` from another, as text."""
    return cache.digest(to_text(kernel), *sorted(b.name for b in known))[:24]


def _unit(kernel: Kernel, known: frozenset[Buf], joined: bool, s: State, name: str) -> Unit:
    """The scheduled kernels of an unscheduled canonical one; `known` are its constant buffers, and
    `joined` says that it is a cascade.
    """
    choice, scheduled = _choose(kernel, known, joined, s)
    parts: list[Part] = []
    for i, p in enumerate(scheduled.packings):
        packing = replace(p.kernel, name=f"{name}_pack{i}")
        cost = simplify(p.buf.size * s.target.machine.pack_ns)
        parts.append(Part(packing, cost, p.buf, p.constant, p.what))
    parts.append(Part(replace(scheduled.kernel, name=name), kernel_ns(kernel, s.target.machine)))
    return Unit(tuple(parts), kernel.globals, choice)


def _choose(
    kernel: Kernel, known: frozenset[Buf], joined: bool, s: State
) -> tuple[Decision, Scheduled]:
    """The schedule that a kernel gets, and the kernel with it."""
    if joined:
        found = schedule_cascade(kernel, s.target, known)
        return Decision("", "schedule", "overlapped tiling", found.how), found
    if not schedulable(kernel, s.target, known):
        return Decision("", "schedule", "rows"), Scheduled(schedule_rows(kernel, s.target))
    fewer = winograd(kernel, s.target, known) if s.numerics == "fast" else None
    if fewer is not None:
        other = ("contraction",)
        return Decision("", "schedule", "Winograd", "fewer multiplications", other), fewer
    blocking = s.blockings.get(tuning_key(kernel, known)) if s.blockings else None
    found = schedule_contraction(kernel, s.target, known, blocking)
    tuned = "" if blocking is None else ", as tuned"
    return Decision("", "schedule", "contraction", found.how + tuned), found


def _loops(s: State) -> State:
    return replace(s, functions=tuple(lower_kernel(k) for k in _scheduled(s)))


def _math(s: State) -> State:
    has_fma = s.target.has_fma
    lowered = (
        replace(f, body=map_stmts(f.body, lambda e: lower_math(e, has_fma))) for f in s.functions
    )
    return replace(s, functions=tuple(lowered))


def _assemble(s: State) -> State:
    system = _given(s.system, "a system, which names its inputs and outputs")
    functions = {f.name: f for f in s.functions}
    placements: list[Placement] = []
    explain: list[str] = []
    for use in s.uses:
        once = use.kernel.name in s.once
        placements += _placements(use, functions, once, len(placements))
        explain += describe(use.kernel, _notes(use.unit, once))
    scratch = total([scratch_layout(f)[1] for f in s.functions])
    explain += ["decisions:", *(f"    {d}" for d in s.decisions if d.reason)]
    program = assemble(system, placements, s.functions, scratch, tuple(explain))
    check_defined(program, () if s.graph is None else requirements(s.graph))
    return replace(s, program=program)


def _placements(
    use: Use, functions: Mapping[str, Function], once: bool, number: int
) -> list[Placement]:
    """The calls that run a unit on the buffers of one kernel, which run once if it does."""
    parts, name = use.unit.parts, use.kernel.name
    bufs = dict(zip(use.unit.formals, use.actual, strict=True))
    for i, p in enumerate(parts):
        if p.packs is not None:
            bufs[p.packs] = replace(p.packs, name=f"pack{number + i}")
    out: list[Placement] = []
    for p in parts:
        f = functions[p.kernel.name]
        args = tuple(bufs[b] for b in f.bufs)
        call = Call(f.name, args, p.cost, name if p.packs is None else f"pack for {name}")
        out.append(Placement(call, args[f.written :], args[: f.written], once or p.constant))
    return out


def _notes(unit: Unit, once: bool) -> tuple[str, ...]:
    notes = ["runs once, when parameters are bound"] if once else []
    for p in unit.parts:
        if p.packs is not None:
            when = "once" if p.constant else "on each call"
            notes.append(f"{p.what} {when}")
    return tuple(notes)


def _emit(s: State) -> State:
    host = "" if s.program is None else emit_host(s.program, s.key, declare=False)
    functions = s.functions if s.program is None else s.program.functions
    return replace(s, llvm=emit_module(functions, s.target, host))


def _object(s: State) -> State:
    return replace(s, object_code=compile_module(s.llvm, s.target))


def _given(x: T | None, what: str) -> T:
    if x is None:
        raise CompileError(f"this needs {what}: begin at an earlier level")
    return x


PASSES = (
    Pass("equations", "graph", "system", _equations, "each operator's index notation"),
    Pass("layout", "system", "system", _layout, "the order of each buffer's dimensions in memory"),
    # After layout: which copies inlining may drop depends on where their elements lie.
    Pass("inline", "system", "system", _inline, "substitute what is cheaper to compute than store"),
    # After inline: then no slice stands between a product and what it is a product of.
    Pass("batch", "system", "system", _batch, "products with the same weights as one"),
    Pass("partial", "system", "system", _partial, "long reductions with few results in parts"),
    Pass("group", "system", "kernels", _group, "stitch stages that share a grid"),
    Pass("cascade", "kernels", "kernels", _cascade, "convolutions in a row by blocks of rows"),
    Pass("schedule", "kernels", "scheduled", _schedule, "tiles, vectors, packing"),
    Pass("loops", "scheduled", "functions", _loops, "loops in an order, with accumulators"),
    # After loops: a schedule weighs an exp as one operation, and guards stand outside its formula.
    Pass("math", "functions", "functions", _math, "exp, tanh, .. as arithmetic"),
    Pass("assemble", "functions", "program", _assemble, "phases of calls, places in the arenas"),
    Pass("emit", "program", "llvm", _emit, "LLVM IR text with one native entry"),
    Pass("object", "llvm", "object", _object, "machine code"),
)


# ---- running them --------------------------------------------------------------------------------


def begin(level: Level | tuple[Kernel, ...] | tuple[Function, ...], target: Target) -> State:
    """`level` as the state in which the passes below it can run.

    Kernels with a scope or with kinds of axes count as scheduled. Kernels and functions alone can
    be brought as far as LLVM text, and no Program can be made of them.
    """
    if isinstance(level, Graph):
        return State(level.name, "graph", target, graph=level)
    if isinstance(level, System):
        return State(level.name, "system", target, system=level)
    if isinstance(level, Program):
        return State(level.name, "program", target, program=level, functions=level.functions)
    several = level if isinstance(level, tuple) else (level,)
    functions = tuple(x for x in several if isinstance(x, Function))
    kernels = tuple(x for x in several if isinstance(x, Kernel))
    name = several[0].name if several else "empty"
    if functions:
        return State(name, "functions", target, functions=functions)
    if any(k.kinds or any(isinstance(i, Scope) for i in k.body) for k in kernels):
        parts = [Part(k, kernel_ns(k, target.machine)) for k in kernels]
        units = tuple(Unit((p,), p.kernel.globals, AS_GIVEN) for p in parts)
        return State(name, "scheduled", target, units=units)
    return State(name, "kernels", target, kernels=kernels)


def steps(source: str, result: str, whole: bool = True) -> tuple[Pass, ...]:
    """The passes that lead from one of LEVELS to another, all that stay on the last included; those
    that make a Program only for `whole` ones. Raises InputError where `result` is above `source`.
    """
    first, last = LEVELS.index(source), LEVELS.index(result)
    if last < first:
        raise InputError(f"{result} is above {source}: passes lead down only, {' > '.join(LEVELS)}")
    return tuple(
        p
        for p in PASSES
        if first <= LEVELS.index(p.source)
        and LEVELS.index(p.result) <= last
        and (whole or p.name != "assemble" or result == "program")
    )


def run(
    s: State, passes: tuple[Pass, ...], after: Callable[[Pass, State], None] | None = None
) -> tuple[State, dict[str, float]]:
    """`s` after `passes`, and the seconds that each took. `after` sees the state after each pass.

    Raises CompileError and UnsupportedError, and VerifyError if the setting `verify` is on.
    """
    seconds: dict[str, float] = {}
    _look(None, s)
    if s.graph is not None and s.level == "graph" and has_loops(s.graph):
        s, seconds, passes = _apart(s, passes, after)
    for p in passes:
        started = time.perf_counter()
        s = replace(p.run(s), level=p.result)
        seconds[p.name] = time.perf_counter() - started
        _look(p, s)
        if after is not None:
            after(p, s)
    log.log(1, lambda: f"{s.name}: {_timings(seconds)}")
    return s, seconds


def _apart(
    s: State, passes: tuple[Pass, ...], after: Callable[[Pass, State], None] | None
) -> tuple[State, dict[str, float], tuple[Pass, ...]]:
    """A graph with loops after those of `passes` that lead to its Program, done for each segment
    and body; the seconds they took, and the passes that are left.
    """
    graph = _given(s.graph, "a graph")
    segments = split(graph)
    count = sum(p.result in LEVELS[: LEVELS.index("program") + 1] for p in passes)
    parts: list[State] = []
    seconds: dict[str, float] = {}
    graphs = (g for seg in segments for g in (seg.graph, *(part.body for part in seg.loops)))
    for g in graphs:
        begun = replace(begin(g, s.target), key=s.key, blockings=s.blockings, numerics=s.numerics)
        done, took = run(begun, passes[:count], after)
        parts.append(done)
        seconds = {name: seconds.get(name, 0.0) + t for name, t in took.items()}
    decisions = tuple(d for part in parts for d in part.decisions)
    s = replace(
        s, parts=tuple(parts), level=parts[0].level, sites=_all_sites(parts), decisions=decisions
    )
    if s.level == "program":
        s = replace(s, program=_linked(graph, segments, parts), parts=())
        _look(passes[count - 1], s)
    return s, seconds, passes[count:]


def _all_sites(parts: list[State]) -> tuple[Site, ...]:
    found: dict[str, Site] = {}
    for site in (site for part in parts for site in part.sites):
        same = found.get(site.key)
        found[site.key] = replace(site, count=site.count + (same.count if same else 0))
    return tuple(found.values())


def _linked(graph: Graph, segments: tuple[Segment, ...], parts: list[State]) -> Program:
    """The program of a graph whose segments and bodies became `parts`."""
    programs = iter([_given(part.program, "a program") for part in parts])
    pieces: list[Piece] = []
    results: dict[Value, list[Buf]] = {v: [] for v in graph.outputs}
    for seg in segments:
        made = _made(seg.graph)
        for v, b in zip(seg.graph.outputs, made):
            results.get(v, []).append(b)
        pieces.append(Piece(next(programs), made))
        for part in seg.loops:
            made = tuple(map(_buf, part.node.outputs))
            for v, b in zip(part.node.outputs, made):
                results.get(v, []).append(b)
            pieces.append(Piece(next(programs), made, _times(part)))
    outputs = tuple(results[v].pop(0) for v in graph.outputs)
    inputs, params = tuple(map(_buf, graph.inputs)), tuple(map(_buf, graph.params))
    program = link(System(graph.name, inputs, params, (), outputs), tuple(pieces))
    check_order(program)
    return program


def _made(graph: Graph) -> tuple[Buf, ...]:
    """The buffers of a segment's outputs, called as the values; those of copies are not."""
    own, out = {v for n in graph.nodes for v in n.outputs}, list[Buf]()
    for k, v in enumerate(graph.outputs):
        first = v in own and v not in graph.outputs[:k]
        out.append(_buf(v) if first else replace(_buf(v), name=f"{v.name}.copy{k}"))
    return tuple(out)


def _buf(v: Value) -> Buf:
    return Buf(v.name, v.shape, v.dtype)


def _times(part: LoopPart) -> Repetition:
    attrs, given = part.node.attributes, [_buf(v) for v in part.node.inputs]
    s, rows = part.states, part.rows
    first, over = tuple(given[:s]), tuple(given[s : s + rows])
    return Repetition(as_index(attrs["count"]), bool(attrs["reverse"]), first, over)


def _timings(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in seconds.items())


def parts_of(s: State) -> tuple[Level, ...]:
    """What `s` is at its level: one structure, several kernels or functions, or those of parts."""
    if s.parts:
        return tuple(x for part in s.parts for x in parts_of(part))
    if s.level == "kernels":
        return s.kernels
    if s.level == "scheduled":
        return _scheduled(s)
    if s.level == "functions":
        return s.functions
    one = {"graph": s.graph, "system": s.system, "program": s.program}.get(s.level)
    return () if one is None else (one,)


def text_of(s: State) -> str:
    """`s` as text at its level; LLVM text once there is some."""
    return s.llvm if s.llvm else "\n".join(to_text(x) for x in parts_of(s))


def _scheduled(s: State) -> tuple[Kernel, ...]:
    return tuple(p.kernel for unit in s.units for p in unit.parts)


def _look(p: Pass | None, s: State) -> None:
    """What the settings `verify`, `dump_dir` and `logs` want after a pass, or before the first."""
    if config.get("verify"):
        _verify(p, s)
    folder = config.get("dump_dir")
    if folder is not None and s.level != "object":
        _dump(Path(folder), s)
    if p is not None and s.level != "object":
        log.log(4 if s.llvm else 3, lambda: f"{s.name} after {p.name}:\n{text_of(s)}")


def _verify(p: Pass | None, s: State) -> None:
    for x in parts_of(s):
        try:
            verify(x)
        except VerifyError as error:
            where = "as given" if p is None else f"after the pass {p.name}"
            raise VerifyError(f"{s.name}, {where}: {error}") from error


def _dump(folder: Path, s: State) -> None:
    """Writes NAME.KEY.LEVEL.txt (.ll for LLVM text); the last pass of a level wins."""
    ending = "ll" if s.llvm else f"{s.level}.txt"
    folder = folder.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", s.name)
        (folder / f"{name}.{s.key}.{ending}").write_text(text_of(s), encoding="utf-8")
    except OSError as error:
        log.warn(f"programs are not dumped: {error}; see FERRULE_DUMP_DIR")
