"""Contraction: the schedule of products, convolutions and attention.

    for (batch, m_b, n_o):                        the grid: blocks of rows by panels of columns
        for k_o, m_o:                             a panel of B, KC deep, stays near for a block
            acc[r, u, l] = part[m_o, r, u, l]     MR x NR accumulators in registers
            for k_i: acc[r, u, l] += A[m_b, m_o*MR + r, k] * B[n_o, k, u*W + l]
            part[m_o, r, u, l] = acc[r, u, l]
        for m_o: out[..] = epilogue(part[..])     guarded at the edges

The lanes run along n. B is read where it lies if n has unit stride in it, else it is packed into
panels of NR columns, [batch, n_o, k.., NR], which for parameters happens once. A is read in place,
one element at a time, so its layout and index map do not matter to the vector code: a convolution's
window is just an index, and its padding a select of a row's address. Whole tiles have rows at fixed
distances, without guards. The rows that are left at the end are a block of their own, of as many
rows as there are; where only a run can tell, rows past the edge repeat the last one (the guard is
relaxed: loads are clamped, stores are not done). While a tile is computed, hints fetch a share of
the next part of B into L2.

Where few terms share a guard (the first layer of an image network, depthwise convolutions), tiles
away from the borders go through loops without it. A depthwise convolution is a product whose lanes
run along the channels of both factors.

A kernel whose rows go through further stages (softmax) and a second contraction (attention) runs by
panels: the grid keeps the batch and m tiles, the first contraction writes MR rows to scratch, the
others follow on these rows. Where a guard ends the rows (causal attention), so do the loops.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ferrule.base.dtype import f64
from ferrule.ir.analysis.contraction import Roles, contraction, operand_bufs, simplify_stage
from ferrule.ir.analysis.size import estimate
from ferrule.ir.compute import Stage, substitute_stage
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
    loads,
    lt,
    product,
    select,
    substitute,
)  # fmt: skip
from ferrule.ir.kernel import Item, Kernel, Kind, Scope, stages
from ferrule.ir.simplify import coefficient, equal, prove, simplify
from ferrule.schedule.contraction.blocking import (
    Blocking,
    default_blocking,
    depthwise_blocking,
    tiles_to_share,
)  # fmt: skip
from ferrule.schedule.contraction.bounds import NO_LIMITS, Limits, grows, implied, limited, limits
from ferrule.schedule.contraction.dims import (
    flattened,
    in_place,
    is_epilogue,
    is_right,
    left_guards,
    oriented,
    points,
    roles_in,
)  # fmt: skip
from ferrule.schedule.contraction.dot import in_words
from ferrule.schedule.contraction.microkernel import (
    Cut,
    Rows,
    Split,
    Terms,
    Tile,
    copied,
    either,
    everywhere,
    flat,
    flat_index,
    parts,
    widened,
    write_tile,
)
from ferrule.schedule.contraction.order import in_order, shares_few_terms, unrolls
from ferrule.schedule.contraction.packing import (
    PACKED_STRIDE,
    Packing,
    apart,
    pack_panels,
    rows_apart,
)
from ferrule.schedule.contraction.prefetch import hints_of
from ferrule.schedule.rows.schedule import schedule_rows
from ferrule.schedule.sums import is_sum
from ferrule.target.cpu import Target

MANY_PARTS = 64  # of a sum, so many that what they come to is kept in f64
MANY_PANELS = 16  # of B, enough for threads to share: then blocks of A have all rows that may be
PACKED_ROWS = 128  # of A, so many that a copy of B costs less than a tenth of the product


@dataclass(frozen=True)
class Packed:
    """A scheduled kernel and the packings that must run before it."""

    kernel: Kernel
    packings: tuple[Packing, ...] = ()


def schedule_contraction(
    kernel: Kernel, target: Target, constant: frozenset[Buf], blocking: Blocking | None = None
) -> Packed:
    """Tiles, packed panels and epilogues for a `schedulable` kernel.

    `constant` are the kernel's buffers whose values are known before the first run; `blocking` is
    `blocking_of` the kernel where None.
    """
    return _builder(kernel, target, constant).build(blocking)


def blocking_of(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Blocking:
    """The blocking that a `schedulable` kernel has by default."""
    return _builder(kernel, target, constant).default()


def fitted(
    blocking: Blocking | None, kernel: Kernel, target: Target, constant: frozenset[Buf]
) -> Blocking:
    """`blocking`, or the default one, with no more rows than a `schedulable` kernel has."""
    builder = _builder(kernel, target, constant)
    return builder.fitting(blocking or builder.default())


def _builder(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> _Builder:
    words = in_words(kernel, target, constant)
    return _Builder(flattened(words, constant), target, constant)


@dataclass
class _Builder:
    kernel: Kernel
    target: Target
    constant: frozenset[Buf]
    scratch: list[Buf] = field(default_factory=list)
    totals: list[Buf] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    packings: list[Packing] = field(default_factory=list)
    packed: dict[tuple[Expr, Expr, int], Buf] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.body = list(stages(self.kernel.body))
        roles = roles_in(self.kernel, self.body[0])
        assert roles is not None
        self.roles = oriented(self.kernel, self.body[0], roles, self.constant)
        self.size = self.body[0].compute.values[0].dtype.size
        self.width = self.target.lanes(self.size)

    def default(self) -> Blocking:
        roles = self.roles
        n, k = (simplify(product([a.extent for a in axes])) for axes in (roles.n, roles.k))
        if set(roles.n) & roles.left.axes and len(roles.m) > 1:
            along = roles.m[-1]
            steps = (coefficient(i, along) for ld in loads(roles.left) for i in ld.args)
            dense = all(step in (None, ZERO, ONE) for step in steps)
            return depthwise_blocking(n, self.size, dense, self.target)
        m = tuple(a.extent for a in roles.m)
        return default_blocking(m, n, k, self.size, self.target, rows_apart(roles))

    def build(self, blocking: Blocking | None) -> Packed:
        body, roles, block = self.body, self.roles, self.fitting(blocking or self.default())
        n = simplify(product([a.extent for a in roles.n]))
        panel = [a for a in roles.n if a not in self.kernel.grid]
        if panel:
            outer = axis("mo", self._tiles(block))
            ends = limits(body, frozenset(self.kernel.scratch), self.kernel.grid)
            if not all(grows(e, self.kernel.grid) for own in ends for e in own.values()):
                ends = [{} for _ in body]
            items = self._panel(body, ends, self._rows(outer, block), block)
            grid = (*roles.batch, outer)
        else:
            columns = axis(
                "no",
                simplify((n + (block.vectors * self.width - 1)) // (block.vectors * self.width)),
            )
            grid, items = self._blocks(body, roles, block, columns)
        used = {b for st in stages(items) for b in (*st.reads, *st.writes)}
        scratch = tuple(b for b in (*self.scratch, *self.totals) if b in used)
        kernel = Kernel(self.kernel.name, grid, items, scratch, tuple(sorted(self.kinds.items())))
        return Packed(kernel, tuple(self.packings))

    def fitting(self, block: Blocking) -> Blocking:
        """`block` with no more rows than there are."""
        length = simplify(product([a.extent for a in self._run(block)[0]]))
        most = max(1, length.attr) if length.is_const else block.rows
        return replace(block, rows=min(block.rows, most))

    def _blocks(
        self, body: list[Stage], roles: Roles, block: Blocking, columns: Expr
    ) -> tuple[tuple[Expr, ...], tuple[Item, ...]]:
        """The grid and the items of a kernel of tiles: rows in blocks, the sum in parts where it is
        deep.
        """
        tiles = self._tiles(block)
        per = max(1, block.block_rows // block.rows)
        expected = min(per, max(1, estimate(tiles)))
        if tiles.is_const or estimate(columns.extent) < MANY_PANELS:
            per = expected
        if tiles.is_const and tiles.attr:
            terms = points(roles.k)
            others = points((*roles.batch, columns))
            work = points((*roles.m, *roles.n, *roles.k))
            most = tiles_to_share(tiles.attr, others, work, terms, block, self.target)
            per = min(per, most)
            per = expected = -(-tiles.attr // -(-tiles.attr // per))
        whole = axis("mb", simplify((tiles + (per - 1)) // per))
        row = axis("mo", simplify(call("min", const(per), tiles - whole * per)))
        number = simplify(whole * per + row)
        steps = parts(self._k_order(body[0], roles), block.depth)
        if not steps.outer or (not tiles.is_const and per == 1):
            all_terms = Terms(steps.whole, {})
            made = [
                (t, (*self._terms(t, all_terms, row, expected), *self._finish(body, t)))
                for t in self._tiles_of(body[0], number, block, columns.extent, columns)
            ]
            return (*roles.batch, whole, columns), (Scope(row, either(made)),)
        several = min(block.panels, max(1, estimate(columns.extent)))
        wide = axis("nb", simplify((columns.extent + (several - 1)) // several))
        panel = axis("no", simplify(call("min", const(several), columns.extent - wide * several)))
        at = simplify(wide * several + panel)
        tiled = self._tiles_of(body[0], number, block, columns.extent, at)
        acc = tiled[0].acc
        many = is_sum(body[0]) and estimate(flat_index(steps.outer)[1]) > MANY_PARTS
        dtype = f64 if many else acc.dtype
        part = Buf("part", (const(several), const(per), *acc.shape), dtype, Space.SCRATCH)
        self.scratch.append(part)
        first = both(*(eq(a, 0) for a in steps.outer))
        sums, ends = [], []
        for t in tiled:
            place = (panel, row, *t.wide)
            before = load(part, *place)
            inner = Terms(steps.inner, steps.split, panel)
            sum_ = cast(load(t.acc, *t.wide), dtype)
            so_far = select(first, fconst(0.0, dtype), before) + sum_
            keep = copied("keep", part, place, so_far, t)
            again = copied("again", t.acc, t.wide, cast(before, t.acc.dtype), t)
            sums.append((t, (*self._terms(t, inner, row, expected), keep)))
            ends.append((t, (again, *self._finish(body, t))))
        loops: tuple[Item, ...] = (Scope(panel, (Scope(row, either(sums)),)),)
        for a in reversed(steps.outer):
            loops = (Scope(a, loops),)
        return (*roles.batch, whole, wide), (*loops, Scope(panel, (Scope(row, either(ends)),)))

    def _terms(self, tile: Tile, terms: Terms, row: Expr, per: int) -> tuple[Item, ...]:
        """The sum of a tile, `per` of which, numbered `row`, share a panel."""
        alone = tile.rows.axis.extent is ONE
        packed = frozenset(self.packed.values())
        hints = () if alone else hints_of(tile, terms, packed, len(self.roles.k), row, per)
        return tile.items(terms.k, terms.split, hints)

    def _tiles_of(
        self, st: Stage, number: Expr, block: Blocking, panels: Expr, panel: Expr
    ) -> list[Tile]:
        """What the tile with that number may be: whole, with rows at fixed distances; the rows that
        are left at the end, as many as there are or else clamped to what there is; or a single row,
        where a symbolic batch may have one.
        """

        def tile(rows: Rows) -> Tile:
            own = replace(block, rows=rows.axis.extent.attr)
            return self._product_of(st, self.roles, rows, own, panels, panel)

        rows = self._rows(number, block)
        if rows.guard is TRUE:
            return [tile(rows)]
        along, around = self._run(block)
        length = simplify(product([a.extent for a in along]))
        at = simplify(number % self._few(block)) if around else number
        whole = simplify(le((at + 1) * block.rows, length))
        full = replace(rows, clamped=rows.exact, guard=TRUE, chosen=whole)
        rest = simplify(call("not", whole))
        if length.is_const:
            edge = self._rows(number, block, "re", length.attr % block.rows)
            return [tile(full), tile(replace(edge, clamped=edge.exact, guard=TRUE, chosen=rest))]
        edge = self._rows(number, block, "re")
        if not self._may_be_single(block):
            return [tile(full), tile(replace(edge, chosen=rest))]
        single = simplify(le(length, 1))
        alone = self._rows(number, replace(block, rows=1), "r1")
        alone = replace(alone, clamped=alone.exact, guard=TRUE, chosen=single)
        several = simplify(both(rest, call("not", single)))
        return [tile(full), tile(replace(edge, chosen=several)), tile(alone)]

    def _may_be_single(self, block: Blocking) -> bool:
        """Whether there may be a single row, as where the batch is symbolic: all rows of a tile but
        one would be computed for nobody.
        """
        if block.rows == 1 or len(self.roles.m) != 1:
            return False
        size = self.roles.m[0].extent
        return size.op == "dim" and size.attr.lo <= 1

    def _finish(self, body: list[Stage], tile: Tile) -> list[Item]:
        """The stages that write a tile of the first of `body` through the others."""
        columns, t = flat(self.roles.n, tile.n), tile
        return write_tile(body[0], body[1:], t.rows, columns, t.wide, t.acc, t.inside)

    def _run(self, block: Blocking) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
        """The m axes that the rows of a tile run along, and those outside them."""
        m = self.roles.m
        return (m[-1:], m[:-1]) if block.straight else (m, ())

    def _few(self, block: Blocking) -> Expr:
        """The number of tiles side by side along the axes that rows run along."""
        length = product([a.extent for a in self._run(block)[0]])
        return simplify((length + (block.rows - 1)) // block.rows)

    def _tiles(self, block: Blocking) -> Expr:
        """The number of tiles of rows."""
        return simplify(product([a.extent for a in self._run(block)[1]]) * self._few(block))

    def _rows(self, tile: Expr, block: Blocking, name: str = "r", count: int = 0) -> Rows:
        """The rows of the tile with number `tile`, along an axis called `name`: the first `count`
        of them, or all.
        """
        along, around = self._run(block)
        r = axis(name, count or block.rows)
        self.kinds[name] = Kind.UNROLL
        length, few = simplify(product([a.extent for a in along])), self._few(block)
        outer = flat(around, simplify(tile // few)) if around else {}
        index = simplify((tile % few if around else tile) * block.rows + r)
        inside = simplify(lt(index, length))
        if prove(inside):
            exact = outer | flat(along, index)
            return Rows(r, exact, exact, TRUE)
        clamped = simplify(call("min", index, length - 1))
        return Rows(r, outer | flat(along, clamped), outer | flat(along, index), inside)

    # ---- one contraction -------------------------------------------------------------------------

    def _product_of(
        self,
        st: Stage,
        roles: Roles,
        rows: Rows,
        block: Blocking,
        panels: Expr,
        panel: Expr,
        full: bool = False,
        ends: Limits = NO_LIMITS,
    ) -> Tile:
        """The accumulators of one tile of `st` and what is added to them, in the `panel`-th of
        `panels` panels of columns, `full` if n does not end in it; the sum goes up to its `ends`.
        """
        tag = str(len(self.scratch))
        lanes, units = axis("l" + tag, self.width), axis("u" + tag, block.vectors)
        self.kinds |= {lanes.name: Kind.LANES, units.name: Kind.UNROLL}
        terms = axis("t" + tag, block.unroll) if block.unroll > 1 else None
        if terms is not None:
            self.kinds[terms.name] = Kind.UNROLL
        wide = (rows.axis, units, lanes)
        acc = Buf("acc" + tag, tuple(a.extent for a in wide), st.compute.values[0].dtype, Space.REG)
        self.scratch.append(acc)
        total = None
        if is_sum(st):
            total = Buf("total" + tag, acc.shape, f64, Space.SCRATCH)
            self.totals.append(total)
        within = simplify(units * self.width + lanes)
        n = simplify(panel * (block.vectors * self.width) + within)
        inside = both() if full else lt(n, simplify(product([a.extent for a in roles.n])))
        guards = conjuncts(st.compute.where)
        k = self._k_order(st, roles)
        short = shares_few_terms(st, roles)
        own = both(*(c for c in guards if is_right(c, roles)))
        right, packed = self._right(roles, own, k, block, panels, panel, within, n, inside)
        rest = [c for c in guards if c.axes & set(roles.n) and not (packed and is_right(c, roles))]
        place = rows.clamped | flat(roles.n, n)
        where = simplify(both(*(substitute(c, place) for c in rest))) if rest else None
        left = simplify(substitute(roles.left, rows.clamped | flat(roles.n, n)))
        if set(roles.n) & roles.left.axes and not prove(inside):
            left = select(inside, left, fconst(0.0, left.dtype))
        guard = simplify(substitute(both(*left_guards(st, roles)), rows.clamped))
        free = roles.term(left, right)
        if guard is both():
            return Tile(st, rows, wide, acc, n, inside, free, where, terms=terms, total=total)
        cut = None
        if all(implied(c, ends) for c in left_guards(st, roles)) and len(k) == 1:
            cut = Cut(k[0], rows.at(ends[k[0]], 0), rows.at(ends[k[0]], -1), free, where)
        each = both(*(c for c in conjuncts(guard) if rows.axis in c.axes))
        if each is not both():
            left = select(each, left, fconst(0.0, left.dtype))
        whole = both(*(c for c in conjuncts(guard) if rows.axis not in c.axes))
        split = self._split(guard, k, rows, free, where) if short else None
        where = both(*conjuncts(where), *conjuncts(whole))
        where = None if where is both() else where
        term = roles.term(left, right)
        return Tile(st, rows, wide, acc, n, inside, term, where, split, cut, terms, total)

    def _split(
        self, guard: Expr, k: tuple[Expr, ...], rows: Rows, term: Expr, where: Expr | None
    ) -> Split | None:
        """Tiles told apart by whether `guard` holds for all their rows and all points of `k`."""
        straight = everywhere(conjuncts(guard), (*k, rows.axis))
        if straight is not None:
            return Split(both(*dict.fromkeys(straight)), term, where)
        each = everywhere(conjuncts(guard), k)
        if each is None:
            return None
        points = [const(r) for r in range(rows.axis.extent.attr)]
        inside = [simplify(substitute(c, {rows.axis: r})) for c in each for r in points]
        return Split(both(*dict.fromkeys(inside)), term, where)

    def _right(
        self,
        roles: Roles,
        guard: Expr,
        k: tuple[Expr, ...],
        block: Blocking,
        panels: Expr,
        panel: Expr,
        within: Expr,
        n: Expr,
        inside: Expr,
    ) -> tuple[Expr, bool]:
        """The right factor along the lanes: where it lies, or from its packed panel (True), which
        holds zero where its guard is false.
        """
        bufs = operand_bufs(roles.right)
        once = bool(bufs) and set(bufs) <= self.constant
        plain = roles.product == "mul" and in_place(roles.right, roles.n)
        if not once and plain and not self._worth_packing(roles):
            value = simplify(substitute(roles.right, {roles.n[0]: n}))
            zero = fconst(0.0, value.dtype)
            return value if prove(inside) else select(inside, value, zero), False
        batch = tuple(b for b in roles.batch if b in roles.right.axes)
        width = block.vectors * self.width
        if (known := self.packed.get((roles.right, guard, width))) is not None:
            return load(known, *batch, panel, *k, within), True
        name = f"pack{len(self.packings)}"
        made = pack_panels(name, roles, guard, (*batch, *k), panels, width, self.target, once)
        self.packings.append(made)
        self.packed[roles.right, guard, width] = made.buf
        return load(made.buf, *batch, panel, *k, within), True

    def _worth_packing(self, roles: Roles) -> bool:
        """Whether a right factor that could be read where it lies is better copied first: its rows
        are so far apart that they evict each other, and enough rows of A pass by it.
        """
        rows = estimate(product([a.extent for a in self.roles.m]))
        return rows >= PACKED_ROWS and apart(roles.right, roles.k) >= PACKED_STRIDE

    def _k_order(self, st: Stage, roles: Roles) -> tuple[Expr, ...]:
        """The folded axes in their order, the last of which is unrolled where that pays."""
        order = in_order(st, roles)
        if unrolls(order[-1], roles):
            self.kinds[order[-1].name] = Kind.UNROLL
        return order

    # ---- panels of rows --------------------------------------------------------------------------

    def _panel(
        self, body: list[Stage], ends: list[Limits], rows: Rows, block: Blocking
    ) -> tuple[Item, ...]:
        """The kernel's stages on one panel of rows, each up to its `ends`; what they share of a row
        lives in scratch, one row after another, in whole vectors.
        """
        wider = {b: self._wider(b, rows) for b in self.kernel.scratch}
        self.scratch += wider.values()
        wide = [widened(st, wider, rows.axis) for st in body]
        by_rows = [roles_in(self.kernel, st) is None for st in body]
        items: list[Item] = []
        i = 0
        while i < len(body):
            after = i + 1
            if by_rows[i]:
                while after < len(body) and by_rows[after]:
                    after += 1
                items += self._row_stages(wide[i:after], ends[i:after], rows)
            else:
                after += len(self._epilogue_of(body, i))
                items += self._product(wide[i], wide[i + 1 : after], ends[i], rows, block)
            i = after
        return tuple(items)

    def _wider(self, buf: Buf, rows: Rows) -> Buf:
        """`buf`, which holds a row, for each row of a panel and in whole vectors."""
        shape = buf.shape
        if shape:
            whole = simplify((shape[-1] + (self.width - 1)) // self.width * self.width)
            shape = (*shape[:-1], whole)
        return replace(buf, shape=(rows.axis.extent, *shape))

    def _epilogue_of(self, body: list[Stage], i: int) -> list[Stage]:
        """The pointwise stages right behind contraction `i` that consume it element by element, all
        of it and no more, and nobody else does.
        """
        out: list[Stage] = []
        value, axes = body[i].targets[0][0], body[i].compute.axes
        for j in range(i + 1, len(body)):
            st = body[j]
            users = [s for s in body if value in s.reads]
            alone = users == [st] and value.space is Space.SCRATCH
            if not alone or not _elementwise(st, value, axes):
                break
            out.append(st)
            value = st.targets[0][0]
        return out

    def _product(
        self, st: Stage, follow: list[Stage], ends: Limits, rows: Rows, block: Blocking
    ) -> list[Item]:
        """A product of a panel of rows and its epilogue: columns up to where the last row ends, and
        terms up to where each row does.
        """
        roles = contraction(st)
        assert roles is not None
        if not roles.n:
            roles = roles.swapped()
        free = [g for g in self.kernel.grid if g not in rows.exact and g in roles.right.axes]
        roles = replace(roles, batch=tuple(free), m=())
        n = simplify(product([a.extent for a in roles.n]))
        vectors = (
            block.vectors
            if not n.is_const
            else max(1, min(block.vectors, -(-n.attr // self.width)))
        )
        block = replace(block, vectors=vectors)
        per = vectors * self.width
        name, panels = f"no{len(self.scratch)}", simplify((n + (per - 1)) // per)
        names = dict(
            zip(
                [a for s in follow for a in s.compute.axes],
                st.compute.axes * len(follow),
                strict=True,
            )
        )
        follow = [substitute_stage(s, {a: names[a] for a in s.compute.axes}) for s in follow]

        def tile(panel: Expr, full: bool = False) -> tuple[Item, ...]:
            made = self._product_of(st, roles, rows, block, panels, panel, full, ends)
            columns = flat(roles.n, made.n)
            write = write_tile(st, follow, rows, columns, made.wide, made.acc, made.inside)
            return (*made.items(self._k_order(st, roles), {}), *write)

        count = panels
        if len(roles.n) == 1 and (end := ends.get(roles.n[0])) is not None:
            count = simplify((rows.at(end, -1) + (per - 1)) // per)
        if n.is_const or roles.n[0] in self.kernel.grid:
            columns = axis(name, count)
            return [Scope(columns, tile(columns))]
        whole = simplify(n // per)
        if count is not panels:
            whole = simplify(call("min", whole, count))
        inner, edge = axis(name + "f", whole), axis(name + "e", simplify(count - whole))
        return [Scope(inner, tile(inner, True)), Scope(edge, tile(simplify(whole + edge)))]

    def _row_stages(self, run: list[Stage], ends: list[Limits], rows: Rows) -> list[Item]:
        """Stages over whole rows, one row of the panel after another."""
        serial = axis(f"row{len(self.scratch)}", rows.axis.extent)
        here = {rows.axis: serial}
        place = {a: substitute(e, here) for a, e in rows.clamped.items()}
        run = [limited(s, own, place, "h") for s, own in zip(run, ends, strict=True)]
        moved = tuple(
            simplify_stage(substitute_stage(substitute_stage(s, here), place)) for s in run
        )
        private = tuple(dict.fromkeys(b for s in moved for b in s.writes))
        kernel = Kernel("rows", (), moved, private)
        kernel = schedule_rows(kernel, self.target, serial.name, frozenset(self.scratch))
        self.scratch += [b for b in kernel.scratch if b not in private]
        self.kinds |= dict(kernel.kinds)
        return [Scope(serial, kernel.body)]


def _elementwise(st: Stage, buf: Buf, axes: tuple[Expr, ...]) -> bool:
    """Whether a stage reads `buf` only at its own point, and has the points of `axes`."""
    own = st.compute.axes
    same = len(own) == len(axes) and all(
        equal(a.extent, b.extent) for a, b in zip(own, axes, strict=True)
    )
    reads = (ld for e in st.exprs() for ld in loads(e) if ld.attr == buf)
    return is_epilogue(st) and same and all(ld.args == own for ld in reads)
