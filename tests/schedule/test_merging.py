"""Axes that every access walks as one are one axis: longer rows, fewer edges of tiles."""

from __future__ import annotations

from ferrule.ir.expr import axis, cast, load
from ferrule.ir.kernel import Kernel
from ferrule.ir.monoids import SUM
from ferrule.ir.system import Access, Compute, Reduce, Stage
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.schedule.contraction.dims import flattened
from ferrule.schedule.rows.schedule import merge_grid
from ferrule.target.cpu import named
from tests.systems import System, buf, pointwise

H, W, N, K = axis("h", 14), axis("w", 14), axis("n", 64), axis("k", 32)


def _names(kernel: Kernel) -> list[str]:
    return [a.name for a in kernel.grid]


def test_a_pointwise_kernel_over_contiguous_buffers_has_one_axis():
    x, y = buf("x", 6, 7, 8), buf("y", 6, 7, 8)
    st = pointwise(y, lambda i, j, k: x[i, j, k] * 2.0)
    assert len(merge_grid(Kernel("y", st.compute.axes, (_bare(st),))).grid) == 1


def test_a_broadcast_keeps_its_axis_apart():
    x, r, y = buf("x", 6, 7, 8), buf("r", 8), buf("y", 6, 7, 8)
    st = pointwise(y, lambda i, j, k: x[i, j, k] * r[k])
    assert len(merge_grid(Kernel("y", st.compute.axes, (_bare(st),))).grid) == 2


def test_an_axis_whose_value_is_used_stays_apart():
    x, y = buf("x", 6, 8), buf("y", 6, 8)
    st = pointwise(y, lambda i, j: x[i, j] + cast(i, x.dtype))
    assert len(merge_grid(Kernel("y", st.compute.axes, (_bare(st),))).grid) == 2


def _bare(st: Stage) -> Stage:
    return Stage(st.name, st.targets, Compute((), st.compute.values))


def _pointwise_convolution(rows: int) -> Kernel:
    """y[h, w, n] = sum k  x[h, w, k] * f[k, n]; the rows of the image are `rows` long in memory."""
    x, f, y = buf("x", 14, rows, 32), buf("f", 32, 64), buf("y", 14, 14, 64)
    value = load(x, H, W, K) * load(f, K, N)
    total = Compute((), (value,), Reduce((K,), SUM(y.dtype)))
    return Kernel("y", (H, W, N), (Stage("y", (Access(y, (H, W, N)),), total),))


def test_rows_and_columns_of_an_image_under_a_pointwise_convolution():
    assert _names(flattened(_pointwise_convolution(14), frozenset())) == ["h_w", "n"]


def test_an_image_with_gaps_between_its_rows_keeps_them():
    assert _names(flattened(_pointwise_convolution(15), frozenset())) == ["h", "w", "n"]


def test_the_schedule_of_a_pointwise_system_is_one_loop():
    x, y = buf("x", 6, 7, 8), buf("y", 6, 7, 8)
    system = System("double", (x,), (), (pointwise(y, lambda i, j, k: x[i, j, k] * 2.0),), (y,))
    (kernel,) = lowered(system, "scheduled", options_for(named("generic"))).kernels
    assert not kernel.grid
