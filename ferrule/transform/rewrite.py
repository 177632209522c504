"""What passes on graphs share: other operands, new names, and the same pass for bodies of loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.graph import Graph, Node, Value, graphs

Rewritten = tuple[Graph, tuple[Decision, ...]]


def with_inputs(n: Node, instead: Mapping[Value, Value]) -> Node:
    """`n` with other values in place of some that it reads."""
    if instead.keys().isdisjoint(n.inputs):
        return n
    return replace(n, inputs=tuple(instead.get(v, v) for v in n.inputs))


def fresh_stem(graph: Graph, letter: str) -> str:
    """What no name of a value begins with, in `graph` or in the bodies of its loops: `letter`, as
    often as it takes.
    """
    names = {
        v.name
        for g in graphs(graph)
        for v in (*g.inputs, *g.params, *(v for n in g.nodes for v in n.outputs))
    }
    stem = letter
    while any(name.startswith(stem) for name in names):
        stem += letter
    return stem


def in_bodies(graph: Graph, rewrite: Callable[[Graph], Rewritten]) -> Rewritten:
    """`graph` with `rewrite` done to each graph that is an attribute of a node (a loop's body)."""
    decisions: list[Decision] = []
    nodes: list[Node] = []
    for n in graph.nodes:
        if any(isinstance(a, Graph) for _, a in n.attrs):
            attrs = []
            for name, a in n.attrs:
                if isinstance(a, Graph):
                    a, decided = rewrite(a)
                    decisions += decided
                attrs.append((name, a))
            n = replace(n, attrs=tuple(attrs))
        nodes.append(n)
    return replace(graph, nodes=tuple(nodes)), tuple(decisions)
