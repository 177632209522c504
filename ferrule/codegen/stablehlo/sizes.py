"""Sizes: a graph whose symbolic dims are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ferrule.base.errors import InputError
from ferrule.ir.expr import Expr, const, dims, substitute
from ferrule.ir.graph import Graph, Node, TensorType, Value
from ferrule.ir.interp.dims import check_facts
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Order


def dims_of(graph: Graph) -> tuple[Expr, ...]:
    """The dims that a graph mentions, in order of name."""
    found = set[Expr]()
    for v in (*graph.inputs, *graph.params, *(v for n in graph.nodes for v in n.outputs)):
        found.update(d for s in v.shape for d in dims(s))
    for n in graph.nodes:
        for _, x in n.attrs:
            found |= _mentioned(x)
    return tuple(sorted(found, key=lambda d: str(d.attr.name)))


def _mentioned(x: Any) -> set[Expr]:
    if isinstance(x, Expr):
        return set(dims(x))
    if isinstance(x, Graph):
        return set(dims_of(x))
    return set[Expr]().union(*map(_mentioned, x)) if isinstance(x, tuple) else set()


def fixed(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """`graph` for these sizes of its dims. Raises GuardError for a size that is none of a dim's,
    and InputError for one that no dim has.
    """
    own = dims_of(graph)
    strange = [name for name in sizes if name not in {d.attr.name for d in own}]
    if strange:
        known = ", ".join(d.attr.name for d in own) or "none"
        raise InputError(f"no size is called {strange[0]!r}; the symbolic ones are: {known}")
    if not own:
        return graph
    for d in own:
        check_facts(d, sizes)
    return _replaced(graph, {d: const(sizes[d.attr.name]) for d in own if d.attr.name in sizes})


def _replaced(graph: Graph, numbers: Mapping[Expr, Expr]) -> Graph:
    def size(e: Expr) -> Expr:
        return simplify(substitute(e, numbers))

    def value(v: Value) -> Value:
        return Value(v.name, TensorType(tuple(map(size, v.shape)), v.dtype))

    def attribute(x: Any) -> Any:
        if isinstance(x, Graph):
            return _replaced(x, numbers)
        if isinstance(x, Expr):
            return size(x)
        if isinstance(x, tuple) and not isinstance(x, Order):
            return tuple(map(attribute, x))
        return x

    def node(n: Node) -> Node:
        attrs = tuple((k, attribute(x)) for k, x in n.attrs)
        ins, outs = tuple(map(value, n.inputs)), tuple(map(value, n.outputs))
        return replace(n, inputs=ins, outputs=outs, attrs=attrs)

    inputs, params, outputs = (
        tuple(map(value, vs)) for vs in (graph.inputs, graph.params, graph.outputs)
    )
    return Graph(graph.name, inputs, params, tuple(map(node, graph.nodes)), outputs)
