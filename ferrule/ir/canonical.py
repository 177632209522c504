"""Canonical: a kernel with names of its own, so that equal kernels of a program are equal values
and compile once.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.compute import Scan, Stage, map_stage, rename_bufs
from ferrule.ir.expr import Buf, Expr, axis, substitute
from ferrule.ir.kernel import Kernel, stages


def canonical(kernel: Kernel) -> tuple[Kernel, tuple[Buf, ...]]:
    """An unscheduled kernel renamed by position, and the buffers it stands for, in the order of its
    globals.
    """
    actual = kernel.globals
    bufs = {b: replace(b, name=f"b{i}") for i, b in enumerate(actual)}
    bufs |= {b: replace(b, name=f"s{i}") for i, b in enumerate(kernel.scratch)}
    axes = {a: axis(f"g{i}", a.extent) for i, a in enumerate(kernel.grid)}
    body = []
    for i, st in enumerate(stages(kernel.body)):
        c = st.compute
        own = (*c.axes, *c.reduce_axes, *((c.fold.axis,) if isinstance(c.fold, Scan) else ()))
        names = axes | {a: axis(f"i{i}_{j}", a.extent) for j, a in enumerate(own)}
        body.append(_rename(replace(st, name=f"t{i}"), bufs, names))
    grid = tuple(axes[a] for a in kernel.grid)
    scratch = tuple(bufs[b] for b in kernel.scratch)
    return Kernel("kernel", grid, tuple(body), scratch, ()), actual


def _rename(st: Stage, bufs: dict[Buf, Buf], axes: dict[Expr, Expr]) -> Stage:
    moved = map_stage(st, lambda e: substitute(e, axes), lambda a: axes.get(a, a))
    return rename_bufs(moved, bufs)
