"""Loops: a scheduled Kernel as a Function of loops.

Mechanical: the order of a stage's loops follows from the kinds (SERIAL outside, then UNROLL, then
LANES), a reduction gets an accumulator in registers over its UNROLL and LANES axes, and each
conjunct of a guard stands just inside the loop of its innermost axis, so that a guard on a lane
becomes a mask and any other a branch around as much as possible.
"""

from __future__ import annotations

from ferrule.base.watch import each
from ferrule.ir.calls import Functions, Scheduled
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    both,
    cast,
    conjuncts,
    load,
    substitute,
)
from ferrule.ir.kernel import Branch, Item, Kernel, Kind, Prefetch, SerialLoop
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store
from ferrule.ir.system import Access, Reduce, Scan, Sort, Stage
from ferrule.lower.sort import sort_row

_ORDER = {Kind.SERIAL: 0, Kind.UNROLL: 1, Kind.LANES: 2, Kind.PARALLEL: 0}


def lower_loops(level: Scheduled) -> Functions:
    """`level` with each kernel as a function of loops."""
    functions = tuple(lower_kernel(k) for k in each(level.kernels))
    return Functions(level.interface, functions, level.prepare, level.main)


def lower_kernel(kernel: Kernel, name: str | None = None) -> Function:
    """`kernel` as a Function whose buffers are its globals, written ones first."""
    body = _Lowering(kernel).block(kernel.scratch, kernel.body)
    return Function(
        name or kernel.name, kernel.globals, len(kernel.written), kernel.dims, kernel.grid, body
    )


