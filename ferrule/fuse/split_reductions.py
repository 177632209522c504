"""Split reductions: a long one with few results as partial ones side by side, then theirs.

    y = sum i  x[i]      ->      p[t] = sum i  x[t * step + i];      y = sum t  p[t]

Threads share the points of a kernel's grid, which are the results of its reductions. A norm, a loss
or a product of a few rows and columns with many terms has next to none. The number of parts does
not depend on the threads, so that results do not either.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.cost import weighed
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ONE, Buf, Expr, axis, both, load, loads, lt, product, substitute
from ferrule.ir.kernel import Kernel
from ferrule.ir.simplify import prove, simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage, System
from ferrule.target.machine import CPU, Machine


def split_reductions(
    system: System, machine: Machine = CPU
) -> tuple[System, tuple[Decision, ...]]:
    """`system` with long reductions of few results cut in two, and which these are."""
    constant = constants(system)
    out: list[Stage] = []
    decisions: list[Decision] = []
    for st in system.stages:
        along = None if set(st.writes) & constant else _cut(st, machine)
        if along is None:
            out.append(st)
            continue
        parts = _parts(st, along, machine.parts)
        out += parts
        chosen = Decision(st.name, "split", "in parts", "it has few results for threads to share")
        decisions.append(weighed(chosen, Kernel(st.name, (), parts), machine))
    return replace(system, stages=tuple(out)), tuple(decisions)


def _cut(st: Stage, machine: Machine) -> Expr | None:
    """The folded axis to cut, None where the stage is to stay whole."""
    fold, space = st.compute.fold, st.compute.axes
    if not isinstance(fold, Reduce) or not fold.axes or not fold.monoid.commutative:
        return None
    if st.when is not None or st.combine is not None or st.update:
        return None
    results, points = (estimate(product([a.extent for a in axes])) for axes in (space, fold.axes))
    read = [ld for v in st.compute.values for ld in loads(v)]
    aside = any(stride(ld.attr, ld.args, a) is ONE for ld in read for a in space)
    units = -(-results // machine.unit_lanes) if aside else results
    longest = max(fold.axes, key=lambda a: estimate(a.extent))
    short = estimate(longest.extent) < machine.parts**2
    few = units < machine.shared_units and results * points >= machine.shared_points
    return longest if few and not short and not longest.extent.axes else None


def _count(extent: Expr, about: int) -> int:
    """How many parts: a number near `about` that divides the extent, if there is one."""
    if not extent.is_const:
        return about
    near = sorted(range(about // 2, 2 * about), key=lambda n: abs(n - about))
    return next((n for n in near if extent.attr % n == 0), about)


def _parts(st: Stage, along: Expr, about: int) -> tuple[Stage, Stage]:
    """The stage's reduction over each of the parts of `along`, and the one over these."""
    c, fold = st.compute, st.compute.fold
    assert isinstance(fold, Reduce)
    count = _count(along.extent, about)
    step = simplify((along.extent + (count - 1)) // count)
    part, within = axis(f"{along.name}_part", count), axis(f"{along.name}_in", step)
    place = {along: simplify(part * step + within)}
    axes = tuple(within if a is along else a for a in fold.axes)
    exists = simplify(lt(place[along], along.extent))
    where = [] if c.where is None else [simplify(substitute(c.where, place))]
    where += [] if prove(exists) else [exists]
    several = Compute(
        (part, *c.axes),
        tuple(simplify(substitute(v, place)) for v in c.values),
        Reduce(axes, fold.monoid),
        both(*where) if where else None,
    )
    shape = tuple(a.extent for a in several.axes)
    bufs = [Buf(f"{b.name}_part", shape, v.dtype) for (b, _), v in zip(st.targets, c.values)]
    first = Stage(f"{st.name}_part", tuple(Access(b, several.axes) for b in bufs), several)
    again = axis(f"{along.name}_parts", count)
    values = tuple(load(b, again, *c.axes) for b in bufs)
    last = replace(st, compute=Compute(c.axes, values, Reduce((again,), fold.monoid, fold.init)))
    return first, last
