"""Strips: run stages that share their loops as one nest of vectors.

The lane axis of a bundle of stages is cut into blocks of `unroll` vectors of `width` lanes and a
rest, which is done in whole vectors where what lies past it is there and nobody's, under a mask
where the target has masks, else element by element. A reduction
gets an accumulator for each lane of a block (when the lane axis is folded) or for each result (when
it isn't), in registers:

    for j_o { acc[u, l] (+)= x[j_o*T + u*W + l] }        sink and rfactor in one
    for j_t { acc[0, l] (+)= x[..] where j < N }
    s = sum[l] sum[u] acc[u, l]

A long sum runs by blocks (`sums`): each starts with new accumulators and ends in a total.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ferrule.base.dtype import f64
from ferrule.ir.analysis.contraction import simplify_stage
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    cast,
    load,
    lt,
    select,
    substitute,
)
from ferrule.ir.kernel import Item, Kind, Prefetch, SerialLoop
from ferrule.ir.simplify import simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage, substitute_stage
from ferrule.schedule.sums import TOTAL, Blocks, is_sum, long_sums


@dataclass(frozen=True)
class Shape:
    """Lanes of a vector, vectors in a block, whether a rest may be done under a mask, and whether
    all that the lanes run along is `padded`: in whole vectors, of which the last may hold anything
    past its end.
    """

    width: int
    unroll: int
    masked: bool
    padded: bool = False


@dataclass(frozen=True)
class Block:
    """One way through the lane axis: the element's index, the axes that are wide in it, and the
    guard of its accesses, or that of folds alone (`inside`) in padded rows.
    """

    index: Expr
    wide: tuple[Expr, ...]
    guard: Expr | None = None
    inside: Expr | None = None
    scalar: bool = False


@dataclass
class Strips:
    """The nest of a bundle: its items, the registers it declares and the kinds of its axes."""

    items: tuple[Item, ...] = ()
    registers: list[Buf] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)


def strips(
    bundle: list[Stage],
    lane: Expr | None,
    shape: Shape,
    prefix: str,
    hints: tuple[Prefetch, ...],
    line: int,
) -> Strips:
    """The stages of `bundle`, which share `lane` and the order of their other axes, as one nest, or
    element by element where `lane` is None; `hints` name a place for each point of `lane`, in cache
    lines of `line` bytes.
    """
    return _Nest(bundle, lane, shape, prefix, hints, line).build()


def serial_order(bundle: list[Stage], lane: Expr | None) -> list[Expr]:
    """The common loops of a bundle from outside in: spaces, the lane block, folded axes; a folded
    lane goes last.
    """
    order: list[Expr] = []
    for st in bundle:
        for a in st.compute.axes:
            if a not in order and a is not lane:
                order.append(a)
    folded = [a for st in bundle for a in st.compute.reduce_axes if a is not lane]
    spaces = [a for a in order if a not in folded]
    lane_folded = any(lane in st.compute.reduce_axes for st in bundle)
    tail = list(dict.fromkeys(folded))
    lanes = [] if lane is None else [lane]
    return [*spaces, *tail, *lanes] if lane_folded or not tail else [*spaces, *lanes, *tail]


def is_long(st: Stage) -> bool:
    """Whether a stage that runs element by element is a sum that is to run by blocks."""
    return long_sums([st], serial_order([st], None), None, 1, "") is not None


class _Nest:
    def __init__(
        self, bundle: list[Stage], lane: Expr | None, shape: Shape, prefix: str,
        hints: tuple[Prefetch, ...], line: int,
    ):  # fmt: skip
        self.bundle, self.lane, self.shape, self.prefix = bundle, lane, shape, prefix
        self.hints, self.line = hints, line
        self.loops = serial_order(bundle, lane)
        points = shape.width * self._unroll() if lane is not None else 1
        blocks = long_sums(bundle, self.loops, lane, points, prefix)
        self.outside = None if blocks is None else blocks.outside
        if blocks is not None:
            self._cut(blocks)
        self.out = Strips()
        self.main, self.tail = self._blocks()
        self.accumulators: dict[int, tuple[Buf, ...]] = {}
        self.rests: dict[int, tuple[Buf, ...]] = {}
        self.totals: dict[int, tuple[Buf, ...]] = {}

    def build(self) -> Strips:
        self.out.items = self._level(0, None if self.lane is not None else Block(ZERO, ()))
        return self.out

    def _cut(self, blocks: Blocks) -> None:
        """The stages and hints over loops that go by blocks."""
        self.loops = list(blocks.loops)
        self.bundle = [blocks.moved(st) for st in self.bundle]
        self.hints = tuple(
            h.at(tuple(simplify(substitute(i, blocks.place)) for i in h.idx)) for h in self.hints
        )
        if self.lane in blocks.place:
            self.lane = self.loops[-1]

    # -- the lane axis --

    def _unroll(self) -> int:
        """Vectors in a block: as many as divide the axis where its length is known."""
        assert self.lane is not None
        n, w, unroll = self.lane.extent, self.shape.width, self.shape.unroll
        if not n.is_const:
            return unroll
        return max(
            [u for u in (8, 6, 5, 4, 3, 2, 1) if u <= unroll and n.attr % (u * w) == 0],
            default=max(1, min(unroll, n.attr // w)),
        )

    def _blocks(self) -> tuple[tuple[Expr, Block] | None, tuple[Expr, Block] | None]:
        """(loop axis, block) for the full blocks and for the rest; None where there are none."""
        if self.lane is None:
            return None, None
        n, w, p, unroll = self.lane.extent, self.shape.width, self.prefix, self._unroll()
        lanes, units = axis(p + "l", w), axis(p + "u", unroll)
        self.out.kinds |= {lanes.name: Kind.LANES, units.name: Kind.UNROLL}
        step = unroll * w
        blocks = simplify(n // step)
        main = None
        if not (blocks.is_const and blocks.attr == 0):
            outer = _counter(p + "o", blocks)
            main = outer, Block(outer * step + units * w + lanes, (units, lanes))
        done = simplify(blocks * step)
        left = simplify(n - done)
        if left.is_const and left.attr == 0:
            return main, None
        whole = simplify(left % w)
        if whole.is_const and whole.attr == 0:
            rest = _counter(p + "t", simplify(left // w))
            return main, (rest, Block(done + rest * w + lanes, (lanes,)))
        if self.shape.masked or self.shape.padded:
            rest = _counter(p + "t", simplify((left + (w - 1)) // w))
            index = done + rest * w + lanes
            exists = lt(index, n)
            if self.shape.padded:
                return main, (rest, Block(index, (lanes,), inside=exists))
            return main, (rest, Block(index, (lanes,), exists))
        rest = axis(p + "t", left)
        return main, (rest, Block(done + rest, (), scalar=True))

    # -- the nest --

    def _level(self, depth: int, block: Block | None) -> tuple[Item, ...]:
        folding = [
            i for i, st in enumerate(self.bundle) if st.is_reduction and self._depth(st) == depth
        ]
        long = [i for i in folding if self._by_blocks(i)]
        short = [i for i in folding if i not in long]
        parts = list(self.totals) if depth == self.outside else []
        before = [s for i in long for s in self._start_total(i, block)]
        before += [s for i in (*short, *parts) for s in self._start(i, block)]
        body: tuple[Item, ...] = ()
        if depth == len(self.loops):
            updates = (self._update(i, block) for i in range(len(self.bundle)))
            body = (*self._hints(block), *updates)
        elif self.loops[depth] is self.lane:
            for way in (self.main, self.tail):
                if way is not None:
                    body += self._loop(way[0], self._level(depth + 1, way[1]))
        else:
            body = (SerialLoop(self.loops[depth], self._level(depth + 1, block)),)
        after = [s for i in parts for s in self._add_part(i, block)]
        after += [s for i in folding for s in self._finish(i, block)]
        return (*before, *body, *after)

    def _by_blocks(self, i: int) -> bool:
        """Whether a reduction goes on from block to block, and so has a total."""
        st = self.bundle[i]
        return self.outside is not None and is_sum(st) and self._depth(st) < self.outside

    def _hints(self, block: Block | None) -> tuple[Prefetch, ...]:
        """The hints at the lines that a full block passes."""
        lane, main = self.lane, self.main
        if not self.hints or lane is None or main is None or block is not main[1]:
            return ()
        first = simplify(substitute(block.index, dict.fromkeys(block.wide, ZERO)))
        points = block.wide[0].extent.attr * self.shape.width
        return tuple(
            h.at(tuple(simplify(substitute(i, {lane: first + p})) for i in h.idx))
            for h in self.hints
            for p in range(0, points, self.line // h.buf.dtype.size)
        )

    def _loop(self, a: Expr, body: tuple[Item, ...]) -> tuple[Item, ...]:
        return (SerialLoop(a, body),) if a.op == "axis" else body

    def _depth(self, st: Stage) -> int:
        """How many of the loops are outside the accumulator of `st`."""
        return next(i for i, a in enumerate(self.loops) if a in st.compute.reduce_axes)

    def _folds_lane(self, st: Stage) -> bool:
        return self.lane in st.compute.reduce_axes

    def _wide(self, st: Stage, block: Block | None) -> tuple[Expr, ...]:
        """The accumulator's axes: the block's, or those of a full block when lanes are folded."""
        if not self._folds_lane(st):
            assert block is not None
            return block.wide
        way = self.main or self.tail
        assert way is not None
        return way[1].wide

    def _registers(
        self, stem: str, wide: tuple[Expr, ...], values: tuple[Expr, ...]
    ) -> tuple[Buf, ...]:
        """Registers over the axes `wide` for what `values` are."""
        stem = f"{self.prefix}{stem}{len(self.out.registers)}_"
        bufs = tuple(
            Buf(f"{stem}{i}", tuple(a.extent for a in wide), x.dtype, Space.REG)
            for i, x in enumerate(values)
        )
        self.out.registers += bufs
        return bufs

    def _start(self, i: int, block: Block | None) -> list[Stage]:
        st, fold = self.bundle[i], _reduce(self.bundle[i])
        wide, identity = self._wide(st, block), fold.monoid.identity
        self.accumulators[i] = self._registers("a", wide, identity)
        start = identity if self._by_blocks(i) else self._first(i, block)
        out = [_set(st.name + "_start", self.accumulators[i], wide, start)]
        if self._scalar_rest(st):
            self.rests[i] = self._registers("r", (), identity)
            out.append(_set(st.name + "_rest", self.rests[i], (), identity))
        return out

    def _first(self, i: int, block: Block | None) -> tuple[Expr, ...]:
        """What a reduction starts from; that of a folded lane takes its `init` at the end."""
        st, fold = self.bundle[i], _reduce(self.bundle[i])
        if self._folds_lane(st) or fold.init is None:
            return fold.monoid.identity
        return tuple(simplify(substitute(v, self._here(block))) for v in fold.init)

    def _start_total(self, i: int, block: Block | None) -> list[Stage]:
        st = self.bundle[i]
        wide = () if self._folds_lane(st) or block is None else block.wide
        self.totals[i] = self._registers("t", wide, TOTAL.identity)
        start = tuple(cast(v, f64) for v in self._first(i, block))
        return [_set(st.name + "_total", self.totals[i], wide, start)]

    def _scalar_rest(self, st: Stage) -> bool:
        return (
            self._folds_lane(st)
            and self.main is not None
            and self.tail is not None
            and self.tail[1].scalar
        )

    def _here(self, block: Block | None) -> dict[Expr, Expr]:
        """Where a block is along the lanes."""
        return {} if block is None or self.lane is None else {self.lane: block.index}

    def _update(self, i: int, block: Block | None) -> Stage:
        assert block is not None
        st, c = self.bundle[i], self.bundle[i].compute
        here, guard = self._here(block), block.guard
        if not isinstance(c.fold, Reduce):
            free = replace(st, compute=Compute((), c.values, c.fold, c.where))
            moved = substitute_stage(free, here)
            when = (
                moved.when
                if guard is None
                else both(guard, *((moved.when,) if moved.when is not None else ()))
            )
            return simplify_stage(
                replace(moved, compute=replace(moved.compute, axes=block.wide), when=when)
            )
        where = both(
            *((guard,) if guard is not None else ()),
            *((substitute(c.where, here),) if c.where is not None else ()),
        )
        bufs, place = self.accumulators[i], block.wide
        if self._folds_lane(st):
            if block.scalar and i in self.rests:
                bufs, place = self.rests[i], ()
            elif len(self._wide(st, block)) > len(block.wide):
                place = (ZERO,) * (len(self._wide(st, block)) - len(block.wide)) + block.wide
        values = tuple(substitute(v, here) for v in c.values)
        if (inside := block.inside) is not None:
            neutral = zip(values, c.fold.monoid.identity, strict=True)
            values = tuple(select(inside, v, i) for v, i in neutral)
        return simplify_stage(
            Stage(
                st.name,
                tuple(Access(b, place) for b in bufs),
                Compute(block.wide, values, None, None),
                c.fold.monoid,
                None if where is both() else where,
                update=True,
            )
        )

    def _folded(self, i: int, block: Block | None) -> tuple[list[Stage], tuple[Expr, ...]]:
        """The stages that fold accumulators, and then their values: one for each result."""
        st, fold = self.bundle[i], _reduce(self.bundle[i])
        out: list[Stage] = []
        bufs, wide = self.accumulators[i], self._wide(st, block)
        if not self._folds_lane(st):
            return out, tuple(load(b, *wide) for b in bufs)
        while wide:  # fold the vectors of a block first, then the lanes of one vector
            inner, rest = wide[0], wide[1:]
            folded = self._registers("f", rest, fold.monoid.identity)
            out.append(
                Stage(
                    st.name + "_fold",
                    tuple(Access(b, rest) for b in folded),
                    Compute(
                        rest, tuple(load(b, *wide) for b in bufs), Reduce((inner,), fold.monoid)
                    ),
                )
            )
            bufs, wide = folded, rest
        values = tuple(load(b) for b in bufs)
        if i in self.rests:
            values = combine(fold, values, tuple(load(b) for b in self.rests[i]))
        return out, values

    def _add_part(self, i: int, block: Block | None) -> list[Stage]:
        """The stages that add a block's sum to the total."""
        out, values = self._folded(i, block)
        st, (total,) = self.bundle[i], self.totals[i]
        wide = () if self._folds_lane(st) or block is None else block.wide
        part = Compute(wide, tuple(cast(v, f64) for v in values))
        return [*out, Stage(st.name + "_part", (Access(total, wide),), part, TOTAL, update=True)]

    def _finish(self, i: int, block: Block | None) -> list[Stage]:
        st, fold = self.bundle[i], _reduce(self.bundle[i])
        wide = () if self._folds_lane(st) or block is None else block.wide
        if self._by_blocks(i):
            out: list[Stage] = []
            values = tuple(
                cast(load(b, *wide), v.dtype)
                for b, v in zip(self.totals[i], st.compute.values, strict=True)
            )
        else:
            out, values = self._folded(i, block)
        if self._folds_lane(st):
            if fold.init is not None:
                values = combine(fold, values, fold.init)
            return [*out, replace(st, compute=Compute((), values))]
        assert block is not None
        result = substitute_stage(replace(st, compute=Compute((), values)), self._here(block))
        when = both(*(g for g in (block.guard, result.when) if g is not None))
        write = replace(result, compute=replace(result.compute, axes=wide))
        return [simplify_stage(replace(write, when=None if when is both() else when))]


def _reduce(st: Stage) -> Reduce:
    fold = st.compute.fold
    assert isinstance(fold, Reduce)
    return fold


def _counter(name: str, extent: Expr) -> Expr:
    """A loop's axis; 0 where it would run once."""
    return ZERO if extent is ONE else axis(name, extent)


def combine(
    fold: Reduce, left: tuple[Expr, ...], right: tuple[Expr, ...]
) -> tuple[Expr, ...]:
    """The monoid applied to two tuples of values."""
    from_args = dict(enumerate((*left, *right)))

    def visit(e: Expr) -> Expr:
        return substitute(e, {a: from_args[a.attr] for a in _args(e)})

    return tuple(visit(e) for e in fold.monoid.combine)


def _args(e: Expr) -> set[Expr]:
    if e.op == "arg":
        return {e}
    return set().union(*(_args(a) for a in e.args)) if e.args else set()


def _set(
    name: str, bufs: tuple[Buf, ...], wide: tuple[Expr, ...], values: tuple[Expr, ...]
) -> Stage:
    return Stage(name, tuple(Access(b, wide) for b in bufs), Compute(wide, values))
