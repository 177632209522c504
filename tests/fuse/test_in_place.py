"""States that are updated in place: which are, and that the loop gives what its steps give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import VerifyError
from ferrule.fuse.copies import face
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.module import Module, Repetition, While
from ferrule.ir.text import parse
from ferrule.ir.verify.system import verify_system
from ferrule.pipeline.compile import compile_graph, program_of
from ferrule.pipeline.passes import Options
from ferrule.pipeline.run import lowered
from ferrule.runtime.arrays import NumpyCallable
from tests.cpus import current

Array = np.ndarray[Any, Any]
States = Sequence[Value]
N = 200


class Body:
    """Steps on tensors of `N` floats with random reads and updates, in a random order."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def loop(self, b: GraphBuilder, first: States, steps: int, depth: int = 0) -> States:
        def goes(b: GraphBuilder, v: States) -> Value:
            return ops.lt(b, v[0], ops.full(b, (), steps, i64))

        def step(b: GraphBuilder, v: States) -> list[Value]:
            return [ops.add(b, v[0], 1), *self.step(b, v[0], list(v[1:]), depth)]

        return ops.while_loop(b, goes, step, (ops.full(b, (), 0, i64), *first))[1:]

    def step(self, b: GraphBuilder, i: Value, states: list[Value], depth: int) -> list[Value]:
        values = [ops.full(b, (1,), 0.5, f32)]
        seen = list(states)
        for _ in range(int(self.rng.integers(2, 7))):
            k = int(self.rng.integers(len(states)))
            kind = self.rng.random()
            if kind < 0.35:
                values.append(self.read(b, i, self.one_of(seen)))
            elif kind < 0.75:
                states[k] = self.update(b, i, states[k], self.one_of(values))
                seen.append(states[k])
            elif kind < 0.8:
                states[k] = ops.mul(b, states[k], ops.sin(b, self.one_of(seen)))
            elif kind < 0.9 and not depth:
                states[:] = self.loop(b, states, 2, 1)
                seen += states
            elif kind < 0.93:
                states[0], states[1] = states[1], states[0]
        return states

    def place(self, b: GraphBuilder, i: Value) -> Value:
        """A place that no addition moves out of the tensor."""
        at = ops.add(b, ops.mul(b, i, self.one_of((1, 3))), self.one_of((0, 1, 5, 190)))
        return ops.rem(b, at, ops.full(b, (), N, i64))

    def read(self, b: GraphBuilder, i: Value, state: Value) -> Value:
        if self.chance(0.3):
            return ops.mul(b, ops.reduce_sum(b, state, (0,), keepdims=True), 1 / N)
        value = ops.dynamic_slice(b, state, [self.place(b, i)], (1,))
        return ops.tanh(b, value) if self.chance(0.5) else value

    def update(self, b: GraphBuilder, i: Value, state: Value, value: Value) -> Value:
        at = self.place(b, i)
        if self.chance(0.5):
            return ops.dynamic_update_slice(b, state, ops.mul(b, value, 0.75), [at])
        place = ops.reshape(b, at, (1,))
        if self.chance(0.5):
            return ops.index_add(b, state, 0, place, value)
        return ops.index_put(b, state, (place,), value)


def graph_of(seed: int) -> Graph:
    b, body = GraphBuilder("steps"), Body(seed)
    given = [b.input(tensor((N,), f32)) for _ in range(int(body.rng.integers(2, 4)))]
    if body.chance(0.3):
        given[0] = ops.exp(b, given[0])
    return b.build(tuple(body.loop(b, given, 4)))


