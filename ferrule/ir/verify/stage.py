"""The rules of one stage, which systems and kernels share.

Each function takes a stage and the axes that are open around it, and yields messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ferrule.base.dtype import DType, boolean, i64
from ferrule.ir.expr import Expr, load, loads, walk
from ferrule.ir.simplify import equal
from ferrule.ir.system import Monoid, Order, Reduce, Scan, Sort, Stage
from ferrule.ir.verify.expr import fault_of
from ferrule.ir.verify.rules import names, repeated

Axes = frozenset[Expr]


@dataclass(frozen=True)
class StageRule:
    """`says` must hold for every stage; `faults(stage, open axes)` yields messages."""

    says: str
    faults: Callable[[Stage, Axes], Iterator[str]]


def _well_typed(st: Stage, around: Axes) -> Iterator[str]:
    for e in st.exprs():
        fault = fault_of(e)
        if fault is not None:
            yield fault
    for c in (st.compute.where, st.when):
        if c is not None and c.dtype != boolean:
            yield f"the condition {c} is of {c.dtype.name}"
    for _, idx in st.targets:
        yield from (f"the index {i} is of {i.dtype.name}" for i in idx if i.dtype != i64)


def _counts(st: Stage, around: Axes) -> Iterator[str]:
    c, n = st.compute, len(st.targets)
    if not n or len(c.values) != n:
        yield f"{n} targets for {len(c.values)} values"
    for b, idx in st.targets:
        if len(idx) != len(b.shape):
            yield f"the target {b.name} takes {len(b.shape)} indices, not {len(idx)}"
    if isinstance(c.fold, (Reduce, Scan)):
        if c.fold.monoid.arity != len(c.values):
            yield f"{c.fold.monoid.name} folds {c.fold.monoid.arity} values, not {len(c.values)}"
        if c.fold.init is not None and len(c.fold.init) != c.fold.monoid.arity:
            yield f"init has {len(c.fold.init)} values, {c.fold.monoid.name} {c.fold.monoid.arity}"
    if isinstance(c.fold, Sort) and c.where is not None:
        yield "a sort has all points of its axis, and there is a where"
    if st.combine is not None:
        if st.combine.arity != n:
            yield f"{st.combine.name} combines {st.combine.arity} values, not {n}"
        if len({idx for _, idx in st.targets}) != 1:
            yield f"{st.combine.name} combines at different indices"


def _dtypes(st: Stage, around: Axes) -> Iterator[str]:
    for (b, _), v in zip(st.targets, st.compute.values, strict=True):
        narrowed = isinstance(st.compute.fold, Scan) and v.dtype.is_float and b.dtype.is_float
        if b.dtype != v.dtype and not (narrowed and b.dtype.size < v.dtype.size):
            yield f"{b.name} holds {b.dtype.name} and is given {v.dtype.name}"
    for m in _folds(st):
        for i, v in zip(m.identity, st.compute.values, strict=True):
            if i.dtype != v.dtype:
                yield f"{m.name} of {i.dtype.name} is given {v.dtype.name}"
    fold = st.compute.fold
    if isinstance(fold, (Reduce, Scan)) and fold.init is not None:
        for i, v in zip(fold.init, fold.monoid.identity, strict=True):
            if i.dtype != v.dtype:
                yield f"init of {i.dtype.name} for {fold.monoid.name} of {v.dtype.name}"


def _monoids(st: Stage, around: Axes) -> Iterator[str]:
    for m in _folds(st):
        yield from monoid_faults(m)
    if isinstance(st.compute.fold, Sort):
        yield from order_faults(st.compute.fold.order, tuple(v.dtype for v in st.compute.values))


def _folds(st: Stage) -> Iterator[Monoid]:
    if isinstance(st.compute.fold, (Reduce, Scan)):
        yield st.compute.fold.monoid
    if st.combine is not None:
        yield st.combine


def monoid_faults(m: Monoid) -> Iterator[str]:
    """What is wrong with a monoid's own definition."""
    dtypes = [i.dtype for i in m.identity]
    if len(m.combine) != m.arity:
        yield f"{m.name} has {m.arity} identities and {len(m.combine)} results"
        return
    for e, dtype in zip(m.combine, dtypes, strict=True):
        fault = fault_of(e)
        if fault is not None:
            yield fault
        if e.dtype != dtype:
            yield f"{m.name} gives {e.dtype.name} for {dtype.name}"
        for n in walk(e):
            if n.op == "arg" and (n.attr >= 2 * m.arity or n.dtype != dtypes[n.attr % m.arity]):
                yield f"{m.name} mentions {n} of {n.dtype.name}"
            elif n.op in ("axis", "dim", "load"):
                yield f"{m.name} mentions {n}"


