"""Random programs: operators of all families, each fed by what others made.

    program = make(seed)          the same program for the same seed

A `Maker` builds a graph node by node and knows what every value holds at the first sizes, by the
interpreter. So it can keep numbers tame: what becomes NaN, infinite or huge is thrown away, and an
operator that does not fit its operands is tried on others. Families (`families*.py`) are functions
of a Maker that give new values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule import ops
from ferrule.base.dtype import DType, bf16, f16, f32, f64, from_storage, i64
from ferrule.base.errors import FerruleError
from ferrule.ir.expr import ONE, Expr, as_index, dim
from ferrule.ir.graph import (
    Graph,
    GraphBuilder,
    Node,
    Shape,
    TensorType,
    Value,
    opdef,
    requirements,
)
from ferrule.ir.interp.dims import size
from ferrule.ir.interp.expr import Env, eval_int
from ferrule.ir.simplify import equal
from tests.fuzz.oracle import run_node
from tests.fuzz.program import Program, Sizes, data, dims_of, pruned

Array = NDArray[Any]
Family = Callable[["Maker"], Any]

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
_RARE = (0, 6, 12, 24, 48, 96, 100, 127, 128, 129, 200, 255, 257)
_LARGEST = 1 << 14  # elements of a value
_WORK = 1 << 21  # points that one operator may fold
_TAME = {f64: 1e6, f32: 1e4, f16: 200.0, bf16: 1e3}


class Reject(Exception):
    """What was tried does not fit; something else is tried."""


class Maker:
    """A program in the making. `pool` holds the values that operators may read."""

    def __init__(self, rng: random.Random, empty: bool = True) -> None:
        self.rng, self.empty = rng, empty
        self.b = GraphBuilder()
        self.sizes: dict[str, int] = {}
        self.dims: list[Expr] = []
        self.arrays: dict[Value, Array] = {}
        self.pool: list[Value] = []
        self._numbers = 0
        self.float = rng.choices((f32, f64, f16, bf16), (12, 1, 1, 1))[0]
        if rng.random() < 0.5:
            self._declare()

    def _declare(self) -> None:
        for name in self.rng.sample(("n", "m", "k"), self.rng.choice((1, 1, 2))):
            low = self.rng.choice((0, 1, 1, 2)) if self.empty else self.rng.choice((1, 1, 2))
            self.dims.append(dim(name, lo=low))
            self.sizes[name] = max(self.rng.choice(SIZES), low)

    # ---- choices ---------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def choice(self, items: Sequence[Any]) -> Any:
        if not items:
            raise Reject
        return self.rng.choice(items)

    def extent(self) -> int:
        """A size that is often at the edge of something."""
        if self.chance(0.04):
            return self.rng.choice(_RARE[0 if self.empty else 1 :])
        return self.rng.choice(SIZES)

    def size(self) -> Expr:
        """A size, perhaps symbolic."""
        return self.choice(self.dims) if self.dims and self.chance(0.4) else as_index(self.extent())

    def shape(self, low: int = 0, high: int = 4) -> Shape:
        """A shape of `low` to `high` dims and not too many elements."""
        rank = self.rng.randint(max(low, min(1, high)), high)
        if low == 0 and self.chance(0.05):
            rank = 0
        for _ in range(20):
            shape = tuple(self.size() for _ in range(rank))
            if self.count(shape) <= _LARGEST // 2:
                return shape
        return tuple(as_index(self.rng.choice((1, 2, 3, 5))) for _ in range(rank))

    def number(self, e: Expr | int) -> int:
        """A size at the first run."""
        return size(as_index(e), self.sizes)

    def count(self, shape: Shape) -> int:
        return int(np.prod([self.number(s) for s in shape], dtype=np.int64))

    def known(self, e: Expr) -> int:
        """A size that is a number. Raises Reject for another."""
        if not e.is_const:
            raise Reject
        return int(e.value)

    # ---- values ----------------------------------------------------------------------------------

    def leaf(self, shape: Shape, dtype: DType, prefix: str = "x") -> Value:
        """A new input, param or literal."""
        self._numbers += 1
        name = f"{prefix}{self._numbers}"
        t = TensorType(shape, dtype)
        static = all(s.is_const for s in shape)
        kind = self.rng.random()
        if kind < 0.3 and static:
            return self.seen(self.b.param(t, f"{prefix}w{self._numbers}"))
        if kind < 0.5 and prefix == "x":
            return self.literal(shape, dtype)
        return self.seen(self.b.input(t, name))

    def literal(self, shape: Shape, dtype: DType) -> Value:
        """A value that depends on nothing: a constant, a ramp, a mask, a function of one."""
        b, kind = self.b, self.rng.randrange(6)
        if kind == 0 or not shape:
            low = 0 if dtype.kind in "ub" else -2
            value = self.rng.randint(low, 3) if dtype.kind != "f" else self.rng.randint(-8, 8) / 4
            return self.seen(ops.full(b, shape, bool(value) if dtype.is_bool else value, dtype))
        if kind == 1 and all(s.is_const for s in shape) and 0 < self.count(shape) <= 64:
            rng = np.random.default_rng(self.rng.randrange(1 << 30))
            values = rng.integers(-4 if dtype.is_signed else 0, 5, [s.value for s in shape])
            if not dtype.is_bool and dtype is not bf16:
                return self.seen(ops.constant(b, values.astype(dtype.numpy), dtype))
        x = ops.iota(b, shape, self.rng.randrange(len(shape)))
        if kind in (2, 3):
            y = ops.iota(b, shape, self.rng.randrange(len(shape)))
            mask = self.choice((ops.le, ops.lt, ops.eq))(b, x, y)
            return self.seen(ops.cast(b, mask, dtype))
        if dtype.is_float:
            x = ops.cast(b, x, dtype)
            x = ops.mul(b, x, 0.125)
            if kind == 4:
                x = self.choice((ops.sin, ops.cos, ops.tanh))(b, x)
            return self.seen(x)
        return self.seen(ops.cast(b, ops.mod(b, x, self.rng.randint(2, 7)), dtype))

    def seen(self, v: Value) -> Value:
        """`v`, whose array is known from here on. Raises Reject where it is not tame."""
        if v in self.arrays:
            return v
        leaves = {*self.b.inputs, *self.b.params}
        pending, done = [v], set()
        while pending:
            u = pending[-1]
            if u in self.arrays or u in done:
                pending.pop()
                continue
            if self.count(u.shape) > _LARGEST:
                raise Reject
            if u in leaves:
                self.arrays[u] = data(u, self.sizes)
                continue
            node = next(n for n in self.b.nodes if u in n.outputs)
            missing = [w for w in node.inputs if w not in self.arrays]
            if missing:
                pending += missing
                continue
            self._holds(node)
            for w, x in zip(node.outputs, run_node(node, self.arrays, self.sizes), strict=True):
                self.arrays[w] = x
        self._check(v)
        return v

    def _holds(self, node: Node) -> None:
        """Reject for a node whose conditions on sizes do not hold at the first run, or whose window
        is larger than what it goes over.
        """
        rule = opdef(node.op).requires
        facts = rule(tuple(v.type for v in node.inputs), node.attributes) if rule else ()
        sizes = [self.number(s) for v in node.outputs for s in v.shape]
        if min(sizes, default=0) < 0 or not all(holds(f, self.sizes) for f in facts):
            raise Reject

    def _check(self, v: Value) -> None:
        if v.dtype.is_float:
            x = np.abs(from_storage(self.arrays[v], v.dtype))
            tame = bool(np.all(x <= _TAME[v.dtype]))  # not for NaN
            if not tame and not self.chance(0.01):
                raise Reject

    def add(self, found: Any) -> None:
        """Put what a family made into the pool. Raises Reject."""
        several = found if isinstance(found, (tuple, list)) else (found,)
        for v in several:
            self.seen(v)
        self.pool += [v for v in several if v not in self.pool]

    def pick(self, fits: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A value of the pool, a late one rather than an early one."""
        several = [v for v in self.pool if fits(v)]
        if not several:
            return None
        weights = [1 + 3 * k / len(several) for k in range(len(several))]
        weights[-1] *= 3
        return self.rng.choices(several, weights)[0]

    def value(self, kinds: str = "f", low: int = 0, high: int = 4) -> Value:
        """A value of one of these kinds and of `low` to `high` dims: of the pool, or a new leaf."""
        found = self.pick(lambda v: v.dtype.kind in kinds and low <= v.rank <= high)
        if found is not None and self.chance(0.9):
            return found
        other = self.pick(lambda v: low <= v.rank <= high) if "f" in kinds else None
        if found is None and other is not None and self.chance(0.5):
            return self.seen(ops.cast(self.b, other, self.float))
        return self.leaf(self.shape(low, high), self.dtype(kinds))

    def dtype(self, kinds: str = "f") -> DType:
        """A dtype of one of these kinds, most often what programs use."""
        from ferrule.base import dtype as d

        if kinds[0] == "f":
            return self.float
        table = {"i": (i64, i64, d.i32, d.i8, d.i16), "u": (d.u8, d.u8, d.u16, d.u32)}
        if "b" in kinds and (kinds == "b" or self.chance(0.3)):
            return d.boolean
        return self.choice(table[self.choice([k for k in kinds if k in "iu"])])

    def of_shape(self, shape: Shape, dtype: DType, prefix: str = "x") -> Value:
        """A value of just this type, of the pool, or a new leaf."""
        found = self.pick(lambda v: v.dtype == dtype and _same(v.shape, shape))
        use = found is not None and prefix == "x" and self.chance(0.6)
        return found if use and found is not None else self.leaf(shape, dtype, prefix)

    def partner(self, x: Value, dtype: DType | None = None) -> Value:
        """A value that broadcasts with `x` (and does not always have fewer elements)."""
        dtype = dtype or x.dtype
        found = self.pick(lambda v: v.dtype == dtype and v is not x and _fit(v.shape, x.shape))
        if found is not None and self.chance(0.7):
            return found
        shape = tuple(ONE if self.chance(0.15) else s for s in x.shape)
        shape = shape[self.rng.choice((0, 0, 0, 1, len(shape))) :]
        return self.leaf(shape, dtype)

    def mask(self, x: Value) -> Value:
        """A bool that broadcasts with `x`."""
        found = self.pick(lambda v: v.dtype.is_bool and _fit(v.shape, x.shape))
        if found is not None and self.chance(0.7):
            return found
        y = self.partner(x)
        return self.seen(ops.lt(self.b, x, y))

    def axis(self, x: Value) -> int:
        """One of the axes of `x`, the last ones more often."""
        if not x.rank:
            raise Reject
        return max(self.rng.randrange(x.rank), self.rng.randrange(x.rank))

    def axes(self, x: Value) -> tuple[int, ...]:
        """Some axes of `x`, at least one, in order."""
        if not x.rank:
            raise Reject
        n = self.rng.choice([1] * 4 + list(range(1, x.rank + 1)))
        return tuple(sorted(self.rng.sample(range(x.rank), n)))

    def work(self, *factors: Expr | int) -> None:
        """Reject for an operator that folds more points than is quick."""
        if np.prod([float(self.number(f)) for f in factors]) > _WORK:
            raise Reject

    # ---- steps -----------------------------------------------------------------------------------

    def step(self, families: Sequence[tuple[int, Family]]) -> bool:
        """One family's operators, if they fit."""
        (family,) = self.rng.choices([f for _, f in families], [w for w, _ in families])
        try:
            self.add(family(self))
        except (Reject, FerruleError, IndexError):
            return False
        return True


