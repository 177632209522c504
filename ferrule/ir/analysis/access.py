"""Access: where a load or a store goes in memory, and how that moves with an axis."""

from __future__ import annotations

from ferrule.ir.expr import ZERO, Buf, Expr, Space, loads
from ferrule.ir.simplify import coefficient, simplify
from ferrule.ir.system import Access, Stage


def offset(buf: Buf, idx: tuple[Expr, ...]) -> Expr:
    """Distance in elements from the start of `buf`, in normal form."""
    out = ZERO
    for i, s in zip(idx, buf.strides, strict=True):
        out = out + i * s
    return simplify(out)


def stride(buf: Buf, idx: tuple[Expr, ...], axis: Expr) -> Expr | None:
    """How far one step of `axis` moves, in elements; None where that is not the same everywhere."""
    if not any(axis in i.axes for i in idx):
        return ZERO
    return coefficient(offset(buf, idx), axis)


def accesses(st: Stage, everywhere: bool = False) -> list[Access]:
    """The distinct places in memory that a stage reads and writes; scratch too where `everywhere`.
    """
    read = (Access.of(ld) for e in st.exprs() for ld in loads(e))
    found = dict.fromkeys((*st.targets, *read))
    return [at for at in found if everywhere or at.buf.space is Space.GLOBAL]
