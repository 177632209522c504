"""Long sums are off by no more than their bound says, whatever their length, on each target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base import config
from ferrule.base.dtype import f16, f32, f64, i64
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.pipeline.compile import compile_graph
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime.arrays import NumpyCallable
from ferrule.schedule.contraction.microkernel import DEEP
from ferrule.schedule.sums import BOUND, TERMS
from ferrule.target.cpu import named

TARGETS = ("avx512", "avx2", "generic")
SUMS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "a million": ((1_000_003,), (0,)),
    "rows": ((3, 40_001), (1,)),
    "columns": ((40_001, 70), (0,)),
    "few columns": ((40_001, 3), (0,)),
    "between": ((2, 20_000, 9), (1,)),
    "around": ((300, 3, 210), (0, 2)),
    "around, short inside": ((9000, 3, 7), (0, 2)),
    "short": ((5, 3), (1,)),
    "nothing": ((0, 3), (0,)),
}


def arrays(shape: tuple[int, ...]) -> list[Any]:
    """Terms whose errors add up, in one direction or in any."""
    rng = np.random.default_rng(0)
    tenth = np.full(shape, 0.1)
    signed = rng.standard_normal(shape)
    return [a.astype(np.float32) for a in (tenth, 1 + 1e-6 * rng.random(shape), signed)]


def summed(shape: tuple[Any, ...], axes: tuple[int, ...]) -> Graph:
    b = GraphBuilder("sums")
    return b.build([ops.reduce_sum(b, b.input(tensor(shape, f32)), axes)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", ["known", "symbolic"])
@pytest.mark.parametrize("name", SUMS)
def test_errors_stay_below_the_bound(name: str, sizes: str, target: str) -> None:
    shape, axes = SUMS[name]
    dims = tuple(dim(f"d{i}") for i in range(len(shape)))
    graph = summed(shape if sizes == "known" else dims, axes)
    run_it = NumpyCallable(compile_graph(graph, config.settings(target=target)).executable)
    for x in arrays(shape):
        (found,) = run_it(x)
        wide = x.astype(np.float64)
        error = np.abs(found - wide.sum(axes))
        assert np.all(error <= BOUND * np.abs(wide).sum(axes))


def scheduled(make: Any, *shapes: tuple[Any, ...]) -> str:
    """The scheduled kernels of `make` of the builder and an f32 input of each shape, as text."""
    b = GraphBuilder("sums")
    made = make(b, *(b.input(tensor(s, f32)) for s in shapes))
    graph = b.build([made] if isinstance(made, Value) else list(made))
    level = lowered(graph, "scheduled", options_for(named("avx2")))
    return "\n".join(map(str, level.kernels))


def test_a_sum_that_is_known_to_be_short_has_no_blocks() -> None:
    row = TERMS * 4 * 8  # of an accumulator's terms, in four vectors of avx2

    def norm(b: GraphBuilder, x: Value) -> Value:
        return ops.layer_norm(b, x)

    n = dim("n", 2)
    assert "f64" not in scheduled(norm, (n, row))
    assert "f64" in scheduled(norm, (n, row + 1))
    assert "f64" in scheduled(norm, (n, dim("m")))
    assert "f64" not in scheduled(norm, (n, dim("m", 1, row)))


def test_exact_sums_and_extremes_have_no_blocks() -> None:
    def most(b: GraphBuilder, x: Value) -> Value:
        return ops.reduce_max(b, x, (0,))

    def count(b: GraphBuilder, x: Value) -> Value:
        return ops.reduce_sum(b, ops.cast(b, ops.gt(b, x, 0.0), i64), (0,))

    assert "f64" not in scheduled(most, (40_000, 7))
    assert "f64" not in scheduled(count, (40_000, 7))


@pytest.mark.parametrize("target", TARGETS)
def test_sums_that_share_a_loop_with_others(target: str) -> None:
    """A softmax's exponentials, an extreme, two sums of which one ends earlier."""

    def several(b: GraphBuilder, x: Value) -> list[Value]:
        shifted = ops.sub(b, x, 0.5)
        return [
            ops.softmax(b, x, 1),
            ops.reduce_sum(b, shifted, (1,)),
            ops.reduce_max(b, shifted, (1,)),
            ops.mean(b, shifted, (0, 1)),
        ]

    shape = (5, 9001)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    e = np.exp(x.astype(np.float64))
    expected = [e / e.sum(1, keepdims=True), (x - 0.5).sum(1), (x - 0.5).max(1), (x - 0.5).mean()]
    for given in (shape, (dim("n"), dim("m"))):
        b = GraphBuilder("several")
        graph = b.build(several(b, b.input(tensor(given, f32))))
        found = NumpyCallable(compile_graph(graph, config.settings(target=target)).executable)(x)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(("dtype", "relative"), [(f16, 2e-3), (f64, 1e-12)])
