"""Sorts as loops: merge sorts in scratch, bottom up; radix sorts of long rows of what has keys.

    m[0, k] = values(k)
    for each pass p, which makes runs of 2^p to runs of twice that:
        for each k:   m[(p + 1) % 2, k] = the lesser of the two runs' first elements

A pass is one loop over all places, whichever runs they belong to: what it carries along is how far
it has come in the left one of two runs. That follows for the right one, since as many elements are
taken as are written. So a step has no branch, and what is equal is taken from the left: the sort is
stable. Places stay inside of their runs whatever the order says. Where tuples have keys, runs of 64
are in order before the first pass (`lower/ranks.py`).
"""

from __future__ import annotations

from ferrule.base.dtype import i64
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    call,
    cast,
    conjuncts,
    const,
    either,
    eq,
    le,
    load,
    lt,
    minimum,
    select,
)
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, If, Stmt, Store
from ferrule.ir.simplify import range_of, simplify
from ferrule.ir.system import Access, Order, Sort, Stage
from ferrule.lower.radix import key, least_long, radix_row
from ferrule.lower.ranks import RUN, before, rank_runs

_LONGEST = 62  # passes over what may have any length


def sort_row(st: Stage, fold: Sort, name: str) -> tuple[Stmt, ...]:
    """The statements of one point of the axes of `st`, which orders tuples; the conditions of its
    `when` that do not depend on the sorted axis stand around them. `name` begins the names of what
    is new.
    """
    n = fold.axis.extent
    of = key(fold.order)
    if of is None:
        return _merge_row(st, fold, name, n, False)
    least = const(least_long(of))
    long = simplify(le(least, n))
    if long.is_const and not long.value:
        return _merge_row(st, fold, name, n, True)
    done, keep = radix_row(st, fold, of, name, simplify(_wanted(st, fold)[0]))
    by_radix = (*done, _write(st, fold, keep))
    if long.is_const:
        return by_radix
    return (If(long, by_radix, _merge_row(st, fold, name, simplify(least - 1), True)),)


def _merge_row(st: Stage, fold: Sort, name: str, most: Expr, keyed: bool) -> tuple[Stmt, ...]:
    """A merge sort of a row of at most `most` elements; `keyed` where the order surely is one."""
    n, first = fold.axis.extent, 0
    runs = tuple(
        Buf(f"{name}_{i}", (const(2), most), v.dtype, Space.SCRATCH)
        for i, v in enumerate(st.compute.values)
    )
    ranked: tuple[Stmt, ...] = ()
    if keyed:
        first, ranked = RUN.bit_length() - 1, rank_runs(fold.order, runs, n, name)
    turn = _register(f"{name}_turn")
    pass_ = axis(f"{name}_pass", max(first, _passes(most)))
    at = ONE if ranked else ZERO
    fill = Store(tuple(Access(b, (at, fold.axis)) for b in runs), st.compute.values)
    merged: tuple[Stmt, ...] = (
        *_merge(fold.order, runs, n, pass_, name),
        Store((Access(turn, ()),), ((pass_ + 1) % 2,)),
    )
    if not n.is_const:
        merged = (If(lt(call("shl", ONE, pass_), n), merged),)
    values = tuple(load(b, load(turn), fold.axis) for b in runs)
    return (
        *map(Alloc, (*runs, turn)),
        For(fold.axis, ZERO, n, Kind.SERIAL, (fill,)),
        *ranked,
        Store((Access(turn, ()),), (ZERO,)),
        For(pass_, const(first), pass_.extent, Kind.SERIAL, merged),
        _write(st, fold, Store(st.targets, values, st.combine)),
    )


def _passes(n: Expr) -> int:
    """How many passes there are at most."""
    most = range_of(n)[1]
    return _LONGEST if most is None else max(0, most - 1).bit_length()


def _register(name: str) -> Buf:
    return Buf(name, (), i64, Space.REG)


def _merge(
    order: Order, runs: tuple[Buf, ...], n: Expr, pass_: Expr, name: str
) -> tuple[Stmt, ...]:
    """One pass."""
    left, right, chosen = (_register(f"{name}_{part}") for part in ("left", "right", "chosen"))
    i, j, at = load(left), load(right), load(chosen)
    k = axis(f"{name}_place", n)
    width = call("shl", ONE, pass_)
    first = call("and", k, -(width * 2))
    middle, end = minimum(first + width, n), minimum(first + width * 2, n)
    source, target = pass_ % 2, (pass_ + 1) % 2
    mine, theirs = (
        tuple(load(b, source, minimum(place, n - 1)) for b in runs) for place in (i, j)
    )
    from_left = both(lt(i, middle), either(le(end, j), call("not", before(order, theirs, mine))))
    step = (
        Store((Access(left, ()),), (select(eq(k, first), k, i),)),
        Store((Access(right, ()),), (middle + k - i,)),
        Store((Access(chosen, ()),), (select(from_left, i, j),)),
        Store(
            tuple(Access(b, (target, k)) for b in runs), tuple(load(b, source, at) for b in runs)
        ),
        Store((Access(left, ()),), (i + cast(lt(at, middle), i64),)),
    )
    return (
        *map(Alloc, (left, right, chosen)),
        Store((Access(left, ()),), (ZERO,)),
        For(k, ZERO, n, Kind.SERIAL, step),
    )


def _write(st: Stage, fold: Sort, keep: Stmt) -> Stmt:
    """`keep`, which stores a result, as far as `when` asks for it: the first so many are a shorter
    loop.
    """
    end, rest = _wanted(st, fold)
    if rest:
        keep = If(both(*rest), (keep,))
    return For(fold.axis, ZERO, simplify(end), Kind.SERIAL, (keep,))


def _wanted(st: Stage, fold: Sort) -> tuple[Expr, list[Expr]]:
    """How many results `when` asks for, the first ones, and its other conditions on the axis."""
    end, rest = fold.axis.extent, []
    for c in (c for c in conjuncts(st.when) if fold.axis in c.axes):
        if c.op == "lt" and c.args[0] is fold.axis and fold.axis not in c.args[1].axes:
            end = minimum(end, c.args[1])
        else:
            rest.append(c)
    return end, rest
