"""Control that depends on data: a body that runs as long as a condition holds, and branches.

    while:   states of step t + 1 = body(states of step t), as long as flag(states of step t)
    case:    outputs = branch[index](), of the last branch for an index outside of them

The graphs inside use values of the graph around; what they use is captured, and comes as their last
inputs. A `while` node's body gives the new states and whether it goes on from these, so that a step
and the condition behind it are one straight graph; whether it goes on from the first states is an
operand. Specification: StableHLO, `while`, `case` and `if`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.base.dtype import boolean, from_storage, holds, i32, to_storage
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.graph import (
    Attrs,
    ComputeContext,
    Graph,
    GraphBuilder,
    TensorType,
    Value,
    requirements,
    tensor,
)
from ferrule.ir.interp import run_graph
from ferrule.ir.system import Stage
from ferrule.ops.create import full
from ferrule.ops.elementary import cast, clamp, select
from ferrule.ops.loop import check_types, closed
from ferrule.ops.op import Array, define

Values = tuple[Value, ...]
Step = Callable[[GraphBuilder, Values], Sequence[Value]]
Condition = Callable[[GraphBuilder, Values], Value]
Block = Callable[[GraphBuilder], Sequence[Value]]

FLAG, INDEX = tensor((), boolean), tensor((), i32)


def while_loop(
    b: GraphBuilder, condition: Condition, body: Step, states: Sequence[Value]
) -> Values:
    """The states for which `condition(builder, states)`, a bool of rank 0, is false: those given,
    or what `body(builder, states)` has made of them, as often as it takes.

    A state that the body leaves as it is costs nothing. Both functions build graphs with a builder
    of their own; values of the graph around that they use are captured. Raises CompileError for
    states that change their type, or a condition of another.
    """
    states, inner = tuple(states), b.inner("body")
    own = tuple(inner.input(v.type, f"{inner.stem}a{i}") for i, v in enumerate(states))
    after = tuple(body(inner, own))
    check_types("the body of a while leaves", [v.type for v in after], [v.type for v in states])
    moving = [k for k, v in enumerate(own) if after[k] is not v]
    if not moving:
        return states  # of a loop that never runs, as one that changes nothing never ends
    built = inner.build((*(after[k] for k in moving), condition(inner, after)))
    kept = {v: states[k] for k, v in enumerate(own) if k not in moving}
    graph, captured = closed(_replaced(built, kept, [own[k] for k in moving]))
    flag, first = condition(b, states), [states[k] for k in moving]
    out = b.emit("while", flag, *first, *captured, body=graph, states=len(moving))
    found = dict(zip(moving, out if isinstance(out, tuple) else (out,), strict=True))
    return tuple(found.get(k, v) for k, v in enumerate(states))


def _replaced(graph: Graph, instead: Mapping[Value, Value], inputs: Sequence[Value]) -> Graph:
    """`graph` of fewer `inputs`, with other values in place of the rest."""

    def new(values: Values) -> Values:
        return tuple(instead.get(v, v) for v in values)

    nodes = tuple(replace(n, inputs=new(n.inputs)) for n in graph.nodes)
    return replace(graph, inputs=tuple(inputs), nodes=nodes, outputs=new(graph.outputs))


def _infer_while(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    body, s = attrs["body"], attrs["states"]
    check_types("the flag of a while is", types[:1], [FLAG])
    check_types("the body of a while takes", types[1:], [v.type for v in body.inputs])
    leaves = [v.type for v in body.outputs]
    check_types("the body of a while leaves", leaves, [*types[1 : 1 + s], FLAG])
    return tuple(leaves[:s])


def _meaning_while(arrays: Sequence[Array], attrs: Attrs) -> Any:
    body, s = attrs["body"], attrs["states"]
    flag, states, captured = arrays[0], list(arrays[1 : 1 + s]), arrays[1 + s :]
    while flag:
        *states, flag = _run(body, [*states, *captured])
    return tuple(states)


def case(b: GraphBuilder, index: Value, branches: Sequence[Block]) -> Values:
    """What `branches[index](builder)` gives; for an index outside of them, what the last one does.

    `index` is an integer of rank 0. All branches give values of the same types; only the one that
    is chosen is computed. Raises CompileError for branches that differ, and for none.
    """
    if not branches:
        raise CompileError("a case needs at least one branch")
    built: list[Graph] = []
    for k, branch in enumerate(branches):
        inner = b.inner(f"branch{k}")
        # names are apart from those of the other branches as well
        inner.stem = f"{inner.stem}b{k}_"
        built.append(inner.build(tuple(branch(inner))))
    captured = dict.fromkeys(v for g in built for v in closed(g)[1])
    attrs = {f"branch{k}": replace(g, inputs=tuple(captured)) for k, g in enumerate(built)}
    if not built[0].outputs:
        return ()
    out = b.emit("case", _chosen(b, index, len(built)), *captured, **attrs)
    return out if isinstance(out, tuple) else (out,)


def cond(b: GraphBuilder, flag: Value, then: Block, otherwise: Block) -> Values:
    """What `then(builder)` gives where `flag`, a bool of rank 0, is true, else what `otherwise`
    does: a `case` of two.
    """
    zero, one = full(b, (), 0, i32), full(b, (), 1, i32)
    return case(b, select(b, flag, zero, one), (then, otherwise))


def _chosen(b: GraphBuilder, index: Value, count: int) -> Value:
    """`index` as an i32; one that i32 does not hold stays outside of the branches."""
    if not holds(i32, index.dtype):
        index = clamp(b, index, -1 if index.dtype.is_signed else None, count)
    return cast(b, index, i32)


def _infer_case(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...]:
    graphs = [g for _, g in sorted(attrs.items())]
    check_types("the index of a case is", types[:1], [INDEX])
    wanted = [v.type for v in graphs[0].outputs]
    for g in graphs:
        check_types("a branch takes", types[1:], [v.type for v in g.inputs])
        check_types("a branch leaves", [v.type for v in g.outputs], wanted)
    return tuple(wanted)


def _meaning_case(arrays: Sequence[Array], attrs: Attrs) -> Any:
    index, last = int(arrays[0]), len(attrs) - 1
    return tuple(_run(attrs[f"branch{index if 0 <= index < last else last}"], arrays[1:]))


def _run(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    stored = [to_storage(x, v.dtype) for v, x in zip(graph.inputs, arrays, strict=True)]
    found = run_graph(graph, stored)
    return [from_storage(x, v.dtype) for v, x in zip(graph.outputs, found)]


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    raise CompileError("control has no equations: its bodies are compiled as graphs of their own")


def _requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    graphs = (g for g in attrs.values() if isinstance(g, Graph))
    return [r.fact for g in graphs for r in requirements(g)]


define(
    "while", _infer_while, _meaning_while, _compute, "A body that runs as long as a flag is true.",
    requires=_requires,
)  # fmt: skip
define(
    "case", _infer_case, _meaning_case, _compute, "One of several bodies, by an index.",
    requires=_requires,
)  # fmt: skip
