"""Folded axes: in which order a contraction's loops walk over the terms of its sums."""

from __future__ import annotations

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import Roles
from ferrule.ir.analysis.size import estimate
from ferrule.ir.compute import Stage
from ferrule.ir.expr import ZERO, Expr, both, const, le, loads, product
from ferrule.ir.simplify import coefficient, prove
from ferrule.schedule.contraction.dims import left_guards

SHORT_RUN = 32  # terms of a sum, too few for a guard around them
SHORT_LOOP = 8  # points of the innermost loop of a sum, unrolled


def in_order(st: Stage, roles: Roles) -> tuple[Expr, ...]:
    """The folded axes, the one with the smallest step in the left factor last; those that the left
    factor's guards mention before the others, unless few terms share these.
    """
    guarded = both(*left_guards(st, roles)).axes
    first = frozenset() if shares_few_terms(st, roles) else guarded

    def step(a: Expr) -> int:
        steps = [stride(ld.attr, ld.args, a) for ld in loads(roles.left) if a in ld.axes]
        return max((1 << 40 if s is None else estimate(s) for s in steps), default=0)

    return tuple(sorted(roles.k, key=lambda a: (a in first, step(a)), reverse=True))


def shares_few_terms(st: Stage, roles: Roles) -> bool:
    """Whether few terms share a value of the left factor's guards, so that testing them would take
    longer than the sum.
    """
    guarded = both(*left_guards(st, roles)).axes
    return estimate(product([a.extent for a in roles.k if a not in guarded])) < SHORT_RUN


def unrolls(last: Expr, roles: Roles) -> bool:
    """Whether the innermost of the folded axes is to be unrolled: it is short, and its steps do not
    share elements of the left factor in registers that the accumulators need. They would where the
    windows of neighbouring rows overlap; in a depthwise convolution, whose blocks leave registers
    for it, they are to.
    """
    if not last.extent.is_const or last.extent.attr > SHORT_LOOP:
        return False
    if not roles.m or set(roles.n) & roles.left.axes:
        return True
    return not any(
        _overlap(coefficient(i, roles.m[-1]), coefficient(i, last), last.extent)
        for ld in loads(roles.left)
        for i in ld.args
    )


def _overlap(apart: Expr | None, step: Expr | None, points: Expr) -> bool:
    """Whether windows of so many `points`, `step` from one to the next, overlap where they are
    `apart`.
    """
    if apart is None or step is None or apart is ZERO or step is ZERO:
        return False
    if apart.is_const and step.is_const:
        apart, step = const(abs(apart.attr)), const(abs(step.attr))
    return not prove(le(step * points, apart))
