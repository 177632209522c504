"""Tiles: the pieces that contraction schedules are made of.

The sum of a tile's product goes by blocks where it has more than DEEP terms, with totals in f64: a
product of f32 is off by at most DEEP * 2^-24 times the sum of its terms' sizes (one that the
schedule cuts in parts, by a part's terms and the number of parts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ferrule.base.dtype import f64
from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.analysis.size import estimate
from ferrule.ir.expr import (
    ONE,
    TRUE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    call,
    cast,
    conjuncts,
    const,
    eq,
    fconst,
    le,
    load,
    product,
    rewrite,
    select,
    substitute,
)
from ferrule.ir.kernel import Branch, Item, Kind, Prefetch, SerialLoop
from ferrule.ir.simplify import range_of, simplify
from ferrule.ir.system import Access, Compute, Monoid, Reduce, Stage, substitute_stage
from ferrule.schedule.contraction.flat import flat_index
from ferrule.schedule.contraction.rows import Rows
from ferrule.schedule.sums import in_blocks
from ferrule.target.machine import Machine

DEEP = 4096  # terms of a product that one accumulator takes; of more, blocks of an eighth


@dataclass(frozen=True)
class Split:
    """The terms of tiles that need no guard of the left factor (a convolution's, away from the
    borders), which are those where `inside` holds.
    """

    inside: Expr
    term: Expr
    where: Expr | None


@dataclass(frozen=True)
class Cut:
    """Where the sum along the folded axis `k` ends: all rows of a tile have the terms below `sure`,
    none has those from `end` on. `term` and `where` are without the guard that says so.
    """

    k: Expr
    sure: Expr
    end: Expr
    term: Expr
    where: Expr | None


@dataclass(frozen=True)
class Terms:
    """The loops `k` over terms that a tile runs at once, where axes went that were cut (`split`),
    and the loop over panels around them, if there are parts.
    """

    k: tuple[Expr, ...]
    split: dict[Expr, Expr]
    panel: Expr | None = None


@dataclass(frozen=True)
class Tile:
    """One tile of a contraction: the machine, its rows, its accumulators over the `wide` axes, its
    columns, the terms of its sum, and what these are where no guard is needed: if tiles are told
    apart (`split`), or terms (`cut`). A step of the innermost loop over terms takes as many as the
    unrolled axis `terms` has points. What a deep sum comes to is kept in `total` now and then; a
    sum that rounds nothing has none.
    """

    machine: Machine
    st: Stage
    rows: Rows
    wide: tuple[Expr, ...]
    acc: Buf
    n: Expr
    inside: Expr
    term: Expr
    where: Expr | None
    split: Split | None = None
    cut: Cut | None = None
    terms: Expr | None = None
    total: Buf | None = None

    @property
    def kinds(self) -> dict[str, Kind]:
        """How its axes run: lanes are the last of `wide`, all others are unrolled."""
        *unrolled, lanes = self.wide
        unrolled += [] if self.terms is None else [self.terms]
        return {a.name: Kind.UNROLL for a in unrolled} | {lanes.name: Kind.LANES}

    def items(
        self,
        k: tuple[Expr, ...],
        split: dict[Expr, Expr],
        hints: tuple[Prefetch, ...] = (),
    ) -> tuple[Item, ...]:
        """Set the accumulators to 0 and add the terms over the loops `k`, with `hints` at each."""
        zero = fconst(0.0, self.acc.dtype)
        first = Stage(
            self.st.name + "_start", (Access(self.acc, self.wide),), Compute(self.wide, (zero,))
        )
        if self.cut is not None:
            return (first, *self._cut_loops(self.cut))
        if self.split is None or split:
            return (first, *self._loops(self.term, self.where, k, split, hints))
        inside = self.split.inside
        free = self._loops(self.split.term, self.split.where, k, split, hints)
        guarded = self._loops(self.term, self.where, k, split, ())
        return (
            first,
            *_branch(inside, free),
            *_branch(simplify(call("not", inside)), guarded),
        )

    def _cut_loops(self, cut: Cut) -> tuple[Item, ...]:
        """Add the terms that all rows have, then those that some have."""
        sure = axis(cut.k.name + "s", cut.sure)
        out = self._loops(cut.term, cut.where, (sure,), {cut.k: sure}, ())
        left = simplify(cut.end - cut.sure)
        if left is ZERO:
            return out
        rest = axis(cut.k.name + "t", left)
        place = {cut.k: simplify(cut.sure + rest)}
        few = replace(self, terms=None, total=None)
        return (*out, *few._loops(self.term, self.where, (rest,), place, ()))

    def _loops(
        self,
        term: Expr,
        where: Expr | None,
        k: tuple[Expr, ...],
        split: dict[Expr, Expr],
        hints: tuple[Prefetch, ...],
    ) -> tuple[Item, ...]:
        """Add the terms to the accumulators over the loops `k`: in blocks where they are many, and
        where only a run can tell, either way.
        """
        plain = self._nested(k, self._add(term, where, split), hints)
        points = simplify(product([a.extent for a in k]))
        most = range_of(points)[1]
        blocks = in_blocks(k, k, {}, k[-1].name, DEEP // 8)
        if self.total is None or blocks is None or (most is not None and most <= DEEP):
            return plain
        outer, inner = blocks.loops[: blocks.outside], blocks.loops[blocks.outside :]
        number, known = flat_index(outer)[0], points.is_const
        if known:
            hints = tuple(h.at(tuple(substitute(i, blocks.place) for i in h.idx)) for h in hints)
            tile = self
        else:  # as a rule they are few, and this is not run
            tile, hints = replace(self, terms=None), ()
        moved = {a: substitute(e, blocks.place) for a, e in split.items()}
        body = tile._nested(inner, self._add(term, where, moved | blocks.place), hints)
        long = self._totalled(outer, number, body)
        if known:
            return long
        few = le(points, DEEP)
        return (Branch(few, plain), Branch(call("not", few), long))

    def _add(self, term: Expr, where: Expr | None, split: dict[Expr, Expr]) -> Stage:
        """The stage that adds one term."""
        where = None if where is None else simplify(substitute(where, split))
        compute = Compute(self.wide, (simplify(substitute(term, split)),))
        target = (Access(self.acc, self.wide),)
        return Stage(self.st.name, target, compute, sum_of(self.st), where, update=True)

    def _nested(
        self, k: tuple[Expr, ...], add: Stage, hints: tuple[Prefetch, ...]
    ) -> tuple[Item, ...]:
        """The loops `k` around `add`."""
        body = self._steps(add, k[-1], hints)
        for a in reversed(k[:-1]):
            body = (SerialLoop(a, body),)
        return body

    def _totalled(
        self, outer: tuple[Expr, ...], number: Expr, body: tuple[Item, ...]
    ) -> tuple[Item, ...]:
        """The loops `outer` of at least two blocks, now at the one with that `number`, around
        `body`, which adds its terms: accumulators move to the total before each block but the
        first, and take all of it at the end.
        """
        assert self.total is not None
        name, place = self.st.name, self.wide
        here, before = cast(load(self.acc, *place), f64), load(self.total, *place)
        moved = select(eq(number, 1), const(0.0, f64), before) + here

        def store(what: str, buf: Buf, value: Expr) -> Stage:
            return Stage(f"{name}_{what}", (Access(buf, place),), Compute(place, (value,)))

        zero = store("start", self.acc, fconst(0.0, self.acc.dtype))
        later = call("not", le(number, 0))
        body = (Branch(later, (store("total", self.total, moved), zero)), *body)
        for a in reversed(outer):
            body = (SerialLoop(a, body),)
        return (*body, store("total", self.acc, cast(before + here, self.acc.dtype)))

    def _steps(self, add: Stage, k: Expr, hints: tuple[Prefetch, ...]) -> tuple[Item, ...]:
        """The loop of `add` over its innermost folded axis, several terms a step, then what is left
        of it.
        """
        guarded = add.compute.where is not None and k in add.compute.where.axes
        if self.terms is None or guarded or _short(k, 2 * self.terms.extent.attr):
            return (SerialLoop(k, (*_lines(hints, k, ONE, self.machine), add)),)
        several = self.terms.extent
        whole = axis(f"{k.name}w", simplify(k.extent // several))
        first = {k: simplify(whole * several)}
        ahead = tuple(
            replace(h, idx=tuple(simplify(substitute(i, first)) for i in h.idx))
            for h in _lines(hints, k, several, self.machine)
        )
        terms = SerialLoop(self.terms, (_at(add, k, first[k] + self.terms),))
        blocks = SerialLoop(whole, (*ahead, terms))
        left = simplify(k.extent % several)
        if left is ZERO:
            return (blocks,)
        rest = axis(f"{k.name}r", left)
        return (blocks, SerialLoop(rest, (_at(add, k, whole.extent * several + rest),)))


def _lines(
    hints: tuple[Prefetch, ...], k: Expr, step: Expr, machine: Machine
) -> tuple[Prefetch, ...]:
    """`hints`, which name a place for each point of `k`, for each cache line that so many points
    are to fetch.
    """
    line, most = machine.line, machine.products.hints
    out: list[Prefetch] = []
    for h in hints:
        *outer, last = h.idx
        apart = simplify(substitute(last, {k: k + step}) - last)
        size = h.buf.dtype.size
        count = -(-apart.attr * size // line) if apart.is_const else 1
        for i in range(max(1, min(count, most))):
            out.append(replace(h, idx=(*outer, simplify(last + i * (line // size)))))
    return tuple(out)


def _short(a: Expr, points: int) -> bool:
    """Whether an axis has no more than so many points; a part of another axis has more."""
    return not a.extent.axes and estimate(a.extent) <= points


def _at(st: Stage, k: Expr, place: Expr) -> Stage:
    """`st` where its axis `k` is at `place`."""
    return simplify_stage(substitute_stage(st, {k: simplify(place)}))


def either(made: Sequence[tuple[Tile, tuple[Item, ...]]]) -> tuple[Item, ...]:
    """The items of the tile that is chosen."""
    if len(made) == 1:
        return made[0][1]
    return tuple(item for t, items in made for item in _branch(t.rows.chosen, items))


def _branch(cond: Expr, body: tuple[Item, ...]) -> tuple[Item, ...]:
    """`body` where `cond` holds; where that is known, the body or nothing."""
    if cond.is_const:
        return body if cond.attr else ()
    return (Branch(cond, body),)


def sum_of(st: Stage) -> Monoid:
    fold = st.compute.fold
    assert isinstance(fold, Reduce)
    return fold.monoid


def write_tile(
    st: Stage,
    epilogue: list[Stage],
    rows: Rows,
    columns: dict[Expr, Expr],
    wide: tuple[Expr, ...],
    acc: Buf,
    inside: Expr,
) -> list[Item]:
    """The stages that consume the tile, at its points, reading the accumulators.

    Results in scratch are written for the rows past the edge too, which repeat the last one.
    """
    known: dict[Buf, Expr] = {}

    def visit(node: Expr) -> Expr | None:
        return known.get(node.attr) if node.op == "load" else None

    whole = replace(st, compute=Compute((), (load(acc, *wide),)))
    last = epilogue[-1] if epilogue else whole
    out: list[Item] = []
    for s in (whole, *epilogue):
        outside = s.target.buf.space is Space.GLOBAL
        place = (rows.exact if outside else rows.clamped) | columns
        moved = substitute_stage(replace(s, compute=replace(s.compute, axes=())), place)
        value = simplify(rewrite(moved.compute.values[0], visit))
        known[s.target.buf] = value
        if s is last or outside:
            when = both(*((rows.guard, inside) if outside else (inside,)), *conjuncts(moved.when))
            compute, guard = Compute(wide, (value,)), None if when is TRUE else when
            store = Stage(s.name, moved.targets, compute, moved.combine, guard)
            out.append(simplify_stage(store))
    return out
