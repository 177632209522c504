"""Graphs through every level: each verifies, reads back, and means what the graph means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.fuse.layout import assign_layouts
from ferrule.ir.expr import Buf, arg, axis, both, const, dim, either, eq, fconst, lt
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import (
    run_function,
    run_functions,
    run_graph,
    run_kernel,
    run_kernels,
    run_program,
    run_scheduled,
    run_system,
)
from ferrule.ir.kernel import Branch, Kernel
from ferrule.ir.loop import If
from ferrule.ir.system import Access, Compute, Stage
from ferrule.ir.text import Level, parse, parse_system, to_text
from ferrule.ir.verify import verify
from ferrule.lower.equations import equations
from ferrule.lower.loops import lower_kernel
from ferrule.pipeline.compile import program_of
from ferrule.pipeline.passes import Options, steps
from ferrule.pipeline.run import run
from ferrule.target.cpu import named

Array = np.ndarray[Any, Any]
N, M = dim("n"), dim("m")


def graph_of(build: Callable[..., Value], *shapes: tuple[Any, ...]) -> Graph:
    """`build(b, *inputs)` as a graph of f32 inputs."""
    b = GraphBuilder("main")
    return b.build([build(b, *(b.input(tensor(s, f32)) for s in shapes))])


def mlp(b: GraphBuilder, x: Value) -> Value:
    w, c = b.param(tensor((40, 19), f32)), b.param(tensor((40,), f32))
    return ops.linear(b, ops.relu(b, ops.linear(b, x, w, c)), b.param(tensor((24, 40), f32)))


def gelu_norm(b: GraphBuilder, x: Value) -> Value:
    w, c = b.param(tensor((48,), f32)), b.param(tensor((48,), f32))
    return ops.gelu(b, ops.layer_norm(b, x, w, c, axes=1, eps=1e-5))


def conv(b: GraphBuilder, x: Value) -> Value:
    w, c = b.param(tensor((8, 3, 3, 3), f32)), b.param(tensor((8,), f32))
    return ops.relu(b, ops.conv(b, x, w, c, stride=2, padding=1))


def depthwise(b: GraphBuilder, x: Value) -> Value:
    return ops.conv(b, x, b.param(tensor((6, 1, 3, 3), f32)), None, padding=1, groups=6)


def transposed(b: GraphBuilder, x: Value) -> Value:
    w = b.param(tensor((3, 4, 3, 3), f32))
    return ops.conv(b, x, w, None, stride=2, padding=1, transposed=True)


def positions(b: GraphBuilder, x: Value, size: int) -> Value:
    """An index below `size` from each value of `x`."""
    scaled = ops.mod(
        b, ops.mul(b, x, ops.full(b, (), 10.0, f32)), ops.full(b, (), float(size), f32)
    )
    return ops.cast(b, ops.floor(b, scaled), i64)


def embedding(b: GraphBuilder, x: Value) -> Value:
    return ops.take(b, b.param(tensor((11, 6), f32)), positions(b, x, 11), axis=0)


def scatter(b: GraphBuilder, x: Value, y: Value) -> Value:
    return ops.scatter(b, x, 0, positions(b, y, 9), y, reduce="sum")


def argsort(b: GraphBuilder, x: Value) -> Value:
    return ops.cast(b, ops.argsort(b, x, axis=1), f32)


def pairs(b: GraphBuilder, x: Value, y: Value) -> Value:
    """By the integers in x, and of equal ones the greatest y first."""
    whole = ops.floor(b, ops.mul(b, x, ops.full(b, (), 2.0, f32)))
    x1, y1, x2, y2 = (arg(i, f32) for i in range(4))
    order = either(lt(x1, x2), both(eq(x1, x2), lt(y2, y1)))
    return ops.sub(b, *ops.sort_together(b, (whole, y), 1, order))


def attention(b: GraphBuilder, q: Value, k: Value, v: Value) -> Value:
    return ops.attention(b, q, k, v, scale=0.25, causal=True)


GRAPHS = {
    "broadcast": graph_of(lambda b, x, y: ops.exp(b, ops.add(b, x, y)), (N, 7), (7,)),
    "softmax": graph_of(lambda b, x: ops.softmax(b, x, axis=-1), (N, M)),
    "softmax of columns": graph_of(lambda b, x: ops.softmax(b, x, axis=0), (9, 33)),
    "sum of columns": graph_of(lambda b, x: ops.reduce_sum(b, x, axes=(0,)), (N, 33)),
    "sum of all": graph_of(lambda b, x: ops.reduce_sum(b, x, axes=None), (N, M)),
    "argmax": graph_of(lambda b, x: ops.argmax(b, x, axis=1), (N, 33)),
    "cumsum": graph_of(lambda b, x: ops.cumsum(b, x, axis=1, reverse=True), (N, 12)),
    "sort": graph_of(lambda b, x: ops.sort_values(b, x, axis=0, descending=True), (N, M)),
    "argsort": graph_of(argsort, (N, 12)),
    "top": graph_of(lambda b, x: ops.top_k(b, ops.exp(b, x), 3)[0], (N, 33)),
    "long sort": graph_of(lambda b, x: ops.sort_values(b, x, axis=1), (N, 140)),
    "long top": graph_of(lambda b, x: ops.top_k(b, ops.exp(b, x), 3)[0], (N, 150)),
    "pairs in order": graph_of(pairs, (N, M), (N, M)),
    "norm": graph_of(gelu_norm, (N, 48)),
    "matmul": graph_of(lambda b, x, y: ops.matmul(b, x, y), (15, 9), (9, 37)),
    "batched matmul": graph_of(lambda b, x, y: ops.matmul(b, x, y), (3, N, 9), (3, 9, 20)),
    "mlp": graph_of(mlp, (N, 19)),
    "transpose": graph_of(lambda b, x: ops.exp(b, ops.transpose(b, x, perm=(1, 0))), (N, 33)),
    "concat": graph_of(lambda b, x, y: ops.concat(b, [x, y], axis=1), (N, 3), (N, 9)),
    "pad": graph_of(lambda b, x: ops.pad(b, x, (1, 0), (0, 3), mode="reflect"), (N, 9)),
    "convolution": graph_of(conv, (1, 3, 9, 9)),
    "depthwise convolution": graph_of(depthwise, (2, 6, 5, 7)),
    "transposed convolution": graph_of(transposed, (1, 3, 4, 5)),
    "pool": graph_of(lambda b, x: ops.max_pool(b, x, 3, stride=2, padding=1), (1, 3, 9, 9)),
    "embedding": graph_of(embedding, (N, 4)),
    "scatter": graph_of(scatter, (9, 3), (7, 3)),
    "attention": graph_of(attention, (2, 7, 16), (2, 7, 16), (2, 7, 16)),
}  # fmt: skip


OPTIONS = Options(named("avx2"))


def arrays_of(graph: Graph) -> tuple[list[Array], list[Array]]:
    """Random inputs and params, for n = 5 and m = 21."""
    rng = np.random.default_rng(0)
    sizes = {"n": 5, "m": 21}

    def one(v: Value) -> Array:
        shape = [s.value if s.is_const else sizes[s.name] for s in v.shape]
        return rng.standard_normal(shape).astype(np.float32)

    return [one(v) for v in graph.inputs], [one(v) for v in graph.params]


def sound(level: Level) -> None:
    """That `level` verifies and reads back from its text."""
    verify(level)
    assert parse(to_text(level)) == level


def close(found: list[Array], expected: list[Array]) -> None:
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_systems_mean_what_their_graph_means(name: str) -> None:
    graph = GRAPHS[name]
    inputs, params = arrays_of(graph)
    expected = run_graph(graph, [*inputs, *params])
    sound(graph)
    system = equations(graph)
    for level in (system, assign_layouts(system)):
        sound(level)
        close(run_system(level, [*inputs, *params]), expected)


@pytest.mark.parametrize("name", GRAPHS)
def test_kernels_and_code_with_calls_mean_what_their_graph_means(name: str) -> None:
    graph = GRAPHS[name]
    inputs, params = arrays_of(graph)
    expected = run_graph(graph, [*inputs, *params])
    levels = run(graph, steps("graph", "functions", OPTIONS), OPTIONS).levels
    for level in ("kernels", "scheduled", "functions"):
        sound(levels[level])
    for kernel in levels["kernels"].kernels:
        sound(kernel)
        sound(lower_kernel(replace(kernel, schedule=None)))
    close(run_kernels(levels["kernels"], inputs, params), expected)
    close(run_scheduled(levels["scheduled"], inputs, params), expected)
    close(run_functions(levels["functions"], inputs, params), expected)


@pytest.mark.parametrize("target", ["generic", "avx2", "avx512"])
@pytest.mark.parametrize("name", GRAPHS)
def test_programs_mean_what_their_graph_means(name: str, target: str) -> None:
    graph = GRAPHS[name]
    inputs, params = arrays_of(graph)
    program = program_of(graph, named(target))
    sound(program)
    close(run_program(program, inputs, params), run_graph(graph, [*inputs, *params]))


@pytest.mark.parametrize("order", ["$1 < $0", "cast<i32>($1 * 4.0) < cast<i32>($0 * 4.0)"])
@pytest.mark.parametrize("n", [0, 5, 90])
def test_a_guarded_sort_in_place_lowers_to_what_it_means(n: int, order: str) -> None:
    system = parse_system(f"""
        system s {{
          dim n
          input x: f32[3, n]
          output y: f32[3, n]
          z: [i: 3, j: n] y[i, j] = x[i, j]
          y: [i: 3] y[i, t] = sorted [t: n] (y[i, t]) by {order}
             when t < n - 1 & t != 1 & i < 2 update
        }}
    """)
    x = np.random.default_rng(0).standard_normal((3, n)).astype(np.float32)
    y = np.zeros_like(x)
    for stage in system.stages:
        function = lower_kernel(Kernel("k", (), (stage,)))
        sound(function)
        run_function(function, {"x": x, "y": y}, {"n": n})
    np.testing.assert_array_equal(y, run_system(system, [x])[0])


@pytest.mark.parametrize("clauses", ["", "exclusive", "reverse", "exclusive reverse"])
def test_a_guarded_scan_lowers_to_what_it_means(clauses: str) -> None:
    system = parse_system(f"""
        system s {{
          dim n
          input x: f32[3, n]
          output y: f32[3, n]
          z: [i: 3, j: n] y[i, j] = 0.0
          y: [i: 3] y[i, t] = scan sum:f32 [t: n] (x[i, t]) init (2.0) {clauses}
             where t != 1 when t < n - 1 & i < 2 update
        }}
    """)
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    y = np.zeros_like(x)
    for stage in system.stages:
        function = lower_kernel(Kernel("k", (), (stage,)))
        verify(function)
        run_function(function, {"x": x, "y": y}, {"n": 5})
    np.testing.assert_array_equal(y, run_system(system, [x])[0])


def test_a_branch_runs_where_its_condition_holds_at_each_level() -> None:
    x, i = Buf("x", (const(4),), f32), axis("i", 4)
    fill = Stage("x", (Access(x, (i,)),), Compute((), (fconst(1.0),)))
    kernel = Kernel("k", (i,), (Branch(lt(i, dim("n")), (fill,)),))
    function = lower_kernel(kernel)
    (branch,) = function.body
    assert isinstance(branch, If)
    assert branch.cond is lt(i, dim("n"))
    for level, run_level in ((kernel, run_kernel), (function, run_function)):
        verify(level)
        found = {"x": np.zeros(4, np.float32)}
        run_level(level, found, {"n": 3})
        assert found["x"].tolist() == [1, 1, 1, 0]
