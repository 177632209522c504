"""Split loops: a graph with loops and branches as a module of straight graphs, each followed by
those.

Every other pass sees straight graphs alone: a loop's body, or a branch, is one of its own. A value
stands in the segment behind as many loops as lie, one after the other, before it. What depends on
parameters alone is not handed from one graph to another but repeated in each that reads it, so that
it stays known before the first run there; what nothing reads then is dropped below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ferrule.ir.calls import Interface
from ferrule.ir.expr import Buf, as_index
from ferrule.ir.graph import Graph, Node, Value, requirements
from ferrule.ir.module import Branch, Control, Module, Part, Repetition, While

LOOP, WHILE, CASE = "loop", "while", "case"
CONTROL = (LOOP, WHILE, CASE)


@dataclass(frozen=True)
class LoopPart:
    """A loop or a branching: the node, and its bodies, whose captured values are those of the graph
    around it.
    """

    node: Node
    bodies: tuple[Graph, ...]

    def parts(self) -> Iterable[Part[Any]]:
        """What runs the bodies."""
        outputs = tuple(map(_buf, self.node.outputs))
        for k, body in enumerate(self.bodies):
            yield Part(split_loops(body), outputs, _control(self.node, k))


def bodies(node: Node) -> dict[str, Graph]:
    """The attributes of a loop or a branching that are graphs, in order."""
    found = {k: g for k, g in node.attrs if isinstance(g, Graph)}
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def carried(node: Node) -> int:
    """The number of a body's first inputs that stand for states, or rows of what a loop goes over.
    The others are captured: the node's last inputs.
    """
    if node.op == CASE:
        return 0
    attrs = node.attributes
    return int(attrs["states"]) + int(attrs.get("rows", 0))


def captured(node: Node) -> tuple[Value, ...]:
    """The values of the graph around that the bodies of `node` use."""
    return node.inputs[carried(node) + (node.op != LOOP) :]


def passing(node: Node) -> frozenset[Value]:
    """The outputs of a loop that are states in two places, in turn: those of a `while`, and those
    of which a loop keeps the last value alone. They are read where they lie.
    """
    if node.op == WHILE:
        return frozenset(node.outputs)
    last = node.attributes.get("last") or () if node.op == LOOP else ()
    return frozenset(v for v, alone in zip(node.outputs, last) if alone)


def _read(node: Node) -> tuple[Value, ...]:
    """What a loop or branching reads itself: what decides, the first states, what it goes over."""
    return node.inputs[: carried(node) + (node.op != LOOP)]


@dataclass(frozen=True)
class StraightSegment:
    """A straight graph and the loops that run behind it. Values keep their names, so that what a
    segment reads and an earlier one or a loop makes is the same Value.
    """

    graph: Graph
    loops: tuple[LoopPart, ...]


def has_loops(graph: Graph) -> bool:
    """Whether a node of `graph` is a loop or a branching."""
    return any(n.op in CONTROL for n in graph.nodes)


def split_loops(graph: Graph | Module[Any]) -> Graph | Module[Any]:
    """`graph` as a module of straight graphs, and of modules where bodies have loops; itself where
    it has none, or is one already.
    """
    if isinstance(graph, Module) or not has_loops(graph):
        return graph
    parts: list[Part[Any]] = []
    results: dict[Value, list[Buf]] = {v: [] for v in graph.outputs}
    for seg in segments(graph):
        made = _made(seg.graph)
        for v, b in zip(seg.graph.outputs, made):
            results.get(v, []).append(b)
        parts.append(Part(seg.graph, made))
        for loop in seg.loops:
            for v in loop.node.outputs:
                if v not in passing(loop.node):
                    results.get(v, []).append(_buf(v))
            parts.extend(loop.parts())
    outputs = tuple(results[v].pop(0) for v in graph.outputs)
    inputs, params = tuple(map(_buf, graph.inputs)), tuple(map(_buf, graph.params))
    face = Interface(graph.name, inputs, params, outputs, requirements(graph))
    return Module(face, tuple(parts))


def segments(graph: Graph) -> tuple[StraightSegment, ...]:
    """The segments of `graph` in the order in which they run. The graph's outputs are outputs of
    the segment or the loop that makes them; those that are inputs, params, repeated or the last
    state of a loop are of the last segment, which copies them.
    """
    parts = _Parts(graph)
    return tuple(parts.segment(k) for k in range(parts.last + 1))


def _made(graph: Graph) -> tuple[Buf, ...]:
    """The buffers of a segment's outputs, called as the values; those of copies are not."""
    own, out = {v for n in graph.nodes for v in n.outputs}, list[Buf]()
    for k, v in enumerate(graph.outputs):
        first = v in own and v not in graph.outputs[:k]
        out.append(_buf(v) if first else replace(_buf(v), name=f"{v.name}.copy{k}"))
    return tuple(out)


def _buf(v: Value) -> Buf:
    return Buf(v.name, v.shape, v.dtype)


def _control(node: Node, k: int) -> Control:
    """What runs body `k` of `node`."""
    attrs, given = node.attributes, tuple(map(_buf, _read(node)))
    if node.op == CASE:
        return Branch(given[0], k)
    if node.op == WHILE:
        return While(given[0], given[1:])
    s = int(attrs["states"])
    last = tuple(attrs.get("last") or ())
    return Repetition(as_index(attrs["count"]), bool(attrs["reverse"]), given[:s], given[s:], last)


