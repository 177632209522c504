"""Products of slices with the same weights become one product, and mean what they meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ferrule.fuse.inline import inline
from ferrule.fuse.merge_products import merge_products
from ferrule.ir.expr import load
from ferrule.ir.interp import run_system
from ferrule.ir.system import System
from ferrule.target.machine import CPU
from tests.systems import buf, fold, pointwise


def steps(slices: tuple[int, ...], rows: int = 2, other: bool = False) -> System:
    """y_t = x[t] @ w for some t, and their sum; one of them with `other` weights."""
    x, w, v = buf("x", 6, rows, 8), buf("w", 16, 8), buf("v", 16, 8)
    y, parts, products = buf("y", rows, 16), [], []
    for n, t in enumerate(slices):
        weights = v if other and n == 1 else w
        parts.append(buf(f"p{n}", rows, 16))
        products.append(
            fold(parts[-1], [8], lambda i, j, k, t=t, m=weights: load(x, t, i, k) * load(m, j, k))
        )
    total = pointwise(y, lambda i, j: sum((load(p, i, j) for p in parts[1:]), load(parts[0], i, j)))
    params = (w, v) if other else (w,)
    return System("steps", (x,), params, (*products, total), (y,))


def joined(system: System) -> System:
    return merge_products(inline(system)[0])[0]


def products(system: System) -> int:
    return sum(st.is_reduction for st in system.stages)


def results(system: System) -> Any:
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal([int(s.value) for s in b.shape]).astype(np.float32)
        for b in (*system.inputs, *system.params)
    ]
    return run_system(system, arrays)[0]


@pytest.mark.parametrize("slices", [(0, 1, 2), (3, 1, 2, 4), (5, 4, 3)])
def test_neighbouring_slices_are_one_product(slices: tuple[int, ...]) -> None:
    system = steps(slices)
    done = joined(system)
    assert products(done) == 1
    np.testing.assert_allclose(results(done), results(system), rtol=1e-6)


@pytest.mark.parametrize(
    "system",
    [
        steps((0, 1)),  # too few
        steps((0, 2, 4)),  # between them would be computed for nobody
        steps((0, 1, 2), other=True),
        steps((0, 1, 2), rows=CPU.merged_rows + 1),
    ],
)
def test_others_stay_apart(system: System) -> None:
    assert products(joined(system)) == products(system)


def test_the_decision_counts_the_weights_once() -> None:
    (d,) = merge_products(inline(steps((0, 1, 2)))[0])[1]
    assert d.flops == 3 * 2 * 16 * 8 * 2
    assert d.bytes == 4 * (6 * 2 * 8 + 16 * 8 + 3 * 2 * 16)
    assert d.ns > 0


def test_what_somebody_else_reads_stays() -> None:
    system = steps((0, 1, 2))
    shown = next(b for st in system.stages for b in st.writes if b.name == "p1")
    done = joined(replace(system, outputs=(*system.outputs, shown)))
    assert any(shown in st.writes for st in done.stages)
