"""Folded axes: in which order a contraction's loops walk over the terms of its sums, and in which
parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ZERO, Expr, axis, both, call, const, le, loads, product
from ferrule.ir.simplify import coefficient, prove, simplify
from ferrule.ir.system import Stage
from ferrule.schedule.contraction.dims import left_guards
from ferrule.target.machine import Products


def in_order(st: Stage, roles: ContractionDims, costs: Products) -> tuple[Expr, ...]:
    """The folded axes, the one with the smallest step in the left factor last; those that the left
    factor's guards mention before the others, unless few terms share these.
    """
    guarded = both(*left_guards(st, roles)).axes
    first = frozenset() if shares_few_terms(st, roles, costs) else guarded

    def step(a: Expr) -> int:
        steps = [stride(ld.attr, ld.args, a) for ld in loads(roles.left) if a in ld.axes]
        return max((1 << 40 if s is None else estimate(s) for s in steps), default=0)

    return tuple(sorted(roles.k, key=lambda a: (a in first, step(a)), reverse=True))


def shares_few_terms(st: Stage, roles: ContractionDims, costs: Products) -> bool:
    """Whether few terms share a value of the left factor's guards, so that testing them would take
    longer than the sum.
    """
    guarded = both(*left_guards(st, roles)).axes
    terms = estimate(product([a.extent for a in roles.k if a not in guarded]))
    return terms < costs.short_run


def unrolls(last: Expr, roles: ContractionDims, costs: Products) -> bool:
    """Whether the innermost of the folded axes is to be unrolled: it is short, and its steps do not
    share elements of the left factor in registers that the accumulators need. They would where the
    windows of neighbouring rows overlap; in a depthwise convolution, whose blocks leave registers
    for it, they are to.
    """
    if not last.extent.is_const or last.extent.attr > costs.short_loop:
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


@dataclass(frozen=True)
class Parts:
    """The folded axes in order: all, and cut in two so that the inner ones have at most `depth`
    points; `split` tells where an axis went that was cut itself.
    """

    whole: tuple[Expr, ...]
    outer: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    split: dict[Expr, Expr]


def parts(k: tuple[Expr, ...], depth: int) -> Parts:
    """The axes `k`, outer to inner, in parts of at most `depth` points."""
    points, at = 1, len(k)
    while at > 0 and points * estimate(k[at - 1].extent) <= depth:
        at -= 1
        points *= estimate(k[at].extent)
    if at < len(k):
        return Parts(k, k[:at], k[at:], {})
    last = k[-1]
    step = next(
        (
            d
            for d in range(depth, depth // 2, -1)
            if last.extent.is_const and last.extent.attr % d == 0
        ),
        max(1, depth // 3),
    )
    outer = axis(last.name + "o", simplify((last.extent + (step - 1)) // step))
    inner = axis(last.name + "i", simplify(call("min", const(step), last.extent - outer * step)))
    return Parts(k, (*k[:-1], outer), (inner,), {last: simplify(outer * step + inner)})
