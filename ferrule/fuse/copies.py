"""Copies that updates make needless: `y[i] = x[i]` before `y[k] = v`, where x is not read again.

    without_copies      those before updates of what has been updated before
    carried_through     those that lead from an input to an output, in a system or a module of
                        them: all these are one buffer then, which the program updates
    made_as_output      the one that makes an output of what the loops of a module update
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ferrule.ir.calls import Interface
from ferrule.ir.expr import Buf
from ferrule.ir.module import Branch, Control, Module, Part, Repetition, While
from ferrule.ir.system import Stage, System, rename_bufs

Stages = tuple[Stage, ...]


def face(level: System | Module[Any]) -> System | Interface:
    """What has the inputs, outputs and updates of a system or a module."""
    return level if isinstance(level, System) else level.interface


def without_copies(system: System) -> System:
    """`system` without the copies between updates of one buffer."""
    fixed = {*system.inputs, *system.params, *system.outputs}
    updated = {b for st in system.stages if st.update for b in st.writes}
    for target, source in _copies(system.stages).items():
        if source in fixed or not updated.issuperset((source, target)):
            continue
        stages = _merged(system.stages, source, target)
        if stages is not None:
            system = replace(system, stages=_renamed_stages(stages, {source: target}))
    return system


def carried_through(level: Any, state: Buf, result: Buf, whole: Buf) -> Any:
    """`level` with `whole`, an input, in place of the input `state`, the output `result` and what
    lies between. None where copies alone do not lead from one to the other, or an earlier value is
    needed after an update.
    """
    if isinstance(level, Module):
        return _through_module(level, state, result, whole)
    chain = _chain(_copies(level.stages), state, result, level.outputs)
    stages: Stages | None = level.stages
    for source, target in pairwise(chain):
        stages = None if stages is None else _merged(stages, source, target)
        if stages is not None:
            stages = _renamed_stages(stages, {source: target})
    if stages is None or not chain:
        return None
    return _with_stages(level, _renamed_stages(stages, {result: whole}), {state, result}, whole)


def made_as_output(module: Module[Any], buf: Buf) -> Module[Any]:
    """`module` with one of its outputs in place of `buf`, which it makes, where that output is a
    copy of what `buf` is in the end.
    """
    items = [i for k, part in enumerate(module.parts) for i in _items(k, part)]
    for at, item in enumerate(items):
        source, target = item.copies or (None, None)
        if source != buf or target not in module.interface.outputs:
            continue
        if any(buf in i.updates or target in i.updates for i in items[at:]):
            continue
        parts = tuple(_renamed_part(part, {buf: target}, target) for part in module.parts)
        return replace(module, parts=tuple(p for p in parts if not _is_idle(p)))
    return module


def _chain(
    copies: Mapping[Buf, Buf], state: Buf, result: Buf, outputs: Iterable[Buf]
) -> tuple[Buf, ...]:
    """The buffers from `state` to `result` of which each is copied to the next; none where there
    are no such. The ones between are no outputs.
    """
    chain = [result]
    while chain[-1] != state:
        source = copies.get(chain[-1])
        if source is None or source in outputs:
            return ()
        chain.append(source)
    return tuple(reversed(chain))


def _with_stages(system: System, stages: Stages, gone: set[Buf], whole: Buf) -> System:
    """`system` with other stages, which use `whole` instead of what is `gone`."""
    inputs = dict.fromkeys(b for b in system.inputs if b not in gone)
    updates = dict.fromkeys(b for b in system.updates if b not in gone)
    used = {b for st in stages for b in (*st.reads, *st.writes)}
    inputs.update(dict.fromkeys((whole,) if whole in used else ()))
    changed = {b for st in stages if st.update for b in st.writes}
    updates.update(dict.fromkeys((whole,) if whole in changed else ()))
    outputs = tuple(b for b in system.outputs if b not in gone)
    return replace(
        system, inputs=tuple(inputs), stages=stages, outputs=outputs, updates=tuple(updates)
    )


# ---- one copy ------------------------------------------------------------------------------------


def _copies(stages: Stages) -> dict[Buf, Buf]:
    """What is copied from where, in the order of the stages."""
    found = ((st.target.buf, _source(st)) for st in stages)
    return {target: source for target, source in found if source is not None}


def _source(st: Stage) -> Buf | None:
    """What a stage copies, element by element; None for any other stage."""
    value = st.compute.values[0]
    plain = st.is_pointwise and st.compute.where is None and len(st.targets) == 1
    if not plain or value.op != "load" or value.args != st.target.idx:
        return None
    source, target = value.attr, st.target.buf
    alike = source.shape == target.shape and source.order == target.order
    return source if alike and source.space is target.space else None


def _merged(stages: Stages, source: Buf, target: Buf) -> Stages | None:
    """`stages` without the copy of `source` to `target`, in an order in which the one is not read
    any more when the other is updated; None where there is no such order.
    """
    left = tuple(st for st in stages if _source(st) != source or st.target.buf != target)
    first = next((k for k, st in enumerate(left) if st.update and target in st.writes), None)
    if first is None:
        return left
    update = left[first]
    if source in update.reads:
        return None
    reads, writes = {*update.reads, *update.writes}, set(update.writes)
    earlier, later = list(left[:first]), [update]
    for st in left[first + 1 :]:
        touched = {*st.reads, *st.writes}
        if writes.isdisjoint(touched) and reads.isdisjoint(st.writes):
            earlier.append(st)
            continue
        if source in touched:
            return None
        later.append(st)
        reads |= touched
        writes |= set(st.writes)
    return (*earlier, *later)


def _renamed_stages(stages: Stages, bufs: Mapping[Buf, Buf]) -> Stages:
    return tuple(rename_bufs(st, dict(bufs)) for st in stages)


# ---- through the parts of a module ---------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A stage of a straight part, or another part: what it reads, and what it updates of it."""

    touches: frozenset[Buf]
    updates: frozenset[Buf]
    copies: tuple[Buf, Buf] | None = None


