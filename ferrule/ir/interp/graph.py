"""The meaning of Graph: each operator's NumPy definition, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import from_storage, to_storage
from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Buf, Expr, const, dims, substitute
from ferrule.ir.graph import Graph, Node, Value, opdef
from ferrule.ir.interp.dims import Arrays, infer_dims, named_arrays, shape_of
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.simplify import simplify

Array = NDArray[Any]


def run_graph(graph: Graph, arrays: Arrays, dims: Mapping[str, int] | None = None) -> list[Array]:
    """The outputs of `graph`, in storage form (uint16 for bf16).

    `arrays` are the inputs and params, by name or in that order. An operator's meaning gets real
    values: bf16 as f32. Raises InputError for arrays that do not fit, VerifyError for a result of
    another shape than its type says.
    """
    bufs = [_buf(v) for v in (*graph.inputs, *graph.params)]
    given = named_arrays(bufs, arrays)
    sizes = infer_dims(bufs, given, dims)
    values = {b.name: from_storage(given[b.name], b.dtype) for b in bufs}
    for node in graph.nodes:
        for v, result in zip(node.outputs, _apply(node, values, sizes), strict=True):
            values[v.name] = _checked(node, v, result, sizes)
    return [to_storage(values[v.name], v.dtype) for v in graph.outputs]


def _apply(node: Node, values: Mapping[str, Array], sizes: Mapping[str, int]) -> tuple[Array, ...]:
    args = [values[v.name] for v in node.inputs]
    attrs = {k: number(v, sizes) for k, v in node.attrs}
    with np.errstate(all="ignore"):
        result = opdef(node.op).meaning(args, attrs)
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def number(attr: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with every Expr in it as a Python number; a graph with its sizes as numbers."""
    if isinstance(attr, Expr):
        return eval_expr(attr, Env(sizes)).item()
    if isinstance(attr, Graph):
        return sized(attr, sizes)
    if isinstance(attr, tuple):
        return tuple(number(a, sizes) for a in attr)
    return attr


def sized(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """`graph` with the dims among `sizes` as the numbers that they are: that of a loop's body may
    use sizes of the graph around it.
    """
    now = {d: const(sizes[d.name]) for d in _dims(graph) if d.name in sizes}
    if not now:
        return graph

    def expr(e: Expr) -> Expr:
        return simplify(substitute(e, now))

    def attr(a: Any) -> Any:
        if isinstance(a, Expr):
            return expr(a)
        if isinstance(a, tuple):
            return tuple(map(attr, a))
        return sized(a, sizes) if isinstance(a, Graph) else a

    new: dict[Value, Value] = {}

    def value(v: Value) -> Value:
        if v not in new:
            new[v] = replace(v, type=replace(v.type, shape=tuple(map(expr, v.shape))))
        return new[v]

    def values(several: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(map(value, several))

    nodes = tuple(
        replace(
            n, inputs=values(n.inputs), outputs=values(n.outputs),
            attrs=tuple((k, attr(a)) for k, a in n.attrs),
        )
        for n in graph.nodes
    )  # fmt: skip
    return replace(
        graph, inputs=values(graph.inputs), params=values(graph.params), nodes=nodes,
        outputs=values(graph.outputs),
    )  # fmt: skip


def _dims(graph: Graph) -> set[Expr]:
    """The dims that a graph and those inside of it mention."""
    found: set[Expr] = set()

    def visit(a: Any) -> None:
        if isinstance(a, Expr):
            found.update(dims(a))
        elif isinstance(a, tuple):
            for x in a:
                visit(x)
        elif isinstance(a, Graph):
            found.update(_dims(a))

    for v in (*graph.inputs, *graph.params, *(v for n in graph.nodes for v in n.outputs)):
        visit(v.shape)
    for n in graph.nodes:
        for _, a in n.attrs:
            visit(a)
    return found


def _checked(node: Node, v: Value, result: Any, sizes: Mapping[str, int]) -> Array:
    """`result` as a real value of the type of `v`."""
    array = np.asarray(result)
    expected = shape_of(_buf(v), sizes)
    if array.shape != expected:
        raise VerifyError(
            f"{node.op} gave {v.name} the shape {array.shape}; its type {v.type} says {expected}"
        )
    return from_storage(to_storage(array, v.dtype), v.dtype)


def _buf(v: Value) -> Buf:
    return Buf(v.name, v.shape, v.dtype)
