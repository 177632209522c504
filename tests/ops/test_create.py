"""Operators without operands against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base.dtype import boolean, f16, f32, i32, i64, u8
from ferrule.base.errors import CompileError
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ir.interp import run_graph, run_system
from ferrule.lower.equations import equations

Check = Callable[..., list[np.ndarray[Any, Any]]]


@pytest.mark.parametrize(
    ("value", "dtype"), [(2.5, f32), (3, f32), (-1, i64), (True, boolean), (1, boolean), (0.1, f16)]
)
def test_full_has_one_value(value: Any, dtype: Any, check: Check) -> None:
    (out,) = check(lambda b: ops.full(b, (2, 3), value, dtype))
    np.testing.assert_array_equal(out, np.full((2, 3), value, dtype.numpy))


def test_zeros_of_both_signs_are_different_constants() -> None:
    b = GraphBuilder()
    assert ops.full(b, (), 0.0, f32) is not ops.full(b, (), -0.0, f32)
    assert ops.full(b, (), 0.0, f32) is ops.full(b, (), 0.0, f32)


def test_sizes_are_values() -> None:
    n = dim("n")
    b = GraphBuilder()
    x = b.input(tensor([n, 2], f32))
    size = ops.scalar(b, n * 2)
    steps = ops.arange(b, n, -1, n, f32)
    table = ops.full(b, (n,), n, i32)
    graph = b.build((x, size, steps, table))
    for run in (run_graph(graph, [np.zeros((3, 2), np.float32)]),
                run_system(equations(graph), [np.zeros((3, 2), np.float32)])):  # fmt: skip
        assert run[1] == 6
        np.testing.assert_array_equal(run[2], [3, 2, 1])
        np.testing.assert_array_equal(run[3], [3, 3, 3])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_iota_counts_along_its_axis(axis: int, check: Check) -> None:
    (out,) = check(lambda b: ops.iota(b, (2, 3), axis, f32))
    np.testing.assert_array_equal(out, np.indices((2, 3))[axis])


@pytest.mark.parametrize(
    ("start", "step", "length", "dtype"), [(0, 1, 5, i64), (5, -2, 3, i32), (0.1, 0.1, 20, f32)]
)
def test_arange(start: Any, step: Any, length: int, dtype: Any, check: Check) -> None:
    (out,) = check(lambda b: ops.arange(b, start, step, length, dtype))
    np.testing.assert_array_equal(out, (start + step * np.arange(length)).astype(dtype.numpy))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=3), st.integers(0, 1000))
def test_constants_hold_their_literal(shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    b = GraphBuilder()
    graph = b.build((ops.constant(b, array),))
    for (out,) in (run_graph(graph, []), run_system(equations(graph), [])):
        np.testing.assert_array_equal(out, array)
        assert out.dtype == np.uint8


def test_constants_of_python_numbers_are_f32_or_i64() -> None:
    b = GraphBuilder()
    assert ops.constant(b, ((1, 2), (3, 4))).type == tensor([2, 2], i64)
    assert ops.constant(b, [0.5, 1]).type == tensor([2], f32)
    assert ops.constant(b, [1, 2], u8).type == tensor([2], u8)
    with pytest.raises(CompileError, match="at most 64 elements"):
        ops.constant(b, np.zeros(65))
