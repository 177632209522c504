"""Pieces: items of a kernel that is being made, with all that they bring to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import Item, Kernel, Kind, stages
from ferrule.schedule.contraction.packing import Packed, Packing


@dataclass(frozen=True)
class Pieces:
    """Items, the scratch that they need, the totals of their deep sums (scratch too), how their
    axes run, and the packings that must run before.
    """

    items: tuple[Item, ...] = ()
    scratch: tuple[Buf, ...] = ()
    totals: tuple[Buf, ...] = ()
    kinds: dict[str, Kind] = field(default_factory=dict)
    packings: tuple[Packing, ...] = ()

    def __add__(self, other: Pieces) -> Pieces:
        """These and then the others."""
        return Pieces(
            self.items + other.items,
            self.scratch + other.scratch,
            self.totals + other.totals,
            self.kinds | other.kinds,
            self.packings + other.packings,
        )

    def kernel(self, name: str, grid: tuple[Expr, ...]) -> Packed:
        """The kernel that is made of them, with the scratch that it uses."""
        used = {b for st in stages(self.items) for b in (*st.reads, *st.writes)}
        scratch = tuple(b for b in (*self.scratch, *self.totals) if b in used)
        kernel = Kernel(name, grid, self.items, scratch, tuple(sorted(self.kinds.items())))
        return Packed(kernel, self.packings)
