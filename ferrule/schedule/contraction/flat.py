"""Several axes as one: where they are at a point of their product, and which point that is."""

from __future__ import annotations

from ferrule.ir.expr import ONE, ZERO, Expr
from ferrule.ir.simplify import simplify


def flat(axes: tuple[Expr, ...], index: Expr) -> dict[Expr, Expr]:
    """Each of `axes` as an expression of the index into their product."""
    out: dict[Expr, Expr] = {}
    inner = ONE
    for i, a in enumerate(reversed(axes)):
        q = simplify(index // inner)
        out[a] = q if i == len(axes) - 1 else simplify(q % a.extent)
        inner = simplify(inner * a.extent)
    return out


def flat_index(loops: tuple[Expr, ...]) -> tuple[Expr, Expr]:
    """The number of the point that the loops are at, and how many points they have."""
    number, count = ZERO, ONE
    for a in reversed(loops):
        number, count = number + a * count, count * a.extent
    return simplify(number), simplify(count)
