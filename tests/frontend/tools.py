"""What the frontend's tests share: compiling through Dynamo, and a compiler that only interprets.

`interpreted` stands in for compile_graph: a program that NumPy runs by the definition of its graph.
Tests of conversion use it, so that what they find is the frontend's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from ferrule.api import torch_backend
from ferrule.base.artifact import Compiled, DimSource, TensorSpec
from ferrule.base.compiler import Compiler
from ferrule.base.shapes import shape_function
from ferrule.codegen.shape_text import extent
from ferrule.frontend.torch.capture import capture
from ferrule.frontend.torch.plan import Plan
from ferrule.ir.expr import Expr, dims
from ferrule.ir.graph import Graph, Value
from ferrule.ir.interp import run_graph
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.counters import counters
from ferrule.runtime.signature import Signature


def compiled(fn: Callable[..., Any], **options: Any) -> Any:
    """`fn` through torch.compile and ferrule."""
    return torch.compile(fn, backend=torch_backend, **options)


def fallbacks() -> set[str]:
    """The operators that ran in PyTorch."""
    return set(counters()["fallbacks"])


def graphs(
    fn: Callable[..., Any], inputs: Sequence[torch.Tensor]
) -> tuple[Any, list[Graph], list[str]]:
    """What `fn` gives through the interpreter, the graphs it became, and the fallbacks."""
    seen: list[Graph] = []
    left: list[str] = []

    def compile_graph(graph: Graph) -> Interpreted:
        seen.append(graph)
        return interpreted(graph)

    compiler = Compiler(compile_graph, NumpyCallable, left.append)
    taken = capture(_Function(fn), inputs)
    run = taken.finish(Plan(taken.graph, taken.params).compile(compiler))
    return run(*inputs), seen, left


class _Function(torch.nn.Module):
    def __init__(self, fn: Callable[..., Any]):
        super().__init__()
        self.fn = fn

    def forward(self, *inputs: torch.Tensor) -> Any:
        out = self.fn(*inputs)
        return list(out) if isinstance(out, tuple | list) else [out]


# ---- the interpreting compiler -------------------------------------------------------------------


@dataclass(frozen=True)
class Interpreted:
    """A program as compile_graph gives it."""

    compiled: Compiled
    executable: Executable
    signature: Signature
    kernels: int = 0

    def explain(self) -> str:
        return "interpreted"


class Executable:
    """Runs a graph by its definition, on addresses."""

    def __init__(self, graph: Graph, compiled: Compiled):
        self.graph, self.compiled = graph, compiled
        self.params: list[Any] = []
        self.binds = 0
        self.latest = None

    def bind(self, params: Sequence[tuple[int, Any]]) -> None:
        self.params = [
            view(a, s)
            for (a, _), s in zip(params, self._specs(self.compiled.params, ()), strict=True)
        ]
        self.binds += 1

    def prepared(self, *call: Any) -> None:
        """There are no native calls of it."""

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], dims: tuple[int, ...] = ()
    ) -> None:
        given = [
            view(a, s) for a, s in zip(inputs, self._specs(self.compiled.inputs, dims), strict=True)
        ]
        sizes = dict(zip(self.compiled.dim_names, dims, strict=True))
        results = run_graph(self.graph, [*given, *self.params], sizes)
        places = self._specs(self.compiled.outputs, dims)
        for address, spec, result in zip(outputs, places, results, strict=True):
            view(address, spec)[...] = result

    def _specs(
        self, specs: Sequence[TensorSpec], dims: tuple[int, ...]
    ) -> list[tuple[Any, tuple[int, ...]]]:
        names = self.compiled.dim_names
        return [(s.element.numpy, shape_function(s.shape, names)(dims)) for s in specs]


def view(address: int, spec: tuple[Any, tuple[int, ...]]) -> Any:
    """The array at an address."""
    dtype, shape = spec
    size = prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)


def interpreted(graph: Graph) -> Interpreted:
    """`graph` as a program that NumPy runs."""
    program = Compiled(
        name=graph.name,
        key="0",
        object_code=b"",
        inputs=tuple(map(_spec, graph.inputs)),
        params=tuple(map(_spec, graph.params)),
        outputs=tuple(map(_spec, graph.outputs)),
        dims=tuple(_sources(graph)),
    )
    return Interpreted(program, Executable(graph, program), Signature(program))


def _spec(v: Value) -> TensorSpec:
    return TensorSpec(v.name, v.dtype.name, tuple(extent(s) for s in v.shape))


def _sources(graph: Graph) -> list[DimSource]:
    found: dict[Any, DimSource] = {}
    for i, v in enumerate(graph.inputs):
        for axis, s in enumerate(v.shape):
            if s.op == "dim":
                found.setdefault(s, DimSource(s.name, i, axis))
    mentioned = {
        d
        for n in graph.nodes
        for e in _exprs([o.shape for o in n.outputs], n.attrs)
        for d in dims(e)
    }
    scalars = {v.name: i for i, v in enumerate(graph.inputs) if not v.shape}
    for d in mentioned - set(found):
        found[d] = DimSource(d.name, scalars[d.name], None)
    return list(found.values())


def _exprs(*items: Any) -> list[Expr]:
    """The expressions in nested tuples."""
    out: list[Expr] = []
    for x in items:
        if isinstance(x, Expr):
            out.append(x)
        elif isinstance(x, tuple | list):
            out += _exprs(*x)
    return out
