"""Hints: what a kernel of rows touches next is asked for while it computes.

    grid g { m = max[j] x[g, j];  e = exp(x[g, j] - m), s = sum[j] e[j];  y[g, j] = e[j] / s }

The loop with the most work (exp) leaves memory idle, and the others wait for it: a row is too short
for a CPU to see where it goes on. So that loop carries hints, one for each cache line that it
passes: at what its kernel reads or writes in later loops of this grid point, and at what it and the
loops before it touch in the next one. Loops that walk other extents have none, nor do rows whose
place is read from memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.ir.analysis.access import accesses, stride
from ferrule.ir.analysis.cost import flops
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import ONE, Buf, Expr, loads, product, promises, substitute
from ferrule.ir.kernel import Kernel, Prefetch
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Stage
from ferrule.target.cpu import Target

Bundle = tuple[list[Stage], Expr | None]
Place = tuple[Buf, tuple[Expr, ...]]


def row_hints(
    kernel: Kernel, bundles: Sequence[Bundle], target: Target
) -> tuple[int, tuple[Prefetch, ...]]:
    """The bundle of loops that is to carry hints, and these, for each point of its lane axis; none
    where the kernel's buffers are known to stay in L2 anyway, or a row does not.
    """
    plain = [i for i, (stages, lane) in enumerate(bundles) if _walks(stages, lane)]
    busy = max(plain, key=lambda i: _work(bundles[i][0]), default=None)
    if busy is None or not kernel.grid or len(bundles) < 2:
        return 0, ()
    if _work(bundles[busy][0]) < target.machine.rows.hinted:
        return 0, ()
    along, after = bundles[busy][1], kernel.grid[-1]
    assert along is not None
    found: dict[Place, Prefetch] = {}
    seen: set[Place] = set()
    for i in plain:
        stages, lane = bundles[i]
        if lane is None or not equal(lane.extent, along.extent):
            continue
        written = {b for st in stages for b in st.writes}
        for st in stages:
            for buf, idx in accesses(st):
                if any(loads(e) or promises(e) for e in idx):
                    continue
                if not any(after in e.axes for e in idx) or stride(buf, idx, lane) is not ONE:
                    continue
                place = tuple(simplify(substitute(e, {lane: along})) for e in idx)
                if (buf, place) in seen:
                    continue
                seen.add((buf, place))
                if i <= busy:
                    place = tuple(simplify(substitute(e, {after: after + 1})) for e in place)
                found[buf, place] = Prefetch(buf, place, buf in written)
    row = estimate(along.extent) * sum(h.buf.dtype.size for h in found.values())
    rows = simplify(product([g.extent for g in kernel.grid]))
    many = not rows.is_const or row * rows.attr > target.l2
    return (busy, tuple(found.values())) if many and row <= target.l2 // 2 else (0, ())


def _walks(stages: Sequence[Stage], lane: Expr | None) -> bool:
    """Whether a bundle is one loop, along its lanes, of the same length at all grid points."""
    if lane is None or lane.extent.axes:
        return False
    return all(set(st.compute.all_axes) <= {lane} for st in stages)


def _work(stages: Sequence[Stage]) -> int:
    """Operations for each point of a bundle; what several of its stages compute counts once."""
    return max((flops(v) for st in stages for v in st.compute.values), default=0)
