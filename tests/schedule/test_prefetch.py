"""Rows ask for what they touch next, where memory would make them wait."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.ir.kernel import Prefetch, walk_items
from ferrule.pipeline.compile import compile_graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import host, named


def softmax(rows, columns) -> Graph:
    b = GraphBuilder("softmax")
    x = b.input(tensor((rows, columns), f32))
    return b.build((ops.softmax(b, x, axis=1),))


def norm(rows, columns) -> Graph:
    """A layer norm of a sum, with a heavy last loop."""
    b = GraphBuilder("norm")
    x, y = (b.input(tensor((rows, columns), f32)) for _ in range(2))
    scale, shift = (b.param(tensor((columns,), f32)) for _ in range(2))
    z = ops.layer_norm(b, ops.add(b, x, y), scale, shift, axes=1, eps=1e-5)
    return b.build((ops.gelu(b, z),))


def hints(graph: Graph, target: str = "avx2") -> list[Prefetch]:
    (kernel,) = lowered(graph, "scheduled", options_for(named(target))).kernels
    return [i for i, _ in walk_items(kernel.body) if isinstance(i, Prefetch)]


def test_the_heavy_loop_asks_for_the_next_row_and_for_the_output() -> None:
    for found in (hints(softmax(4096, 1024)), hints(softmax(dim("n"), 1024), "avx512")):
        assert [h.write for h in found] == [False, True]
        read, written = found
        assert "+ 1" in str(read.idx[0])
        assert "+ 1" not in str(written.idx[0])


def test_an_output_of_the_heavy_loop_itself_is_that_of_the_next_row() -> None:
    found = hints(norm(4096, 768))
    assert sorted(h.write for h in found) == [False, False, True]
    assert all("+ 1" in str(h.idx[0]) for h in found)


@pytest.mark.parametrize("graph", [softmax(16, 64), softmax(4, 1 << 20)], ids=["small", "long"])
def test_what_stays_in_cache_and_what_does_not_fit_it_have_none(graph: Graph) -> None:
    assert not hints(graph)


def test_rows_whose_place_is_checked_have_none() -> None:
    """A hint for the row behind the last one would report an index that nobody uses."""
    b, n = GraphBuilder("turned"), 512
    x, f = b.input(tensor((n, 512), f32)), b.input(tensor((n, 1), f32))
    i = ops.iota(b, (n,), 0)
    rows = ops.take(b, x, ops.select(b, ops.eq(b, i, n - 1), 0, ops.add(b, i, 1)))
    out = ops.sub(b, x, ops.mul(b, ops.softmax(b, ops.sub(b, rows, x), axis=1), f))
    graph = b.build((out,))
    assert not any("bounded" in str(h.idx[0]) for h in hints(graph))
    given = [np.random.default_rng(0).standard_normal((n, k)).astype(np.float32) for k in (512, 1)]
    (found,) = NumpyCallable(compile_graph(graph).executable)(*given)
    z = np.exp(np.roll(given[0], -1, 0) - given[0])
    want = given[0] - z / z.sum(1, keepdims=True) * given[1]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_rows_that_an_index_tensor_names_have_none() -> None:
    b = GraphBuilder("embedding")
    ids, table = b.input(tensor((8192,), i64)), b.param(tensor((1000, 384), f32))
    scale, shift = (b.param(tensor((384,), f32)) for _ in range(2))
    x = b.input(tensor((8192, 384), f32))
    z = ops.add(b, ops.take(b, table, ids, 0), x)
    z = ops.gelu(b, ops.layer_norm(b, z, scale, shift, axes=1, eps=1e-5))
    assert {h.buf.shape[0].attr for h in hints(b.build((z,)))} == {8192}


@pytest.mark.parametrize("columns", [88, 4099])
def test_tiles_of_columns_have_none(columns: int) -> None:
    """The last tile is shorter than the others."""
    b = GraphBuilder("columns")
    x = b.input(tensor((dim("n", lo=1), columns), f32))
    assert not hints(b.build((ops.gelu(b, ops.mean(b, x, (0,))),)), "avx512")


@pytest.mark.parametrize("make", [softmax, norm])
def test_results_are_those_of_the_definition(make) -> None:
    """The last row's hints name places behind the buffers."""
    rows, columns = 2 * host().l2 // 4096, 1024
    graph = make(rows, columns)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((rows, columns)).astype(np.float32) for _ in graph.inputs]
    params = [rng.standard_normal(columns).astype(np.float32) for _ in graph.params]
    compiled = compile_graph(graph).executable
    if params:
        compiled.bind([(p.ctypes.data, p) for p in params])
    (found,) = NumpyCallable(compiled)(*arrays)
    small = make(3, columns)
    assert not hints(small, host().name)
    few = compile_graph(small).executable
    if params:
        few.bind([(p.ctypes.data, p) for p in params])
    (expected,) = NumpyCallable(few)(*(np.ascontiguousarray(x[-3:]) for x in arrays))
    np.testing.assert_array_equal(found[-3:], expected)
