"""Canonical: a kernel with names of its own, so that equal kernels of a program are equal values
and compile once; and names made different, so that kernels can become parts of one.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.expr import Buf, Expr, axis, substitute
from ferrule.ir.kernel import Branch, Item, Kernel, Prefetch, SerialLoop, stages, walk_items
from ferrule.ir.system import Stage, map_stage, rename_bufs, rename_loads


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
        names = axes | {a: axis(f"i{i}_{j}", a.extent) for j, a in enumerate(c.all_axes)}
        body.append(_rename(replace(st, name=f"t{i}"), bufs, names))
    grid = tuple(axes[a] for a in kernel.grid)
    scratch = tuple(bufs[b] for b in kernel.scratch)
    return Kernel("kernel", grid, tuple(body), scratch, ()), actual


def _rename(st: Stage, bufs: dict[Buf, Buf], axes: dict[Expr, Expr]) -> Stage:
    moved = map_stage(st, lambda e: substitute(e, axes), lambda a: axes.get(a, a))
    return rename_bufs(moved, bufs)


def renamed(
    kernel: Kernel, tag: str, bufs: tuple[Buf, ...] = ()
) -> tuple[Kernel, dict[Buf, Buf]]:
    """`kernel` with `tag` at the end of the names of its axes, of its scratch and of `bufs`, and
    what these buffers are called now. Axes that are free in it keep their names.
    """
    own = [*kernel.scratch, *bufs]
    bound = list(kernel.grid)
    for item, _ in walk_items(kernel.body):
        if isinstance(item, SerialLoop):
            bound.append(item.axis)
            own += item.scratch
        elif isinstance(item, Stage):
            bound += item.compute.all_axes
    names = {b: replace(b, name=b.name + tag) for b in own}
    axes: dict[Expr, Expr] = {}
    for a in bound:  # outer ones first: extents of inner ones may mention them
        axes.setdefault(a, axis(a.name + tag, substitute(a.extent, axes)))
    return Kernel(
        kernel.name,
        tuple(axes[a] for a in kernel.grid),
        rename_items(kernel.body, axes, names),
        tuple(names[b] for b in kernel.scratch),
        tuple((name + tag, kind) for name, kind in kernel.kinds),
    ), names


def rename_items(
    body: tuple[Item, ...], axes: dict[Expr, Expr], bufs: dict[Buf, Buf]
) -> tuple[Item, ...]:
    """`body` with other axes and buffers."""
    out: list[Item] = []
    for item in body:
        if isinstance(item, SerialLoop):
            inner = rename_items(item.body, axes, bufs)
            scratch = tuple(bufs.get(b, b) for b in item.scratch)
            out.append(SerialLoop(axes.get(item.axis, item.axis), inner, scratch))
        elif isinstance(item, Branch):
            cond = rename_loads(substitute(item.cond, axes), bufs)
            out.append(Branch(cond, rename_items(item.body, axes, bufs)))
        elif isinstance(item, Prefetch):
            idx = tuple(substitute(i, axes) for i in item.idx)
            out.append(Prefetch(bufs.get(item.buf, item.buf), idx, item.write))
        else:
            out.append(_rename(item, bufs, axes))
    return tuple(out)
