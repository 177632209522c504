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
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, from_numpy, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    both,
    call,
    cast,
    ceildiv,
    const,
    eq,
    le,
    load,
    lt,
    maximum,
    select,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.monoids import MAX, MIN, PROD, SUM
from ferrule.ir.simplify import equal, prove, simplify
from ferrule.ir.system import Access, Compute, Monoid, Stage
from ferrule.ops.index import (
    Advanced,
    along_axis,
    along_points,
    check_within,
    index_operand,
    index_operands,
    place_in,
    places,
    within,
)
from ferrule.ops.op import (
    Array,
    Index,
    check_kind,
    define,
    element,
    normal_axis,
    same_dtype,
    show_shape,
    show_types,
    stage,
    upcast,
)
from ferrule.ops.slices import diagonal_shape
from ferrule.ops.view import expand, unsqueeze

Size = Expr | int

_MONOIDS: dict[str, Callable[[DType], Monoid]] = {
    "sum": SUM, "prod": PROD, "min": MIN, "max": MAX, "mean": SUM,
}  # fmt: skip
_UFUNCS: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum, "mean": np.add,
}  # fmt: skip


# ---- updates -------------------------------------------------------------------------------------


def _updated(
    ctx: ComputeContext, ins: tuple[Buf, ...], out: Buf, axes: Index, place: Index, attrs: Attrs
) -> list[Stage]:
    """`out` = ins[0], with ins[-1] at each point of `axes` put, or folded in, at `place`.

    Folds of f16 and bf16 go by way of f32.
    """
    x, source = ins[0], ins[-1]
    reduce = attrs["reduce"]
    if not reduce:
        return [_copied(ctx, out, x), _update(ctx, out, axes, place, load(source, *axes), None)]
    wide = out.dtype.compute
    monoid = _MONOIDS[reduce](wide)
    direct = out.dtype == wide and reduce != "mean"
    total = out if direct else ctx.buf("total", out.shape, wide)
    stages = [_copied(ctx, total, x)]
    if not attrs["include_self"]:
        stages.append(_update(ctx, total, axes, place, monoid.identity[0], None))
    stages.append(_update(ctx, total, axes, place, element(source, *axes), monoid))
    if direct:
        return stages
    points = ctx.axes(out.shape)
    value = load(total, *points)
    if reduce == "mean":
        counted, count = _counted(ctx, out, axes, place, attrs["include_self"])
        stages += counted
        number = cast(maximum(load(count, *points), ONE), wide)
        value = call("div" if wide.is_float else "floordiv", value, number)
    return [*stages, stage(out, points, value)]


def _copied(ctx: ComputeContext, buf: Buf, x: Buf) -> Stage:
    axes = ctx.axes(buf.shape)
    return stage(buf, axes, cast(load(x, *axes), buf.dtype))


def _update(
    ctx: ComputeContext, buf: Buf, axes: Index, place: Index, value: Expr, monoid: Monoid | None
) -> Stage:
    """`buf[place]` = `value` at each point of `axes`, in order, or folded with what it holds."""
    put = Compute(axes, (value,))
    return Stage(ctx.fresh("update"), (Access(buf, place),), put, monoid, update=True)


def _counted(
    ctx: ComputeContext, out: Buf, axes: Index, place: Index, include_self: bool
) -> tuple[list[Stage], Buf]:
    """How many values each place of `out` gets, its own counted with `include_self`."""
    count = ctx.buf("count", out.shape, i64)
    start = stage(count, ctx.axes(out.shape), const(int(include_self)))
    return [start, _update(ctx, count, axes, place, ONE, SUM(i64))], count


def _updated_meaning(x: Array, source: Array, place: tuple[Any, ...], attrs: Attrs) -> Array:
    """`x` with the source put, or folded in, at a NumPy index."""
    reduce = attrs["reduce"]
    if not reduce:
        out = x.copy()
        out[place] = source
        return out
    out = upcast(x).copy()
    fold, ufunc = _MONOIDS[reduce](from_numpy(out.dtype)), _UFUNCS[reduce]
    if not attrs["include_self"]:
        out[place] = fold.identity[0].value
    ufunc.at(out, place, upcast(source))
    if reduce == "mean":
        count = np.full(out.shape, int(attrs["include_self"]))
        np.add.at(count, place, 1)
        count = np.maximum(count, 1).astype(out.dtype)
        out = out / count if out.dtype.kind == "f" else out // count
    return out


