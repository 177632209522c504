"""Products of bytes: in words where that fits, and the same integers whichever way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.base.dtype import i8, i32, u8
from ferrule.ir.calls import Scheduled
from ferrule.ir.expr import walk
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.ir.interp import run_scheduled
from ferrule.ir.kernel import Kernel, stages
from ferrule.pipeline.compile import compile_graph
from ferrule.pipeline.passes import options_for, steps
from ferrule.pipeline.run import lowered, run
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import Target, least

Array = np.ndarray[Any, Any]

PLAIN = least("avx2")
DOTS = PLAIN.having("avxvnni")
TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
SIZES = st.integers(1, 70)


def product(
    rows: int, terms: int, columns: int, turned: bool = False, signed: bool = False,
    constant: bool = True,
) -> Graph:  # fmt: skip
    """x @ w of bytes, x perhaps lying transposed or signed too, w perhaps an input."""
    b = GraphBuilder("product")
    x = b.input(tensor((terms, rows) if turned else (rows, terms), i8 if signed else u8))
    w = (b.param if constant else b.input)(tensor((terms, columns), i8))
    x = ops.transpose(b, x, (1, 0)) if turned else x
    return b.build([ops.matmul(b, ops.cast(b, x, i32), ops.cast(b, w, i32))])


def scheduled(graph: Graph, target: Target = DOTS) -> tuple[Kernel, ...]:
    """The kernels of a graph whose products no pass on graphs has rewritten."""
    given = options_for(target)
    kept = [p for p in steps("graph", "scheduled", given) if p.name != "byte_products"]
    level: Scheduled = run(graph, kept, given).program
    return level.kernels


def in_words(graph: Graph, target: Target = DOTS) -> bool:
    """Whether a kernel of the graph takes dot products of bytes."""
    found = (e for k in scheduled(graph, target) for s in stages(k.body) for e in s.exprs())
    return any(node.op == "dot4" for e in found for node in walk(e))


def called(graph: Graph, x: Array, w: Array) -> Array:
    """The graph's one result, for its one input and one parameter."""
    executable = compile_graph(graph).executable
    executable.bind([(w.ctypes.data, w)])
    (y,) = NumpyCallable(executable)(x)
    return y


def test_unsigned_by_signed_bytes_side_by_side_go_in_words() -> None:
    assert in_words(product(6, 32, 48))


def test_bytes_far_apart_go_in_words_of_four_loads() -> None:
    assert in_words(product(6, 32, 48, turned=True))


def test_a_row_is_not_worth_packing_the_other_factor_anew() -> None:
    assert in_words(product(1, 32, 48))
    assert not in_words(product(1, 32, 48, constant=False))
    assert in_words(product(8, 32, 48, constant=False))


@pytest.mark.parametrize("graph", [
    product(6, 30, 48), product(6, 32, 48, signed=True),
], ids=["not in fours", "both signed"])  # fmt: skip
def test_what_does_not_fit_stays_as_it_is(graph: Graph) -> None:
    assert not in_words(graph)


def test_without_the_instruction_products_stay_as_they_are() -> None:
    assert not in_words(product(6, 32, 48), PLAIN)


def test_the_scheduled_kernels_mean_the_product() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 256, (7, 12), np.uint8), rng.integers(-128, 128, (12, 20), np.int8)
    level = lowered(product(7, 12, 20), "scheduled", options_for(DOTS))
    assert (len(level.prepare), len(level.main)) == (1, 1)
    (found,) = run_scheduled(level, [x], [w])
    np.testing.assert_array_equal(found, x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=8, deadline=None)
@given(rows=SIZES, fours=st.integers(1, 20), columns=SIZES, turned=st.booleans(),
       seed=st.integers(0, 99))  # fmt: skip
def test_products_of_bytes_are_exact(
    target: str, rows: int, fours: int, columns: int, turned: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (rows, 4 * fours), np.uint8)
    w = rng.integers(-128, 128, (4 * fours, columns), np.int8)
    given_x = np.ascontiguousarray(x.T) if turned else x
    with config.override(target=target):
        y = called(product(rows, 4 * fours, columns, turned), given_x, w)
    np.testing.assert_array_equal(y, x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("channels", "results", "stride", "padding"), [
    (4, 16, 1, 1), (12, 33, 2, 1), (32, 24, 1, 0), (8, 9, 3, 2),
])  # fmt: skip
def test_convolutions_of_bytes_are_exact(
    target: str, channels: int, results: int, stride: int, padding: int
) -> None:
    rng = np.random.default_rng(channels)
    b = GraphBuilder("convolution")
    x, w = b.input(tensor((2, channels, 9, 11), u8)), b.param(tensor((results, channels, 3, 3), i8))
    # channels-last, as what a convolution makes lies
    image = ops.transpose(b, ops.add(b, ops.transpose(b, x, (0, 2, 3, 1)), 1), (0, 3, 1, 2))
    y = ops.conv(b, ops.cast(b, image, i32), ops.cast(b, w, i32), stride=stride, padding=padding)
    graph = b.build([y])
    assert in_words(graph)
    pixels = rng.integers(0, 255, (2, channels, 9, 11), np.uint8)
    weights = rng.integers(-128, 128, (results, channels, 3, 3), np.int8)
    with config.override(target=target):
        found = called(graph, pixels, weights)
    padded = np.pad(pixels.astype(np.int32) + 1, [(0, 0)] * 2 + [(padding, padding)] * 2)
    rows, columns = found.shape[2:]
    expected = np.zeros(found.shape, np.int32)
    for i, j in np.ndindex(3, 3):
        part = padded[:, :, i::stride, j::stride][:, :, :rows, :columns]
        expected += np.einsum("ncij,oc->noij", part, weights[:, :, i, j].astype(np.int32))
    np.testing.assert_array_equal(found, expected)
