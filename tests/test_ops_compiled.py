"""Operators compiled to machine code against their meaning: one graph for each family and form.

Each case runs with constant sizes and, where `dims` lets it, with symbolic ones: those sizes of
the first operand, and sizes of others that are equal to one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import RunIndexError
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(13)


@dataclass(frozen=True)
class Case:
    """A graph by what builds it, and arrays to run it on; `dims` are the first one's symbolic ones,
    -1 alone for all that are not 1.
    """

    name: str
    build: Callable[..., Any]
    arrays: tuple[Array, ...]
    dims: tuple[int, ...] = (-1,)


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def i(high: int, *shape: int) -> Array:
    return RNG.integers(0, high, shape)


def _sizes(case: Case, array: Array, symbolic: bool) -> list[Any]:
    first = case.arrays[0].shape
    chosen = set(first) if case.dims == (-1,) else {first[d] for d in case.dims}
    every = case.dims == (-1,)
    return [
        dim(f"n{n}", lo=1) if symbolic and n > 1 and (every or n in chosen) else n
        for n in array.shape
    ]


def _graph(case: Case, symbolic: bool) -> Graph:
    b = GraphBuilder(case.name)
    values = [b.input(tensor(_sizes(case, a, symbolic), from_numpy(a.dtype))) for a in case.arrays]
    out = case.build(b, *values)
    return b.build((out,) if isinstance(out, Value) else tuple(out))


X4 = (f(2, 8, 9, 13),)
Q, K, M = f(2, 4, 11, 16), f(2, 2, 11, 16), RNG.random((11, 11)) < 0.7
CASES = (
    Case("reshape", lambda b, x: ops.reshape(b, x, (x.shape[0], x.shape[1], 4, 8)), (f(3, 5, 32),),
         (0, 1)),
    Case("transpose", lambda b, x: ops.transpose(b, x, (2, 0, 1)), (f(3, 5, 7),)),
    Case("reverse", lambda b, x: ops.reverse(b, x, (0, 2)), (f(3, 5, 7),)),
    Case("slice", lambda b, x: ops.slice_axis(b, x, 1, 1, 5, 2), (f(3, 7),), (0,)),
    Case("split", lambda b, x: ops.split(b, x, (3, 4), 1), (f(3, 7),), (0,)),
    Case("roll", lambda b, x: ops.roll(b, x, (1, 2), (0, 1)), (f(3, 5),)),
    Case("tile", lambda b, x: ops.tile(b, x, (2, 3)), (f(3, 5),)),
    Case("diagonal", lambda b, x: ops.diagonal(b, x, 1, 0, 2), (f(5, 3, 7),), (1,)),
    Case("unfold", lambda b, x: ops.unfold(b, x, 1, 3, 2), (f(3, 9),), (0,)),
    Case("concat", lambda b, x, y: ops.concat(b, (x, y), 1), (f(2, 5, 32), f(2, 3, 32))),
    Case("stack", lambda b, x, y: ops.stack(b, (x, y), 1), (f(3, 5), f(3, 5))),
    Case("pad", lambda b, x: ops.pad(b, x, (0, 1), (2, 3), 1.5), (f(3, 5),)),
    Case("reflect", lambda b, x: ops.pad(b, x, (1, 2), (1, 3), mode="reflect"), (f(5, 7),)),
    Case("tril", lambda b, x: ops.tril(b, x, 1), (f(5, 7),)),
    Case("matmul", ops.matmul, (f(2, 3, 7, 5), f(3, 5, 9))),
    Case("linear", ops.linear, (f(3, 7, 5), f(9, 5), f(9)), (0, 1)),
    Case("outer", lambda b, x, y: ops.einsum(b, "i,j", x, y), (f(7), f(33))),
    Case("attention", lambda b, *v: ops.attention(b, *v, scale=0.3, causal=True), (Q, Q, Q), (2,)),
    Case("masked", lambda b, *v: ops.attention(b, *v, scale=0.3), (Q, Q, Q, M), (2,)),
    Case("grouped", lambda b, *v: ops.attention(b, *v, grouped=True), (Q / 4, K, K), (2,)),
    Case("conv1d", lambda b, *v: ops.conv(b, *v, stride=2, padding=1), (f(2, 4, 9), f(6, 4, 3)),
         (0, 2)),
    Case("conv2d", lambda b, *v: ops.conv(b, *v, padding=1), (*X4, f(16, 8, 3, 3), f(16)),
         (0, 2, 3)),
    Case("conv1x1", ops.conv, (*X4, f(5, 8, 1, 1)), (0, 2, 3)),
    Case("conv_of_relu", lambda b, x, w: ops.conv(b, ops.relu(b, x), w, padding=1),
         (*X4, f(16, 8, 3, 3)), (0, 2, 3)),
    Case("empty_conv", lambda b, *v: ops.conv(b, *v, padding=1), (f(0, 4, 9), f(6, 4, 3)), ()),
    Case("conv3d", lambda b, *v: ops.conv(b, *v, padding=1), (f(1, 2, 4, 5, 6), f(3, 2, 2, 3, 2)),
         ()),
    Case("groups", lambda b, *v: ops.conv(b, *v, groups=2, dilation=2), (*X4, f(6, 4, 3, 3)),
         (0, 2, 3)),
    Case("depthwise", lambda b, *v: ops.conv(b, *v, padding=1, groups=8), (*X4, f(8, 1, 3, 3)),
         (0, 2, 3)),
    Case("transposed", lambda b, *v: ops.conv(b, *v, stride=2, padding=1, transposed=True),
         (*X4, f(8, 3, 3, 3)), (0, 2, 3)),
    Case("max_pool", lambda b, x: ops.max_pool(b, x, 3, 2, 1, ceil_mode=True, with_indices=True),
         X4),
    Case("avg_pool", lambda b, x: ops.avg_pool(b, x, 3, 2, 1, count_include_pad=False), X4),
    Case("adaptive_avg_pool", lambda b, x: ops.adaptive_avg_pool(b, x, (4, 5)), X4),
    Case("adaptive_max_pool", lambda b, x: ops.adaptive_max_pool(b, x, (4, 5)), X4),
    Case("global_pool", lambda b, x: ops.adaptive_avg_pool(b, x, (1, 1)), X4),
    Case("resize_nearest", lambda b, x: ops.resize_nearest(b, x, (18, 7)), X4, (0, 1)),
    Case("resize_linear", lambda b, x: ops.resize_linear(b, x, (18, 7)), X4, (0, 1)),
    Case("take", lambda b, x, k: ops.take(b, x, k, 0), (f(10, 33), i(10, 3, 4))),
    Case("gather", lambda b, x, k: ops.take_along_axis(b, x, k, 1), (f(5, 6, 7), i(6, 4, 3, 7))),
    Case("index", lambda b, x, j, k: ops.index(b, x, (j, None, k)),
         (f(5, 6, 7), i(5, 4), i(7, 3, 1))),
    Case("one_hot", lambda b, k: ops.one_hot(b, k, 6), (i(6, 3, 4),)),
    Case("scatter", lambda b, x, k, s: ops.scatter(b, x, 0, k, s),
         (f(6, 7), np.array([[5] * 7, [0] * 7]), f(2, 7))),
    Case("scatter_mean", lambda b, x, k, s: ops.scatter(b, x, 1, k, s, "mean", False),
         (f(5, 6, 7), i(6, 4, 3, 7), f(5, 4, 7))),
    Case("scatter_half", lambda b, x, k, s: ops.scatter(b, x, 1, k, s, "sum"),
         (f(5, 6).astype(np.float16), i(6, 4, 3), f(5, 4).astype(np.float16))),
    Case("index_add", lambda b, x, k, s: ops.index_add(b, x, 1, k, s),
         (f(5, 6, 7), i(6, 9), f(5, 9, 7))),
    Case("slice_scatter", lambda b, x, s: ops.slice_scatter(b, x, s, 1, 1, 5, 2),
         (f(5, 6, 7), f(5, 2, 7)), (0, 2)),
    Case("diagonal_scatter", lambda b, x, s: ops.diagonal_scatter(b, x, s), (f(5, 5, 7), f(7, 5)),
         (2,)),
)  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_compiled_operators_mean_what_they_say(case: Case, symbolic: bool) -> None:
    graph = _graph(case, symbolic)
    run = NumpyCallable(compile_graph(graph).executable)
    tolerance = 2e-3 if case.arrays[0].dtype == np.float16 else 1e-4
    for ours, meant in zip(run(*case.arrays), run_graph(graph, case.arrays), strict=True):
        assert ours.dtype == meant.dtype
        np.testing.assert_allclose(ours, meant, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "build",
    [lambda b, x, k: ops.take(b, x, k, 0), lambda b, x, k: ops.index(b, x, (k,)),
     lambda b, x, k: ops.index_put(b, x, (k,), ops.full(b, (7,), 1, x.dtype), True)],
    ids=["take", "index", "index_put"],
)  # fmt: skip
def test_an_index_out_of_range_is_reported(build: Any) -> None:
    case = Case("bounds", build, (f(5, 7), np.array([1, 5])), ())
    run = NumpyCallable(compile_graph(_graph(case, False)).executable)
    with pytest.raises(RunIndexError):
        run(*case.arrays)
    run(case.arrays[0], np.array([4, 0]))