def _check_reduce(name: str, x: TensorType, reduce: str) -> None:
    if reduce:
        check_kind(name, x, "fiu")
    if reduce and reduce not in _MONOIDS:
        raise CompileError(f"{name}: reduce={reduce!r} is none of {', '.join(_MONOIDS)}")


# ---- scatter -------------------------------------------------------------------------------------


def _scatter_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, indices, source = types
    same_dtype("scatter", (x, source))
    _check_reduce("scatter", x, attrs["reduce"])
    check_within("scatter", x, indices, attrs["axis"])
    check_within("scatter from", source, indices, -1)
    return x


def _scatter_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, indices, _ = ins
    d = attrs["axis"]
    axes = ctx.axes(indices.shape)
    found = place_in(load(indices, *axes), x.shape[d], False)
    return _updated(ctx, ins, outs[0], axes, along_axis(axes, d, found), attrs)


def _scatter_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, indices, source = arrays
    place = along_points(x, indices, attrs["axis"], False)
    return _updated_meaning(x, source[tuple(slice(n) for n in indices.shape)], place, attrs)


def _scatter_requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    x, indices, source = types
    return [*within(x, indices, attrs["axis"]), *within(source, indices, -1)]


define("scatter", _scatter_infer, _scatter_meaning, _scatter_compute, requires=_scatter_requires)


def scatter(
    b: GraphBuilder,
    x: Value,
    axis: int,
    indices: Value,
    source: Value,
    reduce: str | None = None,
    include_self: bool = True,
) -> Value:
    """`x` with source[p] at the place of each point p of `indices`: indices[p] along `axis`, p
    along the others (torch.scatter_reduce).

    `reduce` is sum, prod, min, max or mean: values for one place are folded together, and with
    what `x` holds there if `include_self`; by default the last one stays.
    """
    d = normal_axis("scatter", axis, x.rank)
    operand = index_operand("scatter", b, indices)
    out: Value = b.emit(
        "scatter", x, operand, source, axis=d, reduce=reduce or "", include_self=include_self
    )
    return out


# ---- index_put -----------------------------------------------------------------------------------


def _put_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, *indices, values = types
    same_dtype("index_put", (x, values))
    _check_reduce("index_put", x, attrs["reduce"])
    Advanced.of(x.shape, attrs["axes"], [t.shape for t in indices])
    return x


def _put_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *indices, _ = ins
    advanced = Advanced.of(x.shape, attrs["axes"], [i.shape for i in indices])
    axes = ctx.axes(advanced.result)
    return _updated(ctx, ins, outs[0], axes, advanced.points(axes, indices), attrs)


def _put_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, *indices, values = arrays
    return _updated_meaning(x, values, places(x, attrs["axes"], indices), attrs)


define("index_put", _put_infer, _put_meaning, _put_compute)


def index_put(
    b: GraphBuilder,
    x: Value,
    indices: Sequence[Value | None],
    values: Value,
    accumulate: bool = False,
) -> Value:
    """`x` with x[indices] = values, which broadcast to the shape of x[indices]; with `accumulate`
    they are added. Negative indices count from the end.
    """
    axes, given = index_operands("index_put", b, indices)
    shape = Advanced.of(x.shape, axes, [i.shape for i in given]).result
    reduce = "sum" if accumulate else ""
    out: Value = b.emit(
        "index_put",
        x,
        *given,
        expand(b, values, shape),
        axes=axes,
        reduce=reduce,
        include_self=True,
    )
    return out


def index_add(b: GraphBuilder, x: Value, axis: int, indices: Value, source: Value) -> Value:
    """`x` with the slices of `source` along `axis` added to those of x at `indices`, of rank 1."""
    d = normal_axis("index_add", axis, x.rank)
    if indices.rank != 1:
        raise CompileError(f"index_add takes a vector of indices, got {indices.type}")
    return index_put(b, x, (*(None,) * d, indices), source, accumulate=True)


# ---- known places --------------------------------------------------------------------------------


