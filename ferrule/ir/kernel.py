"""Kernel: what runs between two barriers.

    item     = stage | loop | branch | prefetch
    loop     = for axis { item.. } with scratch..     a serial loop, and the life of its scratch
    branch   = if expr { item.. }                     items that may be left out
    prefetch = buf[idx..] [write]                     a hint; it means nothing
    kernel   = name, grid axis.., item.., scratch..   points independent, in any order; no barrier
    schedule = kind [size = number]..                 how it is to be brought into loops

Meaning:
- Every grid axis and every enclosing loop's axis is free in the items below it. Items run in
  order.
- Scratch (Space.SCRATCH, Space.REG) belongs to the kernel (one grid point) or loop (one iteration)
  that declares it and is undefined on entry: the interpreter poisons it.
- Two grid points never write the same element of a GLOBAL buffer; so each grid axis is in the index
  of every global store, or is pinned by the stage's `when`.
- The items of a branch run where its condition holds. It is a bool, is evaluated where the branch
  stands among the items, and may mention and read what a stage there may.
- A point whose `where` is false is skipped. `relaxed` says that a guard was dropped on a private
  target because every consumer carries it and the loads are safe.
- `kinds` annotate axes for the Loop level (UNROLL, LANES; SERIAL when absent; grid axes are
  PARALLEL). They do not change the meaning. At most one LANES axis is open at any point, its extent
  is a constant, and REG buffers are indexed by UNROLL and LANES axes alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from ferrule.ir.expr import Buf, Expr, Space, dims, loads, substitute
from ferrule.ir.system import Stage, substitute_stage


class Kind(Enum):
    """How the Loop level runs an axis."""

    PARALLEL = "parallel"
    SERIAL = "serial"
    UNROLL = "unroll"
    LANES = "lanes"


@dataclass(frozen=True)
class SerialLoop:
    """`for axis { body }`, with the scratch that lives for one iteration."""

    axis: Expr
    body: tuple[Item, ...]
    scratch: tuple[Buf, ...] = ()


@dataclass(frozen=True)
class Branch:
    """`if cond { body }`."""

    cond: Expr
    body: tuple[Item, ...]

    def exprs(self) -> tuple[Expr, ...]:
        return (self.cond,)

    @property
    def reads(self) -> tuple[Buf, ...]:
        """The buffers that the condition reads, each once."""
        return tuple(dict.fromkeys(ld.attr for ld in loads(self.cond)))


@dataclass(frozen=True)
class Prefetch:
    """A hint that what lies at `buf[idx]` will be read soon, or written (`write`). The index may be
    out of bounds: it stands for the address that it would have.
    """

    buf: Buf
    idx: tuple[Expr, ...]
    write: bool = False

    def at(self, idx: tuple[Expr, ...]) -> Prefetch:
        """The same hint at another place."""
        return Prefetch(self.buf, idx, self.write)


Item = Stage | SerialLoop | Branch | Prefetch


@dataclass(frozen=True)
class Schedule:
    """How an unscheduled kernel is to be brought into loops: by the rules of `kind`, with these
    sizes for what they leave open. `ferrule.schedule.choose` knows the kinds.
    """

    kind: str
    sizes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return " ".join((self.kind, *(f"{name}={n}" for name, n in self.sizes)))


OVERLAPPED = Schedule("overlapped")
"""Of a kernel that is several convolutions, by blocks of rows."""


@dataclass(frozen=True)
class Kernel:
    """One kernel; `kinds` maps axis names to how they run. An unscheduled one may have a `schedule`
    already.
    """

    name: str
    grid: tuple[Expr, ...]
    body: tuple[Item, ...]
    scratch: tuple[Buf, ...] = ()
    kinds: tuple[tuple[str, Kind], ...] = ()
    schedule: Schedule | None = None

    def kind(self, axis: Expr) -> Kind:
        return dict(self.kinds).get(axis.name, Kind.SERIAL)

    @property
    def globals(self) -> tuple[Buf, ...]:
        """The buffers of the program it touches, written ones first, in order of use."""
        read = [b for st in stages(self.body) for b in st.reads]
        read += [b for i, _ in walk_items(self.body) if isinstance(i, Branch) for b in i.reads]
        return tuple(dict.fromkeys((*self.written, *(b for b in read if b.space is Space.GLOBAL))))

    @property
    def written(self) -> tuple[Buf, ...]:
        return tuple(
            dict.fromkeys(
                b
                for st in stages(self.body)
                for b in st.writes
                if b.space is Space.GLOBAL
            )
        )

    @property
    def dims(self) -> tuple[Expr, ...]:
        """Symbolic dims it needs at run time, in order of name."""
        found: set[Expr] = set()
        for a in self.grid:
            found |= dims(a.extent)
        for b in (*self.scratch, *self.globals):
            for s in b.shape:
                found |= dims(s)
        for item, _ in walk_items(self.body):
            if isinstance(item, SerialLoop):
                found |= dims(item.axis.extent)
                continue
            if isinstance(item, Prefetch):
                for e in item.idx:
                    found |= dims(e)
                continue
            for e in item.exprs():
                found |= dims(e)
            if isinstance(item, Stage):
                for a in item.compute.all_axes:
                    found |= dims(a.extent)
        return tuple(sorted(found, key=lambda d: d.name))


def walk_items(
    body: tuple[Item, ...], path: tuple[SerialLoop | Branch, ...] = ()
) -> Iterator[tuple[Item, tuple[SerialLoop | Branch, ...]]]:
    """Each item in order with the loops and branches around it; these come before what is in them.
    """
    for item in body:
        yield item, path
        if isinstance(item, (SerialLoop, Branch)):
            yield from walk_items(item.body, (*path, item))


def stages(body: tuple[Item, ...]) -> Iterator[Stage]:
    """Each stage in order."""
    for item, _ in walk_items(body):
        if isinstance(item, Stage):
            yield item


def substitute_items(body: tuple[Item, ...], mapping: dict[Expr, Expr]) -> tuple[Item, ...]:
    """`body` with leaves replaced; axes of loops may only be renamed."""
    out: list[Item] = []
    for item in body:
        if isinstance(item, SerialLoop):
            new = mapping.get(item.axis, item.axis)
            out.append(replace(item, axis=new, body=substitute_items(item.body, mapping)))
        elif isinstance(item, Branch):
            cond = substitute(item.cond, mapping)
            out.append(Branch(cond, substitute_items(item.body, mapping)))
        elif isinstance(item, Prefetch):
            out.append(item.at(tuple(substitute(i, mapping) for i in item.idx)))
        else:
            out.append(substitute_stage(item, mapping))
    return tuple(out)
