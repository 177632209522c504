"""The right factor of a product, as the lanes of its tiles read it.

    in place     B[k, n]               n has unit stride in it
    packed       pack[panel, k, c]     c < NR columns of a panel; zero past the last column of B

A factor that is known before the first run is packed, which then happens once. Another is read
where it lies if it can be, and if its rows do not evict each other from the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.analysis.contraction import ContractionDims, operand_bufs
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Expr, fconst, load, product, select, substitute
from ferrule.ir.simplify import prove, simplify
from ferrule.schedule.contraction.contraction import Contraction
from ferrule.schedule.contraction.dims import in_place
from ferrule.schedule.contraction.packing import Packing, apart, pack_panels


@dataclass(frozen=True)
class Right:
    """The right factor of `roles`: where it lies, or from the panels that `packing` makes, which
    have the dimensions batch, panel, the folded axes `k`, column.
    """

    roles: ContractionDims
    k: tuple[Expr, ...]
    packing: Packing | None

    def at(self, panel: Expr, within: Expr, n: Expr, inside: Expr) -> Expr:
        """Its element in column `n`, which is number `within` of that panel; zero where the column
        is not `inside` the factor.
        """
        if self.packing is not None:
            return load(self.packing.buf, *_batch(self.roles), panel, *self.k, within)
        value = simplify(substitute(self.roles.right, {self.roles.n[0]: n}))
        return value if prove(inside) else select(inside, value, fconst(0.0, value.dtype))


def right_factor(
    c: Contraction, roles: ContractionDims, guard: Expr, k: tuple[Expr, ...], panels: Expr,
    name: str,
) -> Right:  # fmt: skip
    """The right factor of a product of `c`, in so many `panels`. Panels that must be packed are
    called `name`, and hold zero where `guard` is false.
    """
    bufs = operand_bufs(roles.right)
    constant = bool(bufs) and set(bufs) <= c.constant
    plain = roles.product == "mul" and in_place(roles.right, roles.n)
    if not constant and plain and not _worth_packing(c, roles):
        return Right(roles, k, None)
    width, outer = c.blocking.vectors * c.width, (*_batch(roles), *k)
    return Right(
        roles, k, pack_panels(name, roles, guard, outer, panels, width, c.target, constant)
    )


def _batch(roles: ContractionDims) -> tuple[Expr, ...]:
    """The batch axes of a packed right factor."""
    return tuple(b for b in roles.batch if b in roles.right.axes)


def _worth_packing(c: Contraction, roles: ContractionDims) -> bool:
    """Whether a right factor that could be read where it lies is better copied first: its rows are
    so far apart that they evict each other, and enough rows of A pass by it.
    """
    rows, costs = estimate(product([a.extent for a in c.roles.m])), c.target.machine.products
    return rows >= costs.copied_rows and apart(roles.right, roles.k) >= costs.far_rows
