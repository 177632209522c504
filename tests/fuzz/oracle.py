"""What a program must give, and how far from it a result may be.

The interpreter is the definition, and `ferrule.base.numerics` says what agrees with it. Where a
result does not, the program may be to blame: `floor(x)` jumps, and `x - y` of near numbers
magnifies. So its graph runs again and again, each time with a small random error in each number
that an operator rounds, and another sign of each zero; numbers that differ by no more may be equal.
An integer that changes with these, or a float that becomes NaN, settles nothing; another float may
be off by some times what the errors made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, bf16, boolean, f16, f32, f64, from_storage, to_storage
from ferrule.base.numerics import difference
from ferrule.ir.graph import Graph, Node, Value
from ferrule.ir.interp import run_graph
from tests.fuzz.program import Sizes, arrays

Array = NDArray[Any]
Values = dict[Value, Array]
Change = Callable[[Node, Value, Array, Values], Array]

_RUNS = 48
_MARGIN = 8.0
_NEAR = 20.0  # as many times as errors part two numbers may they be apart and equal
_NOISE = {f64: 1e-12, f32: 4e-6, f16: 2e-3, bf16: 1.6e-2}
# Operators that give elements of their operands as they are, and those of elements alone.
_EXACT = {
    "reshape", "transpose", "expand", "reverse", "roll", "slice", "diagonal", "unfold",
    "concat", "pad", "take", "take_along_axis", "index", "iota", "full", "constant", "max",
    "min", "neg", "abs", "select", "sign", "floor", "ceil", "trunc", "round", "copysign",
    "relu", "reduce_max", "reduce_min", "max_with_index", "min_with_index", "cummax", "cummin",
    "max_pool", "tril", "triu", "slice_scatter", "diagonal_scatter", "index_put",
    "resize_nearest", "sort",
}  # fmt: skip
_POINTWISE = {
    "add", "sub", "mul", "div", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "sin", "cos",
    "erf", "square", "reciprocal", "cast",
}  # fmt: skip


def meant(graph: Graph, sizes: Sizes) -> list[Array]:
    """The outputs by the definition, in storage form. Raises what the definition raises."""
    return run_graph(graph, arrays(graph, sizes), sizes)


class Judge:
    """Compares results of one graph with what it means at these sizes."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self.graph, self.sizes = graph, sizes
        self.expected = meant(graph, sizes)
        self._shaken: list[list[Array]] | None = None

    def complaint(self, found: Sequence[Array]) -> str | None:
        """What is wrong with these outputs, or None."""
        for i, (v, x, y) in enumerate(zip(self.graph.outputs, found, self.expected, strict=True)):
            message = difference(x, y, v.dtype)
            if message is not None:
                settled = self._settled(i, x, v.dtype)
                if settled is not None:
                    return f"output {i} ({v.name}: {v.type}): {settled}"
        return None

    def _settled(self, i: int, found: Array, dtype: DType) -> str | None:
        """The difference that is left once what errors of rounding explain is taken out."""
        if self._shaken is None:
            rng = np.random.default_rng(0)
            plain = valued(self.graph, self.sizes)
            self._shaken = [shaken(self.graph, self.sizes, plain, rng) for _ in range(_RUNS)]
        want = from_storage(self.expected[i], dtype)
        others = np.stack([from_storage(run[i], dtype) for run in self._shaken])
        got = from_storage(found, dtype)
        with np.errstate(all="ignore"):
            if dtype.is_float:
                spread = np.abs(others.astype(np.float64) - want).max(0)
                near = np.abs(got.astype(np.float64) - want) <= _MARGIN * spread
                excused = near | ~np.isfinite(spread) & np.isfinite(want)
                excused |= (others != others).any(0) | np.isinf(others).any(0) & np.isfinite(got)
                excused &= ~((want != want) & (others != others).all(0))
            else:
                excused = (others != want).any(0)
        left = np.where(excused, want, got)
        return difference(to_storage(left, dtype), self.expected[i], dtype)


def shaken(graph: Graph, sizes: Sizes, plain: Values, rng: np.random.Generator) -> list[Array]:
    """The outputs of `graph`, whose values are `plain`, with a small random error in each number
    that is rounded.
    """
    values = valued(graph, sizes, lambda n, v, x, own: _noisy(n, v, x, own, plain, rng))
    return [values[v] for v in graph.outputs]


