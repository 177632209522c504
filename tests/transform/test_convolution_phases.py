"""Strided transposed convolutions by phases: what they become gives the same, for every layout of
windows, strides and edges.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.expr import Expr, dim
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable
from ferrule.transform.convolution_phases import convolution_phases


def transposed(shape: tuple[Expr | int, ...], window: tuple[int, ...], **how: Any) -> Graph:
    b = GraphBuilder("g")
    x = b.input(tensor(shape, f32), "x")
    w = b.input(tensor((shape[1], 2, *window), f32), "w")
    return b.build((ops.conv(b, x, w, transposed=True, **how),))


def arrays(x: tuple[int, ...], w: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(np.float32) for s in (x, w)]


def strided(graph: Graph) -> int:
    convs = [n.attributes for n in graph.nodes if n.op == "conv"]
    return sum(a["transposed"] and set(a["stride"]) != {1} for a in convs)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_phases_mean_the_same(kernel: int) -> None:
    for stride, low, high, more in product((2, 3), (0, 1, 3), (0, 2), (0, 1)):
        how = {"stride": stride, "padding": ((low, high),), "output_padding": more}
        graph = transposed((2, 4, 6), (kernel,), **how)
        given = arrays((2, 4, 6), (4, 2, kernel))
        made, decisions = convolution_phases(graph)
        left = graph.nodes[0].op != "conv"  # windows side by side are a product already
        assert left or (strided(graph) == 1 and strided(made) == 0 and decisions)
        (a,), (c,) = run_graph(graph, given), run_graph(made, given)
        np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("open_size", [False, True])
def test_machine_code_gives_the_same(open_size: bool, groups: int) -> None:
    size = dim("n", 1) if open_size else 5
    graph = transposed((2, 4, size, 6), (3, 4), stride=(2, 3), padding=1, groups=groups)
    for n in (1, 2, 5) if open_size else (5,):
        given = arrays((2, 4, n, 6), (4, 2, 3, 4))
        (a,) = run_graph(graph, given)
        (c,) = NumpyCallable(compile_graph(graph).executable)(*given)
        np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)


def test_phases_that_read_the_same_places_are_one_convolution() -> None:
    made, _ = convolution_phases(transposed((1, 4, 9), (16,), stride=8, padding=4))
    assert sum(n.op == "conv" for n in made.nodes) == 2  # of 8 phases


@pytest.mark.parametrize("how", [{"dilation": 2, "stride": 2}, {"stride": 1}])
def test_others_stay(how: dict[str, int]) -> None:
    graph = transposed((1, 4, 9), (3,), **how)
    assert convolution_phases(graph) == (graph, ())