class _Parts:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {v: n for n in graph.nodes for v in n.outputs}
        self.known = set(graph.params)
        self.level: dict[Value, int] = dict.fromkeys((*graph.inputs, *graph.params), 0)
        for n in graph.nodes:
            level = max((self.level[v] for v in n.inputs), default=0)
            if n.op not in CONTROL and all(v in self.known for v in n.inputs):
                self.known.update(n.outputs)
            self.level.update(dict.fromkeys(n.outputs, level + (n.op in CONTROL)))
        self.last = max((self.level[v] for v in graph.outputs), default=0)
        self.bodies = {
            n: tuple(self.body(n, name, body) for name, body in bodies(n).items())
            for n in graph.nodes
            if n.op in CONTROL and self.level[n.outputs[0]] <= self.last
        }

    def body(self, node: Node, name: str, body: Graph) -> Graph:
        """A body of a loop or branching with values named after that. Captured values are the
        graph's own, or what the parameters make of them.
        """
        stem = f"{node.outputs[0].name}.{name}" if node.op == CASE else node.outputs[0].name
        own_inputs, outer = carried(node), captured(node)
        renamed = dict(zip(body.inputs[own_inputs:], outer, strict=True))

        def new(v: Value) -> Value:
            return renamed.setdefault(v, Value(f"{stem}.{v.name}", v.type))

        own = tuple(map(new, body.inputs[:own_inputs]))
        nodes = tuple(
            Node(n.op, tuple(map(new, n.inputs)), tuple(map(new, n.outputs)), n.attrs, n.location)
            for n in body.nodes
        )
        before = self.repeated(outer)
        outside = [*outer, *(v for n in before for v in n.inputs)]
        made = {v for n in before for v in n.outputs}
        inputs = dict.fromkeys(v for v in outside if v not in self.known)
        params = dict.fromkeys(v for v in outside if v in self.known and v not in made)
        outputs = tuple(map(new, body.outputs))
        return Graph(
            f"{self.graph.name}.{stem}", (*own, *inputs), tuple(params), (*before, *nodes), outputs
        )

    def repeated(self, values: Iterable[Value]) -> tuple[Node, ...]:
        """The nodes that make those of `values` that depend on parameters alone."""
        wanted, waiting = set[Node](), [v for v in values if v in self.known]
        while waiting:
            n = self.maker.get(waiting.pop())
            if n is not None and n not in wanted:
                wanted.add(n)
                waiting.extend(n.inputs)
        return tuple(n for n in self.graph.nodes if n in wanted)

    def segment(self, k: int) -> StraightSegment:
        """The nodes of level `k` that later ones or the outputs need, and the loops behind them."""
        loops = [n for n in self.bodies if self.level[n.outputs[0]] == k + 1]
        nodes = [
            n
            for n in self.graph.nodes
            if n.op not in CONTROL
            and self.level[n.outputs[0]] == k
            and n.outputs[0] not in self.known
        ]
        outputs = self.outputs(k, loops)
        known = [v for v in (*outputs, *(v for n in nodes for v in n.inputs)) if v in self.known]
        nodes = [*self.repeated(known), *nodes]
        made = {v for n in nodes for v in n.outputs}
        read = [*(v for n in nodes for v in n.inputs), *outputs]
        given = dict.fromkeys(v for v in read if v not in made)
        graph = Graph(
            f"{self.graph.name}.{k}",
            tuple(v for v in given if v not in self.graph.params),
            tuple(v for v in given if v in self.graph.params),
            tuple(nodes),
            tuple(outputs),
        )
        return StraightSegment(graph, tuple(LoopPart(n, self.bodies[n]) for n in loops))

    def outputs(self, k: int, loops: Sequence[Node]) -> list[Value]:
        """What segment `k` makes for others: the graph's outputs, what later segments and bodies
        read, and what its loops go over that is made of parameters.
        """
        final = [v for i, v in enumerate(self.graph.outputs) if self.home(i) == k]
        read: list[Value] = []
        for n in self.graph.nodes:
            if n in self.bodies:
                read += [*_read(n), *(v for body in self.bodies[n] for v in body.inputs)]
            elif n.op not in CONTROL and self.level[n.outputs[0]] > k:
                read += n.inputs
        crossing = [v for v in read if self.made_in(v, k)]
        crossing += [v for n in loops for v in _read(n) if v in self.known & set(self.maker)]
        return [*final, *dict.fromkeys(v for v in crossing if v not in final)]

    def made_in(self, v: Value, k: int) -> bool:
        """Whether a node of segment `k` makes `v`, on each run."""
        maker = self.maker.get(v)
        own = maker is not None and maker.op not in CONTROL
        return own and self.level[v] == k and v not in self.known

    def home(self, i: int) -> int | None:
        """The segment that output `i` of the graph is an output of; None for a loop's result."""
        v, maker = self.graph.outputs[i], self.maker.get(self.graph.outputs[i])
        if maker is None or v in self.known or v in self.graph.outputs[:i]:
            return self.last
        if maker.op in CONTROL:
            return self.last if v in passing(maker) else None
        return self.level[v]
