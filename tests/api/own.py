"""Operators of users that tests share, defined here once: the same name again replaces them."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule import elements as el
from ferrule.base.dtype import DType
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

RNG = np.random.default_rng(5)
NAMES = (f"own_{i}" for i in count())


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@ferrule.define_operator(
    meaning=lambda x, bound: np.where(np.abs(x) <= bound, 0, x), onnx=("com.example", "Shrink")
)
def own_shrink(x: Any, *, bound: float = 0.5) -> Any:
    """x where |x| is above the bound, else 0."""
    return el.where(el.le(el.abs(x), bound), 0.0, x)


@ferrule.define_operator(meaning=lambda x, y, by: (x - y) * x.dtype.type(by), accepts="fiu")
def own_apart(x: Any, y: Any, *, by: int = 3) -> Any:
    return (x - y) * by


def _mixed_meaning(x: Any, factors: Any, negative: bool, mode: str) -> Any:
    out = np.tanh(x) if mode == "tanh" else x
    for factor in factors:
        out = out * x.dtype.type(factor)
    return -out if negative else out


@ferrule.define_operator(meaning=_mixed_meaning, accepts="f", onnx=("com.example", "Mixed"))
def own_mixed(
    x: Any, *, factors: Any = (1.5, 2.0), negative: bool = False, mode: str = "plain"
) -> Any:
    out = el.tanh(x) if mode == "tanh" else x
    for factor in factors:
        out = out * factor
    return -out if negative else out


@ferrule.define_operator(meaning=lambda x, y: x > y)
def own_above(x: Any, y: Any) -> Any:
    return el.gt(x, y)


def simple(factor: float, **given: Any) -> Any:
    """A new operator x * factor."""
    given.setdefault("name", next(NAMES))
    return ferrule.define_operator(lambda x: x * factor, meaning=lambda x: x * factor, **given)


def graph_of(op: Any, dtype: DType, shapes: Any, **attributes: Any) -> Graph:
    b = GraphBuilder("one")
    xs = [b.input(tensor(s, dtype)) for s in shapes]
    return b.build([op._own.build(b, *xs, **attributes)])


def compiled_of(graph: Graph) -> Any:
    return NumpyCallable(compile_graph(graph).executable)


def session(kind: str, domain: str, inputs: int = 1, dtype: Any = np.float32, **attrs: Any) -> Any:
    onnx = pytest.importorskip("onnx")
    names = [f"x{i}" for i in range(inputs)]
    nodes = [
        onnx.helper.make_node("Add", ["x0", "x0"], ["two"]),
        onnx.helper.make_node(kind, ["two", *names[1:]], ["mine"], domain=domain, **attrs),
        onnx.helper.make_node("Neg", ["mine"], ["y"]),
    ]
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ports = [onnx.helper.make_tensor_value_info(n, code, ["n"]) for n in (*names, "y")]
    graph = onnx.helper.make_graph(nodes, "g", ports[:-1], ports[-1:])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(domain, 1)]
    return ferrule.InferenceSession(onnx.helper.make_model(graph, opset_imports=opsets))
