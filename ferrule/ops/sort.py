"""Sorting: tensors permuted together along one axis.

    sort       outs[.., i, ..] = the i-th in order of the tuples (ins[0][.., k, ..], ..) over all k
    top_k      the first k of them

An order is "ascending" or "descending", by the first operand alone, with NaN above all numbers and
zeros of both signs equal; or it is an `Order`: any expression that says of two tuples whether the
one comes before the other. All sorts are stable: of what is equal, the first comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr, as_index, le, load, lt
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value
from ferrule.ir.interp.order import permutation
from ferrule.ir.orders import ASCENDING, DESCENDING
from ferrule.ir.simplify import equal, prove, simplify
from ferrule.ir.system import Access, Compute, Order, Sort, Stage
from ferrule.ops.create import full, iota
from ferrule.ops.op import Array, define, normal_axis, show_types

_NAMED = {"ascending": ASCENDING, "descending": DESCENDING}


def _order(attrs: Attrs, dtypes: tuple[DType, ...]) -> Order:
    order: str | Order = attrs["order"]
    return _NAMED[order](dtypes) if isinstance(order, str) else order


def _kept(shape: Shape, attrs: Attrs) -> Shape:
    """The shape of the results for operands of `shape`."""
    d = attrs["axis"]
    return (*shape[:d], attrs.get("keep", shape[d]), *shape[d + 1 :])


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, ...] | TensorType:
    x, order = types[0], attrs["order"]
    normal_axis("sort", attrs["axis"], x.rank)
    for t in types[1:]:
        if t.rank != x.rank or not all(map(equal, t.shape, x.shape)):
            raise CompileError(f"sort takes operands of one shape, got {show_types(types)}")
    dtypes = tuple(t.dtype for t in types)
    if isinstance(order, str) and order not in _NAMED:
        raise CompileError(f"sort: {order!r} is none of {', '.join(_NAMED)}")
    if isinstance(order, Order) and order.dtypes != dtypes:
        wanted = ", ".join(d.name for d in order.dtypes)
        raise CompileError(f"sort of {show_types(types)} by an order of {wanted}")
    found = tuple(TensorType(_kept(x.shape, attrs), d) for d in dtypes)
    return found if len(found) > 1 else found[0]


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, ...]:
    axis, order = attrs["axis"], attrs["order"]
    turned = tuple(np.moveaxis(x, axis, -1) for x in arrays)
    if order == "ascending":
        place = np.argsort(turned[0], axis=-1, kind="stable")
    elif order == "descending":  # from behind, so that the last of equal ones comes last
        back = np.argsort(turned[0][..., ::-1], axis=-1, kind="stable")
        place = turned[0].shape[-1] - 1 - back[..., ::-1]
    else:
        place = permutation(order, turned)
    place = place[..., : attrs.get("keep")]
    return tuple(np.moveaxis(np.take_along_axis(x, place, -1), -1, axis) for x in turned)


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    d = attrs["axis"]
    point = ctx.axes(ins[0].shape)
    rest = tuple(a for e, a in enumerate(point) if e != d)
    fold = Sort(point[d], _order(attrs, tuple(b.dtype for b in ins)))
    values = tuple(load(b, *point) for b in ins)
    targets = tuple(Access(b, point) for b in outs)
    kept = outs[0].shape[d]
    when = None if equal(kept, point[d].extent) else lt(point[d], kept)
    return [Stage(outs[0].name, targets, Compute(rest, values, fold), when=when)]


def _requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    return [le(attrs["keep"], types[0].shape[attrs["axis"]])] if "keep" in attrs else []


define("sort", _infer, _meaning, _compute, requires=_requires)


def sort_together(
    b: GraphBuilder,
    values: Sequence[Value],
    axis: int,
    order: str | Order | Expr = "ascending",
    keep: Expr | int | None = None,
) -> tuple[Value, ...]:
    """`values`, of one shape, with the tuples of their elements along `axis` put in order; with
    `keep` the first so many of them.

    `order` is ascending, descending, or a bool over arg(0..n-1) and arg(n..2n-1): whether the one
    of two tuples comes before the other. Of the arguments each has the dtype of its operand.
    """
    if isinstance(order, Expr):
        order = Order(tuple(v.dtype for v in values), order)
    d = normal_axis("sort", axis, values[0].rank)
    size = values[0].shape[d]
    count = None if keep is None else simplify(as_index(keep))
    if count is not None and (prove(lt(count, 0)) or prove(lt(size, count))):
        raise CompileError(f"sort: the first {count} of {size} elements")
    if count is not None and equal(count, size):
        count = None
    out: Any = b.emit("sort", *values, axis=d, order=order, keep=count)
    return out if len(values) > 1 else (out,)


def sort(
    b: GraphBuilder, x: Value, axis: int = -1, descending: bool = False
) -> tuple[Value, Value]:
    """(`x` in order along `axis`, the i64 indices of its elements), stable."""
    return _with_indices(b, x, axis, "descending" if descending else "ascending", None)


def sort_values(b: GraphBuilder, x: Value, axis: int = -1, descending: bool = False) -> Value:
    """`x` in order along `axis`."""
    if x.rank == 0:
        normal_axis("sort", axis, 1)
        return x
    return sort_together(b, (x,), axis, "descending" if descending else "ascending")[0]


def argsort(b: GraphBuilder, x: Value, axis: int = -1, descending: bool = False) -> Value:
    """The i64 indices that put `x` in order along `axis`, stable."""
    return sort(b, x, axis, descending)[1]


def top_k(
    b: GraphBuilder, x: Value, k: Expr | int, axis: int = -1, largest: bool = True
) -> tuple[Value, Value]:
    """(the `k` greatest or least elements along `axis` in order, their i64 indices); of equal ones
    those with the least indices.
    """
    return _with_indices(b, x, axis, "descending" if largest else "ascending", k)


def _with_indices(
    b: GraphBuilder, x: Value, axis: int, order: str, keep: Expr | int | None
) -> tuple[Value, Value]:
    if x.rank == 0:
        normal_axis("sort", axis, 1)
        return x, full(b, (), 0, i64)
    values, indices = sort_together(b, (x, _places(b, x, axis)), axis, order, keep)
    return values, indices


def _places(b: GraphBuilder, x: Value, axis: int) -> Value:
    """The index along `axis` of each element of `x`."""
    d = normal_axis("sort", axis, x.rank)
    return iota(b, x.shape, d)
