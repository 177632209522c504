"""Slice updates: those of a loop's state are marked to be done in place.

    repeat: y = dynamic_update_slice(x, row, i)  gives y         x is the state, y the next one

An update of a slice makes a new tensor: an element-wise one, which fuses with what is around it,
takes as long as a copy. In a loop that does it to its own state the copy can be left out
(fuse/in_place.py), if what is written stands alone. That is what the mark asks for, where the slice
is the smaller part of the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import product
from ferrule.ir.graph import Graph, Node
from ferrule.transform.rewrite import Rewritten, in_bodies
from ferrule.transform.split_loops import LOOP, WHILE

UPDATE = "dynamic_update_slice"
# What gives its first operand with some elements changed.
_UPDATES = (UPDATE, "scatter", "scatter_slices", "index_put")


def slice_updates(graph: Graph) -> Rewritten:
    """`graph` with marks in the bodies of its loops, and where these are."""
    graph, decided = in_bodies(graph, slice_updates)
    nodes: list[Node] = []
    decisions = list(decided)
    for n in graph.nodes:
        if n.op in (LOOP, WHILE):
            body, states = n.attributes["body"], int(n.attributes["states"])
            found = set(_updates(body, states))
            if found:
                changed = (_with(m, in_place=True) if m in found else m for m in body.nodes)
                n = _with(n, body=replace(body, nodes=tuple(changed)))
                why = f"{len(found)} slices of its states"
                decisions.append(Decision(n.outputs[0].name, "graph", "updates in place", why))
        nodes.append(n)
    return replace(graph, nodes=tuple(nodes)), tuple(decisions)


def _updates(body: Graph, states: int) -> Iterator[Node]:
    """The updates of slices that lead, maybe with others, from a state to its next value."""
    makers = {v: n for n in body.nodes for v in n.outputs}
    for state, result in zip(body.inputs[:states], body.outputs):
        chain, v = list[Node](), result
        while v in makers and makers[v].op in _UPDATES and len(makers[v].outputs) == 1:
            chain.append(makers[v])
            v = makers[v].inputs[0]
        if v is state:
            yield from (n for n in chain if n.op == UPDATE and _is_part(n))


def _is_part(n: Node) -> bool:
    whole, part = (estimate(product(list(v.shape))) for v in n.inputs[:2])
    return 2 * part <= whole


def _with(n: Node, **attrs: Any) -> Node:
    return replace(n, attrs=tuple(sorted((n.attributes | attrs).items())))
