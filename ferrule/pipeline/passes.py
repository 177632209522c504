"""The passes, from a Graph to machine code, as a flat list that is made for a target.

    passes(Options(target))                                   all of them
    steps("graph", "program", options)                        those between two levels

A pass takes a program at one level and gives it at the same or the next one, with what it decided;
it knows nothing else. A graph with loops becomes a `Module` of straight programs, which the passes
between `split_loops` and `link` treat one by one. `ferrule.pipeline.run` runs a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ferrule.base import config
from ferrule.base.config import Settings
from ferrule.base.errors import InputError
from ferrule.codegen.host.entry import emit_host
from ferrule.codegen.llvm.compile import compile_module
from ferrule.codegen.llvm.emit import emit_module, scratch_layout
from ferrule.fuse.group import group
from ferrule.fuse.in_place import in_place
from ferrule.fuse.inline import inline
from ferrule.fuse.layout import assign_layouts
from ferrule.fuse.merge_products import merge_products
from ferrule.fuse.overlap import overlap
from ferrule.fuse.split_reductions import split_reductions
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Functions, Kernels, Scheduled
from ferrule.ir.graph import Graph
from ferrule.ir.module import Module
from ferrule.ir.program import Program
from ferrule.ir.system import System
from ferrule.ir.verify.defined import check_defined, check_order
from ferrule.lower.equations import equations
from ferrule.lower.link import link
from ferrule.lower.loops import lower_loops
from ferrule.lower.math.expand import expand
from ferrule.lower.memory import total
from ferrule.lower.program import assemble
from ferrule.lower.small_loops import small_loops
from ferrule.schedule.choose import choose, schedule
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.target.cpu import Target
from ferrule.target.machine import Machine
from ferrule.transform.byte_products import byte_products
from ferrule.transform.common_subexpressions import common_subexpressions
from ferrule.transform.convolution_phases import convolution_phases
from ferrule.transform.counted_loops import counted_loops
from ferrule.transform.dead_code import dead_code
from ferrule.transform.simplify_views import simplify_views
from ferrule.transform.slice_updates import slice_updates
from ferrule.transform.split_loops import split_loops

LEVELS = (
    "graph", "segments", "system", "kernels", "scheduled", "functions", "program", "llvm", "object",
)  # fmt: skip
Decisions = tuple[Decision, ...]


@dataclass(frozen=True)
class Options:
    """What a compilation is for. `key` ends the names of the exported functions; `blockings` are
    those of contractions by tuning key, and others take their default; `numerics` is the setting of
    that name. `verify` checks each level against its rules, `dump_dir` keeps each as a file.
    """

    target: Target
    key: str = "program"
    blockings: Mapping[str, Blocking] = field(default_factory=dict)
    numerics: str = "fast"
    verify: bool = False
    dump_dir: Path | None = None


def options_for(target: Target, settings: Settings | None = None, **given: Any) -> Options:
    """Options for `target` as `settings` say (None: as they are now), and as `given`."""
    s = config.settings() if settings is None else settings
    folder = None if s.dump_dir is None else Path(s.dump_dir)
    own = Options(target, numerics=s.numerics, verify=s.verify, dump_dir=folder)
    return replace(own, **given)


@dataclass(frozen=True)
class LLVM:
    """A program as the text of an LLVM module."""

    name: str
    text: str


@dataclass(frozen=True)
class Object:
    """A program as an object file."""

    name: str
    code: bytes


_TYPES: dict[type, str] = {
    Graph: "graph",
    System: "system",
    Kernels: "kernels",
    Scheduled: "scheduled",
    Functions: "functions",
    Program: "program",
    LLVM: "llvm",
    Object: "object",
}


def level_of(program: Any) -> str:
    """Which of LEVELS a program is at; that of its parts for a module. Segments are graphs without
    loops; one alone counts as a graph, which the passes leave as it is.
    """
    if not isinstance(program, Module):
        return _TYPES[type(program)]
    level = level_of(next(program.straight()))
    return "segments" if level == "graph" else level


@dataclass(frozen=True)
class Pass:
    """One step of the pipeline, from one of LEVELS to the same one or the next. `run` takes a
    program and gives another, with the decisions taken. Where `whole` is set it takes modules too;
    else a module's parts, one after another.
    """

    name: str
    source: str
    result: str
    run: Callable[[Any], tuple[Any, Decisions]]
    doc: str
    whole: bool = False


def passes(options: Options) -> tuple[Pass, ...]:
    """Every pass, in order, as `options` want it."""
    return (*_on_graphs(options), *_on_systems(options), *_below(options))


def _on_graphs(options: Options) -> tuple[Pass, ...]:
    return (
        Pass(
            "counted_loops", "graph", "graph", counted_loops,
            "what counts over rows as a loop", whole=True,
        ),
        Pass(
            "slice_updates", "graph", "graph", slice_updates,
            "which slices of a state are updated in place", whole=True,
        ),
        Pass(
            "simplify_views", "graph", "graph", simplify_views,
            "views of views as one", whole=True,
        ),
        Pass(
            "byte_products", "graph", "graph", lambda g: byte_products(g, options.target),
            "products of bytes as the target sums them best", whole=True,
        ),
        Pass(
            "convolution_phases", "graph", "graph", convolution_phases,
            "strided transposed convolutions as plain ones", whole=True,
        ),
        Pass(
            "common_subexpressions", "graph", "graph", common_subexpressions,
            "equal operators as one", whole=True,
        ),
        # After these: what they have replaced is read by nobody.
        Pass("dead_code", "graph", "graph", dead_code, "without what nobody reads", whole=True),
        _whole("split_loops", "graph", "segments", split_loops, "loops, and what is between them"),
        _plain("equations", "segments", "system", equations, "each operator's index notation"),
    )  # fmt: skip


def _on_systems(options: Options) -> tuple[Pass, ...]:
    machine = options.target.machine
    return (
        # Before inline: then what is copied and updated stands alone.
        Pass(
            "in_place", "system", "system", lambda s: in_place(s, machine),
            "what steps update stays in one buffer", whole=True,
        ),
        _fusing(
            "layout",
            lambda s: (assign_layouts(s, machine), ()),
            "the order of each buffer's dimensions in memory",
        ),
        # After layout: which copies inlining may drop depends on where their elements lie.
        _fusing(
            "inline",
            lambda s: inline(s, machine),
            "substitute what is cheaper to compute than store",
        ),
        # After inline: then no slice stands between a product and what it is a product of.
        _fusing(
            "merge_products",
            lambda s: merge_products(s, machine),
            "products with the same weights as one",
        ),
        _fusing(
            "split_reductions",
            lambda s: split_reductions(s, machine),
            "long reductions with few results in parts",
            last=True,
        ),
        Pass(
            "group", "system", "kernels",
            lambda s: group(s, machine), "stitch stages that share a grid",
        ),
    )  # fmt: skip


def _below(options: Options) -> tuple[Pass, ...]:
    target, approximate = options.target, options.numerics == "fast"
    return (
        Pass(
            "overlap", "kernels", "kernels",
            lambda k: overlap(k, target), "convolutions in a row by blocks of rows",
        ),
        Pass(
            "choose", "kernels", "kernels",
            lambda k: choose(k, target, options.blockings, approximate),
            "which schedule each kernel gets",
        ),
        Pass(
            "schedule", "kernels", "scheduled",
            lambda k: schedule(k, target), "tiles, vectors, packing",
        ),
        _plain(
            "loops", "scheduled", "functions", lower_loops, "loops in an order, with accumulators"
        ),
        # After loops: a schedule weighs an exp as one operation, and guards stand outside its
        # formula.
        _plain(
            "math", "functions", "functions",
            lambda f: expand(f, target.has_fma), "exp, tanh, .. as arithmetic",
        ),
        # After math: the passes behind have no rules for functions of a shape of their own.
        Pass(
            "small_loops", "functions", "functions", lambda f: small_loops(f, target.machine),
            "loops of short steps as one function", whole=True,
        ),
        _plain(
            "assemble", "functions", "program",
            lambda f: _assemble(f, target.machine), "phases, places in the arenas",
        ),
        _whole("link", "program", "program", _link, "the parts of a module as one program"),
        _plain(
            "emit", "program", "llvm",
            lambda p: _emit(p, options), "LLVM IR text with one native entry",
        ),
        _plain(
            "object", "llvm", "object",
            lambda m: Object(m.name, compile_module(m.text, target)), "machine code",
        ),
    )  # fmt: skip


def steps(source: str, result: str, options: Options) -> tuple[Pass, ...]:
    """The passes that lead from one of LEVELS to another, all that stay on the last included.
    Raises InputError where `result` is above `source`.
    """
    first, last = LEVELS.index(source), LEVELS.index(result)
    if last < first:
        raise InputError(f"{result} is above {source}: passes lead down only, {' > '.join(LEVELS)}")
    return tuple(
        p
        for p in passes(options)
        if first <= LEVELS.index(p.source) and LEVELS.index(p.result) <= last
    )


def _plain(
    name: str, source: str, result: str, fn: Callable[[Any], Any], doc: str, whole: bool = False
) -> Pass:
    """A pass that decides nothing."""
    return Pass(name, source, result, lambda x: (fn(x), ()), doc, whole)


def _fusing(
    name: str, fn: Callable[[System], tuple[System, Decisions]], doc: str, last: bool = False
) -> Pass:
    """A pass that leaves a fused system as it is; the `last` of them makes it one."""

    def run(system: System) -> tuple[System, Decisions]:
        if system.fused:
            return system, ()
        done, decisions = fn(system)
        return replace(done, fused=last), decisions

    return Pass(name, "system", "system", run, doc)


def _whole(name: str, source: str, result: str, fn: Callable[[Any], Any], doc: str) -> Pass:
    return _plain(name, source, result, fn, doc, whole=True)


def _assemble(level: Functions, machine: Machine) -> Program:
    program = assemble(level, total([scratch_layout(f, machine)[1] for f in level.functions]))
    check_defined(program, (r.fact for r in program.requires))
    return program


def _link(level: Program | Module[Program]) -> Program:
    program = link(level)
    if program is not level:
        check_order(program)
    return program


def _emit(program: Program, options: Options) -> LLVM:
    machine = options.target.machine
    host = emit_host(program, options.key, declare=False, machine=machine)
    return LLVM(program.name, emit_module(program.functions, options.target, host))
