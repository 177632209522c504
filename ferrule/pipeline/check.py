"""Checked: an executable whose first run is compared with the definition of its graph.

This is the setting `verify` (FERRULE_VERIFY=1). It works on the memory that a run is given, so
every frontend is checked alike, and a program that is not checked pays nothing. What is right is
what NumPy gives (ferrule.ir.interp), within the tolerances of ferrule.base.numerics.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.artifact import Compiled, TensorSpec
from ferrule.base.errors import CompileError
from ferrule.base.numerics import difference
from ferrule.base.shapes import shape_function
from ferrule.ir.graph import Graph
from ferrule.ir.interp import run_graph
from ferrule.runtime.cpu import Executable

Array = NDArray[Any]


class Checked(Executable):
    """Runs as an Executable; each run, until one has passed, must give what `graph` means.

    `run` raises CompileError for the first output that differs.
    """

    def __init__(self, compiled: Compiled, graph: Graph) -> None:
        self._graph: Graph | None = graph
        self._params: Sequence[int] = ()
        super().__init__(compiled)

    def bind(
        self, params: Sequence[tuple[int, Any]], constants: tuple[int, Any] | None = None
    ) -> None:
        super().bind(params, constants)
        self._params = [address for address, _ in params]

    def prepared(self, *call: Any) -> Any:
        return None if self._graph is not None else super().prepared(*call)

    def run(
        self, inputs: Iterable[int], outputs: Iterable[int], dims: tuple[int, ...] = ()
    ) -> None:
        graph, inputs, outputs = self._graph, tuple(inputs), tuple(outputs)
        if graph is None:
            super().run(inputs, outputs, dims)
            return
        compiled = self.compiled
        given = [x.copy() for x in self._arrays(compiled.inputs, inputs, dims)]
        super().run(inputs, outputs, dims)
        params = self._arrays(compiled.params, self._params, dims)
        sizes = dict(zip(compiled.dim_names, dims, strict=True))
        self._compare(
            self._arrays(compiled.outputs, outputs, dims),
            run_graph(graph, [*given, *params], sizes),
        )
        self._graph = None

    def _arrays(
        self, specs: Sequence[TensorSpec], addresses: Sequence[int], dims: tuple[int, ...]
    ) -> list[Array]:
        """The tensors at these addresses, in place."""
        names = self.compiled.dim_names
        return [
            _view(address, spec.element.numpy, shape_function(spec.shape, names)(dims))
            for spec, address in zip(specs, addresses, strict=True)
        ]

    def _compare(self, found: list[Array], expected: list[Array]) -> None:
        specs = self.compiled.outputs
        for i, (spec, x, y) in enumerate(zip(specs, found, expected, strict=True)):
            message = difference(x, y, spec.element)
            if message is not None:
                raise CompileError(
                    f"{self.compiled.name}: output {i} ({spec.name}: {spec.dtype}"
                    f"[{', '.join(map(str, spec.shape))}]) is not what its graph means: {message}. "
                    "This is a defect of ferrule; FERRULE_DUMP_DIR=folder shows each level"
                )


def _view(address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    size = prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)
