"""Matrices for tests of linear algebra, and code of functions of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import from_numpy
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ops.numbers import Parts
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
Build = Callable[[GraphBuilder, Parts], Sequence["Value | Parts"]]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def parts(x: Array) -> list[Array]:
    """A real array, or the real and the imaginary part of a complex one."""
    pair = [x.real, x.imag] if np.iscomplexobj(x) else [x]
    return [np.array(p, order="C") for p in pair]


def graph_of(build: Build, x: Array, open_sizes: bool = False) -> tuple[Graph, list[int]]:
    """(the graph of a function of matrices, the number of parts of each result)."""
    b, given = GraphBuilder(), parts(x)
    sizes = [dim(f"n{n}", lo=1) if open_sizes else n for n in x.shape]
    results = build(b, tuple(b.input(tensor(sizes, from_numpy(p.dtype))) for p in given))
    flat = [(r,) if isinstance(r, Value) else r for r in results]
    return b.build(tuple(v for r in flat for v in r)), [len(r) for r in flat]


def joined(arrays: Sequence[Array], counts: Sequence[int]) -> list[Array]:
    rest = iter(arrays)
    pairs = [[next(rest) for _ in range(n)] for n in counts]
    return [p[0] + 1j * p[1] if len(p) == 2 else p[0] if p else np.zeros(0) for p in pairs]


def compiled(build: Build, x: Array, open_sizes: bool = False) -> Callable[[Array], list[Array]]:
    """The function of matrices like x, or of ones of any sizes, as compiled code."""
    graph, counts = graph_of(build, x, open_sizes)
    fn = NumpyCallable(compile_graph(graph).executable)
    return lambda x: joined(fn(*parts(x)), counts)


def run(build: Build, x: Array) -> list[Array]:
    """What compiled code gives."""
    return compiled(build, x)(x)


def random(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype)


def adjoint(x: Array) -> Array:
    return x.conj().swapaxes(-1, -2)


def hermitian(n: int, *batch: int, dtype: Any = np.float64) -> Array:
    x = random(*batch, n, n, dtype=dtype)
    return (x + adjoint(x)) / 2


def tolerance(x: Array) -> float:
    return 100 * float(np.finfo(x.real.dtype).eps) * max(1.0, float(np.abs(x).max(initial=0)))


def near(found: Array, wanted: Array, of: Array) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(of))


def unitary(columns: Array) -> None:
    """Whether columns are orthogonal and of length 1."""
    eps = float(np.finfo(columns.real.dtype).eps)
    gram = adjoint(columns) @ columns
    np.testing.assert_allclose(gram - np.eye(gram.shape[-1]), 0, atol=200 * eps)
