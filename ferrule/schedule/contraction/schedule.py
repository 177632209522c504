"""Contraction: the schedule of products, convolutions and attention.

What the roles of a kernel's first stage leave local to a grid point decides how it runs:

- an element (`blocks.py`): tiles of MR x NR accumulators in registers, a grid of blocks of rows by
  panels of columns, and an epilogue that writes them;
- a row (`panels.py`): the rows go through further stages (softmax) and a second product
  (attention), in panels of MR rows.

The lanes run along n. B is read where it lies if n has unit stride in it, else it is packed into
panels of NR columns, [batch, n_o, k.., NR], which for parameters happens once (`right.py`). A is
read in place, one element at a time, so its layout and index map do not matter to the vector code:
a convolution's window is just an index, and its padding a guard (`product.py`). Rows fall into
tiles by `rows.py`. While a tile is computed, hints fetch a share of the next part of B into L2
(`prefetch.py`).

A depthwise convolution is a product whose lanes run along the channels of both factors.
"""

from __future__ import annotations

from ferrule.ir.expr import Buf
from ferrule.ir.kernel import Kernel
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.contraction.blocks import block_kernel
from ferrule.schedule.contraction.contraction import contraction_of
from ferrule.schedule.contraction.packing import Packed
from ferrule.schedule.contraction.panels import panel_kernel
from ferrule.target.cpu import Target


def schedule_contraction(
    kernel: Kernel, target: Target, constant: frozenset[Buf], blocking: Blocking | None = None
) -> Packed:
    """Tiles, packed panels and epilogues for a `schedulable` kernel.

    `constant` are the kernel's buffers whose values are known before the first run; `blocking` is
    `blocking_of` the kernel where None.
    """
    c = contraction_of(kernel, target, constant, blocking).fitted()
    whole_rows = not set(c.roles.n) <= set(c.kernel.grid)
    return panel_kernel(c) if whole_rows else block_kernel(c)


def blocking_of(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Blocking:
    """The blocking that a `schedulable` kernel has by default."""
    return contraction_of(kernel, target, constant).blocking


def fitted(
    blocking: Blocking | None, kernel: Kernel, target: Target, constant: frozenset[Buf]
) -> Blocking:
    """`blocking`, or the default one, with no more rows than a `schedulable` kernel has."""
    return contraction_of(kernel, target, constant, blocking).fitted().blocking
