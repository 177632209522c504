"""Loops: what they mean, what they refuse, and that every level down to machine code agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.base.errors import CompileError, InputError
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.program import Repeat
from ferrule.ir.text import to_text
from ferrule.ir.text.graph import parse_graph
from ferrule.ir.text.program import parse_program
from ferrule.ir.verify import verify
from ferrule.pipeline.compile import compile_graph, program_of
from ferrule.runtime.arrays import NumpyCallable
from ferrule.transform.split_loops import segments
from tests.cpus import current

Array = np.ndarray[Any, Any]
STEPS, BATCH, INPUTS, SIZE = 5, 2, 8, 16
rng = np.random.default_rng(0)


def random(*shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def recurrent(steps: Expr | int, batch: Expr | int, reverse: bool = False) -> Graph:
    """A layer of tanh cells, all its states, the last one, and what somebody makes of them."""
    b = GraphBuilder("rnn")
    x = b.input(tensor((steps, batch, INPUTS), f32), "x")
    h = b.input(tensor((batch, SIZE), f32), "h")
    w, r = b.param(tensor((SIZE, INPUTS), f32), "w"), b.param(tensor((1, SIZE, SIZE), f32), "r")
    given = ops.dot_general(b, x, w, contract=((2,), (1,)))
    weights = ops.select_index(b, r, 0, 0)

    def body(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        own = ops.dot_general(b, old[0], weights, contract=((1,), (1,)))
        return (ops.tanh(b, ops.add(b, row[0], own)),), (ops.square(b, old[0]),)

    y, squares = ops.loop(b, body, steps, (h,), (given,), reverse)
    last = ops.select_index(b, y, 0, 0 if reverse else y.shape[0] - 1)
    return b.build((y, squares, last, ops.relu(b, y), y))


def arrays() -> tuple[list[Array], list[Array]]:
    inputs = [random(STEPS, BATCH, INPUTS), random(BATCH, SIZE)]
    return inputs, [random(SIZE, INPUTS), random(1, SIZE, SIZE) / 4]


def plainly(inputs: list[Array], params: list[Array], reverse: bool) -> list[Array]:
    """The same in NumPy."""
    (x, h), (w, r) = inputs, params
    y, squares = np.zeros((2, STEPS, BATCH, SIZE), np.float32)
    for t in reversed(range(STEPS)) if reverse else range(STEPS):
        squares[t] = h * h
        h = y[t] = np.tanh(x[t] @ w.T + h @ r[0].T)
    return [y, squares, h, np.maximum(y, 0), y]


def compiled(graph: Graph, inputs: list[Array], params: list[Array]) -> tuple[Array, ...]:
    made = compile_graph(graph)
    made.executable.bind([(p.ctypes.data, p) for p in params])
    return NumpyCallable(made.executable)(*inputs)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("symbolic", [False, True])
def test_every_level_gives_what_numpy_gives(symbolic: bool, reverse: bool) -> None:
    steps, batch = (dim("steps", 1), dim("batch", 1)) if symbolic else (STEPS, BATCH)
    graph = recurrent(steps, batch, reverse)
    inputs, params = arrays()
    expected = plainly(inputs, params, reverse)
    program = program_of(graph, current())
    verify(program)
    for found in (
        run_graph(graph, [*inputs, *params]),
        run_program(program, inputs, params),
        compiled(graph, inputs, params),
    ):
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_texts_read_back() -> None:
    graph = recurrent(dim("steps", 1), BATCH)
    program = program_of(graph, current())
    assert parse_graph(to_text(graph)) == graph
    assert parse_program(to_text(program)) == program


def test_weights_of_a_body_are_packed_once() -> None:
    program = program_of(recurrent(STEPS, 32), current())
    (repeat,) = (s for s in program.main if isinstance(s, Repeat))
    calls = [c.note for run in repeat.steps for phase in run.phases for c in phase]
    assert not [note for note in calls if note.startswith("pack")]


def test_a_loop_splits_its_graph() -> None:
    first, last = segments(recurrent(STEPS, BATCH))
    (part,) = first.loops
    assert [n.op for n in first.graph.nodes] == ["dot_general"]
    (body,) = part.bodies
    assert "dot_general" in [n.op for n in body.nodes]
    assert [v.name for v in body.params] == ["r"]
    assert not last.loops
    assert "max" in [n.op for n in last.graph.nodes]


def counter(b: GraphBuilder, x: Value, steps: int) -> Value:
    """x + steps, one by one."""

    def body(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        return (ops.add(b, old[0], 1.0),), ()

    (y,) = ops.loop(b, body, steps, (x,), ())
    return ops.select_index(b, y, 0, steps - 1)


def test_loops_stand_in_bodies_and_behind_each_other() -> None:
    b = GraphBuilder("nested")
    x = b.input(tensor((3,), f32), "x")

    def body(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        return (ops.mul(b, counter(b, old[0], 2), 2.0),), ()

    (y,) = ops.loop(b, body, 3, (counter(b, x, 4),), ())
    graph = b.build((y,))
    value, expected = np.array([0.0, 1.0, -2.0], np.float32), []
    state = value + 4
    for _ in range(3):
        state = (state + 2) * 2
        expected.append(state)
    program = program_of(graph, current())
    verify(program)
    assert parse_program(to_text(program)) == program
    for found in (
        run_graph(graph, [value]), run_program(program, [value]), compiled(graph, [value], []),
    ):  # fmt: skip
        np.testing.assert_array_equal(found[0], expected)


def test_a_number_of_steps_that_does_not_fit_is_refused() -> None:
    graph = recurrent(dim("steps", 1), BATCH)
    made = compile_graph(graph)
    with pytest.raises(InputError, match="steps"):
        NumpyCallable(made.executable)(random(0, BATCH, INPUTS), random(BATCH, SIZE))


def test_states_that_change_their_type_are_refused() -> None:
    b = GraphBuilder()
    x = b.input(tensor((3,), f32))

    def body(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        return (ops.reduce_sum(b, old[0]),), ()

    with pytest.raises(CompileError, match=r"leaves f32\[\], not f32\[3\]"):
        ops.loop(b, body, 2, (x,), ())


def test_rows_of_another_number_are_refused() -> None:
    b = GraphBuilder()
    x = b.input(tensor((3, 4), f32))
    with pytest.raises(CompileError, match=r"5 steps goes over the rows of f32\[3, 4\]"):
        ops.loop(b, lambda b, old, row: ((), row), 5, (), (x,))
    with pytest.raises(CompileError, match="has none"):
        ops.loop(b, lambda b, old, row: ((), row), 5, (), (ops.full(b, (), 1, f32),))
