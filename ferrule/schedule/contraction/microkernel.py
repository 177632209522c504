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
from ferrule.ir.compute import Compute, Monoid, Reduce, Stage, map_stage, substitute_stage
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
from ferrule.ir.kernel import Item, Prefetch, Scope
from ferrule.ir.simplify import coefficient, range_of, simplify
from ferrule.schedule.sums import in_blocks

LINE = 64  # bytes of a cache line
MOST_HINTS = 8  # in a step of a loop
DEEP = 4096  # terms of a product that one accumulator takes; of more, blocks of an eighth


def flat(axes: tuple[Expr, ...], index: Expr) -> dict[Expr, Expr]:
    """Each of `axes` as an expression of the index into their product."""
    out: dict[Expr, Expr] = {}
    inner = ONE
    for i, a in enumerate(reversed(axes)):
        q = simplify(index // inner)
        out[a] = q if i == len(axes) - 1 else simplify(q % a.extent)
        inner = simplify(inner * a.extent)
    return out


@dataclass
class Rows:
    """The rows of a tile: their unrolled axis, where the m axes are for row r, clamped and not, the
    guard, and the condition under which a tile has these rows.
    """

    axis: Expr
    clamped: dict[Expr, Expr]
    exact: dict[Expr, Expr]
    guard: Expr
    chosen: Expr = TRUE

    def at(self, e: Expr, row: int) -> Expr:
        """`e`, which mentions m axes, for one row of the tile; -1 is the last."""
        here = const(row % self.axis.extent.attr)
        place = {a: substitute(c, {self.axis: here}) for a, c in self.clamped.items()}
        return simplify(substitute(e, place))


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


@dataclass
class Tile:
    """One tile of a contraction: its rows, its accumulators over the `wide` axes, its columns, the
    terms of its sum, and what these are where no guard is needed: if tiles are told apart
    (`split`), or terms (`cut`). A step of the innermost loop over terms takes as many as the
    unrolled axis `terms` has points. What a deep sum comes to is kept in `total` now and then; a
    sum that rounds nothing has none.
    """

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

    def items(
        self,
        k: tuple[Expr, ...],
        split: dict[Expr, Expr],
        hints: tuple[Prefetch, ...] = (),
    ) -> tuple[Item, ...]:
        """Set the accumulators to 0 and add the terms over the loops `k`, with `hints` at each."""
        zero = fconst(0.0, self.acc.dtype)
        first = Stage(
            self.st.name + "_start", ((self.acc, self.wide),), Compute(self.wide, (zero,))
        )
        if self.cut is not None:
            return (first, *self._cut_loops(self.cut))
        if self.split is None or split:
            return (first, *self._loops(self.term, self.where, k, split, hints))
        name = self.st.name
        inside = axis(name + "_inside", select(self.split.inside, ONE, ZERO))
        border = axis(name + "_border", select(self.split.inside, ZERO, ONE))
        return (
            first,
            Scope(inside, self._loops(self.split.term, self.split.where, k, split, hints)),
            Scope(border, self._loops(self.term, self.where, k, split, ())),
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
        few = axis(f"{k[-1].name}_few", select(le(points, DEEP), ONE, ZERO))
        many = axis(f"{k[-1].name}_many", select(le(points, DEEP), ZERO, ONE))
        return (Scope(few, plain), Scope(many, long))

    def _add(self, term: Expr, where: Expr | None, split: dict[Expr, Expr]) -> Stage:
        """The stage that adds one term."""
        where = None if where is None else simplify(substitute(where, split))
        compute = Compute(self.wide, (simplify(substitute(term, split)),))
        target = ((self.acc, self.wide),)
        return Stage(self.st.name, target, compute, sum_of(self.st), where, update=True)

    def _nested(
        self, k: tuple[Expr, ...], add: Stage, hints: tuple[Prefetch, ...]
    ) -> tuple[Item, ...]:
        """The loops `k` around `add`."""
        body = self._steps(add, k[-1], hints)
        for a in reversed(k[:-1]):
            body = (Scope(a, body),)
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
            return Stage(f"{name}_{what}", ((buf, place),), Compute(place, (value,)))

        zero = store("start", self.acc, fconst(0.0, self.acc.dtype))
        later = axis(f"{outer[-1].name}_later", select(le(number, 0), ZERO, ONE))
        body = (Scope(later, (store("total", self.total, moved), zero)), *body)
        for a in reversed(outer):
            body = (Scope(a, body),)
        return (*body, store("total", self.acc, cast(before + here, self.acc.dtype)))

    def _steps(self, add: Stage, k: Expr, hints: tuple[Prefetch, ...]) -> tuple[Item, ...]:
        """The loop of `add` over its innermost folded axis, several terms a step, then what is left
        of it.
        """
        guarded = add.compute.where is not None and k in add.compute.where.axes
        if self.terms is None or guarded or _short(k, 2 * self.terms.extent.attr):
            return (Scope(k, (*_lines(hints, k, ONE), add)),)
        several = self.terms.extent
        whole = axis(f"{k.name}w", simplify(k.extent // several))
        first = {k: simplify(whole * several)}
        ahead = tuple(
            replace(h, idx=tuple(simplify(substitute(i, first)) for i in h.idx))
            for h in _lines(hints, k, several)
        )
        step: tuple[Item, ...] = (*ahead, Scope(self.terms, (_at(add, k, first[k] + self.terms),)))
        left = simplify(k.extent % several)
        if left is ZERO:
            return (Scope(whole, step),)
        rest = axis(f"{k.name}r", left)
        return (Scope(whole, step), Scope(rest, (_at(add, k, whole.extent * several + rest),)))


def flat_index(loops: tuple[Expr, ...]) -> tuple[Expr, Expr]:
    """The number of the point that the loops are at, and how many points they have."""
    number, count = ZERO, ONE
    for a in reversed(loops):
        number, count = number + a * count, count * a.extent
    return simplify(number), simplify(count)


def _lines(hints: tuple[Prefetch, ...], k: Expr, step: Expr) -> tuple[Prefetch, ...]:
    """`hints`, which name a place for each point of `k`, for each cache line that so many points
    are to fetch.
    """
    out: list[Prefetch] = []
    for h in hints:
        *outer, last = h.idx
        apart = simplify(substitute(last, {k: k + step}) - last)
        size = h.buf.dtype.size
        count = -(-apart.attr * size // LINE) if apart.is_const else 1
        for i in range(max(1, min(count, MOST_HINTS))):
            out.append(replace(h, idx=(*outer, simplify(last + i * (LINE // size)))))
    return tuple(out)


def _short(a: Expr, points: int) -> bool:
    """Whether an axis has no more than so many points; a part of another axis has more."""
    return not a.extent.axes and estimate(a.extent) <= points


def _at(st: Stage, k: Expr, place: Expr) -> Stage:
    """`st` where its axis `k` is at `place`."""
    return simplify_stage(substitute_stage(st, {k: simplify(place)}))


def either(made: Sequence[tuple[Tile, tuple[Item, ...]]]) -> tuple[Item, ...]:
    """The items of the tile that is chosen: loops of one step or none."""
    if len(made) == 1:
        return made[0][1]
    return tuple(
        Scope(axis(f"if_{t.rows.axis.name}", select(t.rows.chosen, ONE, ZERO)), items)
        for t, items in made
    )


def copied(name: str, buf: Buf, place: tuple[Expr, ...], value: Expr, tile: Tile) -> Stage:
    """The stage that copies a tile's accumulators to or from their part."""
    return Stage(name, ((buf, place),), Compute(tile.wide, (value,)))


def everywhere(guards: tuple[Expr, ...], k: tuple[Expr, ...]) -> tuple[Expr, ...] | None:
    """Conditions that hold where the comparisons `guards` do for all points of `k`; None where that
    can't be told.
    """
    out: list[Expr] = []
    for g in guards:
        if g.op not in ("lt", "le"):
            return None
        least = g.args[1] - g.args[0]
        for a in k:
            step = coefficient(least, a)
            if step is None or not step.is_const:
                return None
            least = substitute(least, {a: ZERO if step.attr >= 0 else a.extent - 1})
        out.append(simplify(le(ONE if g.op == "lt" else ZERO, least)))
    return tuple(out)


@dataclass(frozen=True)
class Parts:
    """The folded axes in order: all, and cut in two so that the inner ones have at most `depth`
    points; `split` tells where an axis went that was cut itself.
    """

    whole: tuple[Expr, ...]
    outer: tuple[Expr, ...]
    inner: tuple[Expr, ...]
    split: dict[Expr, Expr]


def parts(k: tuple[Expr, ...], depth: int) -> Parts:
    """The axes `k`, outer to inner, in parts of at most `depth` points."""
    points, at = 1, len(k)
    while at > 0 and points * estimate(k[at - 1].extent) <= depth:
        at -= 1
        points *= estimate(k[at].extent)
    if at < len(k):
        return Parts(k, k[:at], k[at:], {})
    last = k[-1]
    step = next(
        (
            d
            for d in range(depth, depth // 2, -1)
            if last.extent.is_const and last.extent.attr % d == 0
        ),
        max(1, depth // 3),
    )
    outer = axis(last.name + "o", simplify((last.extent + (step - 1)) // step))
    inner = axis(last.name + "i", simplify(call("min", const(step), last.extent - outer * step)))
    return Parts(k, (*k[:-1], outer), (inner,), {last: simplify(outer * step + inner)})


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
    known: dict[Buf, Expr] = {st.targets[0][0]: load(acc, *wide)}
    out: list[Item] = []

    def visit(node: Expr) -> Expr | None:
        return known.get(node.attr) if node.op == "load" else None

    whole = replace(st, compute=Compute((), (known[st.targets[0][0]],)))
    last = epilogue[-1] if epilogue else whole
    for s in (whole, *epilogue):
        outside = s.targets[0][0].space is Space.GLOBAL
        place = (rows.exact if outside else rows.clamped) | columns
        moved = substitute_stage(replace(s, compute=replace(s.compute, axes=())), place)
        value = (
            moved.compute.values[0]
            if s is whole
            else simplify(rewrite(moved.compute.values[0], visit))
        )
        if s is last or outside:
            guards = (rows.guard, inside) if outside else (inside,)
            when = both(*guards, *conjuncts(moved.when))
            out.append(
                simplify_stage(
                    Stage(
                        s.name,
                        moved.targets,
                        Compute(wide, (value,)),
                        moved.combine,
                        None if when is TRUE else when,
                    )
                )
            )
        known[s.targets[0][0]] = value
    return out


def widened(st: Stage, wider: dict[Buf, Buf], row: Expr) -> Stage:
    """`st` with the kernel's scratch indexed by the row of the panel first."""

    def visit(node: Expr) -> Expr | None:
        if node.op == "load" and node.attr in wider:
            return load(wider[node.attr], row, *node.args)
        return None

    moved = map_stage(st, lambda e: rewrite(e, visit))
    return replace(
        moved,
        targets=tuple(
            (wider[b], (row, *idx)) if b in wider else (b, idx) for b, idx in moved.targets
        ),
    )
