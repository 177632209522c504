"""Counted loops: a `while` that goes over rows by a counter becomes a loop that knows it.

A program says "for i in 0..n, take row i of x, write row i of y" with a state for i, a slice at it
and an update of the whole of y in each step:

    while i < n:  y = dynamic_update_slice(y, f(dynamic_slice(x, i), h), i);  i = i + 1

So JAX lowers `scan`. Run as it stands, each step copies y. As a loop (ops/loop.py), rows of x and y
are read and written in place, and the other states have two places in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, call
from ferrule.ir.graph import Graph, Node, TensorType, Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify
from ferrule.transform.rewrite import Rewritten, in_bodies
from ferrule.transform.split_loops import LOOP, WHILE

Makers = Mapping[Value, Node]


def counted_loops(graph: Graph) -> Rewritten:
    """`graph` with a loop for each `while` that counts over rows from 0 to a size."""
    graph, decided = in_bodies(graph, counted_loops)
    makers = {v: n for n in graph.nodes for v in n.outputs}
    nodes: list[Node] = []
    decisions = list(decided)
    for n in graph.nodes:
        found = _Loop.of(n, makers) if n.op == WHILE else None
        if found is None or not (found.made or found.read):
            nodes.append(n)
            continue
        nodes.append(found.node())
        rows = f"{len(found.read)} tensors by rows and makes {len(found.made)}"
        why = f"it counts to {found.count}, reads {rows}"
        decisions.append(Decision(n.outputs[0].name, "graph", "a loop over rows", why))
    return replace(graph, nodes=tuple(nodes)), tuple(decisions)


def _number(v: Value, makers: Makers) -> Expr | None:
    """The integer that a scalar is known to be."""
    n = makers.get(v)
    if n is None or v.rank or not v.dtype.is_int:
        return None
    if n.op == "full" and isinstance(n.attributes["value"], int | Expr):
        return as_index(n.attributes["value"])
    return _number(n.inputs[0], makers) if n.op in ("cast", "reshape") else None


@dataclass(frozen=True, eq=False)
class _Loop:
    """A `while` that counts. `counter` is the place of the state that does, from 0 to `count`;
    `made` are the states that are written by rows, with the update of each; `read` the captured
    inputs of the body that are read by rows, with the slices.
    """

    old: Node
    body: Graph
    makers: Makers
    count: Expr
    counter: int
    made: Mapping[int, Value]
    read: Mapping[Value, tuple[Node, ...]]

    @staticmethod
    def of(n: Node, outer: Makers) -> _Loop | None:
        """The loop that `n` is; None for one that does not count as it should."""
        body, s = n.attributes["body"], int(n.attributes["states"])
        makers = {v: m for m in body.nodes for v in m.outputs}
        captured = dict(zip(body.inputs[s:], n.inputs[1 + s :], strict=True))

        def number(v: Value) -> Expr | None:
            return _number(captured[v], outer) if v in captured else _number(v, makers)

        test = makers.get(body.outputs[s])
        first = outer.get(n.inputs[0])
        if test is None or test.op != "lt" or first is None or first.op != "lt":
            return None
        count, same = number(test.inputs[1]), _number(first.inputs[1], outer)
        k = next((k for k in range(s) if body.outputs[k] is test.inputs[0]), None)
        if k is None or count is None or same is None or not equal(count, same):
            return None
        step = makers.get(body.outputs[k])
        begins = n.inputs[1 + k]
        if (
            step is None
            or step.op != "add"
            or body.inputs[k] not in step.inputs
            or not any(number(v) is ONE for v in step.inputs)
            or _number(begins, outer) is not ZERO
            or first.inputs[0] is not begins
        ):
            return None
        count = count if prove_nonneg(count) else simplify(call("max", count, ZERO))
        bare = _Loop(n, body, makers, count, k, {}, {})
        uses = Counter(v for m in body.nodes for v in m.inputs)
        uses.update(body.outputs)
        updates = {j: bare.update(j, uses, number) for j in range(s) if j != k}
        made = {j: row for j, row in updates.items() if row is not None}
        read = {v: found for v in captured if (found := bare.slices(v, number))}
        return replace(bare, made=made, read=read)

    def counts(self, v: Value) -> bool:
        """Whether a scalar is the counter, maybe with the size added where it is negative, which it
        never is.
        """
        n = self.makers.get(v)
        if n is None:
            return v is self.body.inputs[self.counter]
        if n.op in ("cast", "reshape"):
            return self.counts(n.inputs[0])
        if n.op != "select":
            return False
        negative = self.makers.get(n.inputs[0])
        below = negative is not None and negative.op == "lt" and self.counts(negative.inputs[0])
        zero = below and negative is not None and _number(negative.inputs[1], self.makers) is ZERO
        return zero and self.counts(n.inputs[2])

    def at_row(self, whole: Value, part: Value, starts: Iterable[Value], number: Any) -> bool:
        """Whether `part` is the row of `whole` that the counter says."""
        start, *others = starts
        return (
            equal(whole.shape[0], self.count)
            and equal(part.shape[0], ONE)
            and all(map(equal, whole.shape[1:], part.shape[1:]))
            and all(number(v) is ZERO for v in others)
            and self.counts(start)
        )

    def update(self, j: int, uses: Counter[Value], number: Any) -> Value | None:
        """The row that is written to state `j` in each step, where nothing else is done to it."""
        own, n = self.body.inputs[j], self.makers.get(self.body.outputs[j])
        if n is None or n.op != "dynamic_update_slice" or n.inputs[0] is not own or uses[own] > 1:
            return None
        whole, row, *starts = n.inputs
        alone = uses[self.body.outputs[j]] == 1
        return row if alone and self.at_row(whole, row, starts, number) else None

    def slices(self, v: Value, number: Any) -> tuple[Node, ...]:
        """The nodes of the body that read a row of `v` at the counter."""
        return tuple(
            n
            for n in self.body.nodes
            if n.op == "dynamic_slice"
            and n.inputs[0] is v
            and self.at_row(v, n.outputs[0], n.inputs[1:], number)
        )

    def node(self) -> Node:
        """The loop. Its results are those of the `while`."""
        n, body, s = self.old, self.body, int(self.old.attributes["states"])
        carried = [j for j in range(s) if j not in self.made]
        rows = {v: _row(v, "row") for v in self.read}
        sliced = {m: v for v, found in self.read.items() for m in found}
        nodes: list[Node] = []
        dropped = {body.outputs[j] for j in self.made}
        for m in body.nodes:
            if m in sliced:
                nodes.append(_reshape(rows[sliced[m]], m.outputs[0]))
            elif dropped.isdisjoint(m.outputs):
                nodes.append(m)
        results: list[Value] = []
        for row in self.made.values():
            results.append(_row(row, f"row{len(results)}"))
            nodes.append(_reshape(row, results[-1]))
        left = {v for m in nodes for v in m.inputs} | set(body.outputs)
        outer = zip(body.inputs[s:], n.inputs[1 + s :], strict=True)
        captured = [(own, v) for own, v in outer if own in left]
        outputs = (*(body.outputs[j] for j in carried), *results)
        inputs = (*(body.inputs[j] for j in carried), *rows.values(), *(own for own, _ in captured))
        inner = replace(body, inputs=inputs, nodes=tuple(nodes), outputs=outputs)
        outside = dict(zip(body.inputs[s:], n.inputs[1 + s :], strict=True))
        given = (
            *(n.inputs[1 + j] for j in carried), *(outside[v] for v in rows),
            *(v for _, v in captured),
        )  # fmt: skip
        attrs: dict[str, Any] = {
            "body": inner, "count": self.count, "last": (True,) * len(carried), "reverse": False,
            "rows": len(rows), "states": len(carried),
        }  # fmt: skip
        made = tuple(n.outputs[j] for j in (*carried, *self.made))
        return Node(LOOP, given, made, tuple(attrs.items()), n.location)


def _row(v: Value, word: str) -> Value:
    """A value like a row of `v`."""
    return Value(f"{v.name}.{word}", TensorType(v.shape[1:], v.dtype))


def _reshape(source: Value, result: Value) -> Node:
    return Node("reshape", (source,), (result,), (("shape", result.shape),))
