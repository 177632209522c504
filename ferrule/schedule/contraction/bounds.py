"""Limits: how far a guard lets an axis go.

A fold over j where j <= i (causal attention) has terms up to i + 1 only, whatever the extent of j.
What else is computed for such j alone has the same limit: rows of scores that nothing reads past
it. A schedule that runs rows one after another turns these limits into the ends of its loops.

Limits are found on the stages of one kernel, and are expressions of its grid axes and dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.expr import (
    TRUE,
    ZERO,
    Buf,
    Expr,
    axis,
    both,
    call,
    conjuncts,
    const,
    le,
    loads,
    substitute,
)
from ferrule.ir.simplify import coefficient, prove, simplify
from ferrule.ir.system import Reduce, Stage, substitute_stage

Limits = Mapping[Expr, Expr]  # of a stage's own axes: where each ends, at most its extent
NO_LIMITS: Limits = {}


def limits(body: list[Stage], private: frozenset[Buf], grid: tuple[Expr, ...]) -> list[Limits]:
    """The limits of each of `body`, which is all that reads the buffers `private`."""
    outer = frozenset(grid)
    wanted: dict[Buf, list[tuple[Expr | None, ...]]] = {b: [] for b in private}
    out: list[Limits] = []
    for st in reversed(body):
        own = _guarded(st, outer) | _unread(st, wanted)
        out.append(own)
        for ld in (ld for e in st.exprs() for ld in loads(e) if ld.attr in private):
            wanted[ld.attr].append(tuple(own.get(i) for i in ld.args))
    return out[::-1]


def limited(st: Stage, limits: Limits, place: Mapping[Expr, Expr], mark: str) -> Stage:
    """`st` with its axes ended at their `limits`, which are of one row where `place` is put for the
    grid axes; guards that the new ends imply are gone. `mark` is added to the names of the axes.
    """
    if not limits:
        return st
    from_whole = {
        a: axis(a.name + mark, simplify(substitute(end, place)))
        for a, end in limits.items()
        if a in st.compute.all_axes
    }
    where = both(*(c for c in conjuncts(st.compute.where) if not implied(c, limits)))
    compute = replace(st.compute, where=None if where is TRUE else where)
    return simplify_stage(substitute_stage(replace(st, compute=compute), from_whole))


def implied(guard: Expr, limits: Limits) -> bool:
    """Whether `guard` holds for all points within the limits."""
    ends = ((limit, _end(guard, a)) for a, limit in limits.items())
    return any(end is not None and prove(le(limit, end)) for limit, end in ends)


def grows(end: Expr, axes: tuple[Expr, ...]) -> bool:
    """Whether `end` is no less where any of `axes` is greater, as far as its form tells."""
    if end.op == "min":
        return all(grows(e, axes) for e in end.args)
    steps = [coefficient(end, a) for a in axes]
    return all(s is not None and s.is_const and s.attr >= 0 for s in steps)


def _guarded(st: Stage, outer: frozenset[Expr]) -> dict[Expr, Expr]:
    """The limits that the guard of a fold sets to the axes that it folds."""
    found: dict[Expr, Expr] = {}
    if not isinstance(st.compute.fold, Reduce):
        return found
    for c in conjuncts(st.compute.where):
        for a in st.compute.fold.axes:
            end = _end(c, a)
            if end is not None and end.axes <= outer:
                found[a] = simplify(call("min", found.get(a, a.extent), end))
    return found


def _end(guard: Expr, a: Expr) -> Expr | None:
    """e >= 0 where `guard` says a < e; None where it says anything else."""
    if guard.op not in ("lt", "le"):
        return None
    low, high = guard.args
    room = simplify(high - low + (1 if guard.op == "le" else 0))
    step = coefficient(room, a)
    if step is None or step is not const(-1):
        return None
    end = simplify(room + a)
    return end if prove(le(ZERO, end)) else None


def _unread(st: Stage, wanted: Mapping[Buf, list[tuple[Expr | None, ...]]]) -> dict[Expr, Expr]:
    """The limits of what `st` computes of private buffers: elements past them are not read."""
    found: dict[Expr, Expr] = {}
    if st.update or st.combine is not None or any(b not in wanted for b in st.writes):
        return found
    for a in st.compute.axes:
        ends = {
            reader[d]
            for buf, idx in st.targets
            for d, i in enumerate(idx)
            if i is a
            for reader in wanted[buf]
        }
        if len(ends) == 1 and (end := ends.pop()) is not None:
            found[a] = end
    return found
