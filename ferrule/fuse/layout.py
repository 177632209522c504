"""Layout: the order of each intermediate buffer's dimensions in memory, chosen once.

A contraction with a parameter on one side computes vectors of that side's columns (a convolution's
output channels), so its result keeps that dimension innermost: convolutions come out channels-last
with no transpose anywhere, since a layout changes where an element lies and no index. Other stages
follow the layout of the largest buffer they read, or else have the channels innermost where a
convolution reads what they write many times. What a convolution with few channels on both sides
reads stays row-major, as its vectors run along rows. Unsigned bytes that are multiplied by signed
ones have the points that are summed over side by side. Inputs and outputs of the program stay
row-major: what is better computed in another order is copied to its output, and an input whose
elements a convolution reads many times is copied to channels-last first. A product of two factors
that both change has the order in which it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ferrule.base.dtype import i8, u8
from ferrule.ir.analysis.constants import constants
from ferrule.ir.analysis.contraction import (
    ContractionDims,
    channels,
    contraction,
    operand_bufs,
    untangle,
    widens,
)
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import Buf, Expr, axis, load, loads, product
from ferrule.ir.system import Access, Compute, Stage, System, rename_bufs
from ferrule.target.machine import CPU, Machine


def assign_layouts(system: System, machine: Machine = CPU) -> System:
    """`system` with layouts given to its intermediate buffers."""
    fixed = {*system.inputs, *system.params, *system.outputs}
    constant = constants(system)
    rewritten = {b for st in system.stages if st.update for b in st.writes}
    chosen: dict[Buf, Buf] = {}
    wanted, plain = _wanted(system, machine), _read_along_rows(system, machine)
    bytes_of = _read_in_words(system)
    for st in system.stages:
        for buf, idx in st.targets:
            product = _contracting(st) is not None
            kept = (buf in constant and not product) or st.update or buf in plain
            order = None if kept else _order(st, idx, constant, chosen)
            free = buf not in constant and buf not in fixed | rewritten
            if free and (order is None or (buf in bytes_of and not kept)):
                order = bytes_of.get(buf, wanted.get(buf))
            if order is None or order == tuple(range(len(idx))):
                continue
            if buf not in fixed:
                chosen[buf] = Buf(buf.name, buf.shape, buf.dtype, buf.space, order)
            elif _turns(buf, order, machine.turned_points) and buf not in rewritten:
                chosen[buf] = Buf(f"{buf.name}_turned", buf.shape, buf.dtype, buf.space, order)
    if not chosen:
        return system
    stages: list[Stage] = []
    for st in system.stages:
        renamed = rename_bufs(st, chosen)
        turned = _turned_input(renamed, set(system.inputs), machine)
        if turned is not None:
            stages.append(_copy(*turned))
            renamed = rename_bufs(renamed, dict((turned,)))
        stages.append(renamed)
        for buf, _ in st.targets:
            if buf in chosen and buf in fixed:
                stages.append(_copy(chosen[buf], buf))
    return replace(system, stages=tuple(stages))


def _copy(source: Buf, target: Buf) -> Stage:
    axes = tuple(axis(f"{target.name}_{i}", s) for i, s in enumerate(source.shape))
    value = Compute(axes, (load(source, *axes),))
    return Stage(f"{target.name}_copy", (Access(target, axes),), value)


def _wanted(system: System, machine: Machine) -> dict[Buf, tuple[int, ...]]:
    """The order that a convolution wants for a buffer that another stage writes."""
    made = {b for st in system.stages for b in st.writes}
    found = (_channels_last(st, made, machine) for st in system.stages)
    return _as_read(system) | dict(f for f in found if f is not None)


def _as_read(system: System) -> dict[Buf, tuple[int, ...]]:
    """The order in which element-wise stages read what a contraction writes, where it is one: its
    vectors can run along either side, and theirs only along the innermost dimension. Those of views
    in between are innermost in the order in which these are read.
    """
    made = {b for st in system.stages if _contracting(st) is not None for b in st.writes}
    inner: dict[Buf, set[int]] = {}
    found: dict[Buf, tuple[int, ...]] = {}
    for st in reversed(system.stages):
        buf, idx = st.target
        (d,) = known if len(known := inner.get(buf, set())) == 1 else (len(idx) - 1,)
        if buf in made and d < len(idx) - 1:
            found[buf] = (*(k for k in range(len(idx)) if k != d), d)
        for ld in (ld for e in st.exprs() for ld in loads(e)):
            along = [k for k, i in enumerate(ld.args) if idx and idx[d] in i.axes]
            plain = st.is_pointwise and len(along) == 1 and ld.args[along[0]] is idx[d]
            inner.setdefault(ld.attr, set()).add(along[0] if plain else len(ld.args) - 1)
    return found


def _turned_input(st: Stage, inputs: set[Buf], machine: Machine) -> tuple[Buf, Buf] | None:
    """The input of the program that a convolution reads through a window, and a buffer for its copy
    with the channels innermost; None where the copy would take longer than it saves.
    """
    found = _channels_last(st, inputs, machine)
    if found is None:
        return None
    buf, order = found
    return buf, Buf(f"{buf.name}_{st.name}", buf.shape, buf.dtype, buf.space, order)


@dataclass(frozen=True)
class _Window:
    """A convolution's one read of a buffer: which of its dims are the channels, how many products
    an element with all channels takes part in (`taps`), and how many columns the result has.
    """

    load: Expr
    channel: int
    taps: int
    columns: int
    depthwise: bool

    def few(self, machine: Machine) -> bool:
        """Whether the channels do not fill a vector."""
        return estimate(self.load.attr.shape[self.channel]) < machine.turned_channels


def _window(st: Stage, among: set[Buf]) -> _Window | None:
    """How a convolution reads a buffer of `among`; None for any other stage."""
    st = untangle(st)
    roles = _contracting(st)
    if roles is None:
        return None
    read = [ld for e in (roles.left, roles.right) for ld in loads(e) if ld.attr in among]
    if len(read) != 1 or len(read[0].args) < 3:
        return None
    args = read[0].args
    own = roles.n if set(roles.n) & roles.left.axes else ()  # depthwise: of its own channel
    channel = [d for d, i in enumerate(args) if i in (own or roles.k)]
    if len(channel) != 1:
        return None
    taps = estimate(product([a.extent for a in roles.k if a is not args[channel[0]]]))
    columns = () if own else roles.n if read[0] in loads(roles.left) else roles.m
    several = estimate(product([a.extent for a in columns]))
    return _Window(read[0], channel[0], taps, several, bool(own))


def _channels_last(
    st: Stage, among: set[Buf], machine: Machine
) -> tuple[Buf, tuple[int, ...]] | None:
    """The buffer of `among` that a convolution reads through a window, and the order of its
    dimensions with the channels innermost; None where that would save little.
    """
    w = _window(st, among)
    if w is None or w.channel == len(w.load.args) - 1 or w.taps == 1 or w.few(machine):
        return None
    if w.taps * w.columns < machine.turned_reuse and not w.depthwise:
        return None
    dims = range(len(w.load.args))
    return w.load.attr, (*(d for d in dims if d != w.channel), w.channel)


def _read_along_rows(system: System, machine: Machine) -> set[Buf]:
    """What a convolution reads whose result has few columns, and whose channels are few too: its
    vectors can only run along the points of a row.
    """
    made = {b for st in system.stages for b in st.writes}
    found = (_window(st, made) for st in system.stages)
    several = (w for w in found if w is not None and w.taps > 1 and not w.depthwise)
    return {w.load.attr for w in several if w.few(machine) and w.columns < machine.few_columns}


def _read_in_words(system: System) -> dict[Buf, tuple[int, ...]]:
    """The order of unsigned bytes that are widened and multiplied by signed ones, with folded
    points side by side: machines multiply them in words.
    """
    widened = {
        st.target.buf: value.args[0]
        for st in system.stages
        for value in st.compute.values[:1]
        if st.is_pointwise and widens(value) and value.args[0].args == st.target.idx
    }
    found: dict[Buf, tuple[int, ...]] = {}
    for st in system.stages:
        roles = contraction(st)
        if roles is None:
            continue
        read = (*loads(roles.left), *loads(roles.right))
        sources = {ld: widened[ld.attr] for ld in read if ld.attr in widened}
        if {s.dtype for s in sources.values()} != {u8, i8}:
            continue
        for ld, source in sources.items():
            folded = [d for d, i in enumerate(ld.args) if i in roles.k]
            if source.dtype == u8 and folded:
                inner = max(folded, key=lambda d: estimate(ld.args[d].extent))
                dims = range(len(ld.args))
                found[source.attr] = (*(d for d in dims if d != inner), inner)
    return found


def _contracting(st: Stage) -> ContractionDims | None:
    """The roles of a stage that contracts, or does so for each channel."""
    return contraction(st) or channels(st)


def _turns(buf: Buf, order: tuple[int, ...], least: int) -> bool:
    """Whether an output in this order has enough points along its innermost dimension and along the
    one that is innermost in the program's order to be copied by squares.
    """
    inner = {order[-1], len(buf.shape) - 1}
    return len(inner) == 2 and all(estimate(buf.shape[d]) >= least for d in inner)


def _order(
    st: Stage, idx: tuple[Expr, ...], constant: frozenset[Buf], chosen: dict[Buf, Buf]
) -> tuple[int, ...] | None:
    """Dimensions of the target from outermost to innermost; None to leave them as they are."""
    if len(idx) < 3:
        return None
    st = untangle(st)
    idx = st.target.idx
    roles = _contracting(st)
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
