"""Winograd: 3 x 3 convolutions of stride 1 with fewer multiplications.

A tile of m x m results needs alpha x alpha inputs, alpha = m + 2 (Lavin and Gray, "Fast Algorithms
for Convolutional Neural Networks", 2016, whose matrices these are):

    u[p*alpha + q, c, n] = (G g G')[p, q]           the filters, once where they are parameters
    v[p*alpha + q, t, c] = (B' d B)[p, q]           the inputs of tile t
    s[x, t, n]           = sum c  v[x, t, c] * u[x, c, n]        alpha^2 products
    y[t's m x m results] = A' s A, through the kernel's epilogue

For m = 4 that is 36 multiplications for 16 results instead of 144, for m = 2 it is 16 for 4 instead
of 36. Rounding errors are larger than a direct sum's: about 1e-5 of the largest result in f32 for
m = 4; for m = 2 they are not. Tiles may hang over the image's end, where inputs are 0 and results
are not written. Lanes run along the channels, and the product is scheduled as any other. Where the
filters fit L2, one kernel takes a few rows of tiles through all steps, and u, v and s stay there;
else every step is a kernel of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ferrule.base.dtype import f32
from ferrule.base.errors import CompileError
from ferrule.ir.analysis.access import stride
from ferrule.ir.analysis.contraction import ContractionDims, operand_bufs
from ferrule.ir.analysis.size import estimate
from ferrule.ir.canonical import renamed
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    Space,
    axis,
    both,
    call,
    conjuncts,
    const,
    fconst,
    load,
    lt,
    product,
    select,
    substitute,
)
from ferrule.ir.kernel import Item, Kernel, Kind, SerialLoop, stages
from ferrule.ir.monoids import SUM
from ferrule.ir.simplify import coefficient, simplify
from ferrule.ir.system import Access, Compute, Reduce, Stage
from ferrule.schedule.contraction.dims import contraction_dims, oriented
from ferrule.schedule.contraction.microkernel import write_tile
from ferrule.schedule.contraction.packing import Packed, Packing
from ferrule.schedule.contraction.rows import Rows
from ferrule.schedule.contraction.schedule import schedule_contraction
from ferrule.target.cpu import Target
from ferrule.target.machine import Products

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Algorithm:
    """F(m x m, 3 x 3): the matrices B', G and A' left of inputs, filters and products. It is worth
    its rounding errors where it costs at most the share `worth` of the direct schedule.
    """

    m: int
    worth: float
    inputs: Matrix
    filters: Matrix
    results: Matrix

    @property
    def alpha(self) -> int:
        return self.m + 2


F4 = Algorithm(
    4,
    0.8,
    (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)
F2 = Algorithm(
    2,
    0.95,
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    ((1, 1, 1, 0), (0, 1, -1, -1)),
)


@dataclass(frozen=True)
class Window:
    """A convolution that `winograd` can do: its stage, and its axes by role. `rows` and `columns`
    are pairs of an axis of the result and one of the filter; `images` are the other m axes.
    """

    st: Stage
    roles: ContractionDims
    images: tuple[Expr, ...]
    rows: tuple[Expr, Expr]
    columns: tuple[Expr, Expr]
    c: Expr
    n: Expr


@dataclass(frozen=True)
class Choice:
    """An algorithm's `tile` (its m), and how many rows of tiles go through all steps at once; 0
    where every step is done for all.
    """

    tile: int
    block: int


def cheapest(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Choice | None:
    """The cheapest algorithm for a convolution; None where the direct schedule is cheaper, or where
    none applies.

    `kernel` is `schedulable`; `constant` are its buffers whose values are known before the first
    run.
    """
    found = window(kernel, target, constant)
    if found is None:
        return None
    costs = target.machine.products
    direct = direct_work(found, costs)
    worth = [a for a in (F4, F2) if work(found, a, costs) <= a.worth * direct]
    best = min(worth, key=lambda a: work(found, a, costs), default=None)
    return None if best is None else Choice(best.m, _block(found, best, target))


def schedule_winograd(
    kernel: Kernel, target: Target, constant: frozenset[Buf], choice: Choice
) -> Packed:
    """The kernels of a convolution by the algorithm of `choice`. Raises CompileError where the
    kernel is no such convolution.
    """
    found = window(kernel, target, constant)
    algorithm = {a.m: a for a in (F4, F2)}.get(choice.tile)
    if found is None or algorithm is None:
        raise CompileError(
            f"{kernel.name} cannot go by Winograd's algorithm in tiles of {choice.tile}: it takes "
            "a 3 x 3 convolution of stride 1 with constant filters, and tiles of 2 or 4"
        )
    return _Builder(kernel, target, found, algorithm, choice.block).build()


def window(kernel: Kernel, target: Target, constant: frozenset[Buf]) -> Window | None:
    """The convolution that a kernel starts with, where its other stages are an epilogue."""
    st, *rest = stages(kernel.body)
    roles = contraction_dims(kernel, st)
    if roles is None or any(s.compute.axes or s.compute.fold for s in rest) or st.when is not None:
        return None
    if isinstance(st.compute.fold, Reduce) and st.compute.fold.monoid != SUM(f32):
        return None
    roles = oriented(kernel, st, roles, constant)
    left, width = roles.left, target.lanes(f32.size)
    if left.op != "load" or left.dtype != f32 or roles.batch or len(roles.n) != 1:
        return None
    if not set(operand_bufs(roles.right)) <= constant or len(roles.k) != 3:
        return None
    pairs = [p for k in roles.k if (p := _pair(left, k, roles.m)) is not None]
    channels = [k for k in roles.k if k not in [p[1] for p in pairs]]
    if len(pairs) != 2 or len(channels) != 1 or pairs[0][0] is pairs[1][0]:
        return None
    (c,), (n,) = channels, roles.n
    buf, idx = [*stages(kernel.body)][-1].target
    along = (stride(left.attr, left.args, c), stride(buf, idx, n))
    whole = all(a.extent.is_const and a.extent.value % width == 0 for a in (c, n))
    if along != (ONE, ONE) or not whole:
        return None
    if not all(_slides(g, pairs) for g in conjuncts(st.compute.where)):
        return None
    images = tuple(a for a in roles.m if a not in [p[0] for p in pairs])
    return Window(st, roles, images, pairs[0], pairs[1], c, n)


def _pair(left: Expr, k: Expr, m: tuple[Expr, ...]) -> tuple[Expr, Expr] | None:
    """The axis of `m` along which the window axis `k` of three points slides in steps of one."""
    places = [i for i in left.args if k in i.axes]
    if k.extent is not const(3) or len(places) != 1 or coefficient(places[0], k) is not ONE:
        return None
    moved = [a for a in m if a in places[0].axes]
    if len(moved) != 1 or coefficient(places[0], moved[0]) is not ONE:
        return None
    alone = sum(moved[0] in i.axes for i in left.args) == 1
    return (moved[0], k) if alone and moved[0].extent.is_const else None


def _slides(guard: Expr, pairs: list[tuple[Expr, Expr]]) -> bool:
    """Whether a guard depends on the sums of the pairs alone, so that it is that of an input."""
    if guard.op not in ("lt", "le") or not guard.axes <= {a for p in pairs for a in p}:
        return False
    room = guard.args[1] - guard.args[0]
    steps = [(coefficient(room, a), coefficient(room, k)) for a, k in pairs]
    return all(a is not None and a is k for a, k in steps)


def work(w: Window, a: Algorithm, costs: Products) -> float:
    """The cost of the convolution by `a`, in multiply-adds of one lane."""
    c, n, points = w.c.extent.value, w.n.extent.value, a.alpha**2
    tiles = _images(w) * math.prod(_tiles(w, a))
    return float(points * (tiles * (c * n + costs.transform * (c + n)) + costs.filter * c * n))


def direct_work(w: Window, costs: Products) -> float:
    """The cost of the convolution by the direct schedule."""
    area = w.rows[0].extent.value * w.columns[0].extent.value
    return float((_images(w) * area + costs.filter) * 9 * w.c.extent.value * w.n.extent.value)


def _tiles(w: Window, a: Algorithm) -> tuple[int, int]:
    """The number of tiles down and across an image."""
    down, across = (-(-x.extent.value // a.m) for x in (w.rows[0], w.columns[0]))
    return down, across


def _block(w: Window, a: Algorithm, target: Target) -> int:
    """How many rows of tiles go through all steps at once; 0 where every step is done for all, as
    where the filters or a block do not fit L2 or blocks are too few for threads to share.
    """
    c, n, points = w.c.extent.value, w.n.extent.value, a.alpha**2
    costs = target.machine.products
    down, across = _tiles(w, a)
    block = min(down, -(-costs.winograd_tiles // across))
    filters, tile = (points * x * f32.size for x in (c * n, c + n))
    large = filters > target.l2 // costs.winograd_filters or block * across * tile > target.l2 // 2
    return 0 if large or _images(w) * -(-down // block) < costs.shares else block


def _images(w: Window) -> int:
    return estimate(product([a.extent for a in w.images]))


class _Builder:
    """The kernels of a convolution: `block` rows of tiles at a time, or each step for all tiles."""

    def __init__(
        self, kernel: Kernel, target: Target, window: Window, algorithm: Algorithm, block: int
    ) -> None:
        self.kernel, self.target, self.w, self.a = kernel, target, window, algorithm
        self.width = target.lanes(f32.size)
        points = const(algorithm.alpha**2)
        down, across = _tiles(window, algorithm)
        row, column = axis("th", block or down), axis("tw", across)
        self.around: tuple[Expr, ...] = ()  # the axes of blocks, and of the tiles in one
        self.within: tuple[Expr, ...] = (*window.images, row, column)
        self.place = row, column  # of a tile in the image
        if block:
            number = axis("tb", -(-down // block))
            self.around, self.within = (*window.images, number), (row, column)
            self.place = simplify(number * block + row), column
        tiles = simplify(product([a.extent for a in self.within]))
        self.tile = ZERO
        for a in self.within:
            self.tile = simplify(self.tile * a.extent + a)
        c, n = window.c.extent, window.n.extent
        space = Space.SCRATCH if block else Space.GLOBAL
        self.filters = Buf("wino_u", (points, c, n), f32)
        self.inputs = Buf("wino_v", (points, tiles, c), f32, space)
        self.sums = Buf("wino_s", (points, tiles, n), f32, space)

    def build(self) -> Packed:
        product = schedule_contraction(
            self._product(), self.target, frozenset({self.filters}), None
        )
        filters = Packing(self.filters, self._filters(), True, "filters transformed (Winograd)")
        if self.around:
            steps = (self._inputs(), product.kernel, self._results())
            return Packed(self._one_after_another(steps), (filters, *product.packings))
        return Packed(
            self._results(),
            (
                filters,
                *product.packings,
                Packing(self.inputs, self._inputs(), False, "inputs transformed (Winograd)"),
                Packing(self.sums, product.kernel, False, "products of Winograd's algorithm"),
            ),
        )

    def _one_after_another(self, steps: tuple[Kernel, ...]) -> Kernel:
        """The kernel that takes the steps for one block of tiles after another."""
        body: list[Item] = []
        scratch = [self.inputs, self.sums]
        kinds: dict[str, Kind] = {}
        for number, step in enumerate(steps):
            own, _ = renamed(step, f"_w{number}")
            items = own.body
            for a in reversed(own.grid):
                items = (SerialLoop(a, items),)
            body += items
            scratch += own.scratch
            kinds |= dict(own.kinds)
        ways = tuple(sorted(kinds.items()))
        return Kernel(self.kernel.name, self.around, tuple(body), tuple(scratch), ways)

    def _product(self) -> Kernel:
        points, tiles, n = (axis(f"wx{i}", e) for i, e in enumerate(self.sums.shape))
        k = axis("wk", self.w.c.extent)
        value = load(self.inputs, points, tiles, k) * load(self.filters, points, k, n)
        place = (points, tiles, n)
        sum_over_k = Compute((), (value,), Reduce((k,), SUM(f32)))
        return Kernel("product", place, (Stage("s", (Access(self.sums, place),), sum_over_k),))

    def _filters(self) -> Kernel:
        (_, kh), (_, kw) = self.w.rows, self.w.columns
        outer, lanes, n = self._lanes(self.w.n.extent)
        c = axis("wc", self.w.c.extent)

        def source(i: Expr, j: Expr) -> Expr:
            return substitute(self.w.roles.right, {kh: i, kw: j, self.w.c: c, self.w.n: n})

        def place(p: Expr, q: Expr) -> tuple[Expr, ...]:
            return simplify(p * self.a.alpha + q), c, n

        return _two_sided((c, outer), lanes, self.a.filters, source, self.filters, place)

    def _inputs(self) -> Kernel:
        (h, kh), (w, kw) = self.w.rows, self.w.columns
        outer, lanes, c = self._lanes(self.w.c.extent)
        down, right = (simplify(t * self.a.m) for t in self.place)

        def source(i: Expr, j: Expr) -> Expr:
            here = {h: down, kh: i, w: right, kw: j, self.w.c: c}
            value = substitute(self.w.roles.left, here)
            own = (substitute(g, here) for g in conjuncts(self.w.st.compute.where))
            ends = (_within(down + i, h.extent + 2), _within(right + j, w.extent + 2))
            guard = both(*own, *ends)
            return value if guard is both() else select(simplify(guard), value, fconst(0.0, f32))

        def place(p: Expr, q: Expr) -> tuple[Expr, ...]:
            return simplify(p * self.a.alpha + q), self.tile, c

        return _two_sided((*self.within, outer), lanes, self.a.inputs, source, self.inputs, place)

    def _results(self) -> Kernel:
        m = self.a.m
        outer, lanes, n = self._lanes(self.w.n.extent)
        done = Buf("wino_y", (const(m), const(m), const(self.width)), f32, Space.SCRATCH)

        def source(i: Expr, j: Expr) -> Expr:
            return load(self.sums, simplify(i * self.a.alpha + j), self.tile, n)

        def place(p: Expr, q: Expr) -> tuple[Expr, ...]:
            return p, q, lanes

        kernel = _two_sided(
            (*self.within, outer), lanes, self.a.results, source, done, place, (done,)
        )
        down, right = axis("wp", m), axis("wq", m)
        here = {
            self.w.rows[0]: simplify(self.place[0] * m + down),
            self.w.columns[0]: simplify(self.place[1] * m + right),
        }
        inside = both(*(_within(here[a], a.extent) for a in here))
        near = {a: simplify(call("min", i, a.extent - 1)) for a, i in here.items()}
        at = Rows(down, near, here, inside)
        first, *epilogue = stages(self.kernel.body)
        wide = (down, right, lanes)
        write = write_tile(first, epilogue, at, {self.w.n: n}, wide, done, both())
        return Kernel(
            self.kernel.name, kernel.grid, (*kernel.body, *write), kernel.scratch, kernel.kinds
        )

    def _lanes(self, extent: Expr) -> tuple[Expr, Expr, Expr]:
        """The axis of vectors and that of their lanes along `extent` points, and the point."""
        outer, lanes = axis("wv", extent.value // self.width), axis("wl", self.width)
        return outer, lanes, simplify(outer * self.width + lanes)


def _within(index: Expr, extent: Expr) -> Expr:
    """That `index`, which is not negative, is below `extent`."""
    return simplify(lt(index, extent))


def _two_sided(
    grid: tuple[Expr, ...],
    lanes: Expr,
    matrix: Matrix,
    source: Callable[[Expr, Expr], Expr],
    buf: Buf,
    place: Callable[[Expr, Expr], tuple[Expr, ...]],
    scratch: tuple[Buf, ...] = (),
) -> Kernel:
    """buf[place(p, q)] = sum i, j of matrix[p, i] * matrix[q, j] * source(i, j), a vector along
    `lanes` at each point of `grid`.

        for i: half[q, i] = sum j  matrix[q, j] * source(i, j)        for all q
        for q: buf[p, q]  = sum i  matrix[p, i] * half[q, i]          for all p
    """
    size, inner = len(matrix), len(matrix[0])
    i, q = axis("wi", inner), axis("wj", size)
    each = axis("we", inner)
    wide = (const(inner), lanes.extent)
    row, column = (Buf(name, wide, f32, Space.REG) for name in ("wino_row", "wino_column"))
    half = Buf("wino_half", (const(size), *wide), f32, Space.SCRATCH)

    def into(to: Buf, value: Expr) -> Stage:
        return Stage(to.name, (Access(to, (each, lanes)),), Compute((each, lanes), (value,)))

    def combined(of: Buf, factors: tuple[float, ...]) -> Compute:
        return Compute((lanes,), (_combination(of, factors, lanes),))

    first: list[Item] = [into(row, source(i, each))]
    second: list[Item] = [into(column, load(half, q, each, lanes))]
    for p, factors in enumerate(matrix):
        to = Access(half, (const(p), i, lanes))
        first.append(Stage("half", (to,), combined(row, factors)))
        to = Access(buf, place(const(p), q))
        second.append(Stage(buf.name, (to,), combined(column, factors)))
    body = (SerialLoop(i, tuple(first), (row,)), SerialLoop(q, tuple(second), (column,)))
    kinds = ((each.name, Kind.UNROLL), (lanes.name, Kind.LANES))
    return Kernel(buf.name, grid, body, (half, *scratch), kinds)


def _combination(of: Buf, factors: tuple[float, ...], lanes: Expr) -> Expr:
    """The sum of factors[i] * of[i, lanes], without those that are 0."""
    terms = [(f, load(of, const(i), lanes)) for i, f in enumerate(factors) if f]
    positive = [t for t in terms if t[0] > 0] + [t for t in terms if t[0] < 0]
    factor, value = positive[0]
    total = value if factor == 1 else value * float(factor)
    for factor, value in positive[1:]:
        scaled = value if abs(factor) == 1 else value * float(abs(factor))
        total = total + scaled if factor > 0 else total - scaled
    return total
