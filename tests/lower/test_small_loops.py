"""Loops of short steps as one function: which are, and that they give what the steps give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import DType, boolean, f16, f32, i32, i64
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.program import Program, Repeat
from ferrule.pipeline.compile import compile_graph, program_of
from ferrule.runtime.arrays import NumpyCallable
from tests.cpus import current

Array = np.ndarray[Any, Any]


def halving(size: Expr | int, dtype: DType = f32, weights: bool = False) -> Graph:
    """x halved until its first element is at most 1, and how often; in each step times a matrix,
    too, where there are `weights`.
    """
    b = GraphBuilder("halving")
    x = b.input(tensor((size,), dtype), "x")
    n = ops.full(b, (), 0, i64)
    w = b.param(tensor((size, size), dtype), "w") if weights else None

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        return ops.gt(b, ops.select_index(b, states[1], 0, 0), 1.0)

    def step(b: GraphBuilder, states: Sequence[Value]) -> tuple[Value, ...]:
        half = ops.mul(b, states[1], 0.5)
        if w is not None:
            half = ops.dot_general(b, half, w, contract=((0,), (0,)))
        return ops.add(b, states[0], 1), half

    return b.build(ops.while_loop(b, goes, step, (n, x)))


def repeats(program: Program) -> int:
    return sum(isinstance(s, Repeat) for s in program.main)


def results(graph: Graph, arrays: list[Array]) -> list[Any]:
    """By the graph's meaning, by the program's, and by machine code."""
    made = compile_graph(graph)
    count = len(graph.inputs)
    made.executable.bind([(p.ctypes.data, p) for p in arrays[count:]])
    return [
        run_graph(graph, arrays),
        run_program(program_of(graph, current()), arrays[:count], arrays[count:]),
        NumpyCallable(made.executable)(*arrays[:count]),
    ]


@pytest.mark.parametrize("first", [0.5, 1.5, 1000.0])
@pytest.mark.parametrize("dtype", [f32, f16])
def test_a_short_step_takes_no_launch(first: float, dtype: DType) -> None:
    graph = halving(6, dtype)
    assert not repeats(program_of(graph, current()))
    x = np.linspace(first, 7, 6).astype(dtype.numpy)
    for n, y in results(graph, [x]):
        times = max(0, int(np.ceil(np.log2(first))))
        assert int(n) == times
        np.testing.assert_allclose(y, x / dtype.numpy.type(2) ** times, rtol=1e-3)


@pytest.mark.parametrize("size", [dim("n", 1), 129], ids=["open", "large"])
def test_states_of_many_bytes_are_handed_on_in_place(size: Expr | int) -> None:
    assert repeats(program_of(halving(size), current())) == 1


def test_a_long_step_is_launched() -> None:
    b = GraphBuilder("long")
    x = b.input(tensor((64,), f32), "x")
    w = b.param(tensor((64, 65536), f32), "w")

    def step(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        wide = ops.tanh(b, ops.dot_general(b, old[0], w, contract=((0,), (0,))))
        return (ops.dot_general(b, w, wide, contract=((1,), (0,))),), ()

    (y,) = ops.loop(b, step, 3, (x,), ())
    assert repeats(program_of(b.build((y,)), current())) == 1


def test_weights_in_a_short_step() -> None:
    graph = halving(8, weights=True)
    assert not repeats(program_of(graph, current()))
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    x = (40 * rng.standard_normal(8)).astype(np.float32)
    (n, y), *others = results(graph, [x, w])
    for m, z in others:
        assert int(m) == int(n)
        np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("open_count", [False, True])
def test_rows_are_read_and_written_where_they_lie(open_count: bool, reverse: bool) -> None:
    b = GraphBuilder("rows")
    count = dim("n", 0) if open_count else 5
    x = b.input(tensor((count, 3), f32), "x")
    h, flag = b.input(tensor((3,), f32), "h"), b.input(tensor((), boolean), "flag")

    def step(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        new = ops.add(b, row[0], ops.mul(b, old[0], 0.5))
        flips = ops.logical_not(b, old[1])
        return (new, flips), (ops.select(b, old[1], new, row[0]), ops.cast(b, flips, i32))

    graph = b.build(ops.loop(b, step, count, (h, flag), (x,), reverse))
    assert not repeats(program_of(graph, current()))
    for n in (0, 1, 5) if open_count else (5,):
        given = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
        start = np.array([1, -2, 3], np.float32)
        expected, *others = results(graph, [given, start, np.array(True)])
        for found in others:
            for a, c in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, c, rtol=1e-6)


def test_a_profile_names_what_the_steps_hold() -> None:
    launches = compile_graph(halving(6)).executable.compiled.meta["launches"]
    (loop,) = (k for k in launches if k["name"].startswith("loop of "))
    assert loop["flops"] is None
    assert {op for op, _ in loop["operators"]} >= {"mul", "add"}


def test_a_constant_of_the_steps_may_be_the_first_state() -> None:
    """What depends on parameters alone is computed in the body again, under the same name."""
    b = GraphBuilder("g")
    w = ops.relu(b, b.param(tensor((4,), f32), "w"))
    n = ops.full(b, (), 0, i64)

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        return ops.lt(b, states[0], 3)

    def step(b: GraphBuilder, states: Sequence[Value]) -> tuple[Value, ...]:
        return ops.add(b, states[0], 1), ops.add(b, ops.mul(b, states[1], 2.0), w)

    graph = b.build(ops.while_loop(b, goes, step, (n, w)))
    assert not repeats(program_of(graph, current()))
    for _, y in results(graph, [np.array([1, -2, 3, 4], np.float32)]):
        np.testing.assert_array_equal(y, [15, 0, 45, 60])
