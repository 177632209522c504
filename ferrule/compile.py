"""The whole pipeline, from a Graph to machine code, as a flat list of passes. The only file that joins rooms.

    Graph -> System          equations     each operator's index notation
    System -> stages         inline        substitute what costs less to compute than to store
    stages -> Kernels        group         stitch stages that share a grid
    Kernel -> Kernel         schedule      tiles, vectors, packing (once for equal kernels)
    Kernel -> Function       lower_kernel  loops
    Function -> Function     lower_math    exp, tanh, .. as arithmetic
    Functions -> Program     assemble      phases, arena
    Program -> object code   emit          LLVM IR text, one native entry
"""
from __future__ import annotations

from dataclasses import replace

from ferrule.base.compiled import Compiled
from ferrule.base.target import Target
from ferrule.codegen.compile_ir import compile_module
from ferrule.codegen.host import emit_host, make_compiled
from ferrule.codegen.llvm import emit_module, scratch_layout
from ferrule.graph.equations import equations
from ferrule.graph.group import Grouped, group
from ferrule.graph.inline import Inlined, inline
from ferrule.ir.canonical import canonical
from ferrule.ir.compute import System
from ferrule.ir.cost import kernel_ns
from ferrule.ir.expr import Buf
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function, map_stmts
from ferrule.ir.program import Call, Program
from ferrule.ir.simplify import simplify
from ferrule.ir.unit import Part, Unit
from ferrule.lower.loops import lower_kernel
from ferrule.lower.math import lower_math
from ferrule.lower.memory import total
from ferrule.lower.program import Placement, assemble
from ferrule.schedule.contraction import schedulable, schedule_contraction
from ferrule.schedule.rows import schedule_rows

PACK_NS_PER_ELEMENT = 1


def program_of(graph: Graph, target: Target) -> Program:
    """`graph` as a Program: every pass above machine code."""
    system = equations(graph)
    return program_of_system(system, target)


def program_of_system(system: System, target: Target) -> Program:
    """`system` as a Program."""
    inlined = inline(system)
    grouped = group(inlined, system.outputs)
    return _build(system, inlined, grouped, target)


def compile_program(program: Program, key: str, target: Target) -> Compiled:
    """`program` as machine code with its descriptor."""
    text = emit_module(program.functions, target, emit_host(program, key, declare=False))
    return make_compiled(program, key, compile_module(text, target))


def _build(system: System, inlined: Inlined, grouped: Grouped, target: Target) -> Program:
    """Schedule each distinct kernel once, instantiate it for each use, and assemble the program."""
    units: dict[tuple[Kernel, frozenset[Buf]], Unit] = {}
    functions: list[Function] = []
    placements: list[Placement] = []
    for kernel in grouped.kernels:
        formal, actual = canonical(kernel)
        known = frozenset(f for f, a in zip(formal.globals, actual, strict=True) if a in inlined.constant)
        unit = units.get((formal, known))
        if unit is None:
            unit = units[formal, known] = _unit(formal, known, target, len(units))
            functions += [p.function for p in unit.parts]
        placements += _instances(unit, kernel, actual, grouped.constant, len(placements))
    scratch = total([scratch_layout(f)[1] for f in functions])
    return assemble(system, placements, tuple(functions), scratch, (*inlined.reasons, *grouped.reasons))


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
