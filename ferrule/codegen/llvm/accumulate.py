"""Register blocks: how multiply-adds get the element of A that all lanes share.

    acc[r, u, l] += A[r, k] * B[k, u, l]        r rows of u vectors, l the lanes

An element of A is broadcast once, for the u multiply-adds of its row; or, where the target has
operands that are broadcast from memory, it is part of each of these. With one or two vectors a row
that saves more instructions than it adds loads: a block of 14 x 2 takes 30 in place of 44 for each
term, and a core that runs another thread beside this one has no more than two or three a cycle
left. (Measured so: 14 x 2 takes 5 % less time, 24 x 1 25 to 40 %, 6 x 4 no less.)

LLVM makes such an operand of a load that has one user, so each user gets a load of its own, from a
copy of the address that LLVM can't tell to be one. The address must be a register and a constant:
with an index register beside it the processor takes the instruction apart again.
"""

from __future__ import annotations

from ferrule.codegen.llvm.memory import flat_index
from ferrule.codegen.llvm.values import Context
from ferrule.ir.expr import Expr, Space, const, substitute
from ferrule.ir.loop import Store
from ferrule.ir.simplify import poly


def own_copy(cx: Context, s: Store) -> int | None:
    """Which load of its element of A an accumulator takes for itself, counted by its vector; None
    where its row shares one, or the store is no such multiply-add.
    """
    if s.monoid is None or cx.lane is None or cx.guards or not cx.b.target.has_embedded_broadcast:
        return None
    buf, idx = s.targets[0]
    if buf.space is not Space.REG or len(idx) != 3 or s.values[0].op != "mul":
        return None
    most = cx.b.target.machine.code.own_loads
    rows, vectors = (int(n.value) for n in buf.shape[:2])
    shared = [x for x in s.values[0].args if x.op == "load" and cx.lane not in x.axes]
    if rows == 1 or vectors > most or len(shared) != 1:
        return None
    return int(cx.sub(idx[1]).value) if _straight(cx, shared[0], idx[0]) else None


def _straight(cx: Context, element: Expr, row: Expr) -> bool:
    """Whether rows lie at constant distances."""
    here, first = (
        poly(flat_index(cx, element.attr, tuple(cx.sub(substitute(i, at)) for i in element.args)))
        for at in ({}, {row: const(0)})
    )
    return {m: c for m, c in here.items() if m} == {m: c for m, c in first.items() if m}
