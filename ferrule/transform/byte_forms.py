"""Forms: the two ways in which graphs sum products of x and w, and what their sums come to where
one factor is 1.

    D(x, w)    the product or the convolution itself
    D(x, 1)    sums over x, with w all ones
    D(1, w)    sums over w, with x all ones; what lies outside of an image counts as 0 all the same

Each comes out in a shape that broadcasts to the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ferrule import ops
from ferrule.base.dtype import i32
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, product
from ferrule.ir.graph import GraphBuilder, Node, Shape, Value
from ferrule.ir.simplify import equal, simplify


class Form(Protocol):
    """How a node sums. `pairs` are the axes of x and of w that are summed over together and may be
    made longer, with their sizes; `terms` how many each sum has, `rows` and `columns` how many
    results there are along x alone and along w alone.
    """

    @property
    def pairs(self) -> tuple[tuple[int, int, Expr], ...]: ...
    @property
    def terms(self) -> Expr: ...
    @property
    def rows(self) -> Expr: ...
    @property
    def columns(self) -> Expr: ...

    def separates(self, x_zero: Shape, w_zero: Shape) -> bool:
        """Whether zero points of these shapes can be taken out of the sums."""

    def sums(self, b: GraphBuilder, x: Value, w: Value) -> Value:
        """D(x, w); where they are floats, no algorithm may round."""

    def x_sums(self, b: GraphBuilder, x: Value) -> Value:
        """D(x, 1)."""

    def w_sums(self, b: GraphBuilder, w: Value) -> Value:
        """D(1, w)."""

    def x_placed(self, b: GraphBuilder, zero: Value) -> Value:
        """A zero point of x as it meets the result."""

    def w_placed(self, b: GraphBuilder, zero: Value) -> Value:
        """A zero point of w as it meets the result."""


def form_of(n: Node, w_first: bool) -> Form | None:
    """The form of a node, whose first operand is x or, where `w_first` is set, w. None for other
    operators and for a convolution with w first.
    """
    if n.op == "dot_general":
        return Dot(n, w_first)
    return Convolution(n) if n.op == "conv" and not w_first else None


@dataclass(frozen=True)
class _Side:
    """The axes of an operand of a dot_general, and whether it is the first of both."""

    shape: Shape
    batch: tuple[int, ...]
    summed: tuple[int, ...]
    first: bool

    @property
    def rest(self) -> tuple[int, ...]:
        """Those that are not summed over."""
        return tuple(d for d in range(len(self.shape)) if d not in self.summed)

    @property
    def free(self) -> tuple[int, ...]:
        return tuple(d for d in self.rest if d not in self.batch)

    def placed(self, b: GraphBuilder, v: Value, other: _Side) -> Value:
        """`v`, with the axes `rest`, as it meets the result: batch, first free, second free."""
        n, ones = len(self.batch), (ONE,) * len(other.free)
        v = ops.transpose(b, v, [self.rest.index(d) for d in (*self.batch, *self.free)])
        lead, own = v.shape[:n], v.shape[n:]
        return ops.reshape(b, v, (*lead, *own, *ones) if self.first else (*lead, *ones, *own))

    def low(self, b: GraphBuilder, zero: Value, other: _Side) -> Value:
        """The same for a zero point, whose size is 1 along the axes summed over."""
        if not zero.rank:
            return zero
        kept = ops.reshape(b, zero, [zero.shape[d] for d in self.rest])
        return self.placed(b, kept, other)


@dataclass(frozen=True)
class Dot:
    """A product of matrices, of any axes."""

    node: Node
    w_first: bool

    def _side(self, k: int) -> _Side:
        attrs, shape = self.node.attributes, self.node.inputs[k].shape
        return _Side(shape, attrs["batch"][k], attrs["contract"][k], k == 0)

    @property
    def x(self) -> _Side:
        return self._side(int(self.w_first))

    @property
    def w(self) -> _Side:
        return self._side(int(not self.w_first))

    @property
    def pairs(self) -> tuple[tuple[int, int, Expr], ...]:
        axes = zip(self.x.summed, self.w.summed, strict=True)
        return tuple((d, e, self.x.shape[d]) for d, e in axes)

    @property
    def terms(self) -> Expr:
        return simplify(product([size for _, _, size in self.pairs]))

    @property
    def rows(self) -> Expr:
        return simplify(product([self.x.shape[d] for d in self.x.free]))

    @property
    def columns(self) -> Expr:
        return simplify(product([self.w.shape[d] for d in self.w.free]))

    def separates(self, x_zero: Shape, w_zero: Shape) -> bool:
        sides = ((self.x, x_zero), (self.w, w_zero))
        return all(not zero or equal(zero[d], ONE) for side, zero in sides for d in side.summed)

    def sums(self, b: GraphBuilder, x: Value, w: Value) -> Value:
        first, second = (w, x) if self.w_first else (x, w)
        attrs = self.node.attributes
        return ops.dot_general(b, first, second, attrs["batch"], attrs["contract"])

    def x_sums(self, b: GraphBuilder, x: Value) -> Value:
        return self.x.placed(b, ops.reduce_sum(b, x, self.x.summed), self.w)

    def w_sums(self, b: GraphBuilder, w: Value) -> Value:
        return self.w.placed(b, ops.reduce_sum(b, w, self.w.summed), self.x)

    def x_placed(self, b: GraphBuilder, zero: Value) -> Value:
        return self.x.low(b, zero, self.w)

    def w_placed(self, b: GraphBuilder, zero: Value) -> Value:
        return self.w.low(b, zero, self.x)


@dataclass(frozen=True)
class Convolution:
    """A convolution of images x with filters w."""

    node: Node

    @property
    def pairs(self) -> tuple[tuple[int, int, Expr], ...]:
        return ((1, 1, self.node.inputs[1].shape[1]),)

    @property
    def terms(self) -> Expr:
        x, w = self.node.inputs
        if self.node.attributes["transposed"]:
            return simplify(product([x.shape[1] // self.node.attributes["groups"], *w.shape[2:]]))
        return simplify(product(w.shape[1:]))

    @property
    def rows(self) -> Expr:
        batch, _, *places = self.node.outputs[0].shape
        return simplify(product([batch, *places]))

    @property
    def columns(self) -> Expr:
        return self.node.outputs[0].shape[1]

    def separates(self, x_zero: Shape, w_zero: Shape) -> bool:
        """In one group, and with zero points of an image and of a filter."""
        attrs = self.node.attributes
        alike = all(equal(s, ONE) for s in (*x_zero[1:], *w_zero[1:]))
        return alike and attrs["groups"] == 1 and not attrs["transposed"]

    def sums(self, b: GraphBuilder, x: Value, w: Value) -> Value:
        attrs = self.node.attributes
        attrs["exact"], attrs["bound"] = x.dtype.is_float or None, None
        made: Value = b.emit("conv", x, w, **attrs)
        return made

    def x_sums(self, b: GraphBuilder, x: Value) -> Value:
        window = ops.full(b, (1, 1, *self.node.inputs[1].shape[2:]), 1, i32)
        return self.sums(b, ops.reduce_sum(b, x, (1,), True), window)

    def w_sums(self, b: GraphBuilder, w: Value) -> Value:
        padding = self.node.attributes["padding"]
        if all(equal(as_index(p), ZERO) for pair in padding for p in pair):
            each = ops.reduce_sum(b, w, tuple(range(1, w.rank)))
            return ops.reshape(b, each, (w.shape[0], *(ONE,) * (w.rank - 2)))
        image = ops.full(b, (1, 1, *self.node.inputs[0].shape[2:]), 1, i32)
        return self.sums(b, image, ops.reduce_sum(b, w, (1,), True))

    def x_placed(self, b: GraphBuilder, zero: Value) -> Value:
        return zero

    def w_placed(self, b: GraphBuilder, zero: Value) -> Value:
        return ops.reshape(b, zero, zero.shape[:-1]) if zero.rank else zero
