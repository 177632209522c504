"""Memory: where each buffer of a program lives in the arena.

Buffers whose lifetimes (in phases) do not overlap share a slot. A slot is as large as its largest
buffer; offsets are the sums of the slots before, 64-byte aligned, so that with symbolic dims the
plan is plain arithmetic at entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.base.artifact import ALIGNMENT
from ferrule.ir.expr import ZERO, Buf, Expr, call, const
from ferrule.ir.program import Placed
from ferrule.ir.simplify import prove_nonneg, simplify


@dataclass(frozen=True)
class Lifetime:
    """A buffer is written first in phase `first` and read last in phase `last`."""

    buf: Buf
    first: int
    last: int


@dataclass
class _Slot:
    size: Expr
    free_from: int
    members: list[Buf]


def plan(lifetimes: list[Lifetime]) -> tuple[tuple[Placed, ...], Expr]:
    """Offsets in bytes for all buffers, and the bytes of the whole arena."""
    slots: list[_Slot] = []
    for life in sorted(lifetimes, key=lambda x: (x.first, x.buf.name)):
        size = aligned_bytes(life.buf)
        slot = _fitting([s for s in slots if s.free_from <= life.first], size)
        if slot is None:
            slot = _Slot(size, 0, [])
            slots.append(slot)
        slot.size = _larger(slot.size, size)
        slot.free_from = life.last + 1
        slot.members.append(life.buf)
    placed: list[Placed] = []
    offset = ZERO
    for slot in slots:
        placed += [Placed(b, offset) for b in slot.members]
        offset = simplify(offset + slot.size)
    return tuple(placed), offset


def aligned_bytes(buf: Buf) -> Expr:
    """Bytes of `buf`, rounded up to the alignment."""
    size = buf.size * buf.dtype.size
    return simplify((size + (ALIGNMENT - 1)) // ALIGNMENT * ALIGNMENT)


def _fitting(free: list[_Slot], size: Expr) -> _Slot | None:
    """The free slot that wastes least: one of the same size, else a constant one nearest in size.
    """
    for s in free:
        if s.size is size:
            return s
    if not size.is_const:
        return None
    constant = [s for s in free if s.size.is_const]
    return min(constant, key=lambda s: abs(s.size.attr - size.attr), default=None)


def _larger(a: Expr, b: Expr) -> Expr:
    if a is b or prove_nonneg(a - b):
        return a
    return b if prove_nonneg(b - a) else simplify(call("max", a, b))


def total(sizes: list[Expr]) -> Expr:
    """The largest of several sizes, 0 for none."""
    out = const(0)
    for s in sizes:
        out = _larger(out, s)
    return out
