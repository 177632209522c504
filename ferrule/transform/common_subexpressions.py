"""Common subexpressions: an operator of the same operands and attributes is computed once.

    a = exp(x); b = exp(x); y = a * b      ->      a = exp(x); y = a * a

Whether each reader computes it again after all, since that costs less than storing it, is for
`fuse.inline` to decide, which says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.graph import Graph, Node, Value
from ferrule.transform.rewrite import Rewritten, in_bodies, with_inputs


def common_subexpressions(graph: Graph) -> Rewritten:
    """`graph` with equal nodes as one, the first of them, and which these were."""
    graph, decided = in_bodies(graph, common_subexpressions)
    known: dict[Any, Node] = {}
    instead: dict[Value, Value] = {}
    nodes: list[Node] = []
    decisions = list(decided)
    for n in (with_inputs(n, instead) for n in graph.nodes):
        # An attribute's type and repr are asked too: 0.0 equals -0.0, and 1 equals True.
        attrs = tuple((k, type(v), repr(v), v) for k, v in n.attrs)
        types = tuple(v.type for v in n.outputs)
        first = known.setdefault((n.op, n.inputs, attrs, types), n)
        if first is n:
            nodes.append(n)
            continue
        instead.update(zip(n.outputs, first.outputs, strict=True))
        same = f"is {first.outputs[0].name}"
        decisions.append(Decision(n.outputs[0].name, "graph", same, f"the same {n.op}"))
    outputs = tuple(instead.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs), tuple(decisions)
