"""Sums: long sums of floats in blocks, so that their error does not grow with their length.

    s = sum[i: n] x[i]     ->     t = 0;  for c: { b = sum[j: min(B, n - c*B)] x[c*B + j];  t += b }
                                  s = t

An accumulator takes at most TERMS terms in its own dtype, and the totals of blocks are kept in f64.
So a sum of f32 is off by at most BOUND times the sum of its terms' sizes, however many they are.
The loop inside a block is that of a short sum. A sum that is known to be short has no blocks; one
of unknown length has, and a few instructions more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ferrule.base.dtype import f64
from ferrule.ir.expr import Expr, axis, call, const
from ferrule.ir.monoids import SUM, dtype_of
from ferrule.ir.simplify import range_of, simplify
from ferrule.ir.system import Compute, Reduce, Stage, substitute_stage

TERMS = 128  # that one accumulator takes
FOLDS = 16  # roundings when a block's accumulators become one, and of the result
BOUND = (TERMS + FOLDS) * 2.0**-24  # of a sum of f32, besides errors of the terms themselves
TOTAL = SUM(f64)  # of blocks


@dataclass(frozen=True)
class Blocks:
    """Loops from outside in, the first `outside` of which go from block to block; of an axis that
    was cut for that, where it went (`place`).
    """

    loops: tuple[Expr, ...]
    outside: int
    place: dict[Expr, Expr]

    def moved(self, st: Stage) -> Stage:
        """`st` over these loops."""
        if not self.place:
            return st
        c, fold = st.compute, st.compute.fold
        if isinstance(fold, Reduce):
            fold = replace(fold, axes=self._axes(fold.axes))
        st = replace(st, compute=Compute(self._axes(c.axes), c.values, fold, c.where))
        return substitute_stage(st, self.place)

    def _axes(self, axes: tuple[Expr, ...]) -> tuple[Expr, ...]:
        parts = self.loops[self.outside - 1 : self.outside + 1]
        return tuple(p for a in axes for p in (parts if a in self.place else (a,)))


def is_sum(st: Stage) -> bool:
    """Whether a stage is a sum of floats, which rounds."""
    fold = st.compute.fold
    if not isinstance(fold, Reduce):
        return False
    dtype = dtype_of(fold.monoid)
    return dtype.is_float and fold.monoid == SUM(dtype)


def long_sums(
    bundle: list[Stage], loops: list[Expr], lane: Expr | None, points: int, prefix: str
) -> Blocks | None:
    """The `loops` of `bundle` in blocks, None where all its sums are short. Along the axis `lane`
    an accumulator takes one point of `points`. `prefix` begins the names of new axes.
    """
    folded = {a for st in bundle if is_sum(st) for a in st.compute.reduce_axes}
    return in_blocks(tuple(loops), folded, {lane: points}, prefix, TERMS)


def in_blocks(
    loops: tuple[Expr, ...],
    folded: Collection[Expr],
    steps: Mapping[Expr | None, int],
    prefix: str,
    most: int,
) -> Blocks | None:
    """`loops` in blocks of at most `most` points of the axes that are `folded`, None where they
    have no more. `steps` of an axis count as one point; `prefix` begins the names of new axes.
    """
    terms = 1
    for depth in reversed(range(len(loops))):
        a = loops[depth]
        if a not in folded:
            continue
        step, length = steps.get(a, 1), range_of(a.extent)[1]
        count = None if length is None else max(1, -(-length // step))
        if count is not None and terms * count <= most:
            terms *= count
            continue
        room = most // terms
        if room < 2:
            return Blocks(loops, depth + 1, {})
        size = step * _room(a.extent, step, room)
        outer = axis(prefix + "c", simplify((a.extent + (size - 1)) // size))
        here = simplify(call("min", const(size), a.extent - outer * size))
        inner = axis(prefix + "i", here)
        cut = (*loops[:depth], outer, inner, *loops[depth + 1 :])
        return Blocks(cut, depth + 1, {a: simplify(outer * size + inner)})
    return None


def _room(extent: Expr, step: int, most: int) -> int:
    """How many of at most `most` steps a block has: as many as divide the extent, if nearly as many
    do.
    """
    if not extent.is_const:
        return most
    even = (r for r in range(most, most // 2, -1) if extent.attr % (r * step) == 0)
    return next(even, most)
