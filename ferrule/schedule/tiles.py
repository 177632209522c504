"""Tiles: the pieces that contraction schedules are made of.

The register block follows Goto and van de Geijn, "Anatomy of High-Performance Matrix
Multiplication" (2008), as BLIS names it: as many accumulators as registers allow beside one vector
of B a column and one broadcast of A.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.base.target import Target
from ferrule.ir.compute import Compute, Monoid, Reduce, Stage
from ferrule.ir.expr import ONE, Buf, Expr, axis, call, const, fconst, substitute
from ferrule.ir.kernel import Item, Scope
from ferrule.ir.simplify import simplify
from ferrule.ir.size import estimate

DEPTH = 768  # most terms of the sum taken at once: a panel of B this deep stays close to L1


@dataclass(frozen=True)
class RegisterBlock:
    """Rows of A by vectors of B that one tile accumulates."""

    rows: int
    vectors: int


def register_block(m: Expr, n: Expr, width: int, target: Target) -> RegisterBlock:
    """The block for an m x n product: the largest that fits the registers, less where m or n is
    smaller.
    """
    choices: tuple[tuple[int, int], ...]
    if target.registers >= 32:
        choices = ((14, 2), (8, 3), (6, 4), (4, 6), (2, 8), (1, 8))
    elif target.has_fma:
        choices = ((4, 3), (6, 2), (3, 4), (2, 5), (1, 8))
    else:
        choices = ((4, 2), (3, 3), (2, 4), (1, 8))
    rows, columns = estimate(m), estimate(n)
    if not n.is_const:  # sizes that are not known are mostly even in vectors
        choices = tuple(c for c in choices if c[1] & (c[1] - 1) == 0)

    def waste(c: tuple[int, int]) -> float:
        r, v = c
        down = -(-rows // r) if m.is_const else rows / r  # an estimate has no edge to fit
        across = -(-columns // (v * width)) if n.is_const else columns / (v * width)
        return down * across * (r * v + 0.15 * (r + v * 2) + 1.5)

    rows_, vectors = min(choices, key=waste)
    if n.is_const:
        vectors = min(vectors, -(-n.attr // width))
    return RegisterBlock(rows_, vectors)


def flat(axes: tuple[Expr, ...], index: Expr) -> dict[Expr, Expr]:
    """Each of `axes` as an expression of the index into their product."""
    out: dict[Expr, Expr] = {}
    inner = ONE
    for i, a in enumerate(reversed(axes)):
        q = simplify(index // inner)
        out[a] = q if i == len(axes) - 1 else simplify(q % a.extent)
        inner = simplify(inner * a.extent)
    return out


@dataclass
class Rows:
    """The rows of a tile: their unrolled axis, where the m axes are for row r, clamped and not, and
    the guard.
    """

    axis: Expr
    clamped: dict[Expr, Expr]
    exact: dict[Expr, Expr]
    guard: Expr


@dataclass
class Tile:
    """One tile of a contraction: its accumulators over the `wide` axes, its columns, and the terms
    of its sum.
    """

    st: Stage
    wide: tuple[Expr, ...]
    acc: Buf
    n: Expr
    inside: Expr
    term: Expr
    where: Expr | None

    def items(
        self, k: tuple[Expr, ...], start: Expr | None, split: dict[Expr, Expr]
    ) -> tuple[Item, ...]:
        """Set the accumulators to `start` (0 by default) and add the terms over the loops `k`."""
        zero = fconst(0.0, self.acc.dtype)
        first = Stage(
            self.st.name + "_start", ((self.acc, self.wide),), Compute(self.wide, (start or zero,))
        )
        where = None if self.where is None else simplify(substitute(self.where, split))
        body: tuple[Item, ...] = (
            Stage(
                self.st.name,
                ((self.acc, self.wide),),
                Compute(self.wide, (simplify(substitute(self.term, split)),)),
                sum_of(self.st),
                where,
                update=True,
            ),
        )
        for a in reversed(k):
            body = (Scope(a, body),)
        return (first, *body)


@dataclass(frozen=True)
class Parts:
    """The folded axes in order: all, and cut in two so that the inner ones have at most DEPTH
    points; `split` tells where an axis went that was cut itself.
    """

    whole: tuple[Expr, ...]
    outer: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    split: dict[Expr, Expr]


def parts(k: tuple[Expr, ...]) -> Parts:
    depth, at = 1, len(k)
    while at > 0 and depth * estimate(k[at - 1].extent) <= DEPTH:
        at -= 1
        depth *= estimate(k[at].extent)
    if at < len(k):
        return Parts(k, k[:at], k[at:], {})
    last = k[-1]
    step = next(
        (
            d
            for d in range(DEPTH, DEPTH // 2, -1)
            if last.extent.is_const and last.extent.attr % d == 0
        ),
        256,
    )
    outer = axis(last.name + "o", simplify((last.extent + (step - 1)) // step))
    inner = axis(last.name + "i", simplify(call("min", const(step), last.extent - outer * step)))
    return Parts(k, (*k[:-1], outer), (inner,), {last: simplify(outer * step + inner)})


def sum_of(st: Stage) -> Monoid:
    fold = st.compute.fold
    assert isinstance(fold, Reduce)
    return fold.monoid