def _through_module(
    module: Module[Any], state: Buf, result: Buf, whole: Buf
) -> Module[Any] | None:
    """What `carried_through` says, in the order in which the parts stand."""
    own = module.interface
    items = [i for k, part in enumerate(module.parts) for i in _items(k, part)]
    copies = {target: source for i in items if i.copies for source, target in (i.copies,)}
    chain = _chain(copies, state, result, own.outputs)
    if not chain:
        return None
    for source, target in pairwise(chain):
        first = next((k for k, i in enumerate(items) if target in i.updates), len(items))
        behind = (i for i in items[first:] if i.copies != (source, target))
        if any(source in i.touches for i in behind):
            return None
    bufs = dict.fromkeys(chain, whole)
    parts = (_renamed_part(part, bufs, whole) for part in module.parts)
    left = tuple(p for p in parts if not _is_idle(p))
    updates = (*own.updates, *(whole,) * any(whole in face(p.body).updates for p in left))
    inputs = (*(b for b in own.inputs if b != state), whole)
    outputs = tuple(b for b in own.outputs if b != result)
    return Module(replace(own, inputs=inputs, outputs=outputs, updates=updates), left)


def _items(k: int, part: Part[Any]) -> Iterator[_Item]:
    """The items of part `k`, by the names that buffers have in the module; what a straight part
    keeps for itself has none.
    """
    body = part.body
    if part.control is not None or isinstance(body, Module):
        own = face(body)
        read = (*part.asked, *part.carried, *own.inputs[len(part.carried) :])
        yield _Item(frozenset((*read, *part.outputs)), frozenset(own.updates))
        return
    known = dict(zip(body.outputs, part.outputs, strict=True))
    known |= {b: b for b in (*body.inputs, *body.params)}
    for st in body.stages:
        touched = frozenset(known[b] for b in (*st.reads, *st.writes) if b in known)
        updates = frozenset(known[b] for b in (st.writes if st.update else ()) if b in known)
        source, target = _source(st), st.target.buf
        both = None
        if source is not None and source in known and target in known:
            both = known[source], known[target]
        yield _Item(touched, updates, both)


def _is_idle(part: Part[Any]) -> bool:
    """Whether a part makes and changes nothing."""
    return part.control is None and not part.outputs and not face(part.body).updates


def _renamed_part(part: Part[Any], bufs: Mapping[Buf, Buf], whole: Buf) -> Part[Any]:
    """`part` with `whole` in place of others, and without copies of it to itself."""
    body, control = part.body, part.control
    if control is not None or isinstance(body, Module):
        return Part(_renamed(body, bufs), part.outputs, _renamed_control(control, bufs))
    gone = {*bufs, whole}
    inside = {b for b, outer in zip(body.outputs, part.outputs) if outer in gone} | gone
    stages = _renamed_stages(body.stages, dict.fromkeys(inside, whole))
    stages = tuple(st for st in stages if _source(st) != st.target.buf)
    changed = _with_stages(body, stages, inside, whole)
    outputs = tuple(b for b in part.outputs if b not in gone)
    if any(whole in st.writes and not st.update for st in stages):
        made, outputs = (*changed.outputs, whole), (*outputs, whole)
        inputs = tuple(b for b in changed.inputs if b != whole)
        updates = tuple(b for b in changed.updates if b != whole)
        changed = replace(changed, inputs=inputs, outputs=made, updates=updates)
    return Part(changed, outputs)


def _renamed(level: Any, bufs: Mapping[Buf, Buf]) -> Any:
    """A system or module that captures other buffers."""
    own = face(level)
    named: Any = replace(
        own,
        inputs=tuple(dict.fromkeys(bufs.get(b, b) for b in own.inputs)),
        updates=tuple(dict.fromkeys(bufs.get(b, b) for b in own.updates)),
    )
    if isinstance(level, System):
        return replace(named, stages=_renamed_stages(level.stages, bufs))
    parts = (
        Part(_renamed(p.body, bufs), p.outputs, _renamed_control(p.control, bufs))
        for p in level.parts
    )
    return Module(named, tuple(parts))


def _renamed_control(control: Control | None, bufs: Mapping[Buf, Buf]) -> Control | None:
    def new(several: tuple[Buf, ...]) -> tuple[Buf, ...]:
        return tuple(bufs.get(b, b) for b in several)

    if isinstance(control, Repetition):
        return replace(control, first=new(control.first), over=new(control.over))
    if isinstance(control, While):
        return While(bufs.get(control.flag, control.flag), new(control.first))
    if isinstance(control, Branch):
        return replace(control, index=bufs.get(control.index, control.index))
    return control
