"""Rows: how the rows of a product fall into tiles.

    m = 10, tiles of 4 rows     [0 1 2 3] [4 5 6 7] [8 9]

Whole tiles have rows at fixed distances, without guards. The rows that are left at the end are a
tile of their own, of as many rows as there are. Where only a run can tell how many, it has all its
rows, and those past the edge repeat the last one: loads are clamped, stores are guarded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.ir.analysis.contraction import ContractionDims
from ferrule.ir.expr import TRUE, Expr, axis, both, call, const, le, lt, product, substitute
from ferrule.ir.simplify import prove, simplify
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.contraction.flat import flat


@dataclass(frozen=True)
class Rows:
    """The rows of a tile: their unrolled axis, where the m axes are for row r, clamped and not, the
    guard, and the condition under which a tile has these rows.
    """

    axis: Expr
    clamped: dict[Expr, Expr]
    exact: dict[Expr, Expr]
    guard: Expr
    chosen: Expr = TRUE

    def at(self, e: Expr, row: int) -> Expr:
        """`e`, which mentions m axes, for one row of the tile; -1 is the last."""
        here = const(row % self.axis.extent.attr)
        place = {a: substitute(c, {self.axis: here}) for a, c in self.clamped.items()}
        return simplify(substitute(e, place))

    def unguarded(self, chosen: Expr) -> Rows:
        """These rows where `chosen` holds, under which all of them exist."""
        return replace(self, clamped=self.exact, guard=TRUE, chosen=chosen)


@dataclass(frozen=True)
class Tiling:
    """The points of the m axes in tiles of `rows` rows. Rows run along the axes `along`, across all
    of them; each point of the axes `around` has tiles of its own.
    """

    along: tuple[Expr, ...]
    around: tuple[Expr, ...]
    rows: int

    @property
    def length(self) -> Expr:
        """The number of rows side by side."""
        return simplify(product([a.extent for a in self.along]))

    @property
    def few(self) -> Expr:
        """The number of tiles side by side."""
        length = product([a.extent for a in self.along])
        return simplify((length + (self.rows - 1)) // self.rows)

    @property
    def count(self) -> Expr:
        """The number of tiles."""
        return simplify(product([a.extent for a in self.around]) * self.few)

    def tile(self, number: Expr, name: str = "r", count: int = 0) -> Rows:
        """The rows of the tile with that number, along an axis called `name`: the first `count` of
        them, or all.
        """
        r = axis(name, count or self.rows)
        outer = flat(self.around, simplify(number // self.few)) if self.around else {}
        index = simplify(self._place(number) * self.rows + r)
        inside = simplify(lt(index, self.length))
        if prove(inside):
            exact = outer | flat(self.along, index)
            return Rows(r, exact, exact, TRUE)
        clamped = simplify(call("min", index, self.length - 1))
        return Rows(r, outer | flat(self.along, clamped), outer | flat(self.along, index), inside)

    def alternatives(self, number: Expr) -> tuple[Rows, ...]:
        """What the tile with that number may be, each with the condition under which it is that:
        whole, what is left at the end, or a single row, where a symbolic batch may have one.
        """
        rows = self.tile(number)
        if rows.guard is TRUE:
            return (rows,)
        whole = simplify(le((self._place(number) + 1) * self.rows, self.length))
        full, rest = rows.unguarded(whole), simplify(call("not", whole))
        if self.length.is_const:
            edge = self.tile(number, "re", self.length.attr % self.rows)
            return full, edge.unguarded(rest)
        edge = self.tile(number, "re")
        if not self._may_be_single():
            return full, replace(edge, chosen=rest)
        single = simplify(le(self.length, 1))
        alone = replace(self, rows=1).tile(number, "r1").unguarded(single)
        return full, replace(edge, chosen=simplify(both(rest, call("not", single)))), alone

    def _place(self, number: Expr) -> Expr:
        """The number of a tile among those side by side."""
        return number % self.few if self.around else number

    def _may_be_single(self) -> bool:
        """Whether there may be a single row, as where the batch is symbolic: all rows of a tile but
        one would be computed for nobody.
        """
        if self.rows == 1 or self.around or len(self.along) != 1:
            return False
        size = self.along[0].extent
        return size.op == "dim" and size.attr.lo <= 1


def tiling(roles: ContractionDims, block: Blocking) -> Tiling:
    """The tiles of rows that `block` asks for."""
    along, around = (roles.m[-1:], roles.m[:-1]) if block.straight else (roles.m, ())
    return Tiling(along, around, block.rows)