class _Lowering:
    def __init__(self, kernel: Kernel):
        self.kinds = dict(kernel.kinds)
        self._next = 0

    def kind(self, a: Expr) -> Kind:
        return self.kinds.get(a.name, Kind.SERIAL)

    def unrolled(self, a: Expr) -> int:
        """The number of copies an UNROLL axis makes."""
        return int(a.extent.value) if self.kind(a) is Kind.UNROLL and a.extent.is_const else 0

    def block(self, scratch: tuple[Buf, ...], items: tuple[Item, ...]) -> tuple[Stmt, ...]:
        out: list[Stmt] = [Alloc(b) for b in scratch]
        for item in items:
            if isinstance(item, SerialLoop):
                out.append(
                    For(
                        item.axis,
                        ZERO,
                        item.axis.extent,
                        self.kind(item.axis),
                        self.block(item.scratch, item.body),
                    )
                )
            elif isinstance(item, Branch):
                out.append(If(item.cond, self.block((), item.body)))
            elif isinstance(item, Prefetch):
                out.append(item)
            else:
                out += self.stage(item)
        return tuple(out)

    def stage(self, st: Stage) -> tuple[Stmt, ...]:
        fold = st.compute.fold
        if isinstance(fold, Reduce):
            return self.reduce(st, fold)
        if isinstance(fold, Scan):
            return self.scan(st, fold)
        if isinstance(fold, Sort):
            return self.sort(st, fold)
        store = Store(st.targets, st.compute.values, st.combine)
        return self.nest(
            st.compute.axes, both(*conjuncts(st.when), *conjuncts(st.compute.where)), (store,)
        )

    def nest(
        self,
        axes: tuple[Expr, ...],
        guard: Expr,
        body: tuple[Stmt, ...],
        folded: tuple[Expr, ...] = (),
    ) -> tuple[Stmt, ...]:
        """Loops over `axes` around `body`, each conjunct of `guard` as far out as it can stand. Of
        UNROLL loops the `folded` ones and then the longer ones are outside: fewer operands of a
        register block are live at a time.
        """
        ordered = sorted(
            axes, key=lambda a: (_ORDER[self.kind(a)], a not in folded, -self.unrolled(a))
        )
        waiting = list(conjuncts(guard))
        levels: list[list[Expr]] = []
        for depth in range(len(ordered), -1, -1):
            inner = frozenset(ordered[depth - 1 : depth])
            levels.append([c for c in waiting if depth == 0 or c.axes & inner])
            waiting = [c for c in waiting if c not in levels[-1]]
        for depth, here in zip(range(len(ordered), -1, -1), levels, strict=True):
            if here:
                body = (If(both(*here), body),)
            if depth:
                a = ordered[depth - 1]
                body = (For(a, ZERO, a.extent, self.kind(a), body),)
        return body

    def reduce(self, st: Stage, fold: Reduce) -> tuple[Stmt, ...]:
        axes = st.compute.axes
        serial = tuple(a for a in axes if self.kind(a) is Kind.SERIAL)
        wide = tuple(a for a in axes if self.kind(a) is not Kind.SERIAL)
        accumulators = self.accumulators(st, wide)
        places = tuple(Access(b, wide) for b in accumulators)
        start = fold.init or fold.monoid.identity
        update = Store(places, st.compute.values, fold.monoid)
        steps = tuple(a for a in fold.axes if self.kind(a) is Kind.SERIAL)
        rest = tuple(a for a in fold.axes if self.kind(a) is not Kind.SERIAL)
        guards = conjuncts(st.compute.where)
        outer = [g for g in guards if not g.axes & frozenset((*wide, *rest))]
        inner = [g for g in guards if g not in outer]
        final = Store(st.targets, tuple(load(b, *wide) for b in accumulators), st.combine)
        body = (
            *(Alloc(b) for b in accumulators),
            *self.nest(wide, both(), (Store(places, start),)),
            *self.nest(
                steps, both(*outer), self.nest((*wide, *rest), both(*inner), (update,), rest)
            ),
            *self.nest(wide, both(*conjuncts(st.when)), (final,)),
        )
        return self.nest(serial, both(), body)

    def accumulators(self, st: Stage, wide: tuple[Expr, ...]) -> tuple[Buf, ...]:
        """One register buffer for each value, over the UNROLL and LANES axes of the result."""
        self._next += 1
        fold = st.compute.fold
        assert isinstance(fold, (Reduce, Scan))
        return tuple(
            Buf(f"acc{self._next}_{i}", tuple(a.extent for a in wide), x.dtype, Space.REG)
            for i, x in enumerate(fold.monoid.identity)
        )

    def scan(self, st: Stage, fold: Scan) -> tuple[Stmt, ...]:
        accumulators = self.accumulators(st, ())
        places = tuple(Access(b, ()) for b in accumulators)
        carried = tuple(
            cast(load(a), b.dtype) for a, (b, _) in zip(accumulators, st.targets, strict=True)
        )
        a = fold.axis
        here = {a: a.extent - ONE - a} if fold.reverse else {}
        update: Stmt = Store(
            places, tuple(substitute(v, here) for v in st.compute.values), fold.monoid
        )
        if st.compute.where is not None:
            update = If(substitute(st.compute.where, here), (update,))
        targets = tuple(Access(b, tuple(substitute(i, here) for i in idx)) for b, idx in st.targets)
        keep: Stmt = Store(targets, carried, st.combine)
        inside = [c for c in conjuncts(st.when) if a in c.axes]
        if inside:
            keep = If(substitute(both(*inside), here), (keep,))
        step = (keep, update) if fold.exclusive else (update, keep)
        start = Store(places, fold.init or fold.monoid.identity)
        body: tuple[Stmt, ...] = (
            *(Alloc(b) for b in accumulators),
            start,
            For(a, ZERO, a.extent, Kind.SERIAL, step),
        )
        return self.nest(
            st.compute.axes, both(*(c for c in conjuncts(st.when) if c not in inside)), body
        )

    def sort(self, st: Stage, fold: Sort) -> tuple[Stmt, ...]:
        self._next += 1
        outside = (c for c in conjuncts(st.when) if fold.axis not in c.axes)
        row = sort_row(st, fold, f"sort{self._next}")
        return self.nest(st.compute.axes, both(*outside), row)
