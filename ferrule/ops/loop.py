"""Loop: a body that runs `count` times, one after another, on states that it hands on to itself.

    states, results of step t = body(states before t, row t of each of `rows`, captured values)
    outputs = the states behind each step, then the other results: each has one row a step

Of a state that is asked for its `last` value alone, the output is that, and no rows are kept.
A loop is JAX's `scan`; what runs until a condition fails is a `while` (ops/control.py). With
`reverse` the steps begin at the last row: step t takes and makes the rows count - 1 - t. The body
is a Graph of its own, whose inputs are the states, a row of each of `rows`, and the captured
values, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.base.dtype import from_storage, to_storage
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr, as_index
from ferrule.ir.graph import (
    Attrs,
    ComputeContext,
    Graph,
    GraphBuilder,
    TensorType,
    Value,
    requirements,
)
from ferrule.ir.interp import run_graph
from ferrule.ir.interp.dims import infer_dims, size
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Stage
from ferrule.ops.op import Array, define

Values = tuple[Value, ...]
Body = Callable[[GraphBuilder, Values, Values], tuple[Sequence[Value], Sequence[Value]]]


def loop(
    b: GraphBuilder,
    body: Body,
    count: Expr | int,
    states: Sequence[Value],
    rows: Sequence[Value],
    reverse: bool = False,
    last: Sequence[bool] = (),
) -> Values:
    """The states behind each of the `count` steps, and the further results of each step, as values
    with a first dimension of that size; of a state that `last` marks, what the last step leaves.

    `body(inner, states, rows)` builds one step with a builder of its own and gives the new states
    and the further results; values of the graph around that it uses are captured. Raises
    CompileError for states that change their type, and for `rows` without `count` rows.
    """
    inner = b.inner("body")
    types = [v.type for v in states] + [_row(v) for v in rows]
    given = tuple(inner.input(t, f"{inner.stem}a{i}") for i, t in enumerate(types))
    after, results = body(inner, given[: len(states)], given[len(states) :])
    graph, captured = closed(inner.build((*after, *results)))
    out = b.emit(
        "loop", *states, *rows, *captured, body=graph, count=simplify(as_index(count)),
        states=len(states), rows=len(rows), reverse=bool(reverse),
        last=tuple(map(bool, last)) if any(last) else None,
    )  # fmt: skip
    return out if isinstance(out, tuple) else (out,)


def closed(graph: Graph) -> tuple[Graph, Values]:
    """`graph` with an input for each value that it uses and does not define, and these values."""
    defined = {*graph.inputs, *(v for n in graph.nodes for v in n.outputs)}
    used = [*(v for n in graph.nodes for v in n.inputs), *graph.outputs]
    captured = tuple(dict.fromkeys(v for v in used if v not in defined))
    return replace(graph, inputs=(*graph.inputs, *captured)), captured


def _row(v: Value) -> TensorType:
    """The type of a row of `v`."""
    if not v.rank:
        raise CompileError(f"a loop goes over the rows of {v.type}, which has none")
    return TensorType(v.shape[1:], v.dtype)


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    body, count, s, n = attrs["body"], attrs["count"], attrs["states"], attrs["rows"]
    count = as_index(count)
    expected = [v.type for v in body.inputs]
    over = types[s : s + n]
    for t in over:
        if not t.rank or not equal(t.shape[0], count):
            raise CompileError(f"a loop of {count} steps goes over the rows of {t}")
    given = [*types[:s], *(TensorType(t.shape[1:], t.dtype) for t in over), *types[s + n :]]
    outputs = [v.type for v in body.outputs]
    check_types("the body of a loop takes", given, expected)
    check_types("the body of a loop leaves", outputs[:s], expected[:s])
    alone = lasts(attrs)
    return tuple(
        t if k < s and alone[k] else TensorType((count, *t.shape), t.dtype)
        for k, t in enumerate(outputs)
    )


def lasts(attrs: Attrs) -> tuple[bool, ...]:
    """Of which states a loop gives the last value alone."""
    found: tuple[bool, ...] = attrs.get("last") or (False,) * attrs["states"]
    return found


def check_types(what: str, found: Sequence[TensorType], wanted: Sequence[TensorType]) -> None:
    """Raises CompileError for types that are not the `wanted` ones."""
    if len(found) != len(wanted) or not all(map(_same, found, wanted)):
        shown = (", ".join(map(str, types)) or "nothing" for types in (found, wanted))
        raise CompileError(f"{what} {', not '.join(shown)}")


def _same(a: TensorType, b: TensorType) -> bool:
    alike = a.dtype == b.dtype and a.rank == b.rank
    return alike and all(equal(x, y) for x, y in zip(a.shape, b.shape))


def _meaning(arrays: Sequence[Array], attrs: Attrs) -> Any:
    body, s, n = attrs["body"], attrs["states"], attrs["rows"]
    states, captured, alone = list(arrays[:s]), arrays[s + n :], lasts(attrs)
    steps = range(int(attrs["count"]))
    if not steps:
        rows = [np.zeros(x.shape[1:], x.dtype) for x in arrays[s : s + n]]
        none = _no_steps(body, [*states, *rows, *captured])
        return tuple(states[k] if k < s and alone[k] else x for k, x in enumerate(none))
    made: list[list[Array]] = [[] for _ in body.outputs]
    for t in reversed(steps) if attrs["reverse"] else steps:
        given = [*states, *(x[t] for x in arrays[s : s + n]), *captured]
        stored = [to_storage(np.asarray(x), v.dtype) for v, x in zip(body.inputs, given)]
        found = run_graph(body, stored)
        results = [from_storage(x, v.dtype) for v, x in zip(body.outputs, found)]
        states = results[:s]
        for column, x in zip(made, results):
            column.append(x)
    return tuple(
        c[-1] if k < s and alone[k] else np.stack(c[::-1] if attrs["reverse"] else c)
        for k, c in enumerate(made)
    )


def _no_steps(body: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """What a loop leaves that never runs its body, whose arguments would have these shapes."""
    given = {v.name: to_storage(x, v.dtype) for v, x in zip(body.inputs, arrays, strict=True)}
    dims = infer_dims([Buf(v.name, v.shape, v.dtype) for v in body.inputs], given)
    shapes = [tuple(size(d, dims) for d in v.shape) for v in body.outputs]
    return tuple(
        from_storage(np.zeros((0, *t), v.dtype.numpy), v.dtype)
        for v, t in zip(body.outputs, shapes, strict=True)
    )


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    raise CompileError("a loop has no equations: its body is compiled as a graph of its own")


def _requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    return [r.fact for r in requirements(attrs["body"])]


define("loop", _infer, _meaning, _compute, "A body that runs several times.", requires=_requires)
