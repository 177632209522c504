"""Pieces: a pointwise stage whose value changes along an axis, as one stage for each part of the
axis.

    y[i] = select(i < n, a[i], b[i - n])     ->     y[i] = a[i] for i < n;   y[n + i] = b[i]

Concatenation, padding and rotary embedding are of this form: after it each piece is a plain loop,
and no element computes the branch that it does not take.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.expr import ONE, ZERO, Expr, axis, walk
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import prove_nonneg, simplify
from ferrule.ir.system import Stage, substitute_stage


def split_index_sets(kernel: Kernel, most: int) -> Kernel:
    """`kernel` with its pointwise stages cut where a select on one axis changes sides, each
    into at most so many pieces.

    A grid axis is cut only where the kernel is one stage; it then becomes local to the pieces.
    """
    body = tuple(stages(kernel.body))
    grid = kernel.grid
    if len(body) == 1 and _plain(body[0]):
        cut = _cut(body[0], grid, most)
        if cut is not None:
            a, bounds = cut
            moved = replace(
                body[0], compute=replace(body[0].compute, axes=(a, *body[0].compute.axes))
            )
            body, grid = _pieces(moved, a, bounds), tuple(g for g in grid if g is not a)
    out: list[Stage] = []
    for st in body:
        cut = _cut(st, st.compute.axes, most) if _plain(st) else None
        out += [st] if cut is None else _pieces(st, *cut)
    return replace(kernel, grid=grid, body=tuple(out))


def _plain(st: Stage) -> bool:
    c = st.compute
    return (
        c.fold is None
        and c.where is None
        and st.combine is None
        and not st.update
        and st.when is None
    )


def _cut(st: Stage, axes: tuple[Expr, ...], most: int) -> tuple[Expr, list[Expr]] | None:
    """The axis with the most bounds that the stage's selects compare it with, and these in rising
    order: at most so many pieces lie between them.
    """
    found: dict[Expr, list[Expr]] = {}
    for v in st.compute.values:
        for node in walk(v):
            if node.op != "select":
                continue
            c = node.args[0]
            if c.op == "lt" and c.args[0] in axes and not c.args[1].axes:
                bounds = found.setdefault(c.args[0], [])
                if c.args[1] not in bounds:
                    bounds.append(c.args[1])
    for a, bounds in sorted(found.items(), key=lambda f: -len(f[1])):
        ordered = _rising(bounds, a.extent)
        if ordered is not None and len(ordered) < most:
            return a, ordered
    return None


def _rising(bounds: list[Expr], extent: Expr) -> list[Expr] | None:
    """Bounds in an order that is shown to rise within 0..extent; None if there is none."""
    out: list[Expr] = []
    for b in bounds:
        at = next((i for i, o in enumerate(out) if prove_nonneg(simplify(o - b))), len(out))
        out.insert(at, b)
    steps = [ZERO, *out, extent]
    shown = all(prove_nonneg(simplify(hi - lo)) for lo, hi in pairwise(steps))
    return out if shown else None


def _pieces(st: Stage, a: Expr, bounds: list[Expr]) -> tuple[Stage, ...]:
    out: list[Stage] = []
    steps = [ZERO, *bounds, a.extent]
    for k, (lo, hi) in enumerate(pairwise(steps)):
        size = simplify(hi - lo)
        if size is ZERO:
            continue
        local = None if size is ONE else axis(f"{a.name}p{k}", size)
        c = st.compute
        axes = tuple(x for x in (local if y is a else y for y in c.axes) if x is not None)
        wide = replace(st, name=f"{st.name}_{k}", compute=replace(c, axes=axes))
        out.append(
            simplify_stage(
                substitute_stage(wide, {a: lo if local is None else simplify(local + lo)})
            )
        )
    return tuple(out)
