"""Simplify views: those that come to another view, or to nothing.

    transpose(transpose(x))        one transpose, or x
    reshape(reshape(x))            one reshape, or x
    reshape, expand to x's own shape, transpose in order, cast to x's own dtype: x

Below graphs there are no views, so that code does not depend on this: it keeps graphs small for the
passes that look at them, and their texts readable. A view that requires something of sizes stays.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.graph import Graph, Node, Value, requirements_of
from ferrule.transform.rewrite import Rewritten, in_bodies, with_inputs


def simplify_views(graph: Graph) -> Rewritten:
    """`graph` with chains of views as one, and what became of which."""
    graph, decided = in_bodies(graph, simplify_views)
    maker: dict[Value, Node] = {}
    instead: dict[Value, Value] = {}
    nodes: list[Node] = []
    decisions = list(decided)
    for n in graph.nodes:
        n = _joined(with_inputs(n, instead), maker)
        if _is_identity(n):
            (x,), (y,) = n.inputs, n.outputs
            instead[y] = x
            decisions.append(Decision(y.name, "graph", f"is {x.name}", f"a {n.op} of no effect"))
            continue
        maker.update((v, n) for v in n.outputs)
        nodes.append(n)
    outputs = tuple(instead.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs), tuple(decisions)


def _joined(n: Node, maker: dict[Value, Node]) -> Node:
    """`n` as a view of what the view before it, of the same kind, is one of."""
    before = maker.get(n.inputs[0]) if n.inputs else None
    if before is None or before.op != n.op or requirements_of(before):
        return n
    if n.op == "reshape":
        return replace(n, inputs=before.inputs)
    if n.op == "transpose":
        first, second = before.attributes["perm"], n.attributes["perm"]
        perm = tuple(first[d] for d in second)
        return replace(n, inputs=before.inputs, attrs=(("perm", perm),))
    return n


def _is_identity(n: Node) -> bool:
    if n.op in ("reshape", "expand", "cast"):
        return n.inputs[0].type == n.outputs[0].type
    return n.op == "transpose" and n.attributes["perm"] == tuple(range(n.inputs[0].rank))
