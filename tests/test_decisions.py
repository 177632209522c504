"""Decisions say what the chosen is expected to take, and explain says what they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import LIKELY_DIM, estimate
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.pipeline.explain import explain
from ferrule.pipeline.passes import options_for, steps
from ferrule.pipeline.run import Outcome, run
from ferrule.target.cpu import Target
from ferrule.target.machine import CPU
from tests.cpus import server
from tests.systems import linear

TARGET = server("avx2")


def compiled(source: Any, target: Target = TARGET, begin: str = "system") -> Outcome:
    options = options_for(target)
    return run(source, steps(begin, "program", options), options)


def of_kind(decisions: Iterable[Decision], kind: str) -> list[Decision]:
    return [d for d in decisions if d.kind == kind]


def graph(make: Any, *shapes: tuple[Any, ...]) -> Graph:
    b = GraphBuilder("graph")
    made = make(b, *(b.input(tensor(s, f32)) for s in shapes))
    return b.build([made] if isinstance(made, Value) else list(made))


def test_a_schedule_has_bytes_flops_and_time() -> None:
    outcome = compiled(linear(64, 32, 48))
    (d,) = of_kind(outcome.decisions, "schedule")
    assert d.bytes == 4 * (64 * 48 + 32 * 48 + 32 + 64 * 32)
    assert d.flops == 64 * 32 * (2 * 48 + 2)  # products and sums; bias and relu
    (call,) = (c for c in outcome.levels["scheduled"].main if not c.note.startswith("pack"))
    assert d.ns == estimate(call.cost) > 0


def test_time_is_that_of_the_machine() -> None:
    slow = replace(TARGET, machine=replace(CPU, flop_ps=CPU.flop_ps + 1000))
    (d,), (slower,) = (
        of_kind(compiled(linear(64, 32, 480), t).decisions, "schedule") for t in (TARGET, slow)
    )
    assert slower.flops == d.flops
    assert abs(slower.ns - d.ns - d.flops) <= 1


def test_a_size_that_is_not_known_counts_as_a_likely_one() -> None:
    (d,), (known,) = (
        of_kind(compiled(linear(m, 32, 48)).decisions, "schedule") for m in (dim("n"), LIKELY_DIM)
    )
    assert (d.bytes, d.flops, d.ns) == (known.bytes, known.flops, known.ns)


def test_a_schedule_that_was_given_has_them_too() -> None:
    level = compiled(linear(64, 32, 48)).levels["kernels"]
    (given,) = of_kind(compiled(level, begin="kernels").decisions, "schedule")
    assert given.flops == 64 * 32 * (2 * 48 + 2)


def test_kernels_that_stay_apart_pass_bytes_on() -> None:
    def make(b: GraphBuilder, x: Value) -> Value:
        y = ops.exp(b, ops.softmax(b, x, axis=1))
        return ops.reduce_sum(b, ops.mul(b, y, y), (0,))

    outcome = compiled(graph(make, (512, 256)), begin="graph")
    (d,) = of_kind(outcome.decisions, "group")[-1:]
    assert d.bytes == 2 * 4 * (512 * 256 + 512)  # exponentials, and their sums
    assert d.ns == d.bytes * CPU.byte_ps // 1000
    assert d.flops is None


def test_what_is_written_once_passes_nothing_on_each_call() -> None:
    b = GraphBuilder("scaled")
    w, x = b.param(tensor((8, 24), f32)), b.input(tensor((8, 24), f32))
    outcome = compiled(b.build([ops.add(b, ops.softmax(b, w, axis=1), x)]), begin="graph")
    (d,) = of_kind(outcome.decisions, "group")
    assert d.reason == "one depends on parameters alone"
    assert (d.bytes, d.flops, d.ns) == (None, None, None)


def test_a_split_reduction_counts_its_parts() -> None:
    outcome = compiled(graph(lambda b, x: ops.reduce_sum(b, x, (0,)), (1 << 18,)), begin="graph")
    (d,) = of_kind(outcome.decisions, "split")
    assert d.flops == (1 << 18) + CPU.parts
    assert d.bytes == 4 * ((1 << 18) + CPU.parts + 1)
    assert d.ns > 0


def test_what_weighs_nothing_has_no_numbers() -> None:
    def make(b: GraphBuilder, x: Value) -> Value:
        return ops.mul(b, ops.exp(b, x), x)

    outcome = compiled(graph(make, (4, 8)), begin="graph")
    (d,) = of_kind(outcome.decisions, "inline")
    assert (d.bytes, d.flops, d.ns) == (None, None, None)


def test_numbers_are_ints_that_json_keeps() -> None:
    for d in compiled(linear(dim("n"), 32, 48)).decisions:
        assert all(type(n) in (int, type(None)) for n in (d.bytes, d.flops, d.ns))
        assert Decision(**asdict(d)) == d


def test_explain_reads_them() -> None:
    outcome = compiled(linear(64, 32, 48))
    assert "201 kflop" in explain(outcome)[0]
    changed = [replace(d, flops=7, bytes=11) for d in outcome.decisions]
    assert "7 flop, 11 B of" in explain(replace(outcome, decisions=tuple(changed)))[0]


def test_explain_keeps_expressions() -> None:
    assert "n * 3136 flop" in explain(compiled(linear(dim("n"), 32, 48)))[0]


@pytest.mark.parametrize("target", ["avx2", "generic"])
def test_each_kernel_of_a_loop_is_told_its_own(target: str) -> None:
    """Parts of a module, and what runs once, are told in the order in which they were decided."""

    def body(b: GraphBuilder, old: tuple[Value, ...], row: tuple[Value, ...]) -> Any:
        return (ops.add(b, ops.exp(b, old[0]), row[0]),), ()

    b = GraphBuilder("looped")
    x, rows = b.input(tensor((24,), f32)), b.input(tensor((5, 24), f32))
    w = b.param(tensor((7, 24), f32))
    (y,) = ops.loop(b, body, 5, (ops.tanh(b, x),), (rows,))
    z = ops.add(b, ops.softmax(b, ops.exp(b, w), axis=1), x)
    outcome = compiled(b.build([ops.exp(b, y), z]), server(target), begin="graph")
    heads = [line for line in explain(outcome) if line.lstrip().startswith("kernel ")]
    schedules = of_kind(outcome.decisions, "schedule")
    names = [head.split()[1].rstrip(":") for head in heads]
    assert names == [d.subject for d in schedules]
    assert len(set(heads)) == len(heads) > 2
