"""A program to try: a Graph, and the values of its dims in each run, as a text that reads back.

    # runs n = 7, m = 3; n = 33, m = 1
    graph main { .. }

The names of inputs and params tell what they hold, so that the text is the whole program:

    k9_2    integers from 0 to 8: indices           p3    floats from 0.5 to 2, integers from 1 to 4
    others  eighths of a normal distribution, integers from -4 to 4 (0 to 7 unsigned), bools

Numbers depend on the name and the shape alone, and eighths make most short sums exact.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import f32, to_storage
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr
from ferrule.ir.graph import Graph, Node, TensorType, Value, opdef, tensor
from ferrule.ir.interp.dims import size
from ferrule.ir.text import parse_graph, print_graph
from ferrule.ir.text.declare import mentions

Array = NDArray[Any]
Sizes = Mapping[str, int]
_HEADER = "# runs"


@dataclass(frozen=True)
class Program:
    """A graph, and the values of its dims in each run; a graph without dims has one run, {}."""

    graph: Graph
    runs: tuple[Sizes, ...] = ({},)

    def __str__(self) -> str:
        shown = "; ".join(", ".join(f"{k} = {v}" for k, v in r.items()) for r in self.runs)
        head = f"{_HEADER} {shown}\n" if shown else ""
        return head + print_graph(self.graph)


def read(text: str) -> Program:
    """The program that `text` writes; other lines that begin with # are remarks.

    Raises ParseError.
    """
    lines = text.splitlines()
    graph = parse_graph("\n".join(x for x in lines if not x.startswith("#")))
    heads = [x.removeprefix(_HEADER) for x in lines if x.startswith(_HEADER)]
    if not heads:
        return Program(graph)
    runs = [re.findall(r"(\w+) = (\d+)", part) for part in heads[0].split(";")]
    return Program(graph, tuple({k: int(v) for k, v in r} for r in runs))


# ---- numbers -------------------------------------------------------------------------------------


def arrays(graph: Graph, sizes: Sizes) -> list[Array]:
    """What the inputs and then the params hold, in storage form."""
    return [data(v, sizes) for v in (*graph.inputs, *graph.params)]


def data(v: Value, sizes: Sizes) -> Array:
    """What `v` holds, in storage form."""
    shape = tuple(size(s, sizes) for s in v.shape)
    rng = np.random.default_rng(zlib.crc32(f"{v.name} {shape}".encode()))
    found = re.match(r"k(\d+)_", v.name)
    positive = v.name.startswith("p")
    if v.dtype.is_bool:
        values: Any = rng.random(shape) < 0.5
    elif found:
        values = rng.integers(0, max(int(found[1]), 1), shape)
    elif v.dtype.is_int:
        low, high = (1, 5) if positive else (-4, 5) if v.dtype.is_signed else (0, 8)
        values = rng.integers(low, high, shape)
    elif positive:
        values = np.round(rng.uniform(0.5, 2, shape) * 8) / 8
    else:
        values = np.round(rng.standard_normal(shape) * 8) / 8
    return np.asarray(to_storage(np.asarray(values), v.dtype), order="C")


# ---- other graphs from one -----------------------------------------------------------------------


def pruned(graph: Graph) -> Graph:
    """Without what no output needs, inputs and params included. Each dim that is left is the size
    of an input's axis, if need be of one that nothing reads.
    """
    needed = set(graph.outputs)
    nodes: list[Node] = []
    for n in reversed(graph.nodes):
        if needed.intersection(n.outputs):
            nodes.append(n)
            needed.update(n.inputs)
    inputs, params = (tuple(v for v in vs if v in needed) for vs in (graph.inputs, graph.params))
    small = Graph(graph.name, inputs, params, tuple(reversed(nodes)), graph.outputs)
    told = {s for v in inputs for s in v.shape}
    untold = [d for d in dims_of(small) if d not in told]
    extra = [Value(f"size_{d.attr.name}", tensor((d,), f32)) for d in untold]
    return replace(small, inputs=(*inputs, *extra))


def rebuilt(
    graph: Graph,
    number: Callable[[Any], Any] = lambda x: x,
    others: Mapping[Value, Value] | None = None,
) -> Graph:
    """`graph` with `number` applied to its inputs' sizes and dtypes and to each attribute, with
    other values in place of some, and all types found anew. Raises CompileError where they do not
    fit.
    """
    swapped = dict(others or {})
    new: dict[Value, Value] = {}

    def leaf(v: Value) -> Value:
        t = tensor([number(s) for s in v.shape], number(v.dtype))
        return new.setdefault(v, Value(v.name, TensorType(t.shape, t.dtype)))

    def use(v: Value) -> Value:
        while v in swapped:
            v = swapped[v]
        return new.get(v) or leaf(v)

    inputs, params = (tuple(map(leaf, vs)) for vs in (graph.inputs, graph.params))
    nodes = []
    for n in graph.nodes:
        ins = tuple(map(use, n.inputs))
        attrs = tuple((k, attribute(x, number)) for k, x in n.attrs)
        types = _types(n, ins, dict(attrs))
        outs = tuple(Value(v.name, t) for v, t in zip(n.outputs, types, strict=True))
        new.update(zip(n.outputs, outs, strict=True))
        nodes.append(Node(n.op, ins, outs, attrs))
    return Graph(graph.name, inputs, params, tuple(nodes), tuple(map(use, graph.outputs)))


def attribute(x: Any, number: Callable[[Any], Any]) -> Any:
    """An attribute with each number, dtype and size in it replaced."""
    if isinstance(x, tuple):
        return tuple(attribute(y, number) for y in x)
    if isinstance(x, Graph):
        return rebuilt(x, number)
    return x if isinstance(x, (bool, str, bytes)) else number(x)


def _types(n: Node, ins: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[TensorType, ...]:
    try:
        found = opdef(n.op).infer(tuple(v.type for v in ins), attrs)
    except (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError) as error:
        raise CompileError(f"{n.op}: {error}") from error
    return found if isinstance(found, tuple) else (found,)


def dims_of(graph: Graph) -> tuple[Expr, ...]:
    """The dims that a graph mentions, in order of name."""
    return mentions(graph).dims
