"""Loops that end when data say so, and branches: every level down to machine code agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i32, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.text import to_text
from ferrule.ir.text.graph import parse_graph
from ferrule.ir.text.program import parse_program
from ferrule.ir.verify import verify
from ferrule.pipeline.compile import compile_graph, program_of
from ferrule.runtime.arrays import NumpyCallable
from tests.cpus import current

Array = np.ndarray[Any, Any]
Values = Sequence[Value]


def check(graph: Graph, inputs: Sequence[Any], expected: Sequence[Any], **tol: float) -> None:
    """All levels give `expected`, and their texts read back."""
    assert parse_graph(to_text(graph)) == graph
    program = program_of(graph, current())
    verify(program)
    assert parse_program(to_text(program)) == program
    arrays = [np.asarray(x) for x in inputs]
    given, params = arrays[: len(graph.inputs)], arrays[len(graph.inputs) :]
    made = compile_graph(graph)
    made.executable.bind([(p.ctypes.data, p) for p in params])
    for found in (
        run_graph(graph, arrays),
        run_program(program, given, params),
        NumpyCallable(made.executable)(*given),
    ):
        assert len(found) == len(expected)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, **tol)


def scalar(b: GraphBuilder, name: str, dtype: Any = i64) -> Value:
    return b.input(tensor((), dtype), name)


def halvings(b: GraphBuilder, x: Value, least: Value) -> tuple[Value, ...]:
    """`x` halved until its sum is below `least`, and how often that took."""

    def goes(b: GraphBuilder, v: Values) -> Value:
        return ops.ge(b, ops.reduce_sum(b, v[0], (0,)), least)

    def step(b: GraphBuilder, v: Values) -> Values:
        return ops.mul(b, v[0], 0.5), ops.add(b, v[1], 1)

    return ops.while_loop(b, goes, step, (x, ops.full(b, (), 0, i64)))


@pytest.mark.parametrize("first", [0.5, 1.0, 2.0, 1000.0])
@pytest.mark.parametrize("symbolic", [False, True])
def test_a_loop_ends_when_its_data_say_so(first: float, symbolic: bool) -> None:
    b = GraphBuilder("halve")
    x = b.input(tensor((dim("n") if symbolic else 20,), f32), "x")
    out = halvings(b, x, scalar(b, "least", f32))
    given, count = np.full(20, first, np.float32), 0
    expected = given
    while expected.sum() >= 30:
        expected, count = expected / 2, count + 1
    check(b.build((*out, ops.add(b, out[0], x))), [given, np.float32(30)],
          [expected, count, expected + given])  # fmt: skip


def test_collatz() -> None:
    b = GraphBuilder("collatz")

    def step(b: GraphBuilder, v: Values) -> Values:
        odd = ops.eq(b, ops.rem(b, v[0], 2), 1)
        up, down = ops.add(b, ops.mul(b, v[0], 3), 1), ops.truncdiv(b, v[0], 2)
        return ops.select(b, odd, up, down), ops.add(b, v[1], 1)

    n = scalar(b, "n")
    out = ops.while_loop(b, lambda b, v: ops.ne(b, v[0], 1), step, (n, ops.full(b, (), 0, i64)))
    graph = b.build(out)
    for start, steps in ((1, 0), (2, 1), (27, 111)):
        check(graph, [np.int64(start)], [1, steps])


def test_a_state_that_stays_is_captured() -> None:
    b = GraphBuilder("invariant")
    x, n = b.input(tensor((4,), f32), "x"), scalar(b, "n")

    def step(b: GraphBuilder, v: Values) -> Values:
        return ops.add(b, v[0], 1), v[1], ops.add(b, v[2], v[1])

    zero = ops.full(b, (), 0, i64)
    out = ops.while_loop(b, lambda b, v: ops.lt(b, v[0], n), step, (zero, x, x))
    assert out[1] is x
    (node,) = (node for node in b.nodes if node.op == "while")
    assert node.attributes["states"] == 2
    given = np.arange(4, dtype=np.float32)
    check(b.build((out[2],)), [given, np.int64(3)], [4 * given])


def test_states_change_places() -> None:
    b = GraphBuilder("fibonacci")
    n = scalar(b, "n")

    def step(b: GraphBuilder, v: Values) -> Values:
        return v[1], ops.add(b, v[0], v[1]), ops.sub(b, v[2], 1)

    zero, one = ops.full(b, (), 0, i64), ops.full(b, (), 1, i64)
    out = ops.while_loop(b, lambda b, v: ops.gt(b, v[2], 0), step, (zero, one, n))
    graph = b.build((out[0],))
    for k, value in ((0, 0), (1, 1), (10, 55), (11, 89)):
        check(graph, [np.int64(k)], [value])


def test_loops_stand_in_loops_and_behind_each_other() -> None:
    b = GraphBuilder("nested")
    x, least = b.input(tensor((4,), f32), "x"), scalar(b, "least", f32)
    small, first = halvings(b, x, least)

    def step(b: GraphBuilder, v: Values) -> Values:
        down, more = halvings(b, ops.mul(b, v[0], 64.0), least)
        return down, ops.add(b, v[1], more)

    def goes(b: GraphBuilder, v: Values) -> Value:
        return ops.lt(b, v[1], 30)

    out = ops.while_loop(b, goes, step, (small, first))
    given = np.array([3.0, 5.0, 7.0, 1.0], np.float32)
    value, count = given, 0
    while value.sum() >= 4:
        value, count = value / 2, count + 1
    while count < 30:
        value = value * 64
        while value.sum() >= 4:
            value, count = value / 2, count + 1
    check(b.build(out), [given, np.float32(4)], [value, count])


def test_a_loop_of_rows_within_and_around() -> None:
    """A counted loop whose steps hold one that data end, and the other way round."""
    b = GraphBuilder("rows")
    x = b.input(tensor((dim("n", 1), 3), f32), "x")
    least = scalar(b, "least", f32)

    def body(b: GraphBuilder, old: Values, row: Values) -> Any:
        down, count = halvings(b, ops.add(b, old[0], row[0]), least)
        return (down,), (count,)

    states, counts = ops.loop(b, body, x.shape[0], (ops.full(b, (3,), 0, f32),), (x,))
    given = np.arange(12, dtype=np.float32).reshape(4, 3)
    value, made, steps = np.zeros(3, np.float32), [], []
    for row in given:
        value, k = value + row, 0
        while value.sum() >= 5:
            value, k = value / 2, k + 1
        made.append(value)
        steps.append(k)
    check(b.build((states, counts)), [given, np.float32(5)], [made, steps])




@pytest.mark.parametrize("kind", [i32, i64, boolean])
def test_one_branch_of_several_runs(kind: Any) -> None:
    b = GraphBuilder("switch")
    x, w = b.input(tensor((5,), f32), "x"), b.param(tensor((5,), f32), "w")
    index = scalar(b, "index", kind)
    makers = [
        lambda b: (ops.add(b, x, w), x),
        lambda b: (ops.mul(b, x, 2.0), ops.neg(b, x)),
        lambda b: (w, ops.exp(b, w)),
    ]
    out = ops.case(b, index, makers)
    graph = b.build((*out, ops.add(b, out[0], out[1])))
    given = np.linspace(-1, 1, 5, dtype=np.float32)
    weight = np.arange(5, dtype=np.float32)
    results = [(given + weight, given), (2 * given, -given), (weight, np.exp(weight))]
    indices = (0, 1) if kind is boolean else (-(2**31), -1, 0, 1, 2, 3, 2**31 - 1)
    if kind is i64:
        indices = (*indices, 2**32, 2**32 + 1, -(2**32))
    for k in indices:
        one, two = results[k if 0 <= k < 3 else 2]
        value = np.asarray(k, kind.numpy)
        check(graph, [given, value, weight], [one, two, one + two], rtol=1e-6)


def test_branches_hold_loops_and_branches() -> None:
    b = GraphBuilder("both")
    x, least = b.input(tensor((4,), f32), "x"), scalar(b, "least", f32)
    big = ops.gt(b, ops.reduce_sum(b, x, (0,)), least)

    def inner(b: GraphBuilder) -> Values:
        positive = ops.gt(b, ops.select_index(b, x, 0, 0), 0.0)
        return ops.cond(b, positive, lambda b: (x,), lambda b: (ops.neg(b, x),))

    (out,) = ops.cond(b, big, lambda b: halvings(b, x, least)[:1], inner)
    graph = b.build((out,))
    for given in ([10, 10, 10, 10], [1, 0, 0, 0], [-1, 0, 0, 0]):
        array = np.array(given, np.float32)
        expected = array
        if array.sum() > 4:
            while expected.sum() >= 4:
                expected = expected / 2
        elif array[0] <= 0:
            expected = -array
        check(graph, [array, np.float32(4)], [expected])


def test_wrong_states_and_branches_are_refused() -> None:
    b = GraphBuilder("wrong")
    x = b.input(tensor((4,), f32), "x")
    with pytest.raises(CompileError, match="the body of a while leaves"):
        ops.while_loop(b, lambda b, v: v[0], lambda b, v: (ops.cast(b, v[0], i32),), (x,))
    with pytest.raises(CompileError, match="the flag of a while is"):
        ops.while_loop(b, lambda b, v: v[0], lambda b, v: (ops.neg(b, v[0]),), (x,))
    with pytest.raises(CompileError, match="at least one branch"):
        ops.case(b, x, [])
    index = scalar(b, "i", i32)
    with pytest.raises(CompileError, match="a branch leaves"):
        ops.case(b, index, [lambda b: (x,), lambda b: (index,)])
