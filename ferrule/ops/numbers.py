"""Matrices of numbers that are real or complex, with operators: formulas of linear algebra.

A complex tensor is two tensors of one shape, the real and the imaginary part; a real one is a tuple
of itself. What broadcasts in NumPy does so here. The rows and columns of matrices are the last two
dims, the dims before are a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ferrule.base.dtype import DType, f64, i32, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Shape, Value
from ferrule.ir.simplify import equal
from ferrule.ops import elementary as el
from ferrule.ops.bits import bitcast
from ferrule.ops.contract import matmul
from ferrule.ops.create import full, iota
from ferrule.ops.op import check_kind
from ferrule.ops.reduce import reduce_max, reduce_sum
from ferrule.ops.view import expand, reshape, transpose, unsqueeze

Parts: TypeAlias = "tuple[Value, ...]"
"""A real tensor, or the real and the imaginary part of a complex one."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """A tensor of real or complex numbers in the graph that `b` builds."""

    b: GraphBuilder
    parts: Parts

    @property
    def shape(self) -> Shape:
        return self.parts[0].shape

    @property
    def rank(self) -> int:
        return self.parts[0].rank

    @property
    def dtype(self) -> DType:
        """The dtype of the parts."""
        return self.parts[0].dtype

    @property
    def is_complex(self) -> bool:
        return len(self.parts) == 2

    @property
    def real(self) -> Numbers:
        return Numbers(self.b, self.parts[:1])

    @property
    def value(self) -> Value:
        """The tensor of real numbers."""
        (x,) = self.parts
        return x

    def each(self, fn: Callable[[Value], Value]) -> Numbers:
        """`fn` of each part."""
        return replace(self, parts=tuple(map(fn, self.parts)))

    def within(self, b: GraphBuilder) -> Numbers:
        """The same numbers for the graph of another builder."""
        return replace(self, b=b)

    def _real(self, x: Value) -> Numbers:
        return Numbers(self.b, (x,))

    # ---- arithmetic

    def __add__(self, o: Numbers) -> Numbers:
        return self._by_parts(el.add, o)

    def __sub__(self, o: Numbers) -> Numbers:
        return self._by_parts(el.sub, o)

    def _by_parts(self, fn: Callable[..., Value], o: Numbers) -> Numbers:
        a, c = self.as_complex(o.is_complex), o.as_complex(self.is_complex)
        return Numbers(self.b, tuple(fn(self.b, x, y) for x, y in zip(a.parts, c.parts)))

    def __mul__(self, o: Numbers | float) -> Numbers:
        b = self.b
        if not isinstance(o, Numbers):
            return self.each(lambda x: el.mul(b, x, o))
        if not o.is_complex:
            return self.each(lambda x: el.mul(b, x, o.value))
        if not self.is_complex:
            return o * self
        (x, y), (u, v) = self.parts, o.parts
        real = el.sub(b, el.mul(b, x, u), el.mul(b, y, v))
        return Numbers(b, (real, el.add(b, el.mul(b, x, v), el.mul(b, y, u))))

    def __neg__(self) -> Numbers:
        return self.each(lambda x: el.neg(self.b, x))

    def over(self, o: Numbers | float) -> Numbers:
        """The quotient by real numbers."""
        return self.each(lambda x: el.div(self.b, x, o.value if isinstance(o, Numbers) else o))

    def divided(self, o: Numbers) -> Numbers:
        """The quotient by numbers that are not 0, neither of which over- nor underflows before it
        does itself.
        """
        if not o.is_complex:
            return self.over(o)
        b = self.b
        largest = el.maximum(b, *(el.abs(b, p) for p in o.parts))
        scale = self._real(power_of_two(b, largest)).at_least(float(np.finfo(o.dtype.numpy).tiny))
        by = o.over(scale)
        return (self.over(scale) * by.conj()).over(by.squared())

    def as_complex(self, wanted: bool = True) -> Numbers:
        """The same with an imaginary part, if that is `wanted`."""
        if self.is_complex or not wanted:
            return self
        return Numbers(self.b, (*self.parts, full(self.b, self.shape, 0.0, self.dtype)))

    def conj(self) -> Numbers:
        if not self.is_complex:
            return self
        return Numbers(self.b, (self.parts[0], el.neg(self.b, self.parts[1])))

    def abs(self) -> Numbers:
        """The sizes, real."""
        fn = el.hypot if self.is_complex else el.abs
        return self._real(fn(self.b, *self.parts))

    def squared(self) -> Numbers:
        """The squares of the sizes, real."""
        squares = [el.mul(self.b, x, x) for x in self.parts]
        return self._real(squares[0] if len(squares) == 1 else el.add(self.b, *squares))

    def squared_number(self) -> Numbers:
        """The squares of the numbers."""
        return self * self

    def sqrt(self) -> Numbers:
        return self._real(el.sqrt(self.b, self.value))

    def root(self) -> Numbers:
        """A square root of each number; 0 for negative real ones."""
        b = self.b
        if not self.is_complex:
            return self.at_least(0.0).sqrt()
        x, y = self.parts
        half = el.mul(b, el.add(b, self.abs().value, el.abs(b, x)), 0.5)
        large = el.sqrt(b, half)
        under = el.select(b, el.gt(b, large, 0.0), large, 1.0)
        small = el.div(b, el.mul(b, y, 0.5), under)
        right = el.ge(b, x, 0.0)
        return Numbers(b, (el.select(b, right, large, el.abs(b, small)),
                           el.select(b, right, small, el.copysign(b, large, y))))  # fmt: skip

    def at_least(self, least: float) -> Numbers:
        return self._real(el.maximum(self.b, self.value, least))

    def sum(self, axis: int, keepdims: bool = False) -> Numbers:
        return self.each(lambda x: reduce_sum(self.b, x, axis, keepdims))

    # ---- choices

    def where(self, flag: Value, otherwise: Numbers | float) -> Numbers:
        """These numbers where `flag` holds, else the others."""
        if isinstance(otherwise, Numbers):
            return self._by_parts(lambda b, x, y: el.select(b, flag, x, y), otherwise)
        real, *rest = self.parts
        chosen = [el.select(self.b, flag, real, otherwise)]
        return Numbers(self.b, (*chosen, *(el.select(self.b, flag, x, 0.0) for x in rest)))

    def is_zero(self) -> Value:
        """Which numbers are 0."""
        flags = [el.eq(self.b, x, 0.0) for x in self.parts]
        return flags[0] if len(flags) == 1 else el.logical_and(self.b, *flags)

    # ---- matrices

    def turned(self) -> Numbers:
        """The transposed matrices."""
        order = (*range(self.rank - 2), self.rank - 1, self.rank - 2)
        return self.each(lambda x: transpose(self.b, x, order))

    def adjoint(self) -> Numbers:
        return self.turned().conj()

    def as_column(self) -> Numbers:
        """[.., n] as [.., n, 1]."""
        return self.each(lambda x: unsqueeze(self.b, x, x.rank))

    def as_row(self) -> Numbers:
        """[.., n] as [.., 1, n]."""
        return self.each(lambda x: unsqueeze(self.b, x, x.rank - 1))

    def matmul(self, o: Numbers) -> Numbers:
        """The products of matrices."""
        b = self.b
        if not (self.is_complex and o.is_complex):
            parts = [matmul(b, x, y) for x in self.parts for y in o.parts]
            return Numbers(b, tuple(parts))
        (x, y), (u, v) = self.parts, o.parts
        real = el.sub(b, matmul(b, x, u), matmul(b, y, v))
        return Numbers(b, (real, el.add(b, matmul(b, x, v), matmul(b, y, u))))

    def to_shape(self, shape: Sequence[Expr | int]) -> Numbers:
        return self.each(lambda x: reshape(self.b, x, shape))


def numbers(b: GraphBuilder, parts: Parts) -> Numbers:
    """Parts as numbers to compute with: f16 and bf16 as f32. Raises CompileError for others."""
    kinds = {(p.type.dtype, p.shape) for p in parts}
    if len(kinds) != 1 or len(parts) > 2:
        raise CompileError(f"{', '.join(str(p.type) for p in parts)} are no numbers")
    check_kind("linear algebra", parts[0].type, "f")
    return Numbers(b, parts).each(lambda x: el.cast(b, x, x.dtype.compute))


def squares(b: GraphBuilder, name: str, parts: Parts) -> Numbers:
    """Parts of square matrices as numbers. Raises CompileError for others."""
    x = numbers(b, parts)
    if x.rank < 2 or not equal(x.shape[-1], x.shape[-2]):
        raise CompileError(f"{name} of {parts[0].type}: these are no square matrices")
    return x


def identity(b: GraphBuilder, shape: Shape, dtype: DType) -> Numbers:
    """Matrices with 1 on the diagonal, else 0."""
    one = el.eq(b, iota(b, (shape[-2], 1), 0), iota(b, (1, shape[-1]), 1))
    return Numbers(b, (expand(b, el.cast(b, one, dtype), shape),))


def finite(x: Numbers) -> tuple[Numbers, Value]:
    """(matrices with 0 for those that hold an infinity or NaN, which ones hold none [batch..])."""
    b = x.b
    sizes = x.abs().value
    largest = reduce_max(b, sizes, (-2, -1), empty=True)
    good = el.lt(b, largest, float("inf"))
    flag = unsqueeze(b, unsqueeze(b, good, good.rank), good.rank + 1)
    return x.where(flag, 0.0), good


def scaled(x: Numbers) -> tuple[Numbers, Numbers]:
    """(matrices divided by a power of 2, so that the largest part lies in [1, 2), that power
    [batch.., 1, 1]); those of zeros stay as they are.
    """
    b, dtype = x.b, x.dtype
    tops = [reduce_max(b, el.abs(b, p), (-2, -1), True, True) for p in x.parts]
    top = tops[0] if len(tops) == 1 else el.maximum(b, *tops)
    by = el.maximum(b, power_of_two(b, top), float(np.finfo(dtype.numpy).tiny))
    by = el.select(b, el.gt(b, top, 0.0), by, 1.0)
    return x.over(Numbers(b, (by,))), Numbers(b, (by,))


def power_of_two(b: GraphBuilder, x: Value) -> Value:
    """The greatest power of 2 that is not greater than positive normal x; 0 for others."""
    whole, low = (i64, 52) if x.dtype == f64 else (i32, 23)
    return bitcast(b, el.bitwise_and(b, bitcast(b, x, whole), -(1 << low)), x.dtype)


def marked(x: Numbers, good: Value) -> Numbers:
    """x[batch.., ..] with NaN where the batch's flag is false."""
    for _ in range(x.rank - good.rank):
        good = unsqueeze(x.b, good, good.rank)
    return x.each(lambda p: el.select(x.b, good, p, float("nan")))


def states_of(*several: Numbers) -> list[Value]:
    """The tensors that numbers consist of, as states of a loop."""
    return [p for x in several for p in x.parts]


def from_states(
    b: GraphBuilder, likes: Sequence[Numbers], states: Sequence[Value]
) -> list[Numbers]:
    """Numbers like others, of states of a loop."""
    rest = iter(states)
    return [Numbers(b, tuple(next(rest) for _ in x.parts)) for x in likes]
