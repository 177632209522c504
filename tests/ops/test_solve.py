"""Triangular systems and Cholesky's decomposition, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, from_numpy
from ferrule.base.errors import CompileError
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(24)
WAYS = list(product([True, False], repeat=4))


def graph_of(build: Callable[..., Value], *arrays: Array) -> Graph:
    b = GraphBuilder()
    values = [b.input(tensor(x.shape, from_numpy(x.dtype))) for x in arrays]
    return b.build((build(b, *values),))


def both(build: Callable[..., Value], *arrays: Array) -> Array:
    """What the graph means, which compiled code gives too."""
    graph = graph_of(build, *arrays)
    (meant,) = run_graph(graph, arrays)
    (found,) = NumpyCallable(compile_graph(graph).executable)(*arrays)
    rtol = 1e-2 if meant.dtype == np.float16 else 1e-4
    np.testing.assert_allclose(found, meant, rtol=rtol, atol=rtol)
    return meant


def matrices(n: int, batch: tuple[int, ...] = (), dtype: Any = np.float32) -> Array:
    return (RNG.standard_normal((*batch, n, n)) / n + np.eye(n) * 2).astype(dtype)


def operand(a: Array, lower: bool, unit: bool, turned: bool) -> Array:
    """op(a) in f64: the other triangle holds nothing that counts."""
    m = (np.tril(a) if lower else np.triu(a)).astype(np.float64)
    if unit:
        m = m - m * np.eye(a.shape[-1]) + np.eye(a.shape[-1])
    return np.swapaxes(m, -1, -2) if turned else m


@pytest.mark.parametrize(("left", "lower", "unit", "turned"), WAYS)
def test_triangular_systems(left: bool, lower: bool, unit: bool, turned: bool) -> None:
    a = matrices(5, (2,))
    y = RNG.standard_normal((2, 5, 3) if left else (2, 3, 5)).astype(np.float32)
    hidden = a.copy()
    other = np.triu_indices(5, 1) if lower else np.tril_indices(5, -1)
    hidden[(slice(None), *other)] = np.nan  # which is not read
    graph = graph_of(lambda b, a, y: ops.triangular_solve(b, a, y, left, lower, unit, turned), a, y)
    (x,) = run_graph(graph, (hidden, y))
    m = operand(a, lower, unit, turned)
    np.testing.assert_allclose(m @ x if left else x @ m, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n", [7, 70])
def test_triangular_systems_compiled(n: int, lower: bool) -> None:
    a, y = matrices(n), RNG.standard_normal((n, 3)).astype(np.float32)
    x = both(lambda b, a, y: ops.triangular_solve(b, a, y, True, lower), a, y)
    np.testing.assert_allclose(operand(a, lower, False, False) @ x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n", [1, 6, 70])
def test_cholesky(n: int, lower: bool) -> None:
    root = np.tril(matrices(n)).astype(np.float64)
    a = (root @ root.T).astype(np.float32)
    given = np.tril(a) if lower else np.triu(a)  # the other triangle is not read
    found = both(lambda b, a: ops.cholesky(b, a, lower), given)
    expected = np.linalg.cholesky(a.astype(np.float64))
    np.testing.assert_allclose(found if lower else found.T, expected, rtol=1e-3, atol=1e-4)


def test_halves_are_solved_in_singles() -> None:
    a, y = matrices(4, (), np.float16), RNG.standard_normal((4, 2)).astype(np.float16)
    x = both(ops.triangular_solve, a, y)
    assert x.dtype == np.float16
    found = operand(a, True, False, False) @ x.astype(np.float64)
    np.testing.assert_allclose(found, y, rtol=1e-2, atol=1e-2)


def test_what_does_not_fit() -> None:
    b = GraphBuilder()
    a, y = b.input(tensor((4, 4), f32)), b.input(tensor((3, 4), f32))
    with pytest.raises(CompileError, match="do not fit"):
        ops.triangular_solve(b, a, y)
    ops.triangular_solve(b, a, y, left_side=False)
    with pytest.raises(CompileError, match="no square matrices"):
        ops.cholesky(b, y)
