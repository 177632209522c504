"""Transpose: the schedule of a copy whose source and target are contiguous along different axes.

    for (.., a_t, c_t):                       the grid: tiles of both axes
        for c_o, a_o:                         squares of W x W
            tile[l, u] = x[.., a*W + l, .., c*W + u]    rows: vectors along c, as the source lies
            y[.., c*W + u, .., a*W + l] = tile[l, u]    columns: vectors along a, as the target does

The square stays in registers and is read across by shuffles. What is left at the edges is done
element by element.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, Space, axis, load, loads, substitute
from ferrule.ir.kernel import Item, Kernel, Kind, SerialLoop, stages
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Compute, Stage, substitute_stage


def transposition(kernel: Kernel, width: int) -> tuple[Expr, Expr] | None:
    """The grid axes along which the target and the source of a kernel lie, where those are two axes
    of at least `width` points; None for any other kernel.
    """
    body = list(stages(kernel.body))
    if len(body) != 1 or not _copies(body[0]):
        return None
    (buf, idx), value = body[0].target, body[0].compute.values[0]
    wide = [g for g in kernel.grid if estimate(g.extent) >= width]
    along = [g for g in wide if stride(buf, idx, g) is ONE]
    if len(along) != 1:
        return None
    steps = [stride(ld.attr, ld.args, along[0]) for ld in loads(value)]
    if all(s is ZERO for s in steps) or any(s is None or s is ONE for s in steps):
        return None
    for g in wide:
        if all(stride(ld.attr, ld.args, g) in (ONE, ZERO) for ld in loads(value)) and any(
            stride(ld.attr, ld.args, g) is ONE and stride(ld.attr, ld.args, along[0]) is not ZERO
            for ld in loads(value)
        ):
            return along[0], g
    return None


def _copies(st: Stage) -> bool:
    """Whether a stage writes one value of a grid point, whatever it is computed from."""
    c = st.compute
    plain = c.fold is None and c.where is None and st.when is None and not st.update
    return plain and not c.axes and st.combine is None and not c.values[0].dtype.is_bool


def transpose(kernel: Kernel, a: Expr, c: Expr, width: int, prefix: str) -> Kernel:
    """`kernel`, whose stage has the axes `a` of its target and `c` of its source, by squares."""
    (st,) = stages(kernel.body)
    value = st.compute.values[0]
    rows, across = axis(prefix + "r", width), axis(prefix + "x", width)
    down, lanes = axis(prefix + "y", width), axis(prefix + "l", width)
    a_o, c_o = (axis(prefix + n, simplify(x.extent // width)) for n, x in (("a", a), ("c", c)))
    tile = Buf(prefix + "tile", (rows.extent, across.extent), value.dtype, Space.REG)
    source = {a: a_o * width + rows, c: c_o * width + across}
    read = Stage(
        tile.name,
        (Access(tile, (rows, across)),),
        Compute((rows, across), (substitute(value, source),)),
    )
    target = {a: a_o * width + lanes, c: c_o * width + down}
    buf, idx = st.target
    write = replace(
        st,
        targets=(Access(buf, tuple(substitute(i, target) for i in idx)),),
        compute=Compute((down, lanes), (load(tile, lanes, down),)),
    )
    row = SerialLoop(a_o, (simplify_stage(read), simplify_stage(write)), (tile,))
    squares = SerialLoop(c_o, (row,))
    items: list[Item] = [squares]
    done_a, done_c = simplify(a_o.extent * width), simplify(c_o.extent * width)
    items += _edge(st, c, ZERO, c.extent, a, done_a, prefix + "e")
    items += _edge(st, c, done_c, simplify(c.extent - done_c), a, ZERO, prefix + "f", done_a)
    kinds = {rows: Kind.UNROLL, across: Kind.LANES, down: Kind.UNROLL, lanes: Kind.LANES}
    named = {x.name: kind for x, kind in kinds.items()}
    return replace(kernel, body=tuple(items), kinds=tuple(sorted(named.items())))


def _edge(
    st: Stage,
    c: Expr,
    c_start: Expr,
    c_count: Expr,
    a: Expr,
    a_start: Expr,
    prefix: str,
    a_end: Expr | None = None,
) -> list[Item]:
    """The elements of a range of `c` by a range of `a` (to its end by default), one by one."""
    count = simplify((a.extent if a_end is None else a_end) - a_start)
    if count is ZERO or c_count is ZERO:
        return []
    i, j = axis(prefix + "c", c_count), axis(prefix + "a", count)
    one = simplify_stage(substitute_stage(st, {c: c_start + i, a: a_start + j}))
    return [SerialLoop(i, (SerialLoop(j, (one,)),))]
