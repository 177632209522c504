"""`check(build, *arrays)`: an operator's Compute rule against its meaning, on given arrays.

The graph that `build(b, *values)` emits runs in the Graph interpreter (the operators' NumPy
meanings) and, lowered to stages, in the Compute interpreter. Both must give the same types and,
within `rtol` and `atol`, the same values: first with constant sizes, then with symbolic ones.
Returned are the outputs, in f64 where they are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.base.dtype import DType, bf16, from_numpy, from_storage
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_system
from ferrule.lower.equations import equations
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = NDArray[Any]
Build = Callable[..., Value | Sequence[Value]]


def graph_of(
    build: Build, arrays: Sequence[Array], dtypes: Sequence[DType], symbolic: bool
) -> Graph:
    b = GraphBuilder()
    values = []
    for array, dtype in zip(arrays, dtypes, strict=True):
        sizes = [dim(f"n{n}", lo=2) if symbolic and n > 1 else n for n in array.shape]
        values.append(b.input(tensor(sizes, dtype)))
    out = build(b, *values)
    return b.build((out,) if isinstance(out, Value) else tuple(out))


def real(array: Array, dtype: DType) -> Array:
    value = from_storage(array, dtype)
    return value.astype(np.float64) if dtype.is_float else value


def check_op(
    build: Build,
    *arrays: Array,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    symbolic: bool = True,
    is_bf16: bool = False,
) -> list[Array]:
    """Equal sizes share a dim, so that operands which broadcast still do; `is_bf16` says that
    uint16 arrays hold bf16.
    """
    dtypes = [bf16 if is_bf16 and a.dtype == np.uint16 else from_numpy(a.dtype) for a in arrays]
    outputs: list[Array] = []
    for form in (False, True) if symbolic else (False,):
        graph = graph_of(build, arrays, dtypes, form)
        meant = run_graph(graph, arrays)
        computed = run_system(equations(graph), arrays)
        types = [v.dtype for v in graph.outputs]
        for m, c, t in zip(meant, computed, types, strict=True):
            assert m.dtype == c.dtype == t.numpy
            tight = {} if t.is_float else {"rtol": 0, "atol": 0}
            tolerance = {"rtol": rtol, "atol": atol, **tight}
            np.testing.assert_allclose(real(c, t), real(m, t), **tolerance)
        outputs = [real(c, t) for c, t in zip(computed, types, strict=True)]
    return outputs


@pytest.fixture
def check() -> Callable[..., list[Array]]:
    return check_op


TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]


def check_compiled(
    build: Build,
    *arrays: Array,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    symbolic: bool = True,
    is_bf16: bool = False,
) -> list[Array]:
    """`check_op`, and then the same graphs compiled for each level of the CPU's instructions."""
    expected = check_op(build, *arrays, rtol=rtol, atol=atol, symbolic=symbolic, is_bf16=is_bf16)
    dtypes = [bf16 if is_bf16 and a.dtype == np.uint16 else from_numpy(a.dtype) for a in arrays]
    for form in (False, True) if symbolic else (False,):
        graph = graph_of(build, arrays, dtypes, form)
        for target in TARGETS:
            with config.override(target=target):
                run = NumpyCallable(compile_graph(graph).executable)
            for found, meant, v in zip(run(*arrays), expected, graph.outputs, strict=True):
                tight = {} if v.dtype.is_float else {"rtol": 0, "atol": 0}
                np.testing.assert_allclose(
                    real(found, v.dtype), meant, **{"rtol": rtol, "atol": atol, **tight},
                    err_msg=f"{target}, {'symbolic' if form else 'constant'} sizes",
                )  # fmt: skip
    return expected


@pytest.fixture
def compiled() -> Callable[..., list[Array]]:
    return check_compiled
