"""The rules of graphs."""

from __future__ import annotations

from collections.abc import Iterator

from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import walk
from ferrule.ir.graph import OPDEFS, Graph, Node, TensorType, Value, no_operator
from ferrule.ir.simplify import equal
from ferrule.ir.text import print_node
from ferrule.ir.text.declare import mentions
from ferrule.ir.verify.expr import fault_of
from ferrule.ir.verify.rules import Fault, Rule, check, repeated


def verify_graph(graph: Graph) -> None:
    """Raises VerifyError if `graph` breaks a rule."""
    check("graph", graph.name, graph, GRAPH_RULES, lambda: [print_node(n) for n in graph.nodes])


def _unique(graph: Graph) -> Iterator[Fault]:
    defined = [*graph.inputs, *graph.params, *(v for n in graph.nodes for v in n.outputs)]
    for name in repeated(v.name for v in defined):
        yield Fault(f"two values are called {name}")
    for name in repeated(d.name for d in mentions(graph).dims):
        yield Fault(f"two dims are called {name}")


def _defined_before_use(graph: Graph) -> Iterator[Fault]:
    defined: set[Value] = {*graph.inputs, *graph.params}
    for k, node in enumerate(graph.nodes):
        for v in node.inputs:
            if v not in defined:
                yield Fault(f"{node.op} takes {v.name}: {v.type}, which nothing before defines", k)
        defined |= set(node.outputs)
    for v in graph.outputs:
        if v not in defined:
            yield Fault(f"the output {v.name} is defined nowhere")


def _shapes(graph: Graph) -> Iterator[Fault]:
    located: list[tuple[Value, int | None]] = [(v, None) for v in (*graph.inputs, *graph.params)]
    located += [(v, k) for k, n in enumerate(graph.nodes) for v in n.outputs]
    for v, k in located:
        for s in v.shape:
            fault = fault_of(s)
            if fault is not None:
                yield Fault(fault, k)
            if s.dtype != i64 or any(n.op in ("axis", "load", "arg") for n in walk(s)):
                yield Fault(f"the size {s} of {v.name} is no i64 over dims", k)


def _types(graph: Graph) -> Iterator[Fault]:
    for k, node in enumerate(graph.nodes):
        if node.op not in OPDEFS:
            yield Fault(no_operator(node.op), k)
            continue
        fault = _type_fault(node)
        if fault is not None:
            yield Fault(f"{node.op}: {fault}", k)


def _type_fault(node: Node) -> str | None:
    try:
        found = OPDEFS[node.op].infer(tuple(v.type for v in node.inputs), node.attributes)
    except CompileError as error:
        return str(error)
    types = found if isinstance(found, tuple) else (found,)
    if len(types) != len(node.outputs):
        return f"it has {len(types)} results, not {len(node.outputs)}"
    for v, t in zip(node.outputs, types, strict=True):
        if not _same(v.type, t):
            return f"{v.name} is {v.type} and should be {t}"
    return None


def _same(a: TensorType, b: TensorType) -> bool:
    return (
        a.dtype == b.dtype
        and a.rank == b.rank
        and all(equal(x, y) for x, y in zip(a.shape, b.shape, strict=True))
    )


GRAPH_RULES = (
    Rule("a name means one value or dim", _unique),
    Rule("values are defined before they are used", _defined_before_use),
    Rule("sizes are i64 over dims", _shapes),
    Rule("results have the types that their operator infers", _types),
)
