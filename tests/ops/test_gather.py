"""Gathering and scattering of slices: against loops over the specification's formulas."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, from_numpy, i64
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import For, walk_stmts
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import named

Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
RNG = np.random.default_rng(21)


def given(*shape: int, dtype: Any = np.float32) -> Array:
    if np.dtype(dtype).kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return RNG.integers(-50, 50, shape).astype(dtype)


# windows, dropped, batching, indices_batching, starts, vector; shape of x and of indices, sizes
GATHERS = {
    "rows": ((1,), (0,), (), (), (0,), 1, (6, 5), (4, 1), (1, 5)),
    "scalars": ((), (0, 1), (), (), (1, 0), 1, (6, 5), (7, 2), (1, 1)),
    "no_vector": ((1, 2), (), (), (), (1,), 1, (6, 5), (4,), (3, 2)),
    "vector_first": ((0, 2), (), (), (), (0, 1), 0, (6, 5), (2, 3), (3, 2)),
    "batching": ((3, 4), (1,), (0,), (1,), (2, 1), 3, (2, 3, 4, 2), (2, 2, 3, 2), (1, 1, 2, 2)),
    "batching_behind": ((0,), (), (1,), (2,), (0,), 1, (5, 3), (4, 1, 3), (2, 1)),
    "whole": ((0, 1), (), (), (), (0, 1), 1, (6, 5), (3, 2), (6, 5)),
}  # fmt: skip


def slices_of(name: str) -> tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    *dims, shape, indices, sizes = GATHERS[name]
    return dims, shape, indices, sizes


def place(dims: Any, rank: int, indices: Array, point: tuple[int, ...]) -> tuple[Any, Any]:
    """(start, what is added to it) along each dim, as the specification's formulas say."""
    windows, dropped, batching, indices_batching, starts, vector = dims
    batch = [p for d, p in enumerate(point) if d not in windows]
    if vector < indices.ndim:
        start = indices[(*batch[:vector], slice(None), *batch[vector:])]
    else:
        start = indices[tuple(batch)].reshape(1)
    full, more = [0] * rank, [0] * rank
    for k, d in enumerate(starts):
        full[d] = int(start[k])
    for d, e in zip(batching, indices_batching):
        more[d] = batch[e - (0 if e < vector else 1)]
    kept = [d for d in range(rank) if d not in (*dropped, *batching)]
    for d, w in zip(kept, windows):
        more[d] = point[w]
    return full, more


def result_shape(dims: Any, indices: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    windows, dropped, batching, _, _, vector = dims
    batch = iter([n for d, n in enumerate(indices) if d != vector])
    kept = iter([n for d, n in enumerate(sizes) if d not in (*dropped, *batching)])
    rank = len(indices) - (vector < len(indices)) + len(windows)
    return tuple(next(kept) if d in windows else next(batch) for d in range(rank))


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", GATHERS)
def test_gather_clamps_starts(name: str, kind: Any, check: Check) -> None:
    dims, shape, indices_shape, sizes = slices_of(name)
    x = given(*shape)
    low = 0 if kind is np.uint8 else -3
    indices = RNG.integers(low, 9, indices_shape).astype(kind)
    (out,) = check(lambda b, x, i: ops.gather(b, x, i, *dims, sizes), x, indices, symbolic=False)
    expected = np.zeros(result_shape(dims, indices_shape, sizes))
    for point in np.ndindex(expected.shape):
        full, more = place(dims, x.ndim, indices, point)
        at = [min(max(f, 0), n - s) + m for f, m, n, s in zip(full, more, shape, sizes)]
        expected[point] = x[tuple(at)]
    np.testing.assert_array_equal(out, expected)


def test_gather_of_symbolic_sizes(check: Check) -> None:
    x, indices = given(7, 5), np.array([[2], [-4], [9], [6]])
    (out,) = check(
        lambda b, x, i: ops.gather(b, x, i, (1,), (0,), (), (), (0,), 1, (1, x.shape[1])),
        x, indices,
    )  # fmt: skip
    np.testing.assert_array_equal(out, x[[2, 0, 6, 6]].astype(np.float64))


def test_the_greatest_unsigned_start_is_no_negative_one(check: Check) -> None:
    x, indices = given(7), np.array([[2**64 - 1], [1]], np.uint64)
    (out,) = check(lambda b, x, i: ops.gather(b, x, i, (), (0,), (), (), (0,), 1, (1,)), x, indices)
    np.testing.assert_array_equal(out, x[[6, 1]].astype(np.float64))


BODIES: dict[str, tuple[Any, Any]] = {
    "sum": (ops.add, lambda o, u: o + u),
    "prod": (ops.mul, lambda o, u: o * u),
    "min": (ops.min, min),
    "max": (lambda b, o, u: ops.max(b, u, o), max),
    "replace": (lambda b, o, u: u, lambda o, u: u),
    "serial": (lambda b, o, u: ops.sub(b, ops.mul(b, o, 2), u), lambda o, u: o * 2 - u),
}


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float16])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", GATHERS)
def test_scatter_leaves_out_what_is_outside(
    name: str, body: str, dtype: Any, check: Check
) -> None:
    dims, shape, indices_shape, sizes = slices_of(name)
    build, scalar = BODIES[body]
    x = given(*shape, dtype=np.int8).astype(dtype)
    indices = RNG.integers(-2, 6, indices_shape)
    updates = (given(*result_shape(dims, indices_shape, sizes), dtype=np.int8) % 5).astype(dtype)
    (out,) = check(
        lambda b, x, i, u: ops.scatter_slices(b, (x,), i, (u,), build, *dims),
        x, indices, updates, rtol=2e-3 if dtype is np.float16 else 1e-6, symbolic=False,
    )  # fmt: skip
    expected = x.astype(dtype if dtype is np.int32 else np.float64)
    with np.errstate(all="ignore"):
        for point in np.ndindex(updates.shape):
            full, more = place(dims, x.ndim, indices, point)
            at = tuple(f + m for f, m in zip(full, more))
            if all(0 <= a < n for a, n in zip(at, shape)):
                expected[at] = scalar(expected[at], expected.dtype.type(updates[point]))
    rtol = 3e-2 if dtype is np.float16 else 1e-6
    np.testing.assert_allclose(out, expected.astype(dtype).astype(out.dtype), rtol=rtol)


