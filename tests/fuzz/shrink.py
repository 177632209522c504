"""A failing program made small: one change after another is kept while the fault stays of its kind.

    small = shrink(program, lambda p: check(p, setup))

Changes leave out outputs, runs and nodes (a node's result is replaced by an operand of its type or
by a new input), make sizes and numbers small, params inputs, and dims numbers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ferrule.base.dtype import f32
from ferrule.base.errors import FerruleError
from ferrule.ir.expr import Expr, const, substitute
from ferrule.ir.graph import Graph, Node, Value
from ferrule.ir.interp.dims import size
from ferrule.ir.simplify import simplify
from tests.fuzz.check import Fault
from tests.fuzz.program import Program, dims_of, pruned, rebuilt

Trial = Callable[[Program], Fault | None]
Change = tuple[Callable[[], Graph], Any]  # what makes the graph, and the runs
Changes = Callable[[Program], Iterator[Change]]


def shrink(program: Program, trial: Trial, seconds: float = 60.0) -> Program:
    """The least program found in that time whose fault is of the kind of that of `program`."""
    end = time.monotonic() + seconds
    fault = trial(program)
    if fault is None:
        return program
    seen = {str(program)}
    progress = True
    while progress:
        progress = False
        for changes in CHANGES:
            found: Program | None = program
            while found is not None:
                found = _smaller(program, changes, trial, fault.kind, seen, end)
                if found is not None:
                    program, progress = found, True
    return renamed(program)


def _smaller(
    program: Program, changes: Changes, trial: Trial, kind: str, seen: set[str], end: float
) -> Program | None:
    """The first change that keeps the kind of fault, of those that were not tried before."""
    for make, runs in changes(program):
        if time.monotonic() > end:
            return None
        smaller = _valid(make, runs)
        if smaller is None or str(smaller) in seen:
            continue
        seen.add(str(smaller))
        fault = trial(smaller)
        if fault is not None and fault.kind == kind:
            return smaller
    return None


def _valid(make: Callable[[], Graph], runs: Any) -> Program | None:
    """The changed program, if it is one."""
    try:
        graph = pruned(make())
        kept = {d.attr.name for d in dims_of(graph)}
        sizes = tuple({k: v for k, v in r.items() if k in kept} for r in runs)
        every = [*graph.inputs, *graph.params, *(v for n in graph.nodes for v in n.outputs)]
        fits = all(size(s, r) >= 0 for r in sizes for v in every for s in v.shape)
    except (FerruleError, ArithmeticError, IndexError, KeyError, ValueError, TypeError):
        return None
    return Program(graph, sizes) if fits and graph.outputs else None


def _runs(p: Program) -> Iterator[Change]:
    """One set of sizes alone."""
    if len(p.runs) > 1:
        yield from ((lambda: p.graph, (r,)) for r in p.runs)


def _outputs(p: Program) -> Iterator[Change]:
    outputs = p.graph.outputs
    for i in range(len(outputs) if len(outputs) > 1 else 0):
        yield (lambda i=i: replace(p.graph, outputs=(outputs[i],))), p.runs
    for i in range(len(outputs) if len(outputs) > 2 else 0):
        yield (lambda i=i: replace(p.graph, outputs=outputs[:i] + outputs[i + 1 :])), p.runs
    for n in p.graph.nodes:  # earlier values in place of the outputs
        yield (lambda n=n: replace(p.graph, outputs=n.outputs[:1])), p.runs


def _cuts(p: Program) -> Iterator[Change]:
    """A new input in place of a node."""
    for n in reversed(p.graph.nodes):
        if n.op not in ("full", "iota", "constant"):
            yield (lambda n=n: _cut(p.graph, n)), p.runs
    for n in reversed(p.graph.nodes):
        if n.op in ("full", "iota", "constant"):
            yield (lambda n=n: _cut(p.graph, n)), p.runs


def _cut(graph: Graph, n: Node) -> Graph:
    taken = {v.name for v in graph.inputs}
    prefix = "k1_" if n.outputs[0].dtype.is_int else "x"
    number = next(i for i in range(1000) if f"{prefix}{i}" not in taken)
    inputs = [Value(f"{prefix}{number + i}c", v.type) for i, v in enumerate(n.outputs)]
    swapped = dict(zip(n.outputs, inputs, strict=True))
    nodes = tuple(x for x in graph.nodes if x is not n)
    wider = replace(graph, nodes=nodes, inputs=(*graph.inputs, *inputs))
    return rebuilt(wider, others=swapped)


def _bypasses(p: Program) -> Iterator[Change]:
    """An operand, of the same type or not, in place of a node."""
    for n in reversed(p.graph.nodes):
        for v in dict.fromkeys(n.inputs):
            if v.dtype == n.outputs[0].dtype:
                yield (lambda n=n, v=v: rebuilt(p.graph, others={n.outputs[0]: v})), p.runs


def _fixed(p: Program) -> Iterator[Change]:
    """A number in place of a dim, and other values of dims."""
    for d in dims_of(p.graph):
        for r in p.runs:
            n = const(r[d.attr.name])
            yield (lambda d=d, n=n: rebuilt(p.graph, _sizes(lambda e: substitute(e, {d: n})))), (r,)
        for r in p.runs:
            for less in _less(r[d.attr.name]):
                yield (lambda: p.graph), ({**r, d.attr.name: less},)


def _params(p: Program) -> Iterator[Change]:
    """Params as inputs."""
    for v in p.graph.params:
        rest = tuple(x for x in p.graph.params if x is not v)
        yield (lambda v=v, rest=rest: replace(p.graph, inputs=(*p.graph.inputs, v), params=rest)), (
            p.runs
        )


def _numbers(p: Program) -> Iterator[Change]:
    """Every 17 of the text as an 8, and so on."""
    text = re.findall(r"(?<![\w.])\d+(?![\w.])", str(p))
    for n in sorted({*map(int, text)}, reverse=True):
        for less in _less(n):
            yield (lambda n=n, less=less: _renumbered(p.graph, n, less)), p.runs


def _less(n: int) -> list[int]:
    return [m for m in dict.fromkeys((1, 2, 3, n // 2, n - 1)) if 0 < m < n]


def _renumbered(graph: Graph, n: int, less: int) -> Graph:
    def number(x: Any) -> Any:
        if isinstance(x, Expr):
            return const(less) if x.is_const and x.value == n else x
        return less if type(x) is int and x == n else x

    return rebuilt(graph, number)


def _sizes(change: Callable[[Expr], Expr]) -> Callable[[Any], Any]:
    return lambda x: simplify(change(x)) if isinstance(x, Expr) else x


def _dtypes(p: Program) -> Iterator[Change]:
    """Floats of other widths as f32."""
    for t in {v.dtype for v in (*p.graph.inputs, *p.graph.params)}:
        if t.is_float and t is not f32:
            yield (lambda t=t: rebuilt(p.graph, lambda x: f32 if x == t else x)), p.runs


CHANGES: tuple[Changes, ...] = (
    _runs, _outputs, _cuts, _bypasses, _fixed, _numbers, _params, _dtypes,
)  # fmt: skip


def renamed(p: Program) -> Program:
    """Nodes' values numbered from v0; inputs keep their names, which say what they hold."""
    names: dict[Value, Value] = {}
    nodes = []
    for n in p.graph.nodes:
        outs = tuple(Value(f"v{len(names) + i}", v.type) for i, v in enumerate(n.outputs))
        ins = tuple(names.get(v, v) for v in n.inputs)
        names.update(zip(n.outputs, outs, strict=True))
        nodes.append(replace(n, inputs=ins, outputs=outs))
    outputs = tuple(names.get(v, v) for v in p.graph.outputs)
    return Program(replace(p.graph, nodes=tuple(nodes), outputs=outputs), p.runs)
