"""Long reductions with few results are cut in parts, and mean what they meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.pipeline.compile import compile_graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import named
from ferrule.target.machine import CPU


def graph(make: Any, *shapes: tuple[Any, ...]) -> Graph:
    """`make` of the builder and an f32 input of each shape."""
    b = GraphBuilder("reduction")
    made = make(b, *(b.input(tensor(s, f32)) for s in shapes))
    return b.build([made] if isinstance(made, Value) else list(made))


def kernels(g: Graph) -> int:
    return len(lowered(g, "kernels", options_for(named("avx2"))).kernels)


def total(b: GraphBuilder, x: Value) -> Value:
    return ops.reduce_sum(b, x, tuple(range(x.rank)))


LONG = 200_003  # a prime: parts differ
CASES = {
    "sum": (total, lambda x: x.sum(dtype=np.float64), [(LONG,)]),
    "max of an image": (lambda b, x: ops.reduce_max(b, x, (0, 1)), lambda x: x.max(), [(331, 997)]),
    "argmax": (lambda b, x: ops.argmax(b, x, 0), lambda x: x.argmax(), [(LONG,)]),
    "columns": (lambda b, x: ops.reduce_sum(b, x, (0,)), lambda x: x.sum(0), [(LONG, 3)]),
    "rows": (lambda b, x: ops.reduce_sum(b, x, (1,)), lambda x: x.sum(1), [(2, LONG)]),
    "product": (
        lambda b, x, y: ops.dot_general(b, x, y, contract=((1,), (0,))),
        lambda x, y: x.astype(np.float64) @ y,
        [(3, 20_011), (20_011, 7)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_the_whole(name: str) -> None:
    make, expected, shapes = CASES[name]
    g = graph(make, *shapes)
    assert kernels(g) == 2
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    (found,) = NumpyCallable(compile_graph(g).executable)(*arrays)
    np.testing.assert_allclose(found, expected(*arrays), rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("size", [0, 1, CPU.parts - 1, 100, 1001])
def test_a_symbolic_length(size: int) -> None:
    """Parts may be empty."""
    g = graph(total, (dim("n", 0, 1 << 20), 1 << 12))
    assert kernels(g) == 2
    x = np.random.default_rng(0).standard_normal((size, 1 << 12)).astype(np.float32)
    (found,) = NumpyCallable(compile_graph(g).executable)(x)
    np.testing.assert_allclose(found, x.sum(dtype=np.float64), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(1000,), (64, 65_536)], ids=["short", "many rows"])
def test_others_stay_whole(shape: tuple[int, ...]) -> None:
    assert kernels(graph(lambda b, x: ops.reduce_sum(b, x, (x.rank - 1,)), shape)) == 1


def test_a_single_element_is_no_long_reduction() -> None:
    g = graph(lambda b, x: ops.logsumexp(b, x, ()), ())
    assert kernels(g) == 1
