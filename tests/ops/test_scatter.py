"""Scattering against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import CompileError, RunIndexError
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_system
from ferrule.lower.equations import equations

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(10)
NAMES = {"sum": "sum", "prod": "prod", "min": "amin", "max": "amax", "mean": "mean"}


def given(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    if np.dtype(dtype).kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return RNG.integers(-50, 50, shape).astype(dtype)


def places(size: int, *shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, size, shape)


def same(ours: Any, theirs: Any, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=rtol, atol=1e-6)


X, INDICES, SOURCE = given(5, 6, 7), places(6, 4, 3, 7), given(5, 4, 7)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
@pytest.mark.parametrize("reduce", NAMES)
def test_scatter_reduces_as_torch(reduce: str, dtype: Any, include: bool, check: Check) -> None:
    x, source = given(5, 6, 7, dtype=dtype), given(5, 4, 7, dtype=dtype)
    (out,) = check(
        lambda b, x, i, s: ops.scatter(b, x, 1, i, s, reduce=reduce, include_self=include),
        x, INDICES, source, rtol=1e-3 if dtype is np.float16 else 1e-6, atol=1e-6,
    )  # fmt: skip
    wide = [torch.from_numpy(a if dtype is np.int64 else a.astype(np.float32)) for a in (x, source)]
    index = torch.from_numpy(INDICES)
    theirs = wide[0].scatter_reduce(1, index, wide[1], NAMES[reduce], include_self=include)
    same(out, theirs, 2e-3 if dtype is np.float16 else 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int8])
def test_scatter_replaces_as_torch(dtype: Any, check: Check) -> None:
    x, source = given(4, 6, dtype=np.int8).astype(dtype), given(4, 6, dtype=np.int8).astype(dtype)
    indices = np.argsort(RNG.random((4, 6)), 1)[:, :3].copy()
    (out,) = check(lambda b, x, i, s: ops.scatter(b, x, 1, i, s), x, indices, source)
    theirs = torch.from_numpy(x).scatter(1, torch.from_numpy(indices), torch.from_numpy(source))
    same(out, theirs)


def test_of_values_for_one_place_the_last_stays(check: Check) -> None:
    x, indices = np.zeros((3, 2), np.float32), np.zeros((4, 2), np.int64)
    source = np.arange(8, dtype=np.float32).reshape(4, 2)
    (out,) = check(lambda b, x, i, s: ops.scatter(b, x, 0, i, s), x, indices, source)
    np.testing.assert_array_equal(out, [[6, 7], [0, 0], [0, 0]])


ADVANCED = [
    (np.array([-5, 0, 3]),),
    (None, np.array([[0, 5], [2, 1]])),
    (np.array([0, 4, 1]), None, np.array([3, 3, 0])),
    (np.array([[1], [3]]), np.array([0, 5])),
]


@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("indices", ADVANCED)
def test_index_put_is_torchs(indices: Any, accumulate: bool, check: Check) -> None:
    arrays = [i for i in indices if i is not None]
    tensors = [None if i is None else torch.from_numpy(i) for i in indices]
    values = given(*torch.ops.aten.index(torch.from_numpy(X), tensors).shape)

    def build(b: GraphBuilder, x: Value, values: Value, *rest: Value) -> Value:
        left = iter(rest)
        where = [None if i is None else next(left) for i in indices]
        return ops.index_put(b, x, where, values, accumulate)

    (out,) = check(build, X, values, *arrays)
    x, v = torch.from_numpy(X), torch.from_numpy(values)
    same(out, torch.ops.aten.index_put(x, tensors, v, accumulate))


def test_values_are_broadcast(check: Check) -> None:
    i = np.array([1, 3, 1])
    (out,) = check(lambda b, x, i, v: ops.index_put(b, x, (i,), v, True), X, i, X[0, 0])
    theirs = torch.from_numpy(X).index_put((torch.from_numpy(i),), torch.from_numpy(X[0, 0]), True)
    same(out, theirs)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_index_add_is_torchs(axis: int, check: Check) -> None:
    i = np.array([1, 3, 1])
    source = np.take(X, [0, 1, 2], axis)
    (out,) = check(lambda b, x, i, s: ops.index_add(b, x, axis, i, s), X, i, source)
    same(out, torch.from_numpy(X).index_add(axis, torch.from_numpy(i), torch.from_numpy(source)))


@pytest.mark.parametrize(("start", "stop", "step"), [(1, 5, 2), (0, 6, 1), (2, 3, 1), (0, 6, 4)])
def test_slice_scatter_is_torchs(start: int, stop: int, step: int, check: Check) -> None:
    source = given(5, -(-(stop - start) // step), 7)
    (out,) = check(lambda b, x, s: ops.slice_scatter(b, x, s, 1, start, stop, step), X, source)
    x, s = torch.from_numpy(X), torch.from_numpy(source)
    same(out, torch.slice_scatter(x, s, 1, start, stop, step))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_select_scatter_is_torchs(axis: int, check: Check) -> None:
    source = np.take(X, 1, axis) * 2
    (out,) = check(lambda b, x, s: ops.select_scatter(b, x, s, axis, 3), X, source)
    same(out, torch.select_scatter(torch.from_numpy(X), torch.from_numpy(source), axis, 3))


@pytest.mark.parametrize("offset", [-2, 0, 1])
@pytest.mark.parametrize(("axis1", "axis2"), [(0, 2), (2, 1), (-3, -2)])
def test_diagonal_scatter_is_torchs(offset: int, axis1: int, axis2: int, check: Check) -> None:
    source = torch.diagonal(torch.from_numpy(X), offset, axis1, axis2).numpy() * 2
    (out,) = check(
        lambda b, x, s: ops.diagonal_scatter(b, x, s, offset, axis1, axis2), X, source,
        symbolic=False,
    )  # fmt: skip
    x, s = torch.from_numpy(X), torch.from_numpy(source)
    same(out, torch.diagonal_scatter(x, s, offset, axis1, axis2))


def test_an_index_out_of_range_is_an_error() -> None:
    b = GraphBuilder()
    x, i, s = map(b.input, (tensor((3, 4), f32), tensor((2, 4), i64), tensor((2, 4), f32)))
    graph = b.build((ops.scatter(b, x, 0, i, s, reduce="sum"),))
    arrays = [given(3, 4), np.full((2, 4), 3), given(2, 4)]
    with pytest.raises(IndexError):
        run_graph(graph, arrays)
    with pytest.raises(RunIndexError):
        run_system(equations(graph), arrays)


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x, i, s = map(b.input, (tensor((3, 4), f32), tensor((2, 4), i64), tensor((2, 4), f32)))
    for build in (
        lambda: ops.scatter(b, x, 0, i, ops.cast(b, s, i64)),
        lambda: ops.scatter(b, x, 0, i, s, reduce="median"),
        lambda: ops.scatter(b, x, 0, ops.reshape(b, i, (8,)), s),
        lambda: ops.scatter(b, s, 1, b.input(tensor((3, 4), i64)), x),
        lambda: ops.index_add(b, x, 0, i, s),
        lambda: ops.index_put(b, x, (i, i, i), s),
        lambda: ops.slice_scatter(b, x, x, 0, 0, 3) and ops.slice_scatter(b, x, s, 1, 0, 4),
        lambda: ops.diagonal_scatter(b, x, s),
    ):
        with pytest.raises(CompileError):
            build()
