"""Sorts among other stages: what they carry along for nobody, and whom they share a kernel with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.calls import Kernels
from ferrule.ir.expr import arg, dim, lt
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_kernels
from ferrule.ir.kernel import stages
from ferrule.ir.system import Sort
from ferrule.ir.verify import verify
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from tests.cpus import server

N = dim("n")


def graph_of(build: Any, *shapes: tuple[Any, ...]) -> Graph:
    b = GraphBuilder("sorts")
    out = build(b, *(b.input(tensor(s, f32)) for s in shapes))
    return b.build([out] if isinstance(out, Value) else list(out))


def kernels(graph: Graph) -> Kernels:
    """Of which the verifier finds nothing, and which mean what the graph means."""
    found: Kernels = lowered(graph, "kernels", options_for(server("avx2")))
    verify(found)
    rng = np.random.default_rng(0)
    sizes = [[9 if not s.is_const else s.value for s in v.shape] for v in graph.inputs]
    arrays = [rng.standard_normal(s).astype(np.float32) for s in sizes]
    for x, y in zip(run_kernels(found, arrays, []), run_graph(graph, arrays), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
    return found


def sorts(level: Kernels) -> list[int]:
    """How many values each sort moves."""
    return [
        len(st.targets)
        for k in level.main
        for st in stages(k.body)
        if isinstance(st.compute.fold, Sort)
    ]


def test_what_nobody_reads_and_no_order_looks_at_is_not_moved() -> None:
    assert sorts(kernels(graph_of(lambda b, x: ops.sort(b, x)[0], (N, 7)))) == [1]
    assert sorts(kernels(graph_of(lambda b, x: ops.argsort(b, x), (N, 7)))) == [2]

    def third(b: GraphBuilder, x: Value, y: Value, z: Value) -> Value:
        return ops.sort_together(b, (x, y, z), 1, lt(arg(1, f32), arg(4, f32)))[2]

    assert sorts(kernels(graph_of(third, (N, 7), (N, 7), (N, 7)))) == [2]


def test_a_row_is_computed_sorted_and_read_in_one_kernel() -> None:
    def build(b: GraphBuilder, x: Value) -> Value:
        values = ops.sort_values(b, ops.softmax(b, x, 1), 1)
        return ops.exp(b, ops.cumsum(b, values, 1))

    assert len(kernels(graph_of(build, (N, 7))).main) == 1


def test_a_product_that_is_sorted_stays_a_kernel_of_its_own() -> None:
    for shapes in (((N, 8), (8, 24)), ((3, N, 8), (3, 8, 24))):
        graph = graph_of(lambda b, x, y: ops.sort_values(b, ops.matmul(b, x, y)), *shapes)
        assert len(kernels(graph).main) == 2
