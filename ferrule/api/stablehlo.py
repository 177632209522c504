"""StableHLO out: what was compiled as a text that other compilers read.

    text = compiled.stablehlo()                            weights are constants in it
    text = compiled.stablehlo({"n": 4}, weights="m.safetensors")

The function @main takes the model's arguments, and gives its results, in their order. With a file
for the weights these are arguments of @main behind the others, under the names that they have
there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import from_numpy
from ferrule.base.errors import InputError
from ferrule.base.safetensors import header_of
from ferrule.codegen.stablehlo.program import stablehlo_text
from ferrule.ir.graph import Graph, Node, TensorType, Value, tensor
from ferrule.ir.source import Order, Source

Array = NDArray[Any]


def stablehlo(
    compiled: Any,
    sizes: Mapping[str, int] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
) -> str:
    """What `ferrule.compile` or `ferrule.jit` gave, as StableHLO text.

    `sizes` are numbers for the symbolic sizes, by name. Weights are constants of the text; with
    `weights`, a file that is written in the format safetensors, they are arguments.

    Raises UnsupportedError for a model that is not one program, with the operators that run apart;
    InputError where a symbolic size has no number, GuardError for sizes that the model does not
    take.
    """
    if not hasattr(compiled, "source"):
        raise InputError(
            f"a {type(compiled).__name__} has no StableHLO text: expected what ferrule.compile or "
            "ferrule.jit gives"
        )
    source: Source = compiled.source("main")
    graph, names, arrays = _whole(source)
    if weights is None:
        return stablehlo_text(graph, sizes, [x for _, x in arrays], names)
    text = stablehlo_text(graph, sizes, None, [*names, *(n for n, _ in arrays)])
    held = {
        name: (v.dtype.name, x) for v, (name, x) in zip(graph.params, arrays, strict=True)
    }
    header, order = header_of(held)
    Path(weights).write_bytes(b"".join([header, *(_bytes(held[n][1]) for n in order)]))
    return text


def _bytes(x: Array) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def _whole(source: Source) -> tuple[Graph, list[str], list[tuple[str, Array]]]:
    """The graph that takes the arguments, in order, as they are given, and gives the results as
    they are; the names of its inputs, and the params with their arrays.
    """
    graph = source.graph
    names, inputs, before = list[str](), list[Value](), list[Node]()
    for v, given in sorted(
        zip(graph.inputs, source.inputs, strict=True), key=lambda pair: pair[1].place
    ):
        names.append(source.arguments[given.place])
        if given.order is None:
            inputs.append(v)
            continue
        back = tuple(int(d) for d in np.argsort(given.order))
        argument = _moved(v, f"{v.name}.given", back)
        before.append(_transpose(argument, v, given.order))
        inputs.append(argument)
    params, arrays, after, outputs = list(graph.params), list(source.params), [], []
    for k, made in enumerate(source.results):
        if made.index is None:
            assert made.array is not None
            v = Value(f"always.{k}", tensor(made.array.shape, from_numpy(made.array.dtype)))
            params.append(v)
            arrays.append((v.name, made.array))
        else:
            v = graph.outputs[made.index]
            if made.order is not None:
                perm = tuple(int(d) for d in np.argsort(made.order))
                lying, v = v, _moved(v, f"{v.name}.made{k}", perm)
                after.append(_transpose(lying, v, perm))
        outputs.append(v)
    nodes = (*before, *graph.nodes, *after)
    whole = Graph(graph.name, tuple(inputs), tuple(params), nodes, tuple(outputs))
    return whole, names, arrays


def _moved(v: Value, name: str, perm: Order) -> Value:
    """The transpose of `v`."""
    return Value(name, TensorType(tuple(v.shape[d] for d in perm), v.dtype))


def _transpose(x: Value, y: Value, perm: Order) -> Node:
    return Node("transpose", (x,), (y,), (("perm", tuple(perm)),))