def _slice_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, source = types
    same_dtype("slice_scatter", types)
    d = attrs["axis"]
    fits = x.rank == source.rank and all(
        equal(s, n) for e, (s, n) in enumerate(zip(source.shape, x.shape, strict=True)) if e != d
    )
    if not fits:
        raise CompileError(
            f"slice_scatter along axis {d} of {show_types(types)}: the other sizes differ"
        )
    start, stop = as_index(attrs["start"]), as_index(attrs["stop"])
    if prove(lt(start, ZERO)) or prove(lt(x.shape[d], stop)):
        raise CompileError(f"slice_scatter: {start} to {stop} is not within axis {d} of {x}")
    return x


def _slice_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x, source), (out,) = ins, outs
    d, step = attrs["axis"], attrs["step"]
    start, stop = as_index(attrs["start"]), as_index(attrs["stop"])
    axes = ctx.axes(out.shape)
    own = simplify(axes[d] - start)
    inside = both(le(start, axes[d]), lt(axes[d], stop), eq(simplify(own % step), ZERO))
    taken = load(source, *axes[:d], simplify(own // step), *axes[d + 1 :])
    return [stage(out, axes, select(simplify(inside), taken, load(x, *axes)))]


def _slice_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, source = arrays
    out = x.copy()
    cut = slice(attrs["start"], attrs["stop"], attrs["step"])
    out[(slice(None),) * attrs["axis"] + (cut,)] = source
    return out


def _source_is_there(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[Expr, ...]:
    wanted = ceildiv(as_index(attrs["stop"]) - as_index(attrs["start"]), attrs["step"])
    return (le(wanted, types[1].shape[attrs["axis"]]),)


define("slice_scatter", _slice_infer, _slice_meaning, _slice_compute, requires=_source_is_there)


def slice_scatter(
    b: GraphBuilder, x: Value, source: Value, axis: int, start: Size, stop: Size, step: int = 1
) -> Value:
    """`x` with `source` in place of the elements start, start + step, .. below stop of `axis`,
    where 0 <= start <= stop <= size.
    """
    d = normal_axis("slice_scatter", axis, x.rank)
    begin, end = simplify(as_index(start)), simplify(as_index(stop))
    out: Value = b.emit("slice_scatter", x, source, axis=d, start=begin, stop=end, step=step)
    return out


def select_scatter(b: GraphBuilder, x: Value, source: Value, axis: int, index: Size) -> Value:
    """`x` with `source` in place of its slice at one index of `axis`."""
    d = normal_axis("select_scatter", axis, x.rank)
    start = as_index(index)
    return slice_scatter(b, x, unsqueeze(b, source, d), d, start, start + 1)


def _diagonal_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, source = types
    same_dtype("diagonal_scatter", types)
    expected = tensor(diagonal_shape(x, attrs), x.dtype).shape
    if source.rank != x.rank - 1 or not all(map(equal, source.shape, expected)):
        raise CompileError(
            f"diagonal_scatter of {show_types(types)}: expected {show_shape(expected)}"
        )
    return x


def _diagonal_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x, source), (out,) = ins, outs
    d, e, k = attrs["axis1"], attrs["axis2"], attrs["offset"]
    axes = ctx.axes(out.shape)
    along = axes[d] + min(k, 0)
    on = eq(simplify(axes[e] - axes[d]), as_index(k))
    rest = (a for i, a in enumerate(axes) if i not in (d, e))
    return [stage(out, axes, select(on, load(source, *rest, simplify(along)), load(x, *axes)))]


def _diagonal_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, source = arrays
    out = x.copy()
    last = np.moveaxis(out, (attrs["axis1"], attrs["axis2"]), (-2, -1))
    i, k = np.arange(source.shape[-1]), attrs["offset"]
    last[..., i - min(k, 0), i + max(k, 0)] = source
    return out


define("diagonal_scatter", _diagonal_infer, _diagonal_meaning, _diagonal_compute)


def diagonal_scatter(
    b: GraphBuilder, x: Value, source: Value, offset: int = 0, axis1: int = 0, axis2: int = 1
) -> Value:
    """`x` with `source`, whose last axis runs along it, in place of a diagonal of two axes."""
    d, e = (normal_axis("diagonal_scatter", a, x.rank) for a in (axis1, axis2))
    out: Value = b.emit("diagonal_scatter", x, source, offset=offset, axis1=d, axis2=e)
    return out
