"""Byte operands: i32 values of graphs that are bytes, less a zero point.

    cast(x, i32)                     x of u8 or i8
    sub(cast(x, i32), zero)          a zero point for all, or one for each slice of some axes
    transpose(..), reshape(..), expand(..) of these

What is found is a plan: nothing is emitted before the bytes are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ferrule import ops
from ferrule.base.dtype import DType, i8, i32, u8
from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import GraphBuilder, Node, Shape, Value
from ferrule.ir.simplify import equal

Makers = Mapping[Value, Node]
_VIEWS = ("transpose", "reshape", "expand")


@dataclass(frozen=True)
class ByteOperand:
    """The i32 value `wide` as the bytes `source` that `steps` view and take a zero point from.

    `zero_shape` is that of the zero point: one size for each axis of the value, or () where it is
    one for all or 0. `number` is the zero point where the graph tells it, 0 where there is none;
    `reach` is the largest distance from it that bytes may have, None where that is not known.
    """

    wide: Value
    source: Value
    steps: tuple[Node, ...]
    zero_shape: Shape
    number: int | None
    reach: int | None

    @property
    def dtype(self) -> DType:
        """u8 or i8."""
        return self.source.dtype

    def taken(self, b: GraphBuilder) -> tuple[Value, Value | None]:
        """The bytes, and the i32 zero point: of rank 0, or of `zero_shape`; None where it is 0."""
        value, zero = self.source, None
        for n in self.steps:
            if n.op == "sub":
                zero = ops.reshape(b, n.inputs[1], _beside(n.inputs[1], n.outputs[0].rank))
                continue
            value = b.emit(n.op, value, **n.attributes)
            if zero is not None and zero.rank:  # of all views, a transposition alone
                zero = b.emit(n.op, zero, **n.attributes)
        return value, zero if self.number != 0 else None

    def centred(self, b: GraphBuilder, dtype: DType) -> Value:
        """The value in a dtype that holds it."""
        if dtype == i32:
            return self.wide
        value, zero = self.taken(b)
        wide = ops.cast(b, value, dtype)
        return wide if zero is None else ops.sub(b, wide, ops.cast(b, zero, dtype))


def byte_operand(v: Value, makers: Makers) -> ByteOperand | None:
    """What `v` is of bytes, None where it is none; `makers` are the nodes that make values."""
    steps: list[Node] = []
    n = makers.get(v)
    while n is not None and (n.op in _VIEWS or (n.op == "sub" and _keeps(n))):
        steps.append(n)
        n = makers.get(n.inputs[0])
    if n is None or n.op != "cast" or n.outputs[0].dtype != i32:
        return None
    (source,) = n.inputs
    if source.dtype not in (u8, i8) or sum(s.op == "sub" for s in steps) > 1:
        return None
    steps.reverse()
    shape = _zero_shape(steps)
    if shape is None:
        return None
    zero = next((s.inputs[1] for s in steps if s.op == "sub"), None)
    number = 0 if zero is None else _number(zero, makers)
    reach = _reach(source.dtype, zero, number, makers)
    return ByteOperand(v, source, tuple(steps), shape, number, reach)


def _keeps(n: Node) -> bool:
    """Whether a subtraction leaves the shape of what it takes from."""
    return n.inputs[0].type == n.outputs[0].type


def _beside(zero: Value, rank: int) -> Shape:
    """A zero point's shape beside a value of `rank` axes: () where it is one for all."""
    if all(equal(s, ONE) for s in zero.shape):
        return ()
    return (*(ONE for _ in range(rank - zero.rank)), *zero.shape)


def _zero_shape(steps: list[Node]) -> Shape | None:
    """That of the zero point behind all steps; None where there is a view of it that is no
    transposition.
    """
    shape: Shape = ()
    for n in steps:
        if n.op == "sub":
            shape = _beside(n.inputs[1], n.outputs[0].rank)
        elif shape and n.op != "transpose":
            return None
        elif shape:
            shape = tuple(shape[d] for d in n.attributes["perm"])
    return shape


def _beneath(v: Value, makers: Makers) -> Node | None:
    """What makes a value, without views."""
    n = makers.get(v)
    while n is not None and n.op in _VIEWS:
        n = makers.get(n.inputs[0])
    return n


def _number(zero: Value, makers: Makers) -> int | None:
    """The one number that all elements of a value are known to be."""
    n = _beneath(zero, makers)
    if n is None or n.op != "full" or isinstance(n.attributes["value"], Expr):
        return None
    return int(n.attributes["value"])


def _reach(dtype: DType, zero: Value | None, number: int | None, makers: Makers) -> int | None:
    low, high = int(dtype.min), int(dtype.max)
    if number is not None:
        return max(abs(low - number), abs(high - number))
    n = None if zero is None else _beneath(zero, makers)
    if n is None or n.op != "cast" or n.inputs[0].dtype not in (u8, i8):
        return None
    other = n.inputs[0].dtype
    return max(high - int(other.min), int(other.max) - low)
