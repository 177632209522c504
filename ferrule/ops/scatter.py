"""Scattering: a copy of an operand with some of its elements replaced, or folded with others.

    scatter     out[i.., indices[i.., j, k..], k..] = source[i.., j, k..]    or a fold of these
    index_put   out[indices] = values, as advanced indexing has it           or a sum of these

Their Compute copies x and then updates the copy at the places that the indices say; of values for
one place the last stays, or they are folded in. An index must lie in its axis: the run fails with
an index error where one does not.

    slice_scatter, select_scatter, diagonal_scatter

write places that are known without looking at data: each element of the result is one of x or of
the source, so they are pointwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, i64
from ferrule.base.errors import CompileError
from ferrule.ir.compute import Compute, Monoid, Stage
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    call,
    cast,
    const,
    eq,
    le,
    load,
    lt,
    maximum,
    select,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value
from ferrule.ir.monoids import MAX, MIN, PROD, SUM
from ferrule.ir.simplify import prove, simplify
from ferrule.ops.index import (
    Advanced,
    along_axis,
    along_points,
    check_within,
    index_operand,
    index_operands,
    place_in,
    places,
)
from ferrule.ops.op import (
    Array,
    Index,
    at,
    check_kind,
    define,
    element,
    normal_axis,
    same_dtype,
    show_types,
    stage,
    upcast,
)
from ferrule.ops.reduce import points
from ferrule.ops.view import expand, unsqueeze

Size = Expr | int

_MONOIDS: dict[str, Callable[[DType], Monoid]] = {
    "sum": SUM, "prod": PROD, "min": MIN, "max": MAX, "mean": SUM,
}  # fmt: skip
_UFUNCS: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum, "mean": np.add,
}  # fmt: skip


# ---- updates ------------------------------------------------------------------------------------


def _copy(ctx: ComputeContext, buf: Buf, source: Buf) -> Stage:
    axes = ctx.axes(buf.shape)
    return stage(buf, axes, element(source, *axes))


def _update(
    ctx: ComputeContext, buf: Buf, axes: Index, place: Index, value: Expr, monoid: Monoid | None
) -> Stage:
    """`buf[place]` = `value` at each point of `axes`, in order, or folded with what it holds."""
    compute = Compute(axes, (cast(value, buf.dtype),))
    return Stage(ctx.fresh("update"), ((buf, place),), compute, monoid, update=True)


def _scattered(
    ctx: ComputeContext,
    out: Buf,
    x: Buf,
    source: Buf,
    attrs: Attrs,
    place: Callable[[Index], tuple[Index, Index]],
) -> list[Stage]:
    """`out` = x with the source at other places: `place` gives new axes and the places for them.

    Folds of f16 and bf16 go by way of f32.
    """
    reduce = attrs["reduce"] or None
    dtype = out.dtype if reduce is None else out.dtype.compute
    target = out if out.dtype == dtype else ctx.buf("wide", out.shape, dtype)
    stages = [_copy(ctx, target, x)]
    if reduce is None:
        axes, spot = place(source.shape)
        return [*stages, _update(ctx, target, axes, spot, load(source, *axes), None)]
    monoid = _MONOIDS[reduce](dtype)
    if not attrs["include_self"]:
        axes, spot = place(source.shape)
        stages.append(_update(ctx, target, axes, spot, monoid.identity[0], None))
    axes, spot = place(source.shape)
    stages.append(_update(ctx, target, axes, spot, element(source, *axes), monoid))
    if reduce == "mean":
        return stages + _divided(ctx, out, target, source, attrs, place)
    if target is not out:
        axes = ctx.axes(out.shape)
        stages.append(stage(out, axes, load(target, *axes)))
    return stages
