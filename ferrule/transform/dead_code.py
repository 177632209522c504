"""Dead code: what no output depends on is left out.

An operator that requires something of sizes stays, since a call with others is to be refused all
the same. It costs nothing: below graphs, too, what nobody reads is not computed.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.graph import Graph, Node, requirements_of
from ferrule.transform.rewrite import Rewritten, in_bodies


def dead_code(graph: Graph) -> Rewritten:
    """`graph` without the nodes whose results nobody reads, and which these were."""
    graph, decided = in_bodies(graph, dead_code)
    needed = set(graph.outputs)
    kept: list[Node] = []
    decisions = list(decided)
    for n in reversed(graph.nodes):
        if needed.isdisjoint(n.outputs) and not requirements_of(n):
            name = n.outputs[0].name
            decisions.append(Decision(name, "graph", f"{n.op} left out", "nobody reads it"))
            continue
        needed.update(n.inputs)
        kept.append(n)
    return replace(graph, nodes=tuple(reversed(kept))), tuple(decisions)
