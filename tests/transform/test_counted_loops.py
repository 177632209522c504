"""A `while` that counts over rows becomes a loop, and one that does something else does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.text import to_text
from ferrule.ir.text.graph import parse_graph
from ferrule.ir.text.program import parse_program
from ferrule.ir.verify import verify
from ferrule.pipeline.compile import compile_graph, program_of
from ferrule.runtime.arrays import NumpyCallable
from ferrule.transform.counted_loops import counted_loops
from tests.cpus import current

STEPS, SIZE = 6, 4
Place = Callable[[GraphBuilder, Value], Value]


def wrapped(b: GraphBuilder, i: Value) -> Value:
    """The counter as JAX writes it: with the size added where it is negative."""
    return ops.select(b, ops.lt(b, i, 0), ops.add(b, i, STEPS), i)


def scan(
    steps: Expr | int = STEPS,
    first: int = 0,
    step: int = 1,
    read_at: Place = wrapped,
    write_at: Place = wrapped,
    look: bool = False,
) -> Graph:
    """A running tanh of rows, all of them and the last; `look` reads what is written too."""
    b = GraphBuilder("scan")
    x, h = b.input(tensor((steps, SIZE), f32), "x"), b.input(tensor((SIZE,), f32), "h")
    y = ops.full(b, (steps, SIZE), 0.0, f32)

    def body(b: GraphBuilder, v: Sequence[Value]) -> Sequence[Value]:
        i, h, y = v
        zero = ops.full(b, (), 0, i32)
        row = ops.dynamic_slice(b, x, [read_at(b, i), zero], (1, SIZE))
        new = ops.tanh(b, ops.add(b, ops.reshape(b, row, (SIZE,)), h))
        if look:
            new = ops.add(b, new, ops.reduce_sum(b, y, (0,)))
        y = ops.dynamic_update_slice(b, y, ops.reshape(b, new, (1, SIZE)), [write_at(b, i), zero])
        return ops.add(b, i, step), new, y

    def goes(b: GraphBuilder, v: Sequence[Value]) -> Value:
        return ops.lt(b, v[0], ops.full(b, (), steps, i32))

    return b.build(ops.while_loop(b, goes, body, (ops.full(b, (), first, i32), h, y)))


def kinds(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes if n.op in ("while", "loop")]


@pytest.mark.parametrize("steps", [STEPS, dim("n"), dim("n", 1)], ids=["known", "n", "some"])
def test_rows_are_read_and_written_in_place(steps: Any) -> None:
    graph = scan(steps, read_at=lambda b, i: i, write_at=lambda b, i: i)
    found, _ = counted_loops(graph)
    assert kinds(found) == ["loop"]
    (node,) = (n for n in found.nodes if n.op == "loop")
    assert (node.attributes["states"], node.attributes["rows"]) == (2, 1)
    assert parse_graph(to_text(found)) == found
    program = program_of(graph, current())
    verify(program)
    assert parse_program(to_text(program)) == program
    run = NumpyCallable(compile_graph(graph).executable)
    sizes = (STEPS,) if isinstance(steps, int) else (steps.attr.lo, 1, 2, 5)
    for n in sizes:
        rng = np.random.default_rng(n)
        given = [rng.standard_normal(s).astype(np.float32) for s in ((n, SIZE), (SIZE,))]
        wanted = run_graph(graph, given)
        for out in (run_graph(found, given), run_program(program, given), run(*given)):
            for x, y in zip(out, wanted, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_as_jax_writes_it() -> None:
    found, decisions = counted_loops(scan())
    assert kinds(found) == ["loop"]
    assert "reads 1 tensors by rows and makes 1" in decisions[0].reason


OTHERS = {
    "from 1": {"first": 1},
    "by twos": {"step": 2},
    "elsewhere": {
        "read_at": lambda b, i: ops.neg(b, i), "write_at": lambda b, i: ops.neg(b, i)
    },
}  # fmt: skip


@pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
def test_other_loops_stay(how: dict[str, Any]) -> None:
    graph = scan(**how)
    found, _ = counted_loops(graph)
    assert kinds(found) == ["while"]
    check(graph)


def test_what_is_read_besides_is_no_row() -> None:
    """The rows of x are read by the counter, the state y as a whole as well."""
    graph = scan(look=True)
    found, _ = counted_loops(graph)
    (node,) = (n for n in found.nodes if n.op == "loop")
    assert (node.attributes["states"], node.attributes["rows"]) == (3, 1)
    check(graph)


def check(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(s).astype(np.float32) for s in ((STEPS, SIZE), (SIZE,))]
    wanted = run_graph(graph, given)
    for x, y in zip(NumpyCallable(compile_graph(graph).executable)(*given), wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_loop_gives_last_states_alone() -> None:
    b = GraphBuilder("last")
    x = b.input(tensor((dim("n"), 3), f32), "x")

    def body(b: GraphBuilder, old: Sequence[Value], row: Sequence[Value]) -> Any:
        return (ops.add(b, old[0], row[0]), ops.max(b, old[1], row[0])), ()

    zero = ops.full(b, (3,), 0.0, f32)
    for reverse in (False, True):
        total, largest = ops.loop(b, body, x.shape[0], (zero, zero), (x,), reverse, (True, False))
        assert total.rank == 1
        assert largest.rank == 2
        graph = b.build((total, largest))
        assert parse_graph(to_text(graph)) == graph
        run = NumpyCallable(compile_graph(graph).executable)
        for n in (0, 1, 2, 5):
            given = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
            for out in (run_graph(graph, [given]), run(given)):
                np.testing.assert_allclose(out[0], given.sum(0))
                assert out[1].shape == (n, 3)
