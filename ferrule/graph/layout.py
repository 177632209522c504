"""Layout: the order of each intermediate buffer's dimensions in memory, chosen once.

A contraction with a parameter on one side computes vectors of that side's columns (a convolution's
output channels), so its result keeps that dimension innermost: convolutions come out channels-last
with no transpose anywhere, since a layout changes where an element lies and no index. Other stages
follow the layout of the largest buffer they read. Inputs and outputs of the program stay row-major.
"""

from __future__ import annotations

from ferrule.ir.compute import Compute, Stage, System, rename_bufs
from ferrule.ir.contraction import contraction, operand_bufs, untangle
from ferrule.ir.expr import Buf, Expr, axis, load, loads


def assign_layouts(system: System) -> System:
    """`system` with layouts given to its intermediate buffers."""
    fixed = {*system.inputs, *system.params, *system.outputs}
    constant = set(system.params)
    chosen: dict[Buf, Buf] = {}
    for st in system.stages:
        if all(b in constant for b in st.reads):
            constant |= set(st.writes)
        for buf, idx in st.targets:
            order = None if buf in fixed or buf in constant else _order(st, idx, constant, chosen)
            if order is not None and order != tuple(range(len(idx))):
                chosen[buf] = Buf(buf.name, buf.shape, buf.dtype, buf.space, order)
    if not chosen:
        return system
    stages: list[Stage] = []
    for st in system.stages:
        copies, moved = _relaid(rename_bufs(st, chosen), set(system.params))
        stages += [*copies, moved]
    return System(system.name, system.inputs, system.params, tuple(stages), system.outputs)


def _relaid(st: Stage, params: set[Buf]) -> tuple[list[Stage], Stage]:
    """A folding stage that is no contraction (a depthwise convolution), reading copies of its
    parameters in which the result's innermost dimension is innermost too; the copies are made once.
    """
    target, idx = st.targets[0]
    if not st.is_reduction or target.layout is None or contraction(untangle(st)) is not None:
        return [], st
    lane = idx[target.order[-1]]
    copies: list[Stage] = []
    renamed: dict[Buf, Buf] = {}
    for ld in (ld for e in st.exprs() for ld in loads(e)):
        if (
            ld.attr not in params
            or ld.attr in renamed
            or lane not in ld.args
            or ld.args[-1] is lane
        ):
            continue
        buf = ld.attr
        at = ld.args.index(lane)
        order = (*(d for d in range(len(ld.args)) if d != at), at)
        copy = Buf(f"{buf.name}_{st.name}", buf.shape, buf.dtype, buf.space, order)
        axes = tuple(axis(f"{copy.name}{i}", s) for i, s in enumerate(buf.shape))
        copies.append(Stage(copy.name, ((copy, axes),), Compute(axes, (load(buf, *axes),))))
        renamed[buf] = copy
    return copies, rename_bufs(st, renamed)


def _order(
    st: Stage, idx: tuple[Expr, ...], constant: set[Buf], chosen: dict[Buf, Buf]
) -> tuple[int, ...] | None:
    """Dimensions of the target from outermost to innermost; None to leave them as they are."""
    if len(idx) < 3:
        return None
    st = untangle(st)
    idx = st.targets[0][1]
    roles = contraction(st)
    if roles is not None:
        sides = [
            n
            for e, n in ((roles.right, roles.n), (roles.left, roles.m))
            if set(operand_bufs(e)) <= constant
        ]
        inner = sides[0] if sides else ()
        return (
            tuple(sorted(range(len(idx)), key=lambda d: bool(idx[d].axes & set(inner))))
            if inner
            else None
        )
    followed = [ld for e in st.exprs() for ld in loads(e) if ld.attr in chosen]
    if not followed:
        return None
    leader = max(followed, key=lambda ld: len(ld.axes))
    physical = [leader.args[d] for d in chosen[leader.attr].order]

    def place(d: int) -> int:
        return next(
            (p for p, i in enumerate(physical) if idx[d].axes and idx[d].axes <= i.axes), -1
        )

    return tuple(sorted(range(len(idx)), key=place))
