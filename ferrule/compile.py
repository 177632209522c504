"""The whole pipeline, from a Graph to machine code, as a flat list of passes. The only file that joins rooms.

    Graph -> System          equations     each operator's index notation
    System -> System         layout        the order of each buffer's dimensions in memory
    System -> stages         inline        substitute what costs less to compute than to store
    stages -> Kernels        group         stitch stages that share a grid
    Kernel -> Kernel         schedule      tiles, vectors, packing (once for equal kernels)
    Kernel -> Function       lower_kernel  loops
    Function -> Function     lower_math    exp, tanh, .. as arithmetic
    Functions -> Program     assemble      phases, arena
    Program -> object code   emit          LLVM IR text, one native entry
"""
from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferrule import __version__
from ferrule.base import config, log
from ferrule.base.compiled import Compiled
from ferrule.base.target import Target, current
from ferrule.codegen.compile_ir import compile_module
from ferrule.codegen.host import emit_host, make_compiled
from ferrule.codegen.llvm import emit_module, scratch_layout
from ferrule.graph.equations import equations
from ferrule.graph.group import Grouped, group
from ferrule.graph.inline import Inlined, inline
from ferrule.graph.layout import assign_layouts
from ferrule.ir.canonical import canonical
from ferrule.ir.compute import System
from ferrule.ir.cost import kernel_ns
from ferrule.ir.explain import describe
from ferrule.ir.expr import Buf
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function, map_stmts
from ferrule.ir.program import Call, Program, walk_runs
from ferrule.ir.simplify import simplify
from ferrule.ir.unit import Part, Unit
from ferrule.lower.loops import lower_kernel
from ferrule.lower.math import lower_math
from ferrule.lower.memory import total
from ferrule.lower.program import Placement, assemble
from ferrule.runtime import cache, counters
from ferrule.runtime.cpu import Executable, load
from ferrule.runtime.signature import Signature
from ferrule.schedule.contraction import schedulable, schedule_contraction
from ferrule.schedule.rows import schedule_rows

PACK_NS_PER_ELEMENT = 1


@dataclass(frozen=True)
class CompiledGraph:
    """A graph as a loaded program: what a frontend wraps."""

    compiled: Compiled
    executable: Executable
    signature: Signature
    seconds: float

    def explain(self) -> str:
        """What each kernel holds, its bytes and flops, and why neighbours were not joined."""
        return "\n".join(self.compiled.meta["explain"])

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return int(self.compiled.meta["kernels"])


def compile_graph(graph: Graph, options: Mapping[str, Any] | None = None) -> CompiledGraph:
    """`graph` compiled for the current target, or taken from the cache, and loaded.

    `options` are settings for this compilation. Raises CompileError or UnsupportedError.
    """
    with config.override(**(options or {})):
        started = time.perf_counter()
        target = current()
        key = cache.digest(__version__, _source_stamp(), target.key, repr(graph))[:24]
        compiled = cache.get(key)
        if compiled is None:
            program = program_of(graph, target)
            compiled = cache.put(key, compile_program(program, key, target))
            counters.count("compilations")
        else:
            counters.count("cache_hits")
        counters.count("kernels", int(compiled.meta["kernels"]))
        executable = load(compiled)
        seconds = time.perf_counter() - started
        log.log(1, f"{graph.name}: {compiled.meta['kernels']} kernels, compiled in {seconds:.2f} s")
    return CompiledGraph(compiled, executable, Signature(compiled), seconds)


@functools.cache
def _source_stamp() -> str:
    """What tells this state of the package from another, for cache keys: sizes and times of its files."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return cache.digest(*(f"{f.name} {(stat := f.stat()).st_size} {stat.st_mtime_ns}" for f in files))


def program_of(graph: Graph, target: Target) -> Program:
    """`graph` as a Program: every pass above machine code."""
    system = equations(graph)
    return program_of_system(system, target)


def program_of_system(system: System, target: Target) -> Program:
    """`system` as a Program."""
    system = assign_layouts(system)
    inlined = inline(system)
    grouped = group(inlined, system.outputs)
    return _build(system, inlined, grouped, target)


def compile_program(program: Program, key: str, target: Target) -> Compiled:
    """`program` as machine code with its descriptor."""
    text = emit_module(program.functions, target, emit_host(program, key, declare=False))
    kernels = sum(len(phase) for run in walk_runs(program.main) for phase in run.phases)
    return make_compiled(program, key, compile_module(text, target), meta={"kernels": kernels, "target": target.name})


def _build(system: System, inlined: Inlined, grouped: Grouped, target: Target) -> Program:
    """Schedule each distinct kernel once, instantiate it for each use, and assemble the program."""
    units: dict[tuple[Kernel, frozenset[Buf]], Unit] = {}
    functions: list[Function] = []
    placements: list[Placement] = []
    explain: list[str] = []
    for kernel in grouped.kernels:
        formal, actual = canonical(kernel)
        known = frozenset(f for f, a in zip(formal.globals, actual, strict=True) if a in inlined.constant)
        unit = units.get((formal, known))
        if unit is None:
            unit = units[formal, known] = _unit(formal, known, target, len(units))
            functions += [p.function for p in unit.parts]
        placements += _instances(unit, kernel, actual, grouped.constant, len(placements))
        explain += describe(kernel, _packing_notes(unit, kernel.name in grouped.constant))
    scratch = total([scratch_layout(f)[1] for f in functions])
    return assemble(system, placements, tuple(functions), scratch, 
                    (*explain, "decisions:", *(f"    {r}" for r in (*inlined.reasons, *grouped.reasons))))


def _packing_notes(unit: Unit, once: bool) -> tuple[str, ...]:
    notes = ["runs once, when parameters are bound"] if once else []
    for p in unit.parts:
        if p.packs is not None:
            notes.append(f"an operand is packed into panels {'once' if p.constant else 'on each call'}")
    return tuple(notes)


def _unit(kernel: Kernel, known: frozenset[Buf], target: Target, number: int) -> Unit:
    """The functions of an unscheduled canonical kernel."""
    cost = kernel_ns(kernel)
    parts: list[Part] = []
    if schedulable(kernel, target):
        scheduled = schedule_contraction(kernel, target, known)
        for i, p in enumerate(scheduled.packings):
            function = _function(p.kernel, f"k{number}_pack{i}", target)
            parts.append(Part(function, simplify(p.buf.size * PACK_NS_PER_ELEMENT), p.buf, p.constant))
        main = scheduled.kernel
    else:
        main = schedule_rows(kernel, target)
    parts.append(Part(_function(main, f"k{number}", target), cost))
    return Unit(tuple(parts), kernel.globals)


def _function(kernel: Kernel, name: str, target: Target) -> Function:
    f = lower_kernel(kernel, name)
    return replace(f, body=map_stmts(f.body, lambda e: lower_math(e, target.has_fma)))


def _instances(unit: Unit, kernel: Kernel, actual: tuple[Buf, ...], constant: frozenset[str],
               number: int) -> list[Placement]:
    """The calls that run `unit` on the actual buffers of `kernel`."""
    names = dict(zip(unit.formals, actual, strict=True))
    names |= {p.packs: replace(p.packs, name=f"pack{number + i}") for i, p in enumerate(unit.parts) if p.packs is not None}
    out: list[Placement] = []
    for part in unit.parts:
        f = part.function
        args = tuple(names[b] for b in f.bufs)
        call = Call(f.name, args, part.cost, kernel.name if part.packs is None else f"pack for {kernel.name}")
        once = kernel.name in constant or part.constant
        out.append(Placement(call, args[f.written:], args[:f.written], once))
    return out
