"""Convolutions joined by blocks of rows: what they mean, where they are, and where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base.cpu import supports
from ferrule.base.dtype import f32
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.kernel import OVERLAPPED, stages
from ferrule.ir.text import parse, to_text
from ferrule.ir.verify import verify
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.pipeline.passes import options_for, steps
from ferrule.pipeline.run import Outcome, run
from ferrule.runtime.arrays import NumpyCallable
from ferrule.runtime.cpu import load
from ferrule.target.cpu import Target, named
from ferrule.target.machine import CPU
from tests.long import LONG

TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]


EAGER = {"cached_byte_ps": 1_000_000, "overlap_points": 1}  # what may be joined is, at any cost


def small(name: str = "generic", **costs: int) -> Target:
    """A target whose L2 holds next to nothing, with these costs, else eager ones."""
    return replace(named(name), l2=8 << 10, machine=replace(CPU, **(EAGER | costs)))


class Network:
    """Layers over an image [batch, channels, height, width], one called after another."""

    def __init__(self, channels: int, height: Any, width: int, batch: int = 1):
        self.b = GraphBuilder("network")
        self.image = self.b.input(tensor((batch, channels, height, width), f32))
        self.outputs: list[Value] = []

    def layer(
        self, out: int, size: int = 1, stride: int = 1, dilation: int = 1,
        padding: int | None = None, groups: int = 1,
    ) -> Network:  # fmt: skip
        channels = self.image.shape[1].value // groups
        w = self.b.param(tensor((out, channels, size, size), f32))
        c = self.b.param(tensor((out,), f32))
        around = dilation * (size // 2) if padding is None else padding
        y = ops.conv(self.b, self.image, w, c, stride, around, dilation, groups)
        self.image = ops.relu6(self.b, y)
        return self

    def depthwise(self, size: int = 3, **how: int) -> Network:
        channels = self.image.shape[1].value
        return self.layer(channels, size, groups=channels, **how)

    def add(self, other: Value) -> Network:
        self.image = ops.add(self.b, self.image, other)
        return self

    def keep(self) -> Network:
        self.outputs.append(self.image)
        return self

    def graph(self) -> Graph:
        return self.b.build([*self.outputs, self.image])


def arrays_of(graph: Graph) -> tuple[list[Any], list[Any]]:
    """Random inputs and params; weights such that results are as large as inputs."""
    rng = np.random.default_rng(0)

    def one(v: Value) -> Any:
        shape = [s.value for s in v.shape]
        terms = np.prod(shape[1:]) if v in graph.params else 1
        return (rng.standard_normal(shape) / np.sqrt(terms)).astype(np.float32)

    return [one(v) for v in graph.inputs], [one(v) for v in graph.params]


def kernels(graph: Graph, target: Target, level: str = "kernels") -> Outcome:
    options = options_for(target)
    return run(graph, steps("graph", level, options), options)


def cascades(graph: Graph, target: Target) -> list[int]:
    """How many convolutions each cascade of the program has."""
    found = [k for k in kernels(graph, target).program.main if k.schedule == OVERLAPPED]
    return [sum(s.is_reduction for s in stages(k.body)) for k in found]


NETWORKS = {
    "expand, depthwise, project": Network(4, 24, 6).layer(12).depthwise().layer(8),
    "stride": Network(4, 48, 6).layer(12).depthwise(stride=2),
    "windows over windows": Network(3, 24, 7).layer(8, 3).layer(8, 3).layer(8, 3),
    "batch": Network(4, 24, 6, batch=3).layer(12).depthwise().layer(8),
    "dilation": Network(4, 36, 8).layer(9).depthwise(dilation=3),
    "no padding": Network(4, 26, 7).layer(9).depthwise(padding=0),
    "much padding": Network(4, 24, 6).layer(12).layer(8, 3, padding=3),
    "large window": Network(4, 30, 6).layer(12).depthwise(7),
    "channels of no whole vector": Network(5, 24, 7).layer(11).depthwise().layer(7),
    "first layers": Network(3, 48, 12).layer(8, 3, stride=2).depthwise().layer(8),
}


SLOW = {"windows over windows", "much padding", "batch", "first layers", "large window"}
INTERPRETED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS
]


@pytest.mark.parametrize("name", INTERPRETED)
def test_a_cascade_is_sound_and_means_what_its_graph_means(name: str) -> None:
    graph, target = NETWORKS[name].graph(), small()
    inputs, params = arrays_of(graph)
    assert cascades(graph, target)
    for level in kernels(graph, target, "functions").levels.values():
        verify(level)
        assert parse(to_text(level)) == level
    expected = run_graph(graph, [*inputs, *params])
    found = run_program(program_of(graph, target), inputs, params)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def native(graph: Graph, target: Target, key: str) -> list[Any]:
    """What the compiled program gives for the arrays of the graph."""
    inputs, params = arrays_of(graph)
    executable = load(compile_program(program_of(graph, target), key, target))
    held = [np.ascontiguousarray(p) for p in params]
    executable.bind([(p.ctypes.data, p) for p in held])
    return list(NumpyCallable(executable)(*inputs))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_its_machine_code_too(name: str, target: str) -> None:
    graph = NETWORKS[name].graph()
    inputs, params = arrays_of(graph)
    expected = run_graph(graph, [*inputs, *params])
    for x, y in zip(native(graph, small(target), f"cascade_{target}"), expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


@settings(max_examples=8 * LONG, deadline=None)
@given(st.data())
def test_chains_of_any_layers(data: st.DataObject) -> None:
    n = Network(
        data.draw(st.integers(1, 9)), data.draw(st.integers(12, 50)), data.draw(st.integers(3, 20)),
        data.draw(st.sampled_from([1, 1, 2])),
    )  # fmt: skip
    for _ in range(data.draw(st.integers(2, 4))):
        height, width = (n.image.shape[d].value for d in (2, 3))
        size = data.draw(st.integers(1, 5))
        dilation, stride = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
        padding = data.draw(st.integers(0, 3))
        reach = dilation * (size - 1) + 1
        if min(height, width) + 2 * padding < reach:
            continue
        if data.draw(st.booleans()):
            n.depthwise(size, stride=stride, dilation=dilation, padding=padding)
        else:
            n.layer(data.draw(st.integers(8, 33)), size, stride, dilation, padding)
    graph = n.graph()
    inputs, params = arrays_of(graph)
    expected = run_graph(graph, [*inputs, *params])
    target = replace(small(TARGETS[0]), l2=data.draw(st.sampled_from([4, 8, 32])) << 10)
    for x, y in zip(native(graph, target, "cascade_any"), expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


def test_a_residual_block_is_one_kernel() -> None:
    n = Network(4, 24, 6).layer(8).keep()
    graph = n.layer(12).depthwise().layer(8).add(n.outputs[0]).graph()
    assert cascades(graph, small()) == [3]


def _branches(n: Network) -> Network:
    """Two convolutions of one image."""
    image = n.image
    n.depthwise().keep()
    n.image = image
    return n.depthwise(5)


def test_what_is_not_joined() -> None:
    large = replace(small(), l2=named("generic").l2)
    apart = {
        "small images stay in cache": (Network(4, 24, 6).layer(12).depthwise(), large),
        "a result of the program": (Network(4, 24, 6).layer(12).keep().depthwise(), small()),
        "too few rows for blocks": (Network(4, 6, 40).layer(12).depthwise(), small()),
        "sizes that are symbols": (Network(4, dim("h"), 6).layer(12).depthwise(), small()),
        "large weights": (Network(64, 24, 6).layer(256).layer(64), small()),
        "two readers": (_branches(Network(4, 24, 6).layer(12)), small()),
    }
    for why, (network, target) in apart.items():
        assert not cascades(network.graph(), target), why


def test_weights_that_are_given_on_each_call() -> None:
    """They would be packed, or the image would, before the kernel runs that makes it."""
    b = GraphBuilder("given")
    x = b.input(tensor((1, 4, 24, 6), f32))
    w = b.input(tensor((8, 16, 3, 3), f32))
    y = ops.relu(b, ops.conv(b, x, b.param(tensor((16, 4, 1, 1), f32))))
    graph = b.build([ops.conv(b, y, w, padding=1)])
    assert not cascades(graph, small())
    inputs, params = arrays_of(graph)
    (expected,) = run_graph(graph, [*inputs, *params])
    (found,) = native(graph, small(TARGETS[0]), "cascade_given")
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_blocks_of_matrices_have_many_rows() -> None:
    b = GraphBuilder("matrices")
    y = b.input(tensor((1, 2400, 8), f32))
    for n in (32, 1):
        w = b.param(tensor((n, y.shape[-1].value), f32))
        y = ops.relu(b, ops.linear(b, y, w))
    graph, target = b.build([y]), replace(small(overlap_points=64), l2=64 << 10)
    outcome = kernels(graph, target)
    (decision,) = (d for d in outcome.decisions if d.kind == "overlap")
    rows = int(decision.chosen.split(" blocks of ")[1].split()[0])
    assert 64 <= rows <= target.l2 // 2 // (32 * 4)
    inputs, params = arrays_of(graph)
    (expected,) = run_graph(graph, [*inputs, *params])
    (found,) = native(graph, target, "cascade_matrices")
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_rows_are_not_computed_again_at_any_cost() -> None:
    graph = NETWORKS["windows over windows"].graph()
    assert cascades(graph, small()) == [3]
    assert not cascades(graph, small(cached_byte_ps=40))


def test_explain_tells_what_was_joined() -> None:
    outcome = kernels(NETWORKS["stride"].graph(), small())
    (decision,) = (d for d in outcome.decisions if d.kind == "overlap")
    assert "by blocks of 2 rows" in decision.chosen


def test_the_decision_counts_rows_that_are_computed_twice() -> None:
    graph = NETWORKS["windows over windows"].graph()
    joined = kernels(graph, small()).decisions
    apart = kernels(graph, replace(small(), l2=64 << 20)).decisions
    (decision,) = (d for d in joined if d.kind == "overlap")
    (whole,) = (d for d in joined if d.kind == "schedule" and d.chosen == "overlapped")
    assert (decision.bytes, decision.flops, decision.ns) == (whole.bytes, whole.flops, whole.ns)
    single = [d for d in apart if d.kind == "schedule"]
    assert decision.flops > sum(d.flops for d in single)
    assert decision.bytes < sum(d.bytes for d in single)
