"""Graph to System: each operator's Compute rule, in order, on one buffer a value."""

from __future__ import annotations

from ferrule.ir.expr import Buf, load
from ferrule.ir.graph import ComputeContext, Graph, Value, opdef, requirements
from ferrule.ir.system import Access, Compute, Stage, System


def equations(graph: Graph) -> System:
    """The system of `graph`. Outputs that are inputs, params or repeated get a copying stage of
    their own.
    """
    ctx = ComputeContext()
    bufs: dict[Value, Buf] = {v: _buf(v) for v in (*graph.inputs, *graph.params)}
    stages: list[Stage] = []
    for node in graph.nodes:
        for v in node.outputs:
            bufs[v] = _buf(v)
        stages += opdef(node.op).compute(
            ctx,
            tuple(bufs[v] for v in node.inputs),
            tuple(bufs[v] for v in node.outputs),
            node.attributes,
        )
    taken = {bufs[v] for v in (*graph.inputs, *graph.params)}
    outputs: list[Buf] = []
    for v in graph.outputs:
        buf = bufs[v]
        if buf in taken:
            copy = ctx.buf("copy", buf.shape, buf.dtype)
            axes = ctx.axes(buf.shape)
            value = Compute(axes, (load(buf, *axes),))
            stages.append(Stage(copy.name, (Access(copy, axes),), value))
            buf = copy
        taken.add(buf)
        outputs.append(buf)
    return System(
        graph.name,
        tuple(bufs[v] for v in graph.inputs),
        tuple(bufs[v] for v in graph.params),
        tuple(stages),
        tuple(outputs),
        requirements(graph),
    )


def _buf(v: Value) -> Buf:
    return Buf(v.name, v.shape, v.dtype)
