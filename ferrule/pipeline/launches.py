"""Launches: what each call of a program is, as facts that go with its code.

    launches(program, outcome, equations)   a dict for each call of `main`, by walk_runs

    name        the kernel's, or that of the kernel it packs an operand for
    phase       calls of one phase are one launch
    kind        "compute" (a contraction, a convolution, attention), "memory", or "pack"
    bytes, flops, ns    what it is expected to take (`ferrule.ir.analysis.cost`), each a number or
                text over the program's dims (base.shapes); None where that is not known
    width       bytes of an element of its results
    subjects    the buffers that it computes, those that were substituted into it among them: what
                decisions about it name
    operators   [operator, place in the user's program] of the graph's nodes that it computes
    equations   its stages as text

A profile is told by a launch's number which of these it is (`ferrule.base.artifact`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ferrule.base.errors import CompileError
from ferrule.codegen.shape_text import extent
from ferrule.ir.analysis.cost import kernel_bytes, kernel_flops
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.calls import Call, Kernels
from ferrule.ir.explain import describe
from ferrule.ir.expr import Expr
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.module import Module
from ferrule.ir.program import Program, walk_runs
from ferrule.ir.system import System
from ferrule.lower.small_loops import LOOP_OF
from ferrule.pipeline.run import Outcome
from ferrule.schedule.contraction.dims import contraction_dims

Level = Any  # a program at some level, or a Module of such


def launches(program: Program, outcome: Outcome, equations: Level | None) -> list[dict[str, Any]]:
    """The facts of each call of `program.main`. `equations` is the system, or the module of
    systems, before anything was substituted; None where the compilation began below.
    """
    kernels, graph = outcome.levels.get("kernels"), outcome.levels.get("segments")
    known: dict[tuple[str, str], dict[str, Any]] = {}
    bodies = [] if kernels is None else list(_bodies(kernels))
    systems = dict(_bodies(equations)) if equations is not None else {}
    graphs = dict(_bodies(graph)) if graph is not None else {}
    for prefix, body in bodies:
        held = _held(body, systems.get(prefix), graphs.get(prefix))
        for kernel in body.main:
            known[prefix, kernel.name] = _of_kernel(kernel, held.get(kernel.name, _NOTHING))
    found: list[dict[str, Any]] = []
    phases = (phase for r in walk_runs(program.main) for phase in r.phases)
    for i, phase in enumerate(phases):
        found += [{"phase": i, **_of_call(call, known)} for call in phase]
    return found


def _bodies(level: Level, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The straight programs of a level, each with what `link` puts before its functions' names."""
    if not isinstance(level, Module):
        yield prefix, level
        return
    for k, part in enumerate(level.parts):
        yield from _bodies(part.body, f"{prefix}p{k}.")