def valued(graph: Graph, sizes: Sizes, change: Change = lambda n, v, x, own: x) -> Values:
    """All values of `graph` in storage form, each as `change` makes it."""
    leaves = (*graph.inputs, *graph.params)
    values = dict(zip(leaves, arrays(graph, sizes), strict=True))
    for n in graph.nodes:
        for v, x in zip(n.outputs, run_node(n, values, sizes), strict=True):
            values[v] = change(n, v, x, values)
    return values


def run_node(n: Node, values: Values, sizes: Sizes) -> list[Array]:
    """The results of one node, in storage form."""
    operands = tuple(dict.fromkeys(n.inputs))
    return run_graph(Graph("one", operands, (), (n,), n.outputs), [values[v] for v in operands],
                     sizes)  # fmt: skip


def _noisy(
    n: Node, v: Value, x: Array, values: Values, plain: Values, rng: np.random.Generator
) -> Array:
    if n.op in ("eq", "ne") or (n.op == "cast" and v.dtype is boolean):
        return _perhaps_equal(n, x, values, plain, rng)
    if not v.dtype.is_float or not x.size:
        return x
    real = from_storage(x, v.dtype).astype(np.float64)
    real = np.where(real == 0, np.copysign(real, rng.uniform(-1, 1, real.shape)), real)
    if n.op in _EXACT:
        return to_storage(_narrow(real, v.dtype), v.dtype)
    # Elements that are computed alike have one error, and a minimum of them has it too.
    alike = rng.random() < 0.5
    noise = _NOISE[v.dtype] * rng.uniform(-1, 1, () if alike else real.shape)
    with np.errstate(all="ignore"):
        size = np.abs(real)
        if n.op not in _POINTWISE:
            size = size + _terms(n, values)
        still = (real == 0) & (rng.random(real.shape) < 0.25)  # a zero of either sign
        noise = np.where(still, 0.0, noise)
        real = real + noise * size
        if n.op == "reduce_prod":
            real = np.where(_by_order(n, values), np.nan, real)
        return to_storage(_narrow(real, v.dtype), v.dtype)


def _by_order(n: Node, values: Values) -> Array:
    """Which products leave the range of floats in one order of their factors and not in another."""
    (x,), dtype = n.inputs, n.inputs[0].dtype
    most = 1000.0 if dtype is f64 else 120.0
    size = np.log2(np.abs(from_storage(values[x], dtype).astype(np.float64)))
    axes, kept = n.attributes["axes"], bool(n.attributes.get("keepdims"))
    up = np.maximum(size, 0).sum(axes, keepdims=kept)
    down = np.minimum(size, 0).sum(axes, keepdims=kept)
    return ((up > most) & (up + down < most)) | ((down < -most) & (up + down > -most))


def _perhaps_equal(
    n: Node, x: Array, values: Values, plain: Values, rng: np.random.Generator
) -> Array:
    """`x`, whether a pair is equal, or a number 0; by chance where errors part the two about as far
    as they are apart without.
    """
    dtype = n.inputs[0].dtype
    if not dtype.is_float:
        return x

    def apart(given: Values) -> Array:
        a, *b = (from_storage(given[v], dtype).astype(np.float64) for v in n.inputs)
        return a - b[0] if b else a

    with np.errstate(all="ignore"):
        before, after = apart(plain), apart(values)
        near = np.abs(before) <= _NEAR * np.abs(after - before)
    alike = rng.random() < 0.5  # pairs that are computed alike are equal together
    chance = rng.random(() if alike else x.shape)
    return np.where(near & (after != before), chance < 0.5, x)


def _terms(n: Node, values: Values) -> float:
    """How large the terms of a sum may be that `n` makes."""
    floats = [from_storage(values[v], v.dtype) for v in n.inputs if v.dtype.is_float]
    return float(np.prod([max(1.0, _largest(np.abs(x))) for x in floats]))


def _largest(x: Array) -> float:
    finite = x[np.isfinite(x)]
    return float(finite.max(initial=0.0))


def _narrow(x: Array, dtype: DType) -> Array:
    return x.astype(np.float32) if dtype is bf16 else x