def order_faults(order: Order, dtypes: tuple[DType, ...]) -> Iterator[str]:
    """What is wrong with an order of tuples of `dtypes`."""
    if order.dtypes != dtypes:
        yield f"it orders {_shown(order.dtypes)} and is given {_shown(dtypes)}"
    fault = fault_of(order.before)
    if fault is not None:
        yield fault
    if order.before.dtype != boolean:
        yield f"the order {order.before} is of {order.before.dtype.name}"
    both = order.dtypes * 2
    for n in walk(order.before):
        if n.op == "arg" and (n.attr >= len(both) or n.dtype != both[n.attr]):
            yield f"the order mentions {n} of {n.dtype.name}"
        elif n.op in ("axis", "dim", "load"):
            yield f"the order mentions {n}"


def _shown(dtypes: tuple[DType, ...]) -> str:
    return ", ".join(d.name for d in dtypes)


def _axes_bound(st: Stage, around: Axes) -> Iterator[str]:
    c = st.compute
    own, everything = around | set(c.axes), around | set(c.all_axes)
    place = everything if isinstance(c.fold, (Scan, Sort)) else own
    parts = [("the value", v, everything) for v in c.values]
    parts += [("init", v, own) for v in c.init or ()]
    parts += [("where", c.where, everything)] if c.where is not None else []
    parts += [("when", st.when, place)] if st.when is not None else []
    parts += [(f"the index of {b.name}", i, place) for b, idx in st.targets for i in idx]
    for what, e, allowed in parts:
        if not e.axes <= allowed:
            yield f"{what} mentions {names(e.axes - allowed)}; the axes there are {names(allowed)}"
        if any(n.op == "arg" for n in walk(e)):
            yield f"{what} mentions an operand of a monoid"


def _axes_distinct(st: Stage, around: Axes) -> Iterator[str]:
    for name in repeated(a.name for a in (*around, *st.compute.all_axes)):
        yield f"two axes are called {name}"
    dims = {n.name for e in st.exprs() for n in walk(e) if n.op == "dim"}
    for a in st.compute.all_axes:
        if a.op != "axis":
            yield f"{a} is no axis"
        elif a.name in dims:
            yield f"an axis and a dim are called {a.name}"
        elif any(n.op in ("axis", "load", "arg") for n in walk(a.extent)):
            yield f"the extent {a.extent} of {a.name} is no expression over dims"
        elif a.extent.is_const and a.extent.value < 0:
            yield f"the extent of {a.name} is {a.extent}"


def _in_place(st: Stage, around: Axes) -> Iterator[str]:
    """Code writes each element as soon as it is known, so that what other points read of the
    target may be old or new.
    """
    for ld in dict.fromkeys(ld for e in st.exprs() for ld in loads(e)):
        for b, idx in st.targets:
            if b != ld.attr:
                continue
            if st.combine is not None:
                yield f"{b.name} is combined into and read"
            elif not all(map(equal, ld.args, idx)):
                yield f"{ld} is read where {load(b, *idx)} is written"


STAGE_RULES = (
    StageRule("dtypes agree and indices are i64", _well_typed),
    StageRule("there is a value for each target, and an index for each dimension", _counts),
    StageRule("a target, its value and the monoid are of one dtype", _dtypes),
    StageRule("a monoid or an order is defined over its own operands", _monoids),
    StageRule("every axis is bound where it is used", _axes_bound),
    StageRule("axes have names of their own and sizes over dims", _axes_distinct),
    StageRule("a stage reads of its targets only the element that it writes", _in_place),
)
