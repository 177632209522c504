"""Packing: copies of a contraction's factors that its loops read faster than the factors.

The right factor goes into panels, `[batch, panel, k.., NR]`: a kernel of its own, which runs before
the product, and once where the factor is a parameter. Where rows of the source are so far apart
that few have places of their own in L1, it is read in blocks of rows: each row is then walked
along, panel by panel, while its lines are near.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import (
    Buf,
    Expr,
    axis,
    both,
    call,
    const,
    fconst,
    loads,
    lt,
    product,
    select,
    substitute,
)
from ferrule.ir.kernel import Kernel, SerialLoop, substitute_items
from ferrule.ir.simplify import prove, simplify
from ferrule.ir.system import Access, Compute, Stage
from ferrule.schedule.contraction.flat import flat
from ferrule.schedule.rows.schedule import schedule_rows
from ferrule.target.cpu import Target


@dataclass(frozen=True)
class Packing:
    """A kernel that must run before another and fills `buf`, which that one reads; for parameters
    it runs once. `what` it does, in words.
    """

    buf: Buf
    kernel: Kernel
    constant: bool
    what: str = "an operand packed into panels"


@dataclass(frozen=True)
class Packed:
    """A scheduled kernel and the packings that must run before it."""

    kernel: Kernel
    packings: tuple[Packing, ...] = ()


def apart(e: Expr, axes: tuple[Expr, ...]) -> int:
    """The most bytes that one step of any of `axes` moves a load of `e`."""
    steps = [(stride(ld.attr, ld.args, a), ld.dtype.size) for ld in loads(e) for a in axes]
    return max((estimate(s) * size for s, size in steps if s is not None), default=0)


def rows_apart(roles: ContractionDims) -> int:
    """The bytes between neighbouring rows of the left factor; 0 where that is not known."""
    return apart(roles.left, roles.m[-1:])


def pack_panels(
    name: str, roles: ContractionDims, guard: Expr, outer: tuple[Expr, ...], panels: Expr,
    width: int, target: Target, constant: bool,
) -> Packing:  # fmt: skip
    """The right factor of `roles` in `panels` panels of `width` columns, by the axes `outer` (batch
    and k); zero where its `guard` is false and past the last column. `constant`: it depends on
    parameters alone.
    """
    batch = [a for a in outer if a in roles.batch]
    names = {a: axis(f"p{i}", a.extent) for i, a in enumerate(outer)}
    number, lane = axis("pn", panels), axis("pl", width)
    column = simplify(number * width + lane)
    place = names | flat(roles.n, column)
    source = simplify(substitute(roles.right, place))
    exists = lt(column, simplify(product([a.extent for a in roles.n])))
    inside = both(simplify(substitute(guard, place)), *([] if prove(exists) else [exists]))
    if inside is not both():
        source = select(inside, source, fconst(0.0, source.dtype))
    folded = [names[a] for a in outer if a not in batch]
    axes = (*(names[b] for b in batch), number, *folded, lane)
    packed = Buf(name, tuple(a.extent for a in axes), source.dtype)
    kernel = Kernel("pack", axes, (Stage("pack", (Access(packed, axes),), Compute((), (source,))),))
    kernel = schedule_rows(kernel, target)
    costs = target.machine.products
    far = [a for a in kernel.grid if apart(source, (a,)) >= costs.far_rows]
    if len(kernel.grid) > 1 and far == [kernel.grid[-1]]:
        kernel = _by_blocks(kernel, far[0], costs.packed_rows)
    return Packing(packed, kernel, constant and all(a.extent.is_const for a in axes))


def _by_blocks(kernel: Kernel, a: Expr, block: int) -> Kernel:
    """`kernel` with its grid axis `a` in blocks of so many points, the blocks outermost and their
    points innermost.
    """
    outer = axis(a.name + "b", simplify((a.extent + (block - 1)) // block))
    inner = axis(a.name + "i", simplify(call("min", const(block), a.extent - outer * block)))
    body = substitute_items(kernel.body, {a: simplify(outer * block + inner)})
    grid = (outer, *(g for g in kernel.grid if g is not a))
    return replace(kernel, grid=grid, body=(SerialLoop(inner, body),))