def _of_call(call: Call, known: Mapping[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    prefix = call.function[: call.function.rfind(".") + 1]
    facts = known.get((prefix, call.note))
    if facts is not None:
        return {**facts, "ns": _size(call.cost)}
    if call.note.startswith(LOOP_OF):
        return _of_loop(call, prefix, known)
    of = call.note.removeprefix(_PACK)
    moved = sum(b.size * b.dtype.size for b in call.args) if call.args else None
    return {
        "name": call.note or call.function,
        "kind": "pack" if of != call.note else "memory",
        "bytes": None if moved is None else _size(moved),
        "flops": 0,
        "ns": _size(call.cost),
        "width": call.args[0].dtype.size if call.args else 4,
        "subjects": [of],
        "operators": known.get((prefix, of), {}).get("operators", []),
        "equations": [],
    }


_PACK = "pack for "


def _of_loop(
    call: Call, prefix: str, known: Mapping[tuple[str, str], dict[str, Any]]
) -> dict[str, Any]:
    """A loop in one function: what its steps hold. How many there are only a call tells."""
    names = call.note.removeprefix(LOOP_OF).split(", ")
    held = [known[prefix, n] for n in names if (prefix, n) in known]
    return {
        "name": call.note,
        "kind": "compute" if any(h["kind"] == "compute" for h in held) else "memory",
        "bytes": None,
        "flops": None,
        "ns": _size(call.cost),
        "width": call.args[0].dtype.size,
        "subjects": [s for h in held for s in h["subjects"]],
        "operators": [o for h in held for o in h["operators"]],
        "equations": [x for h in held for x in h["equations"]],
    }


def _of_kernel(kernel: Kernel, held: _Held) -> dict[str, Any]:
    decided = Decision(kernel.name, "schedule", "")
    return {
        "name": kernel.name,
        "kind": "compute" if _contracts(kernel) else "memory",
        "bytes": _size(kernel_bytes(kernel)),
        "flops": _size(kernel_flops(kernel)),
        "width": kernel.written[0].dtype.size if kernel.written else 4,
        "subjects": list(held.subjects) or [kernel.name],
        "operators": [list(o) for o in held.operators],
        "equations": [x.strip() for x in describe(kernel, decided)[1:]],
    }


def _contracts(kernel: Kernel) -> bool:
    return any(contraction_dims(kernel, st) is not None for st in stages(kernel.body))


def _size(e: Expr | int) -> int | str | None:
    try:
        return e if isinstance(e, int) else extent(e)
    except CompileError:  # it counts what is not in the shape language
        return None


# ---- which operators a kernel holds --------------------------------------------------------------


@dataclass(frozen=True)
class _Held:
    """The buffers that a kernel computes, and the operators that these are of."""

    subjects: tuple[str, ...] = ()
    operators: tuple[tuple[str, str], ...] = ()


_NOTHING = _Held()


def _held(body: Kernels, system: System | None, graph: Graph | None) -> Mapping[str, _Held]:
    """What each kernel holds, by its name: its own stages, and those that were substituted, which
    are in the kernels that their readers are in.
    """
    own: dict[str, set[str]] = {}  # the kernels of a stage
    for kernel in body.kernels:
        for st in stages(kernel.body):
            for name in (st.name, *(b.name for b in st.writes)):
                own.setdefault(name, set()).add(kernel.name)
    if system is None:
        return _gathered(own, own, {})
    origins = _origins(system, graph)
    places: dict[str, set[str]] = {}  # the kernels that each buffer is computed in
    later: dict[str, set[str]] = {}  # and those of its readers
    for st in reversed(system.stages):
        written = [b.name for b in st.writes]
        names = (st.name, *written)
        at = set().union(*(own.get(n, ()) for n in names))
        at = at or set().union(*(later.get(n, ()) for n in written))
        for n in written:
            places.setdefault(n, set()).update(at)
        for b in st.reads:
            later.setdefault(b.name, set()).update(at)
    return _gathered(own, places, origins)


def _gathered(
    own: Mapping[str, set[str]],
    places: Mapping[str, set[str]],
    origins: Mapping[str, tuple[str, str]],
) -> Mapping[str, _Held]:
    subjects: dict[str, dict[str, None]] = {}
    operators: dict[str, dict[tuple[str, str], None]] = {}
    for name, kernels in own.items():
        for k in kernels:
            subjects.setdefault(k, {})[name] = None
    for name, kernels in reversed(list(places.items())):
        for k in kernels:
            subjects.setdefault(k, {})[name] = None
            if name in origins:
                operators.setdefault(k, {})[origins[name]] = None
    return {k: _Held(tuple(subjects[k]), tuple(operators.get(k, ()))) for k in subjects}


def _origins(system: System, graph: Graph | None) -> Mapping[str, tuple[str, str]]:
    """The operator of each buffer, and its place in the user's program. Stages stand in the order
    of nodes, and those of a node end with the ones that write its outputs.
    """
    if graph is None:
        return {}
    made = {v.name: (n.op, n.location) for n in graph.nodes for v in n.outputs}
    found: dict[str, tuple[str, str]] = {}
    waiting: list[str] = []
    for st in system.stages:
        names = [b.name for b in st.writes]
        origin = next((made[n] for n in names if n in made), None)
        waiting += names
        if origin is not None:
            found.update((n, origin) for n in waiting if n not in found)
            waiting = []
    return found
