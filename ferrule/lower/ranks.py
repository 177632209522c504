"""Short runs in order, by ranks: how many elements of its run come before each.

    for each 16 elements of a run, one a lane:
        for each j of the run:    rank[l] += 1 in the lanes l whose element is behind the j-th
        m[0, start of the run + rank[l]] = the element of lane l

Each lane compares its element with all others of its run. For runs of 64 that is a step of vectors
for four elements and takes less than six passes of merging. The ranks are a permutation if the
order is one, which is sure where it is that of keys.
"""

from __future__ import annotations

from ferrule.base.dtype import i32, i64
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    arg,
    axis,
    both,
    call,
    cast,
    const,
    either,
    load,
    lt,
    minimum,
    substitute,
)
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, If, Stmt, Store
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Order

RUN = 64
_LANES = 16


def before(order: Order, one: tuple[Expr, ...], other: tuple[Expr, ...]) -> Expr:
    """Whether the tuple `one` comes before the tuple `other`."""
    operands = (*one, *other)
    return substitute(order.before, {arg(i, v.dtype): v for i, v in enumerate(operands)})


def rank_runs(order: Order, runs: tuple[Buf, ...], n: Expr, name: str) -> tuple[Stmt, ...]:
    """Brings the first `n` elements of `runs`[1] to `runs`[0], each `RUN` of them in order."""
    whole = axis(f"{name}_block", simplify(n // _LANES))
    rest = simplify(n % _LANES)
    out: list[Stmt] = []
    if not (whole.extent.is_const and whole.extent.value == 0):
        body = _block(order, runs, whole * _LANES, const(_LANES), n, name)
        out.append(For(whole, ZERO, whole.extent, Kind.SERIAL, body))
    if not (rest.is_const and rest.value == 0):
        out += _block(order, runs, simplify(n - rest), rest, n, f"{name}_last")
    return tuple(out)


def _block(
    order: Order, runs: tuple[Buf, ...], start: Expr, count: Expr, n: Expr, name: str
) -> tuple[Stmt, ...]:
    """The `count` elements from `start` on to their places in their run."""
    rank = Buf(f"{name}_rank", (const(_LANES),), i32, Space.REG)
    lane, j = axis(f"{name}_lane", _LANES), axis(f"{name}_other", n)
    first = simplify(start // RUN * RUN)
    i, partial = start + lane, not (count.is_const and count.value == _LANES)
    mine = tuple(load(b, ONE, minimum(i, n - 1) if partial else i) for b in runs)
    theirs = tuple(load(b, ONE, j) for b in runs)
    behind = either(
        both(lt(j, i), call("not", before(order, mine, theirs))),
        both(lt(i, j), before(order, theirs, mine)),
    )
    more = Store((Access(rank, (lane,)),), (load(rank, lane) + cast(behind, i32),))
    to = first + cast(load(rank, lane), i64)
    put: Stmt = Store(tuple(Access(b, (ZERO, to)) for b in runs), mine)
    if partial:
        put = If(lt(lane, count), (put,))

    def lanes(body: Stmt) -> Stmt:
        return For(lane, ZERO, lane.extent, Kind.LANES, (body,))

    return (
        Alloc(rank),
        lanes(Store((Access(rank, (lane,)),), (const(0, i32),))),
        For(j, first, simplify(minimum(first + RUN, n)), Kind.SERIAL, (lanes(more),)),
        lanes(put),
    )
