"""Indexing by tensors of integers.

    take             out[i.., j.., k..] = x[i.., indices[j..], k..]          the axis is replaced
    take_along_axis  out[i.., j, k..] = x[i.., indices[i.., j, k..], k..]    torch.gather
    index            several axes at once: torch's and NumPy's advanced indexing

An index must lie in its axis: the run fails with an index error where one does not. Where `wrap`
says so (in `index`, always), negative ones count from the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.ir.expr import ZERO, Buf, Expr, as_index, bounded, either, eq, le, load, lt, select
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.system import Stage
from ferrule.ops import elementary as el
from ferrule.ops.create import iota
from ferrule.ops.op import Array, Index, at, broadcast, define, normal_axis, stage
from ferrule.ops.view import unsqueeze

Size = Expr | int


def index_operand(name: str, b: GraphBuilder, indices: Value) -> Value:
    """`indices` as i64. Raises UnsupportedError for bools (the result's size would not be known)
    and CompileError for floats.
    """
    if indices.dtype.is_bool:
        raise UnsupportedError(f"{name} by a mask: its result has a size that is not known")
    if indices.dtype.is_float:
        raise CompileError(f"{name} takes integers as indices, got {indices.type}")
    return el.cast(b, indices, i64)


def place_in(index: Expr, size: Expr, wrap: bool) -> Expr:
    """`index`, checked to lie in an axis of `size`; `wrap`: negative ones count from its end."""
    return bounded(select(lt(index, ZERO), index + size, index) if wrap else index, size)


def wrapped(index: Array, size: int, wrap: bool) -> Array:
    """What `place_in` means. Raises IndexError."""
    out = np.where(index < 0, index + size, index) if wrap else index
    if out.size and (out.min() < 0 or out.max() >= size):
        raise IndexError(f"an index is out of range for an axis of size {size}")
    return out


# ---- take ----------------------------------------------------------------------------------------


def _take_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, indices = types
    d = attrs["axis"]
    return tensor((*x.shape[:d], *indices.shape, *x.shape[d + 1 :]), x.dtype)


def _take_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, indices = ins
    d, n = attrs["axis"], len(indices.shape)
    axes = ctx.axes(outs[0].shape)
    found = place_in(load(indices, *axes[d : d + n]), x.shape[d], attrs["wrap"])
    return [stage(outs[0], axes, load(x, *axes[:d], found, *axes[d + n :]))]


def _take_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, indices = arrays
    d = attrs["axis"]
    return np.asarray(np.take(x, wrapped(indices, x.shape[d], attrs["wrap"]), d))


define("take", _take_infer, _take_meaning, _take_compute)


def take(b: GraphBuilder, x: Value, indices: Value, axis: int = 0, wrap: bool = False) -> Value:
    """The slices of `x` at `indices`, whose dims stand in the place of `axis` (an embedding)."""
    d = normal_axis("take", axis, x.rank)
    out: Value = b.emit("take", x, index_operand("take", b, indices), axis=d, wrap=wrap)
    return out


# ---- take_along_axis -----------------------------------------------------------------------------


def check_within(name: str, x: TensorType, indices: TensorType, axis: int) -> None:
    """CompileError unless `indices` has the rank of `x` and no more elements along other axes."""
    if x.rank != indices.rank or any(
        s.is_const and n.is_const and s.value > n.value
        for d, (s, n) in enumerate(zip(indices.shape, x.shape, strict=True))
        if d != axis
    ):
        raise CompileError(
            f"{name} along axis {axis} of {x} by {indices}: expected the same rank and, along the "
            "other axes, no more indices than elements"
        )


def within(x: TensorType, indices: TensorType, axis: int) -> list[Expr]:
    """That there are no more indices than elements along the axes of x other than `axis`, or none
    at all.
    """
    none = [eq(s, ZERO) for s in indices.shape]
    sizes = zip(indices.shape, x.shape, strict=True)
    return [either(le(s, n), *none) for d, (s, n) in enumerate(sizes) if d != axis]


def along_axis(axes: Index, axis: int, found: Expr) -> Index:
    """The point `axes` of the indices as an index into what they are `within`: `found` along
    `axis`, its own place along the others.
    """
    return (*axes[:axis], found, *axes[axis + 1 :])


def _along_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, indices = types
    check_within("take_along_axis", x, indices, attrs["axis"])
    return TensorType(indices.shape, x.dtype)


def _along_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, indices = ins
    axes, d = ctx.axes(outs[0].shape), attrs["axis"]
    found = place_in(load(indices, *axes), x.shape[d], attrs["wrap"])
    return [stage(outs[0], axes, load(x, *along_axis(axes, d, found)))]


def _along_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, indices = arrays
    return np.asarray(x[along_points(x, indices, attrs["axis"], attrs["wrap"])])


def along_points(x: Array, indices: Array, axis: int, wrap: bool) -> tuple[Array, ...]:
    """What `along_axis` means, at every point of `indices`."""
    own: list[Array] = list(np.indices(indices.shape, sparse=True))
    own[axis] = wrapped(indices, x.shape[axis], wrap)
    return tuple(own)


define(
    "take_along_axis", _along_infer, _along_meaning, _along_compute,
    requires=lambda types, attrs: within(types[0], types[1], attrs["axis"]),
)  # fmt: skip


def take_along_axis(
    b: GraphBuilder, x: Value, indices: Value, axis: int, wrap: bool = False
) -> Value:
    """An element of `x` for each of `indices`: it says the place along `axis`, its own place in
    `indices` says the others (torch.gather). The result has the shape of `indices`.
    """
    d = normal_axis("take_along_axis", axis, x.rank)
    operand = index_operand("take_along_axis", b, indices)
    out: Value = b.emit("take_along_axis", x, operand, axis=d, wrap=wrap)
    return out


# ---- index ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Advanced:
    """Advanced indexing of a shape: which axes are indexed, and where in the result the dims that
    the indices broadcast to stand: in place of neighbouring axes, in front of all others else.
    """

    axes: tuple[int, ...]
    shape: Shape
    common: Shape

    @staticmethod
    def of(shape: Shape, axes: tuple[int, ...], indices: Sequence[Shape]) -> Advanced:
        """Raises CompileError where there are more indices than axes or they do not broadcast."""
        if not axes or axes[-1] >= len(shape) or len(axes) != len(indices):
            raise CompileError(
                f"index takes 1 to {len(shape)} tensors of indices, got {len(indices)}"
            )
        return Advanced(axes, shape, broadcast(indices))

    @property
    def front(self) -> int:
        """How many of the other axes stand before the indices' dims."""
        first, last = self.axes[0], self.axes[-1]
        return first if last - first + 1 == len(self.axes) else 0

    @property
    def result(self) -> Shape:
        """The result's shape."""
        kept = [s for d, s in enumerate(self.shape) if d not in self.axes]
        return (*kept[: self.front], *self.common, *kept[self.front :])

    def points(self, point: Index, indices: Sequence[Buf]) -> Index:
        """The index into the operand at a point of the result."""
        stop = self.front + len(self.common)
        mine, rest = point[self.front : stop], iter((*point[: self.front], *point[stop:]))
        found = {
            d: place_in(load(i, *at(i, mine)), self.shape[d], True)
            for d, i in zip(self.axes, indices, strict=True)
        }
        return tuple(found[d] if d in found else next(rest) for d in range(len(self.shape)))


def places(x: Array, axes: tuple[int, ...], indices: Sequence[Array]) -> tuple[Array | slice, ...]:
    """What `Advanced.points` means: a NumPy index."""
    out: list[Array | slice] = [slice(None)] * x.ndim
    for d, i in zip(axes, indices, strict=True):
        out[d] = wrapped(i, x.shape[d], True)
    return tuple(out)


def _index_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, *indices = types
    advanced = Advanced.of(x.shape, attrs["axes"], [t.shape for t in indices])
    return tensor(advanced.result, x.dtype)


def _index_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *indices = ins
    advanced = Advanced.of(x.shape, attrs["axes"], [i.shape for i in indices])
    axes = ctx.axes(outs[0].shape)
    return [stage(outs[0], axes, load(x, *advanced.points(axes, indices)))]


def _index_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, *indices = arrays
    return np.asarray(x[places(x, attrs["axes"], indices)])


define("index", _index_infer, _index_meaning, _index_compute)


def index(b: GraphBuilder, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[indices], with None for an axis that is kept whole: the indices broadcast, and negative
    ones count from the end.

    Raises UnsupportedError for masks, CompileError for indices that do not fit.
    """
    axes, given = index_operands("index", b, indices)
    if not axes:
        return x
    out: Value = b.emit("index", x, *given, axes=axes)
    return out


def index_operands(
    name: str, b: GraphBuilder, indices: Sequence[Value | None]
) -> tuple[tuple[int, ...], tuple[Value, ...]]:
    """The axes that are indexed, and their indices."""
    pairs = [(d, i) for d, i in enumerate(indices) if i is not None]
    return tuple(d for d, _ in pairs), tuple(index_operand(name, b, i) for _, i in pairs)


# ---- one_hot -------------------------------------------------------------------------------------


def one_hot(b: GraphBuilder, indices: Value, classes: Size) -> Value:
    """[.., classes] of i64: 1 at each index and 0 elsewhere; an index out of range has no 1."""
    operand = unsqueeze(b, index_operand("one_hot", b, indices), -1)
    return el.cast(b, el.eq(b, operand, iota(b, (as_index(classes),), 0)), i64)
