"""Copies across two axes: squares of registers, their edges, and what is no such copy."""

from __future__ import annotations

import numpy as np
import pytest

import ferrule
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.ir.expr import Expr
from ferrule.ir.kernel import stages
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import named
from tests.systems import System, buf, pointwise

TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
SHAPES = [(37, 100), (3, 17, 33), (129, 8), (2, 3, 70, 20), (0, 12)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bool"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transposed_copies(target, dtype, shape):
    x = (np.random.default_rng(0).standard_normal(shape) * 50).astype(dtype)
    with config.override(target=target):
        got = ferrule.jit(lambda x: np.swapaxes(x, -1, -2).copy())(x)
    np.testing.assert_array_equal(np.asarray(got), np.swapaxes(x, -1, -2))


def test_a_value_on_the_way_is_computed_where_the_source_lies():
    rng = np.random.default_rng(1)
    x, b = rng.standard_normal((50, 70), np.float32), rng.standard_normal(70, np.float32)
    got = np.asarray(ferrule.jit(lambda x, b: ((x + b) * 2).T.copy())(x, b))
    np.testing.assert_allclose(got, ((x + b) * 2).T, rtol=1e-6)


def _scheduled_names(value) -> set[str]:
    x, r, y = buf("x", 70, 50), buf("r", 50, 70), buf("y", 50, 70)

    def at(i: Expr, j: Expr) -> Expr:
        return value(x, r, i, j)

    system = System("copy", (x, r), (), (pointwise(y, at),), (y,))
    done = lowered(system, "scheduled", options_for(named("generic")))
    return {st.name for k in done.kernels for st in stages(k.body)}


def test_only_copies_across_go_by_squares():
    assert "tile" in _scheduled_names(lambda x, r, i, j: x[j, i])
    assert "tile" not in _scheduled_names(lambda x, r, i, j: r[i, j])
    assert "tile" not in _scheduled_names(lambda x, r, i, j: x[j, i] + r[i, j])
