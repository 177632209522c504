"""Which kernels the contraction's schedule takes."""

from __future__ import annotations

from ferrule.fuse.group import group
from ferrule.fuse.inline import inline
from ferrule.ir.expr import Buf, load
from ferrule.ir.kernel import Kernel
from ferrule.ir.system import System
from ferrule.schedule.contraction.dims import schedulable
from ferrule.target.cpu import named
from ferrule.target.machine import CPU
from tests.systems import buf, fold

TARGET = named("avx2")


def kernel(rows: int, turned: bool) -> tuple[Kernel, Buf]:
    """x[m, k] w[k, n], or x[m, k] w[n, k] where the columns of w are not neighbours."""
    x, y = buf("x", rows, 64), buf("y", rows, 96)
    w = buf("w", 96, 64) if turned else buf("w", 64, 96)
    st = fold(y, [64], lambda i, j, k: load(x, i, k) * (load(w, j, k) if turned else load(w, k, j)))
    done, _ = group(inline(System("product", (x, w), (), (st,), (y,)))[0])
    return done.kernels[0], w


def test_few_rows_are_not_worth_a_copy_of_the_other_factor() -> None:
    few, w = kernel(CPU.products.few_rows - 1, True)
    assert not schedulable(few, TARGET)
    assert schedulable(few, TARGET, frozenset({w}))  # copied once
    assert schedulable(kernel(CPU.products.few_rows, True)[0], TARGET)


def test_few_rows_by_a_factor_that_is_read_in_place() -> None:
    assert schedulable(kernel(1, False)[0], TARGET)
