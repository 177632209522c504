"""Trees that rows walk down: against their meaning, and the walk as one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(4)
ROOTS = np.array([0, 3, 9])
FEATURES = RNG.integers(0, 4, 16).astype(np.int32)
THRESHOLDS = RNG.standard_normal(16).astype(np.float32)
CHILDREN = RNG.integers(0, 16, (16, 2)).astype(np.int32)
MISSING = RNG.random(16) < 0.5
ROWS = np.where(RNG.random((7, 4)) < 0.1, np.nan, RNG.standard_normal((7, 4))).astype(np.float32)


def walked(x: Array, levels: int, missing: Array | None) -> Array:
    """The same, one row and one step at a time."""
    out = np.empty((len(x), len(ROOTS)), np.int64)
    for place in np.ndindex(*out.shape):
        node = ROOTS[place[1]]
        for _ in range(levels):
            value = x[place[0], FEATURES[node]]
            lost = missing is not None and np.isnan(value) and missing[node]
            node = CHILDREN[node, 0 if value <= THRESHOLDS[node] or lost else 1]
        out[place] = node
    return out


@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("missing", [None, MISSING])
def test_descend(check: Callable[..., Any], levels: int, missing: Array | None) -> None:
    def build(b: GraphBuilder, *given: Value) -> Value:
        return ops.descend(b, *given[:5], levels, *given[5:])

    tables = [ROOTS, FEATURES, THRESHOLDS, CHILDREN, *([] if missing is None else [missing])]
    (found,) = check(build, ROWS, *tables, symbolic=False)
    np.testing.assert_array_equal(found, walked(ROWS, levels, missing))


def test_descend_stays_in_tables_whatever_they_hold(check: Callable[..., Any]) -> None:
    features, children = FEATURES * 1000, CHILDREN * -12345
    check(lambda b, *given: ops.descend(b, *given, 4), ROWS, ROOTS - 5, features, THRESHOLDS,
          children, symbolic=False)  # fmt: skip


@pytest.mark.parametrize("levels", [3, 40, 41])  # the second of two that are alike, too
def test_a_walk_is_one_kernel_however_deep(levels: int) -> None:
    b = GraphBuilder("walk")
    x = b.input(tensor((dim("n", lo=1), 4), f32), "x")
    tables = [b.input(tensor(shape, dtype)) for shape, dtype in
              (((3,), i64), ((16,), i32), ((16,), f32), ((16, 2), i32))]  # fmt: skip
    weights = b.input(tensor((16,), f32))
    nodes = ops.descend(b, x, *tables, levels)
    graph = b.build([ops.reduce_sum(b, ops.take(b, weights, nodes), (1,))])
    compiled = compile_graph(graph)
    arrays = [ROWS, ROOTS, FEATURES, THRESHOLDS, CHILDREN, THRESHOLDS]
    (found,) = NumpyCallable(compiled.executable)(*arrays)
    assert compiled.kernels == 1
    np.testing.assert_allclose(found, run_graph(graph, arrays)[0], rtol=1e-6)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_descend_refuses_tables_that_do_not_fit(at: int) -> None:
    shapes = [((7, 4), f32), ((3,), i64), ((16,), i32), ((16,), f32), ((16, 2), i32)]
    shapes[at] = ((*shapes[at][0][:-1], 3), f32 if at != 3 else i32)
    b = GraphBuilder()
    given = [b.input(tensor(*shape)) for shape in shapes]
    with pytest.raises(CompileError, match="descend takes"):
        ops.descend(b, *given, 2)