def test_other_floats(dtype: Any, relative: float) -> None:
    b = GraphBuilder("other")
    x = b.input(tensor((40_001, 6), dtype))
    graph = b.build([ops.mean(b, x, (0,))])
    array = np.random.default_rng(2).random((40_001, 6)).astype(dtype.numpy)
    (found,) = NumpyCallable(compile_graph(graph).executable)(array)
    np.testing.assert_allclose(found, array.astype(np.float64).mean(0), rtol=relative)


def test_infinities_and_nan_come_through() -> None:
    x = np.ones((40_001, 4), np.float32)
    x[7, 1], x[9, 2], x[11, 3], x[12, 3] = np.inf, np.nan, np.inf, -np.inf
    (found,) = NumpyCallable(compile_graph(summed(x.shape, (0,))).executable)(x)
    np.testing.assert_array_equal(found, [40_001, np.inf, np.nan, np.nan])


PRODUCTS = {"tiles": (20, 17), "a column": (40, 1), "a row": (1, 40)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", ["known", "rows", "terms", "symbolic"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_deep_products_stay_below_their_bound(name: str, sizes: str, target: str) -> None:
    (m, n), k = PRODUCTS[name], 70_001
    depth: Any = dim("k") if sizes in ("terms", "symbolic") else k
    rows: Any = dim("m", 1) if sizes in ("rows", "symbolic") else m
    b = GraphBuilder("product")
    x, y = b.input(tensor((rows, depth), f32)), b.input(tensor((depth, n), f32))
    graph = b.build([ops.matmul(b, x, y)])
    left = np.full((m, k), 0.1, np.float32)
    right = np.random.default_rng(3).random((k, n)).astype(np.float32)
    compiled = compile_graph(graph, config.settings(target=target))
    (found,) = NumpyCallable(compiled.executable)(left, right)
    expected = left.astype(np.float64) @ right
    assert np.abs(found / expected - 1).max() <= (DEEP // 2) * 2.0**-24


@pytest.mark.parametrize("terms", [DEEP, DEEP + 700])
def test_attention_over_many_keys(terms: int) -> None:
    """Its sums end where a row does, and go on in blocks."""
    n = dim("n")

    def attention(b: GraphBuilder, x: Value) -> Value:
        return ops.attention(b, x, x, x, scale=0.01, causal=True)

    b = GraphBuilder("attention")
    graph = b.build([attention(b, b.input(tensor((1, 1, n, 4), f32)))])
    x = np.random.default_rng(4).random((1, 1, terms, 4)).astype(np.float32)
    (found,) = NumpyCallable(compile_graph(graph).executable)(x)
    wide = x[0, 0].astype(np.float64)
    for row in (0, DEEP // 8, DEEP - 1, terms - 1):
        weights = np.exp(0.01 * wide[: row + 1] @ wide[row])
        expected = weights @ wide[: row + 1] / weights.sum()
        np.testing.assert_allclose(found[0, 0, row], expected, rtol=1e-4)