def _same(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and all(map(equal, a, b))


def _fit(a: Shape, b: Shape) -> bool:
    """Whether two shapes broadcast."""
    pairs = zip(reversed(a), reversed(b))
    return all(x is ONE or y is ONE or equal(x, y) for x, y in pairs)


def make(seed: int, empty: bool = True) -> Program:
    """The program of this seed; without `empty` no axis has extent 0."""
    from tests.fuzz.families import ALL

    rng = random.Random(seed)
    m = Maker(rng, empty)
    m.pool.append(m.seen(m.b.input(TensorType(m.shape(1, 4), m.float), "x0")))
    wanted, tries = rng.choice((2, 3, 4, 5, 6, 8, 10, 14)), 0
    few = _few(rng, ALL)
    while wanted and tries < 100:
        tries += 1
        wanted -= m.step(few)
    graph = pruned(m.b.build(_outputs(m)))
    present = {d.attr.name for d in dims_of(graph)}
    first = {k: v for k, v in m.sizes.items() if k in present}
    return Program(graph, (first, *_other_sizes(m, graph, first)))


def _few(rng: random.Random, families: Sequence[tuple[int, Family]]) -> Sequence[Any]:
    """Some of the families, so that a program has several operators of a kind."""
    if rng.random() < 0.3:
        return families
    return rng.sample(list(families), rng.randint(3, 8))


def _outputs(m: Maker) -> list[Value]:
    """Values that nobody reads, and others."""
    made = [v for v in m.pool if v not in m.b.inputs and v not in m.b.params] or m.pool
    read = {v for n in m.b.nodes for v in n.inputs}
    found = [v for v in made if v not in read][-3:]
    if m.chance(0.4) or not found:
        found.append(m.rng.choice(made))
    if m.chance(0.03):
        found.append(m.rng.choice(m.pool))
    return found if m.chance(0.02) else list(dict.fromkeys(found))


def _other_sizes(m: Maker, graph: Graph, first: Sizes) -> list[Sizes]:
    """Other values of the dims, for which the graph's conditions hold."""
    facts = [r.fact for r in requirements(graph)]
    out: list[Sizes] = []
    for _ in range(12):
        tried = {}
        for d in dims_of(graph):
            low = int(d.attr.lo)
            tried[d.attr.name] = max(m.rng.choice((0, *SIZES)), low)
        fits = all(holds(f, tried) for f in facts)
        if tried != first and fits and _small(graph, tried):
            out.append(tried)
        if len(out) == 2:
            break
    return out


def holds(fact: Expr, sizes: Sizes) -> bool:
    """Whether a condition on dims holds."""
    try:
        return bool(eval_int(fact, Env(sizes)))
    except ZeroDivisionError:
        return False


def _small(graph: Graph, sizes: Sizes) -> bool:
    """Whether no value is large, nor has a size below 0."""
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]
    shapes = [[float(size(s, sizes)) for s in v.shape] for v in values]
    return all(min(s, default=0) >= 0 and np.prod(s) <= 8 * _LARGEST for s in shapes)
