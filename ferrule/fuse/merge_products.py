"""Merge products: products of slices of one buffer with the same weights as one product.

    a[i, n] = sum k  x[0, i, k] * w[n, k]
    b[i, n] = sum k  x[1, i, k] * w[n, k]      ->      v[t, i, n] = sum k  x[t, i, k] * w[n, k]

The steps of a recurrent layer that was written out are such products. Each of few rows reads all
weights; together they read them once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.contraction import contraction, operand_bufs
from ferrule.ir.analysis.cost import weighed
from ferrule.ir.analysis.decision import Decision
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Buf, Expr, axis, const, load, loads, product, rewrite, substitute
from ferrule.ir.kernel import Kernel
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage, System, map_stage
from ferrule.target.machine import CPU, Machine


@dataclass(frozen=True)
class Member:
    """A product whose `left` factor is read at the constant `index` of dimension `dim`; those of
    one `family` differ in it alone.
    """

    st: Stage
    family: Any
    left: Expr
    dim: int
    index: int


def merge_products(
    system: System, machine: Machine = CPU
) -> tuple[System, tuple[Decision, ...]]:
    """`system` with families of products made one, and what was done."""
    constant = constants(system)
    kept = {*system.outputs, *(b for st in system.stages if st.update for b in st.writes)}
    families: dict[Any, list[Member]] = {}
    for st in system.stages:
        for m in _members(st, constant, frozenset(kept), machine.merged_rows):
            families.setdefault(m.family, []).append(m)
    joined: dict[str, Stage] = {}
    place: dict[Buf, tuple[Buf, int]] = {}
    decisions: list[Decision] = []
    for several in families.values():
        several = [m for m in several if m.st.target.buf not in place]
        low = min((m.index for m in several), default=0)
        whole = {m.index - low for m in several} == set(range(len(several)))
        if len(several) < machine.merged_products or not whole:
            continue
        one = joined[several[0].st.name] = _joined(several[0], low, len(several))
        buf = one.target.buf
        place.update((m.st.target.buf, (buf, m.index - low)) for m in several)
        reason = f"{len(several)} products with the same weights"
        chosen = Decision(buf.name, "merge", "in one", reason)
        decisions.append(weighed(chosen, Kernel(buf.name, (), (one,)), machine))
    out = [
        joined.get(st.name) or _moved(st, place)
        for st in system.stages
        if st.name in joined or st.target.buf not in place
    ]
    return replace(system, stages=tuple(out)), tuple(decisions)


def _members(
    st: Stage, constant: frozenset[Buf], fixed: frozenset[Buf], rows: int
) -> list[Member]:
    """What `st`, a product of at most so many rows, is a member of: one family for each dimension
    that it reads at a constant.
    """
    roles, c = contraction(st), st.compute
    plain = c.where is None and st.when is None and st.combine is None and not st.update
    if roles is None or not plain or set(st.writes) & fixed or roles.batch:
        return []
    left, right = roles.left, roles.right
    if set(operand_bufs(left)) <= constant:
        left, right, roles = right, left, roles.swapped()
    if left.op != "load" or left.attr in fixed or not set(operand_bufs(right)) <= constant:
        return []
    if estimate(product([a.extent for a in roles.m])) > rows or not isinstance(c.fold, Reduce):
        return []
    (buf, idx), names = st.target, _canonical(st)
    out = []
    for d, i in enumerate(left.args):
        if i.is_const and left.attr.shape[d] is not const(1):
            rest = tuple(substitute(x, names) for k, x in enumerate(left.args) if k != d)
            at = tuple(substitute(x, names) for x in idx)
            key = (left.attr, d, rest, substitute(right, names), at, buf.shape, buf.layout)
            out.append(Member(st, key, left, d, int(i.value)))
    return out


def _canonical(st: Stage) -> dict[Expr, Expr]:
    """Names for the axes of a stage that are the same for all stages of its form."""
    return {a: axis(f"\0{k}", a.extent) for k, a in enumerate(st.compute.all_axes)}


def _joined(m: Member, low: int, count: int) -> Stage:
    """The product of all members of a family; `m` is the first."""
    (buf, idx), c = m.st.target, m.st.compute
    t = axis(f"{buf.name}_t", count)
    at = tuple(simplify(t + low) if k == m.dim else i for k, i in enumerate(m.left.args))
    value = substitute(c.values[0], {m.left: load(m.left.attr, *at)})
    order = None if buf.layout is None else (0, *(d + 1 for d in buf.order))
    whole = Buf(f"{buf.name}_all", (t.extent, *buf.shape), buf.dtype, buf.space, order)
    return replace(
        m.st,
        targets=(Access(whole, (t, *idx)),),
        compute=Compute((t, *c.axes), (value,), c.fold, c.where),
    )


def _moved(st: Stage, place: dict[Buf, tuple[Buf, int]]) -> Stage:
    """`st` with loads of members' results from the common buffer."""

    def visit(node: Expr) -> Expr | None:
        if node.op == "load" and node.attr in place:
            buf, index = place[node.attr]
            return load(buf, const(index), *node.args)
        return None

    if not any(b in place for b in st.reads):
        return st
    return map_stage(st, lambda e: rewrite(e, visit) if loads(e) else e)
