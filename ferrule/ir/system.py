"""System: index notation. What each buffer holds, as equations over axes.

    monoid  = name, identity[n], combine[n] over arg 0..2n-1    n values folded together
    fold    = reduce[axis..] by monoid [init value..]
            | scan[axis] by monoid [init value..] [exclusive] [reverse]
            | sorted[axis] by order
    order   = dtype[n], before over arg 0..2n-1            which of two tuples comes first
    compute = [axis..] value[n] [fold] [where guard]
    stage   = (buf[idx..])[n] = compute [combine monoid] [when expr]
    system  = name (input [update]).. (params) stage.. (outputs) (dims) [require fact what]..
              [fused]

Meaning:
- A compute's points are the product of its axes; with a reduce each point folds `values` over the
  reduce axes in any order, starting from the identity or from `init` (an expression over the axes).
- A point where `where` is false contributes nothing. Without a fold it writes nothing either; a
  fold's result is stored all the same: the identity or `init` where no point contributed, in a scan
  the running value.
- A scan folds along one further axis, in order; its result has that axis, and the target is indexed
  by it. A target may be a narrower float than what is folded: each running value is rounded to it,
  and the fold goes on with what it was.
- A sort puts the tuples of `values` along one further axis in order; its result has that axis, and
  the target is indexed by it. It is stable: tuples of which neither comes first stay as they were.
  There is no `where`.
- A stage evaluates all its values before it writes any (it reads before it writes). Of a target it
  reads only the element that it writes, and nothing where it has a `combine`. `idx` is injective
  over the axes unless there is a `combine`: then values are folded into what the target holds
  (scatter), one after another in axis order where the monoid is not commutative: that one need not
  be associative. A scatter without monoid keeps the last in axis order. Points where `when` is
  false write nothing.
- A system runs its stages in order. A buffer is defined by one stage, except that stages with
  `combine` (or with `update`) rewrite parts of a buffer that is already defined. An input is
  rewritten only where it is one of `updates`: whoever calls finds it changed.

"Pointwise", "reduction" and "contraction" are predicates derived from a stage, below, never labels
on an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ferrule.base.dtype import DType
from ferrule.ir.expr import Buf, Expr, dims, load, loads, rewrite, substitute


class Access(NamedTuple):
    """An element of a buffer: `buf[idx]`."""

    buf: Buf
    idx: tuple[Expr, ...]

    @classmethod
    def of(cls, load: Expr) -> Access:
        """What a load reads."""
        return cls(load.attr, load.args)


@dataclass(frozen=True)
class Monoid:
    """An associative operation on tuples of n values; `combine` is written over arg(0..2n-1)."""

    name: str
    identity: tuple[Expr, ...]
    combine: tuple[Expr, ...]
    commutative: bool = True
    idempotent: bool = False

    @property
    def arity(self) -> int:
        return len(self.identity)


@dataclass(frozen=True)
class Reduce:
    """Fold over `axes`, starting from `init` (else the identity)."""

    axes: tuple[Expr, ...]
    monoid: Monoid
    init: tuple[Expr, ...] | None = None


@dataclass(frozen=True)
class Scan:
    """Running fold along `axis`; `exclusive` leaves out the point itself, `reverse` starts at the
    end.
    """

    axis: Expr
    monoid: Monoid
    init: tuple[Expr, ...] | None = None
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True)
class Order:
    """Which of two tuples of `dtypes` comes before the other: `before`, a bool over arg(0..n-1),
    the one, and arg(n..2n-1), the other. It is a strict weak order.
    """

    dtypes: tuple[DType, ...]
    before: Expr


@dataclass(frozen=True)
class Sort:
    """The tuples along `axis` in an order, stable."""

    axis: Expr
    order: Order


Fold = Reduce | Scan | Sort


@dataclass(frozen=True)
class Compute:
    """`values` at each point of `axes`, folded where there is a fold."""

    axes: tuple[Expr, ...]
    values: tuple[Expr, ...]
    fold: Fold | None = None
    where: Expr | None = None

    @property
    def reduce_axes(self) -> tuple[Expr, ...]:
        return self.fold.axes if isinstance(self.fold, Reduce) else ()

    @property
    def all_axes(self) -> tuple[Expr, ...]:
        """Every axis a point has, the folded ones last."""
        if isinstance(self.fold, (Scan, Sort)):
            return (*self.axes, self.fold.axis)
        return self.axes + self.reduce_axes

    @property
    def init(self) -> tuple[Expr, ...] | None:
        """What a fold starts from, where that is not the identity."""
        return self.fold.init if isinstance(self.fold, (Reduce, Scan)) else None

    def exprs(self) -> Iterator[Expr]:
        """Each expression of the compute: values, init, guard."""
        yield from self.values
        yield from self.init or ()
        if self.where is not None:
            yield self.where


@dataclass(frozen=True)
class Stage:
    """One equation. `update` marks a write into a buffer that an earlier stage defined."""

    name: str
    targets: tuple[Access, ...]
    compute: Compute
    combine: Monoid | None = None
    when: Expr | None = None
    update: bool = field(default=False)

    def exprs(self) -> Iterator[Expr]:
        """Each expression of the stage: those of the compute, the target indices, the condition."""
        yield from self.compute.exprs()
        for _, idx in self.targets:
            yield from idx
        if self.when is not None:
            yield self.when

    @property
    def target(self) -> Access:
        """What it writes; of several targets the first."""
        return self.targets[0]

    @property
    def writes(self) -> tuple[Buf, ...]:
        return tuple(dict.fromkeys(b for b, _ in self.targets))

    @property
    def reads(self) -> tuple[Buf, ...]:
        return tuple(dict.fromkeys(ld.attr for e in self.exprs() for ld in loads(e)))

    @property
    def is_pointwise(self) -> bool:
        """No fold, and each target is written at the bare axes in order (and at constants)."""
        c = self.compute
        return (
            c.fold is None
            and self.combine is None
            and not self.update
            and self.when is None
            and all(tuple(i for i in idx if not i.is_const) == c.axes for _, idx in self.targets)
        )

    @property
    def is_reduction(self) -> bool:
        return isinstance(self.compute.fold, Reduce)


@dataclass(frozen=True)
class Requirement:
    """A condition on dims that holds for each call, and what needs it, in words."""

    fact: Expr
    what: str


@dataclass(frozen=True)
class System:
    """A whole program as equations. `params` are inputs whose values are known before the first run
    (weights). `fused` says that its stages are those that kernels are made of: the passes before
    leave it as it is. `updates` are the inputs that its stages rewrite.
    """

    name: str
    inputs: tuple[Buf, ...]
    params: tuple[Buf, ...]
    stages: tuple[Stage, ...]
    outputs: tuple[Buf, ...]
    requires: tuple[Requirement, ...] = ()
    fused: bool = False
    updates: tuple[Buf, ...] = ()

    @property
    def dims(self) -> tuple[Expr, ...]:
        """The symbolic dims in order of name."""
        found = {
            d for b in (*self.inputs, *self.params, *self.outputs) for s in b.shape for d in dims(s)
        }
        for st in self.stages:
            for e in st.exprs():
                found |= dims(e)
            for a in st.compute.all_axes:
                found |= dims(a.extent)
        return tuple(sorted(found, key=lambda d: d.name))


def map_stage(
    st: Stage, fn: Callable[[Expr], Expr], axis: Callable[[Expr], Expr] = lambda a: a
) -> Stage:
    """`st` with `fn` applied to every expression and `axis` to every bound axis."""

    def each(values: tuple[Expr, ...] | None) -> tuple[Expr, ...] | None:
        return None if values is None else tuple(fn(v) for v in values)

    c, fold = st.compute, st.compute.fold
    if isinstance(fold, Reduce):
        fold = replace(fold, axes=tuple(axis(a) for a in fold.axes), init=each(fold.init))
    elif isinstance(fold, Scan):
        fold = replace(fold, axis=axis(fold.axis), init=each(fold.init))
    elif isinstance(fold, Sort):
        fold = replace(fold, axis=axis(fold.axis))
    compute = Compute(
        tuple(axis(a) for a in c.axes),
        tuple(fn(v) for v in c.values),
        fold,
        None if c.where is None else fn(c.where),
    )
    targets = tuple(Access(b, tuple(fn(i) for i in idx)) for b, idx in st.targets)
    return replace(
        st, targets=targets, compute=compute, when=None if st.when is None else fn(st.when)
    )


def substitute_stage(st: Stage, mapping: dict[Expr, Expr]) -> Stage:
    """`st` with leaves replaced; a bound axis may only be renamed."""

    def rename(a: Expr) -> Expr:
        new = mapping.get(a, a)
        if new.op != "axis":
            raise ValueError(f"axis {a.name} is bound in {st.name} and cannot become {new}")
        return new

    return map_stage(st, lambda e: substitute(e, mapping), rename)


def map_accesses(st: Stage, fn: Callable[[Access], Access | None]) -> Stage:
    """`st` that reads and writes elsewhere: where `fn` tells, at its own places where None."""

    def visit(node: Expr) -> Expr | None:
        to = fn(Access.of(node)) if node.op == "load" else None
        return None if to is None else load(to.buf, *to.idx)

    def moved(e: Expr) -> Expr:
        return rewrite(e, visit) if any(fn(Access.of(ld)) for ld in loads(e)) else e

    st = map_stage(st, moved)
    return replace(st, targets=tuple(fn(to) or to for to in st.targets))


def rename_bufs(st: Stage, bufs: Mapping[Buf, Buf]) -> Stage:
    """`st` with buffers replaced by others of the same rank."""
    return map_accesses(st, lambda at: Access(bufs[at.buf], at.idx) if at.buf in bufs else None)


def rename_loads(e: Expr, bufs: Mapping[Buf, Buf]) -> Expr:
    """`e` with loads from other buffers of the same rank."""

    def visit(node: Expr) -> Expr | None:
        if node.op == "load" and node.attr in bufs:
            return load(bufs[node.attr], *node.args)
        return None

    return rewrite(e, visit) if any(ld.attr in bufs for ld in loads(e)) else e
