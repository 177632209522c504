"""The rules of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ferrule.base.dtype import boolean, i64
from ferrule.ir.expr import Buf, Expr, Space, loads, walk
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, Function, If, Prefetch, Stmt, Store, While, walk_stmts
from ferrule.ir.system import Access
from ferrule.ir.text import print_stmt
from ferrule.ir.verify.expr import fault_of
from ferrule.ir.verify.rules import Fault, Rule, check, leaves, names, repeated
from ferrule.ir.verify.stage import monoid_faults

_PRIVATE = (Space.SCRATCH, Space.REG)


@dataclass(frozen=True)
class Placed:
    """A statement in its function: the axes open there with their kinds, and the buffers alive
    there.
    """

    stmt: Stmt
    top: int
    axes: dict[Expr, Kind]
    alive: frozenset[Buf]


Whole = tuple[Function, list[Placed]]


def verify_function(function: Function) -> None:
    """Raises VerifyError if `function` breaks a rule."""
    placed = list(_placed(function))
    shown = lambda: [print_stmt(s) for s in function.body]  # noqa: E731
    check("function", function.name, (function, placed), FUNCTION_RULES, shown)


def _placed(f: Function) -> Iterator[Placed]:
    axes = dict.fromkeys(f.grid, Kind.PARALLEL)
    alive = frozenset(f.bufs)
    for k, s in enumerate(f.body):
        yield from _walk(s, k, axes, alive)
        if isinstance(s, Alloc):
            alive |= {s.buf}


def _walk(s: Stmt, top: int, axes: dict[Expr, Kind], alive: frozenset[Buf]) -> Iterator[Placed]:
    yield Placed(s, top, axes, alive)
    if isinstance(s, For):
        yield from _block(s.body, top, {**axes, s.axis: s.kind}, alive)
    elif isinstance(s, While):
        yield from _block(s.body, top, axes, alive)
    elif isinstance(s, If):
        yield from _block(s.body, top, axes, alive)
        yield from _block(s.orelse, top, axes, alive)


def _block(
    body: tuple[Stmt, ...], top: int, axes: dict[Expr, Kind], alive: frozenset[Buf]
) -> Iterator[Placed]:
    for s in body:
        yield from _walk(s, top, axes, alive)
        if isinstance(s, Alloc):
            alive |= {s.buf}


def _exprs(s: Stmt) -> Iterator[Expr]:
    """The expressions of a statement itself, not of those in it."""
    if isinstance(s, For):
        yield from (s.lo, s.hi)
    elif isinstance(s, If):
        yield s.cond
    elif isinstance(s, Alloc):
        yield from s.buf.shape
    elif isinstance(s, Prefetch):
        yield from s.idx
    elif isinstance(s, Store):
        yield from s.values
        yield from (i for _, idx in s.targets for i in idx)


def _places(s: Stmt) -> Iterator[Access]:
    """Every place that a statement itself reads or writes."""
    if isinstance(s, Store):
        yield from s.targets
    elif isinstance(s, Prefetch):
        yield Access(s.buf, s.idx)
    elif isinstance(s, While):
        yield Access(s.flag, ())
    for e in _exprs(s):
        yield from map(Access.of, loads(e))


def _each(
    check_one: Callable[[Function, Placed], Iterator[str]],
) -> Callable[[Whole], Iterator[Fault]]:
    def faults(whole: Whole) -> Iterator[Fault]:
        for p in whole[1]:
            yield from (Fault(message, p.top) for message in check_one(whole[0], p))

    return faults


def _well_typed(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    for e in _exprs(s):
        fault = fault_of(e)
        if fault is not None:
            yield fault
        if any(n.op == "arg" for n in walk(e)):
            yield f"{e} mentions an operand of a monoid"
    if isinstance(s, If) and s.cond.dtype != boolean:
        yield f"the condition {s.cond} is of {s.cond.dtype.name}"
    if isinstance(s, For) and not s.lo.dtype == s.hi.dtype == i64:
        yield f"the bounds of {s.axis.name} are of {s.lo.dtype.name} and {s.hi.dtype.name}"


def _stores(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    if not isinstance(s, Store):
        return
    if len(s.targets) != len(s.values) or not s.targets:
        yield f"{len(s.targets)} targets for {len(s.values)} values"
        return
    for (b, idx), v in zip(s.targets, s.values, strict=True):
        if len(idx) != len(b.shape):
            yield f"{b.name} takes {len(b.shape)} indices, not {len(idx)}"
        if b.dtype != v.dtype:
            yield f"{b.name} holds {b.dtype.name} and is given {v.dtype.name}"
    if s.monoid is None:
        return
    yield from monoid_faults(s.monoid)
    if [i.dtype for i in s.monoid.identity] != [v.dtype for v in s.values]:
        yield f"{s.monoid.name} does not fit the values"
    if len({idx for _, idx in s.targets}) != 1:
        yield f"{s.monoid.name} combines at different indices"


def _axes_bound(f: Function, p: Placed) -> Iterator[str]:
    for e in _exprs(p.stmt):
        free = e.axes - p.axes.keys()
        if free:
            yield f"{names(free)} is not bound in {e}; open are {names(p.axes)}"
    if isinstance(p.stmt, For) and p.stmt.axis.name in {a.name for a in p.axes}:
        yield f"the axis {p.stmt.axis.name} is open already"


def _inside_extent(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    if not isinstance(s, For):
        return
    extent = s.axis.extent
    if s.hi.is_const and extent.is_const and s.hi.value > extent.value:
        yield f"{s.axis.name} runs to {s.hi} and its extent is {extent}"
    if s.lo.is_const and s.lo.value < 0:
        yield f"{s.axis.name} starts at {s.lo}"


def _bufs_alive(f: Function, p: Placed) -> Iterator[str]:
    for b, _ in _places(p.stmt):
        if b not in p.alive:
            yield f"{b.name} is neither an argument nor alive"
    if isinstance(p.stmt, Alloc):
        b = p.stmt.buf
        if b.space not in _PRIVATE:
            yield f"{b.name} is allocated and is {b.space.value}"
        if b.name in {x.name for x in p.alive}:
            yield f"a buffer called {b.name} is alive already"


def _writes(f: Function, p: Placed) -> Iterator[str]:
    if isinstance(p.stmt, Store):
        for b, _ in p.stmt.targets:
            if b in f.bufs[f.written :]:
                yield f"{b.name} is stored to and listed as read only"


def _kinds(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    if not isinstance(s, For) or s.kind not in (Kind.LANES, Kind.UNROLL):
        return
    if not (s.lo.is_const and s.hi.is_const):
        yield f"the {s.kind.value} loop over {s.axis.name} has no constant bounds"
    if s.kind is Kind.LANES and Kind.LANES in p.axes.values():
        yield f"the LANES loop over {s.axis.name} stands inside another one"


def _flags(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    if not isinstance(s, While):
        return
    if s.flag.dtype != boolean or s.flag.shape:
        yield f"the flag {s.flag.name} of a while is no bool of rank 0"
    if all(s.flag != b for t in walk_stmts(s.body) for b in _stored(t)):
        yield f"a while never writes its flag {s.flag.name}"
    if Kind.LANES in p.axes.values():
        yield "a while stands inside a LANES loop"


def _stored(s: Stmt) -> tuple[Buf, ...]:
    return tuple(b for b, _ in s.targets) if isinstance(s, Store) else ()


def _registers(f: Function, p: Placed) -> Iterator[str]:
    for b, idx in _places(p.stmt):
        if b.space is not Space.REG:
            continue
        if not all(x.is_const for x in b.shape):
            yield f"the register buffer {b.name} has no constant shape"
        for n in (n for i in idx for n in leaves(i)):
            fixed = n.op == "axis" and p.axes.get(n) in (Kind.UNROLL, Kind.LANES)
            if not fixed:
                yield f"the register buffer {b.name} is indexed by {n}"


def _lanes_agree(f: Function, p: Placed) -> Iterator[str]:
    s = p.stmt
    lanes = {a for a, k in p.axes.items() if k is Kind.LANES}
    if not isinstance(s, Store) or s.monoid is not None or not lanes:
        return
    for (b, idx), v in zip(s.targets, s.values):
        if v.axes & lanes and not any(i.axes & lanes for i in idx):
            yield f"every lane stores a value of its own to one place of {b.name}"


def _arguments(whole: Whole) -> Iterator[Fault]:
    f, placed = whole
    for b in f.bufs:
        if b.space in _PRIVATE:
            yield Fault(f"the argument {b.name} is {b.space.value}")
    for name in repeated(b.name for b in f.bufs):
        yield Fault(f"two buffers are called {name}")
    used = {n for p in placed for e in _exprs(p.stmt) for n in walk(e) if n.op == "dim"}
    used |= {n for b in f.bufs for s in b.shape for n in walk(s) if n.op == "dim"}
    used |= {n for a in f.grid for n in walk(a.extent) if n.op == "dim"}
    if used - set(f.dims):
        yield Fault(f"it uses {names(used - set(f.dims))} and takes {names(f.dims)}")


FUNCTION_RULES = (
    Rule("dtypes agree, indices are i64 and conditions bool", _each(_well_typed)),
    Rule("a store has a value of its dtype for each target", _each(_stores)),
    Rule("every axis is bound by one loop around its use", _each(_axes_bound)),
    Rule("a loop stays inside the extent of its axis", _each(_inside_extent)),
    Rule("buffers are arguments, or allocated before they are used", _each(_bufs_alive)),
    Rule("only the first `written` arguments are stored to", _each(_writes)),
    Rule("LANES and UNROLL loops have constant bounds, and LANES do not nest", _each(_kinds)),
    Rule("a while has a flag of its own, and stands in no LANES loop", _each(_flags)),
    Rule("registers are indexed by constants, UNROLL and LANES axes alone", _each(_registers)),
    Rule("lanes share a place only through a monoid", _each(_lanes_agree)),
    Rule("arguments and dims are listed", _arguments),
)
