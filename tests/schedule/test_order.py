"""In which order the terms of a sum are walked, and when the innermost loop is unrolled."""

from __future__ import annotations

import pytest

from ferrule.fuse.group import group
from ferrule.fuse.inline import inline
from ferrule.ir.expr import Expr, load
from ferrule.ir.kernel import Kind
from ferrule.ir.system import System
from ferrule.schedule.contraction.schedule import schedule_contraction
from ferrule.target.cpu import named
from tests.systems import buf, fold


@pytest.mark.parametrize(("stride", "taps", "unrolled"), [
    (1, 3, False), (2, 3, False), (3, 3, True), (4, 3, True), (16, 16, False), (-1, 3, False),
    (-3, 3, True),
])  # fmt: skip
def test_taps_of_windows_that_overlap_are_not_unrolled(
    stride: int, taps: int, unrolled: bool
) -> None:
    """y[p, n] = sum c, t  x[c, p * stride + t] w[c, t, n]; shared elements would crowd out sums. A
    negative stride stands for steps back along t, as a transposed convolution takes.
    """
    x, w, y = buf("x", 4, 400), buf("w", 4, taps, 64), buf("y", 20, 64)

    def place(p: Expr, t: Expr) -> Expr:
        return p * stride + t if stride > 0 else p * -stride + (taps - 1) - t

    st = fold(y, [4, taps], lambda p, n, c, t: load(x, c, place(p, t)) * load(w, c, t, n))
    (kernel,) = group(inline(System("s", (x,), (w,), (st,), (y,)))[0])[0].kernels
    made = schedule_contraction(kernel, named("avx2"), frozenset({w}))
    (tap,) = (a for a in st.compute.reduce_axes if a.extent.attr == taps)
    assert (made.kernel.kind(tap) is Kind.UNROLL) is unrolled
