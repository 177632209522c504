"""Families of operators that read and write at indices. All indices are in range."""

from __future__ import annotations

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.ir.expr import Expr, arg, both, cast, either, eq, lt
from ferrule.ir.graph import Shape, Value
from ferrule.ir.simplify import equal
from tests.fuzz.make import Maker, Reject


def indices(m: Maker, shape: Shape, size: Expr) -> Value:
    """i64 of `shape`, each from 0 to size - 1."""
    if m.number(size) == 0 or (size.is_const is False and _low(size) < 1):
        raise Reject
    found = m.pick(lambda v: v.dtype == i64 and _same(v.shape, shape))
    if found is not None and m.chance(0.4):
        return ops.mod(m.b, found, ops.scalar(m.b, size))
    if size.is_const and m.chance(0.8):
        return m.leaf(shape, i64, f"k{size.value}_")
    x = m.leaf(shape, i64)
    return ops.mod(m.b, x, ops.scalar(m.b, size))


def _low(size: Expr) -> int:
    return int(size.attr.lo) if size.op == "dim" else 0


def _same(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and all(map(equal, a, b))


def take(m: Maker) -> Value:
    x = m.value("fiub", 1, 3)
    at = m.axis(x)
    return ops.take(m.b, x, indices(m, m.shape(0, 2), x.shape[at]), at, m.chance(0.5))


def gather(m: Maker) -> Value:
    x = m.value("fiub", 1, 3)
    at = m.axis(x)
    shape = (*x.shape[:at], m.size(), *x.shape[at + 1 :])
    return ops.take_along_axis(m.b, x, indices(m, shape, x.shape[at]), at)


def index(m: Maker) -> Value:
    x = m.value("fiub", 1, 4)
    axes, shape = m.axes(x), m.shape(0, 2)
    several = [indices(m, shape, s) if i in axes else None for i, s in enumerate(x.shape)]
    return ops.index(m.b, x, several)


def one_hot(m: Maker) -> Value:
    n = m.rng.randint(1, 9)
    return ops.one_hot(m.b, m.leaf(m.shape(0, 2), i64, f"k{n}_"), n)


def scatter(m: Maker) -> Value:
    x = m.value("f", 1, 3)
    at = m.axis(x)
    shape = (*x.shape[:at], m.size(), *x.shape[at + 1 :])
    places = indices(m, shape, x.shape[at])
    source = m.of_shape(shape, x.dtype)
    reduce = m.choice((None, "sum", "sum", "max", "min", "mean", "prod"))
    return ops.scatter(m.b, x, at, places, source, reduce, m.chance(0.7))


def index_put(m: Maker) -> Value:
    x = m.value("f", 1, 3)
    axes, shape = m.axes(x), m.shape(0, 2)
    several = [indices(m, shape, s) if i in axes else None for i, s in enumerate(x.shape)]
    like = ops.index(m.b, x, several)
    return ops.index_put(m.b, x, several, m.of_shape(like.shape, x.dtype), m.chance(0.5))


def index_add(m: Maker) -> Value:
    x = m.value("f", 1, 3)
    at, n = m.axis(x), m.size()
    source = m.of_shape((*x.shape[:at], n, *x.shape[at + 1 :]), x.dtype)
    return ops.index_add(m.b, x, at, indices(m, (n,), x.shape[at]), source)


def part_scatter(m: Maker) -> Value:
    x = m.value("fiu", 1)
    kind = m.rng.randrange(3)
    at = m.axis(x)
    if kind == 0:
        part = ops.select_index(m.b, x, at, 0)
        return ops.select_scatter(m.b, x, m.of_shape(part.shape, x.dtype), at, 0)
    if kind == 1 and x.rank > 1:
        pair = m.rng.sample(range(x.rank), 2)
        part = ops.diagonal(m.b, x, 0, *pair)
        return ops.diagonal_scatter(m.b, x, m.of_shape(part.shape, x.dtype), 0, *pair)
    n = m.number(x.shape[at])
    start, step = m.rng.randint(0, min(n, 2)), m.rng.choice((1, 1, 2))
    part = ops.slice_axis(m.b, x, at, start, x.shape[at], step)
    source = m.of_shape(part.shape, x.dtype)
    return ops.slice_scatter(m.b, x, source, at, start, x.shape[at], step)


def sort(m: Maker) -> Value | tuple[Value, ...]:
    x = m.value("fiub", 1, 3)
    at, down = m.axis(x), m.chance(0.5)
    kind = m.rng.randrange(4)
    if kind == 0:
        return ops.sort(m.b, x, at, down)
    if kind == 1:
        return ops.sort_values(m.b, x, at, down)
    if kind == 2:
        return ops.top_k(m.b, x, m.rng.randint(0, min(m.number(x.shape[at]), 9)), at, down)
    y = m.of_shape(x.shape, x.dtype)
    pairs = ((0, 2), (1, 3)) if m.chance(0.5) else ((3, 1), (0, 2))  # the first differing one
    first, second = (
        [cast(arg(k, x.dtype), x.dtype.compute) for k in pair] for pair in pairs
    )
    order = either(lt(*first), both(eq(*first), lt(*second)))
    return ops.sort_together(m.b, (x, y), at, order)


ALL = (
    (3, take), (2, gather), (3, index), (1, one_hot), (2, scatter), (2, index_put), (2, index_add),
    (2, part_scatter), (3, sort),
)  # fmt: skip