def test_several_operands_are_scattered_together(compiled: Check) -> None:
    """The greater of (value, tag) by value: the body of neither is a monoid of its own."""

    def greater(b: GraphBuilder, v: Value, t: Value, nv: Value, nt: Value) -> Any:
        wins = ops.lt(b, v, nv)
        return ops.select(b, wins, nv, v), ops.select(b, wins, nt, t)

    x, tags = given(5), np.zeros(5, np.int64)
    indices = RNG.integers(-1, 6, (20, 1))
    values, own = given(20), np.arange(1, 21)

    def build(b: GraphBuilder, x: Value, t: Value, i: Value, v: Value, own: Value) -> Any:
        return ops.scatter_slices(b, (x, t), i, (v, own), greater, (), (0,), (), (), (0,), 1)

    best, tag = compiled(build, x, tags, indices, values, own)
    (alone,) = compiled(lambda *given: build(*given)[1], x, tags, indices, values, own)
    np.testing.assert_array_equal(alone, tag)
    for k, (i,) in enumerate(indices):
        if 0 <= i < 5 and values[k] > x[i]:
            x[i], tags[i] = values[k], own[k]
    np.testing.assert_array_equal(best, x.astype(np.float64))
    np.testing.assert_array_equal(tag, tags)


def test_a_body_may_use_numbers_of_the_graph_around_it(check: Check) -> None:
    def build(b: GraphBuilder, x: Value, i: Value, u: Value) -> Any:
        two = ops.scalar(b, 2, f32)
        body = lambda inner, o, n: ops.add(inner, o, ops.mul(inner, n, two))  # noqa: E731
        return ops.scatter_slices(b, (x,), i, (u,), body, (), (0,), (), (), (0,), 1)

    x, indices, u = given(5), np.array([[1], [1], [4]]), given(3)
    (out,) = check(build, x, indices, u)
    np.testing.assert_allclose(out, np.add.at(x, [1, 1, 4], 2 * u) or x, rtol=1e-6)


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x, i = b.input(tensor((6, 5), f32)), b.input(tensor((4, 1), i64))
    with pytest.raises(CompileError, match="do not fit"):
        ops.gather(b, x, i, (1,), (), (), (), (0,), 1, (1, 5))
    with pytest.raises(CompileError, match="do not lie within"):
        ops.gather(b, x, i, (1,), (0,), (), (), (0,), 1, (1, 6))
    u = b.input(tensor((4, 5), f32))
    with pytest.raises(CompileError, match="of the graph around it"):
        ops.scatter_slices(b, (x,), i, (u,), lambda n, o, v: x, (1,), (0,), (), (), (0,), 1)
    with pytest.raises(CompileError, match="gives bool"):
        ops.scatter_slices(b, (x,), i, (u,), ops.lt, (1,), (0,), (), (), (0,), 1)


