"""Words: sums of products of bytes as sums of dot products of four.

    sum k  i32(x[.., k]) * i32(w[k, ..])
        ->  sum j  dot4(word(x[.., 4j], .., x[.., 4j + 3]), word(w[4j, ..], .., w[4j + 3, ..]))

with x unsigned and w signed, along a folded axis whose points lie side by side in x if there is
one: there a word is one load, else four. Words of w are made when it is packed.
"""

from __future__ import annotations

from dataclasses import replace

from ferrule.base.dtype import i8, i32, u8
from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, axis, call, loads, substitute
from ferrule.ir.kernel import Kernel, stages
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Compute, Reduce, Stage
from ferrule.schedule.contraction.dims import contraction_dims, points
from ferrule.target.cpu import Target

BYTES = 4  # of a word


def in_words(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Kernel:
    """`kernel` with its first stage over words, where that sums products of bytes and the target
    has dot products of them. `constant` are the buffers that are packed once.
    """
    first, *others = stages(kernel.body)
    few = target.machine.products.few_rows
    if not target.has_dot4 or (made := _in_words(kernel, first, constant, few)) is None:
        return kernel
    return replace(kernel, body=(made, *others))


def _in_words(kernel: Kernel, st: Stage, constant: frozenset[Buf], few: int) -> Stage | None:
    fold, roles = st.compute.fold, contraction_dims(kernel, st)
    factors = _factors(st.compute.values[0])
    if not isinstance(fold, Reduce) or roles is None or factors is None:
        return None
    if set(roles.n) & roles.left.axes:
        return None  # depthwise: of one channel each
    x, w = factors
    rows = roles.m if x in loads(roles.left) else roles.n
    if not {ld.attr for ld in loads(w)} <= constant and points(rows) < few:
        return None  # packing w would take longer than reading it where it lies
    fours = [a for a in fold.axes if _splits(st, x, a)]
    if not fours:
        return None
    along = next((a for a in fours if stride(x.attr, x.args, a) is ONE), fours[0])
    word = axis(f"{along.name}w", simplify(along.extent // BYTES))

    def joined(e: Expr) -> Expr:
        return call("word", *(substitute(e, {along: word * BYTES + i}) for i in range(BYTES)))

    axes = tuple(word if a is along else a for a in fold.axes)
    value = call("dot4", joined(x), joined(w))
    compute = Compute(st.compute.axes, (value,), replace(fold, axes=axes), st.compute.where)
    return simplify_stage(replace(st, compute=compute))


def _factors(value: Expr) -> tuple[Expr, Expr] | None:
    """The unsigned and the signed byte whose product a value is."""
    if value.op != "mul" or value.dtype != i32 or any(a.op != "cast" for a in value.args):
        return None
    x, w = (a.args[0] for a in value.args)
    if x.dtype == i8:
        x, w = w, x
    return (x, w) if x.op == "load" and (x.dtype, w.dtype) == (u8, i8) else None


def _splits(st: Stage, x: Expr, a: Expr) -> bool:
    """Whether the points of `a` come in fours, at fixed distances in `x` and under no guard."""
    guards = st.compute.where
    if not a.extent.is_const or a.extent.attr % BYTES or (guards is not None and a in guards.axes):
        return False
    return stride(x.attr, x.args, a) not in (None, ZERO)