def results(graph: Graph, arrays: Sequence[Array]) -> list[list[Array]]:
    """By the graph's meaning, by the program's, and by machine code."""
    found = [run_graph(graph, arrays), run_program(program_of(graph, current()), arrays)]
    found.append(NumpyCallable(compile_graph(graph).executable)(*arrays))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_steps_of_any_kind(seed: int) -> None:
    graph, rng = graph_of(seed), np.random.default_rng(seed)
    arrays = [rng.standard_normal(N).astype(np.float32) for _ in graph.inputs]
    wanted, *others = results(graph, arrays)
    for found in others:
        for x, y in zip(wanted, found, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def updates(graph: Graph) -> list[int]:
    """How many buffers the bodies of each level of loops update in place, the outer ones first."""
    level, found = lowered(graph, "system", Options(current())), list[int]()
    while isinstance(level, Module):
        looped = [p.body for p in level.parts if isinstance(p.control, While | Repetition)]
        found.append(sum(len(face(body).updates) for body in looped))
        level = looped[0] if looped else None
    return found


def counting(steps: int, n: int | Expr, step: Any) -> Graph:
    """`step(builder, number, x, y)` gives x and y of the next step, of `n` floats each."""
    b = GraphBuilder("counting")
    x, y = (b.input(tensor((n,), f32), name) for name in "xy")

    def goes(b: GraphBuilder, v: States) -> Value:
        return ops.lt(b, v[0], ops.full(b, (), steps, i64))

    def body(b: GraphBuilder, v: States) -> tuple[Value, ...]:
        return ops.add(b, v[0], 1), *step(b, v[0], v[1], v[2])

    return b.build(ops.while_loop(b, goes, body, (ops.full(b, (), 0, i64), x, y))[1:])


def put(b: GraphBuilder, x: Value, value: Value, i: Value) -> Value:
    return ops.dynamic_update_slice(b, x, value, [i])


def one(b: GraphBuilder, x: Value, i: Value) -> Value:
    return ops.dynamic_slice(b, x, [i], (1,))


def crossed(b: GraphBuilder, i: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """Each gets what the other one had."""
    return put(b, x, one(b, y, i), i), put(b, y, one(b, x, i), i)


def swapped(b: GraphBuilder, i: Value, x: Value, y: Value) -> tuple[Value, Value]:
    return put(b, y, one(b, x, i), i), x


def kept(b: GraphBuilder, i: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """y is x as it was before."""
    return put(b, x, one(b, y, i), i), x


def twice(b: GraphBuilder, i: Value, x: Value, y: Value) -> tuple[Value, Value]:
    """All of x is read between its updates, in what y gets behind them."""
    first = put(b, x, one(b, y, i), i)
    second = put(b, first, ops.reduce_sum(b, first, (0,), keepdims=True), ops.add(b, i, 2))
    return second, put(b, y, one(b, first, i), i)


@pytest.mark.parametrize(
    ("step", "expected"), [(crossed, 2), (swapped, 0), (kept, 1), (twice, 2)]
)
@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("n", [N, dim("n", 8)], ids=["fixed", "open"])
def test_which_states_are_updated(step: Any, expected: int, steps: int, n: Any) -> None:
    graph = counting(steps, n, step)
    assert updates(graph) == [expected]
    x, y = np.arange(N, dtype=np.float32), -np.arange(N, dtype=np.float32) - 1
    wanted, *others = results(graph, [x, y])
    for found in others:
        for a, c in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(a, c)


def test_a_small_state_is_handed_on() -> None:
    assert updates(counting(5, 100, crossed)) == [0]


def test_a_state_of_loops_within_a_loop_stays_where_it_is() -> None:
    def step(b: GraphBuilder, i: Value, x: Value, y: Value) -> tuple[Value, ...]:
        def goes(b: GraphBuilder, v: States) -> Value:
            return ops.lt(b, v[0], i)

        def inner(b: GraphBuilder, v: States) -> tuple[Value, ...]:
            j, x = v
            value = ops.add(b, one(b, x, ops.sub(b, i, j)), one(b, y, j))
            return ops.add(b, j, 1), put(b, x, value, j)

        zero = ops.full(b, (), 0, i64)
        x = ops.while_loop(b, goes, inner, (zero, x))[1]
        return x, put(b, y, one(b, x, i), zero)

    graph = counting(6, N, step)
    assert updates(graph) == [2, 1]
    x, y = (np.random.default_rng(1).standard_normal((2, N))).astype(np.float32)
    wanted, *others = results(graph, [x, y])
    for found in others:
        for a, c in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(a, c)


def test_the_last_state_of_a_counted_loop() -> None:
    b = GraphBuilder("counted")
    x, y = b.input(tensor((N,), f32)), b.input(tensor((9, 1), f32))
    first = ops.full(b, (), 0, i64)

    def body(b: GraphBuilder, states: Any, rows: Any) -> Any:
        (i, s), (r,) = states, rows
        return (ops.add(b, i, 1), put(b, s, ops.add(b, r, one(b, s, i)), ops.mul(b, i, 2))), ()

    graph = b.build(ops.loop(b, body, 9, (first, x), (y,), last=(True, True))[1:])
    assert updates(graph) == [1]
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((N,), (9, 1))]
    wanted, *others = results(graph, arrays)
    for found in others:
        np.testing.assert_array_equal(wanted[0], found[0])


def test_what_a_system_updates_is_one_of_its_inputs() -> None:
    source = """
    system s {
      input x: f32[4]UPDATE
      input v: f32[]
      put: [] x[2] = v[] update
    }
    """
    verify_system(parse(source.replace("UPDATE", " update")))
    with pytest.raises(VerifyError, match="put writes the input x"):
        verify_system(parse(source.replace("UPDATE", "")))