# ---- one slice -----------------------------------------------------------------------------------

STARTS = list(itertools.product((-2, 0, 2, 9), (-1, 3, 100)))


@pytest.mark.parametrize("start", STARTS)
def test_dynamic_slices_are_moved_into_their_operand(start: Any, check: Check) -> None:
    x, update = given(6, 5), given(2, 3)
    at = [min(max(s, 0), n - k) for s, n, k in zip(start, (6, 5), (2, 3))]
    cut = tuple(slice(a, a + k) for a, k in zip(at, (2, 3)))
    first, second = (np.array(s, np.int32) for s in start)
    (out,) = check(lambda b, x, s, t: ops.dynamic_slice(b, x, (s, t), (2, 3)), x, first, second)
    np.testing.assert_array_equal(out, x[cut].astype(np.float64))
    (out,) = check(
        lambda b, x, u, s, t: ops.dynamic_update_slice(b, x, u, (s, t)), x, update, first, second
    )
    x[cut] = update
    np.testing.assert_array_equal(out, x.astype(np.float64))


def test_slices_of_no_dims(check: Check) -> None:
    x = np.array(3.0, np.float32)
    check(lambda b, x: ops.dynamic_slice(b, x, (), ()), x)
    check(lambda b, x, u: ops.dynamic_update_slice(b, x, u, ()), x, np.array(4.0, np.float32))


# ---- machine code --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows", "scalars", "batching"])
def test_gather_compiled(name: str, compiled: Check) -> None:
    dims, shape, indices_shape, sizes = slices_of(name)
    indices = RNG.integers(-(2**62), 2**62, indices_shape)
    indices = np.where(RNG.random(indices_shape) < 0.7, indices % 9 - 2, indices)
    compiled(lambda b, x, i: ops.gather(b, x, i, *dims, sizes), given(*shape), indices)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float16])
@pytest.mark.parametrize("body", ["sum", "replace", "serial"])
@pytest.mark.parametrize("name", ["rows", "scalars"])
def test_scatter_compiled(name: str, body: str, dtype: Any, compiled: Check) -> None:
    dims, shape, indices_shape, sizes = slices_of(name)
    indices = RNG.integers(-2, 6, indices_shape)
    x = (given(*shape, dtype=np.int8) % 4).astype(dtype)
    updates = (given(*result_shape(dims, indices_shape, sizes), dtype=np.int8) % 4).astype(dtype)
    compiled(
        lambda b, x, i, u: ops.scatter_slices(b, (x,), i, (u,), BODIES[body][0], *dims),
        x, indices, updates,
    )  # fmt: skip


@pytest.mark.parametrize("start", [(-2, 3), (9, -1), (2, 100)])
def test_slices_compiled(start: Any, compiled: Check) -> None:
    x, update = given(6, 5), given(2, 3)
    first, second = (np.array(s) for s in start)
    compiled(
        lambda b, x, u, s, t: (
            ops.dynamic_slice(b, x, (s, t), (2, 3)),
            ops.dynamic_update_slice(b, x, u, (s, t)),
        ),
        x, update, first, second,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float16])
@pytest.mark.parametrize("body", ["sum", "replace", "serial"])
def test_long_rows_are_scattered_by_vectors(body: str, dtype: Any, compiled: Check) -> None:
    x, updates = ((given(n, 70, dtype=np.int8) % 3).astype(dtype) for n in (5, 9))
    indices = np.array([[3], [0], [3], [-1], [4], [5], [0], [3], [2]])  # some more than once

    def build(b: GraphBuilder, x: Value, i: Value, u: Value) -> Any:
        dims = (1,), (0,), (), (), (0,), 1
        return ops.scatter_slices(b, (x,), i, (u,), BODIES[body][0], *dims)

    (out,) = compiled(build, x, indices, updates)
    expected = x.astype(np.float64)
    for (i,), row in zip(indices, updates.astype(np.float64)):
        if 0 <= i < 5:
            expected[i] = BODIES[body][1](expected[i], row)
    np.testing.assert_array_equal(out, expected.astype(dtype).astype(out.dtype))
    b = GraphBuilder()
    values = [b.input(tensor(a.shape, from_numpy(a.dtype))) for a in (x, indices, updates)]
    graph = b.build(build(b, *values))
    for f in lowered(graph, "functions", options_for(named("avx2"))).functions:
        loops = [s for s in walk_stmts(f.body) if isinstance(s, For)]
        assert any(s.kind is Kind.LANES for s in loops), f.name
