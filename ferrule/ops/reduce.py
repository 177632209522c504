"""Reductions: folds over whole axes.

    out[kept..] = fold over reduced.. of x[..]            sum prod max min any all
    mean = sum / n,  var = sum (x - mean)^2 / (n - correction)
    (values, indices)[kept..] = the extreme and where it is

Each keeps the operand's dtype (an integer sum is widened by a `cast` in front of it). Variances are
computed in f64, as PyTorch computes them: squares of an f32 may be out of its range. `axes` are
ints or a tuple of ints, None for all axes; with `keepdims` reduced axes stay, with size 1. NaN is
PyTorch's: it wins `max`, `min`, `argmax` and `argmin`, and of equal elements the first is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, f64, from_numpy, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, call, cast, const, load, lt, product, select
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value
from ferrule.ir.monoids import ALL, ANY, ARGMAX, ARGMIN, MAX, MIN, PROD, SUM
from ferrule.ir.system import Access, Compute, Monoid, Reduce, Stage
from ferrule.ops import elementary as el
from ferrule.ops.create import full
from ferrule.ops.op import (
    Array,
    Index,
    check_kind,
    define,
    element,
    folded,
    normal_axes,
    normal_axis,
    stage,
    upcast,
)

Axes = Iterable[int] | int | None


# ---- axes of a reduction -------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """The axes of a reduction of one operand: its kept and its reduced ones, and their places.

    `point` is the operand's index, `index` that of a result that has kept the reduced dimensions
    where `keepdims`.
    """

    kept: Index
    over: Index
    point: Index
    index: Index

    @property
    def count(self) -> Expr:
        """The number of elements folded together (i64)."""
        return product([a.extent for a in self.over])


def points(ctx: ComputeContext, x: Buf, axes: tuple[int, ...], keepdims: bool = False) -> Points:
    """New axes for a reduction of `x` over `axes`."""
    point = ctx.axes(x.shape)
    kept = tuple(a for d, a in enumerate(point) if d not in axes)
    over = tuple(a for d, a in enumerate(point) if d in axes)
    index = tuple(ZERO if d in axes else a for d, a in enumerate(point)) if keepdims else kept
    return Points(kept, over, point, index)


def reduced_type(t: TensorType, axes: tuple[int, ...], keepdims: bool, dtype: DType) -> TensorType:
    """The type of a reduction of `t`."""
    kept = [ONE if d in axes else s for d, s in enumerate(t.shape) if keepdims or d not in axes]
    return TensorType(tuple(kept), dtype)


def not_empty(t: TensorType, axes: tuple[int, ...]) -> list[Expr]:
    """What must hold of sizes so that an axis without an identity to start from has elements."""
    return [lt(ZERO, t.shape[d]) for d in axes]


def check_not_empty(name: str, t: TensorType, axes: tuple[int, ...]) -> None:
    """CompileError where an axis that has no identity to start from is known to be empty."""
    if any(t.shape[d].is_const and t.shape[d].value == 0 for d in axes):
        raise CompileError(f"{name} of no elements has no value: {t} is empty along axes {axes}")


# ---- folds ---------------------------------------------------------------------------------------


def _fold(name: str, make: Callable[[DType], Monoid], meaning: Any, accepts: str) -> None:
    """Define the reduction by the monoid that `make` gives for the computed dtype."""

    def bare(attrs: Attrs) -> bool:
        return name in ("reduce_max", "reduce_min") and not attrs.get("empty", False)

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        (t,) = types
        check_kind(name, t, accepts)
        if bare(attrs):
            check_not_empty(name, t, attrs["axes"])
        return reduced_type(t, attrs["axes"], attrs["keepdims"], t.dtype)

    def apply(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
        x = upcast(arrays[0])
        extra: dict[str, Any] = {}
        if name in ("reduce_sum", "reduce_prod"):
            wide = name == "reduce_sum" and x.dtype.kind == "f"
            extra["dtype"] = np.float64 if wide else x.dtype
        if name in ("reduce_max", "reduce_min"):
            extra["initial"] = make(from_numpy(x.dtype)).identity[0].value
        out = meaning(x, axis=attrs["axes"], keepdims=attrs["keepdims"], **extra)
        return np.asarray(out)

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        p = points(ctx, ins[0], attrs["axes"], attrs["keepdims"])
        value = element(ins[0], *p.point)
        return folded(ctx, outs[0], p.kept, value, p.over, make(value.dtype), index=p.index)

    def requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
        return not_empty(types[0], attrs["axes"]) if bare(attrs) else []

    define(name, infer, apply, compute, requires=requires)


_fold("reduce_sum", SUM, np.sum, "fiu")
_fold("reduce_prod", PROD, np.prod, "fiu")
_fold("reduce_max", MAX, np.max, "fiu")
_fold("reduce_min", MIN, np.min, "fiu")
_fold("reduce_any", ANY, np.any, "b")
_fold("reduce_all", ALL, np.all, "b")


def _emit(b: GraphBuilder, op: str, x: Value, axes: Axes, keepdims: bool, **attrs: Any) -> Any:
    given = normal_axes(op, axes, x.rank)
    if not given and (op.startswith("reduce_") or op == "mean"):
        return x
    return b.emit(op, x, axes=given, keepdims=bool(keepdims), **attrs)


def reduce_sum(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """The sum over `axes`, in the dtype of `x`; 0 of no elements."""
    return _emit(b, "reduce_sum", x, axes, keepdims)


def reduce_prod(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """The product over `axes`, in the dtype of `x`; 1 of no elements."""
    return _emit(b, "reduce_prod", x, axes, keepdims)


def reduce_max(
    b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False, empty: bool = False
) -> Value:
    """The greatest element over `axes`; NaN if there is one. There must be an element, or with
    `empty` the least of the dtype stands for none.
    """
    return _extreme(b, "reduce_any" if x.dtype.is_bool else "reduce_max", x, axes, keepdims, empty)


def reduce_min(
    b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False, empty: bool = False
) -> Value:
    """The least element over `axes`; NaN if there is one. There must be an element, or with `empty`
    the greatest of the dtype stands for none.
    """
    return _extreme(b, "reduce_all" if x.dtype.is_bool else "reduce_min", x, axes, keepdims, empty)


def _extreme(b: GraphBuilder, op: str, x: Value, axes: Axes, keepdims: bool, empty: bool) -> Value:
    attrs = {"empty": True} if empty and not x.dtype.is_bool else {}
    out: Value = _emit(b, op, x, axes, keepdims, **attrs)
    return out


def reduce_any(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """Whether an element over `axes` is not 0 (bool)."""
    return _emit(b, "reduce_any", _truth(b, x), axes, keepdims)


def reduce_all(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """Whether no element over `axes` is 0 (bool)."""
    return _emit(b, "reduce_all", _truth(b, x), axes, keepdims)


def _truth(b: GraphBuilder, x: Value) -> Value:
    return x if x.dtype.is_bool else el.ne(b, x, 0)


# ---- moments -------------------------------------------------------------------------------------


def mean_stages(
    ctx: ComputeContext, value: Expr, p: Points, out: Buf, index: Index | None = None
) -> list[Stage]:
    """Stages for out[index] = the mean of `value` over p.over; `index` is p.kept by default."""
    total = ctx.buf("sum", (a.extent for a in p.kept), value.dtype)
    average = load(total, *p.kept) / cast(p.count, value.dtype)
    return [
        stage(total, p.kept, value, Reduce(p.over, SUM(value.dtype))),
        stage(out, p.kept, average, index=index),
    ]


def moment_stages(
    ctx: ComputeContext, value: Expr, p: Points, centre: DType | None = None
) -> tuple[list[Stage], Buf, Buf]:
    """Stages for the mean of `value` over p.over and the sum of squared differences from it, or
    from what it is when rounded to `centre`.

    In two passes, for accuracy. (stages, mean, squares), the buffers over p.kept.
    """
    mean, squares = (
        ctx.buf(stem, (a.extent for a in p.kept), value.dtype) for stem in ("mean", "squares")
    )
    middle = load(mean, *p.kept)
    apart = value - (middle if centre is None else cast(cast(middle, centre), value.dtype))
    fold = stage(squares, p.kept, apart * apart, Reduce(p.over, SUM(value.dtype)))
    return [*mean_stages(ctx, value, p, mean), fold], mean, squares


def _float_reduction(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (t,) = types
    check_kind("a mean", t, "f")
    return reduced_type(t, attrs["axes"], attrs["keepdims"], t.dtype)


def _mean_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    return _wide_mean(arrays[0], attrs["axes"], attrs["keepdims"])


def _count(x: Array, axes: tuple[int, ...]) -> int:
    return int(np.prod([x.shape[a] for a in axes]))


def _mean_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    p = points(ctx, ins[0], attrs["axes"], attrs["keepdims"])
    return mean_stages(ctx, element(ins[0], *p.point), p, outs[0], p.index)


def _wide_variance(x: Array, attrs: Attrs, keep: bool, centre: DType | None) -> Array:
    """The variance in f64."""
    axes, wide = attrs["axes"], x.astype(np.float64)
    mean = _wide_mean(x, axes, True)
    if centre is not None:
        mean = mean.astype(centre.numpy)
    squares = np.sum(np.square(wide - mean), axis=axes, keepdims=keep)
    return np.asarray(squares / np.float64(max(_count(x, axes) - attrs["correction"], 0)))


def _wide_mean(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    """The mean in f64."""
    total = np.sum(x, axis=axes, keepdims=keep, dtype=np.float64)
    return np.asarray(total / np.float64(_count(x, axes)))


def _centre(rank: int, dtype: DType, attrs: Attrs) -> DType | None:
    """What the mean of all elements is rounded to before differences from it are taken: PyTorch and
    NumPy do so for one result.
    """
    return dtype.compute if len(attrs["axes"]) == rank else None


def _spread_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = arrays
    centre = _centre(x.ndim, from_numpy(x.dtype), attrs)
    return _wide_variance(x, attrs, attrs["keepdims"], centre)


def _spread(name: str, result: Callable[[Expr], Expr], meaning: Callable[[Array], Array]) -> None:
    """Define a function of the variance."""

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        (x,) = ins
        p = points(ctx, x, attrs["axes"], attrs["keepdims"])
        centre = _centre(len(x.shape), x.dtype, attrs)
        stages, _, squares = moment_stages(ctx, cast(element(x, *p.point), f64), p, centre)
        value = result(_variance(squares, p, attrs["correction"]))
        return [*stages, stage(outs[0], p.kept, value, index=p.index)]

    define(name, _float_reduction, lambda xs, a: meaning(_spread_meaning(xs, a)), compute)


def _variance(squares: Buf, p: Points, correction: float) -> Expr:
    """The sum of squares over the degrees of freedom, 0 at least."""
    dtype = squares.dtype
    freedom = call("max", cast(p.count, dtype) - float(correction), const(0, dtype))
    return load(squares, *p.kept) / freedom


def _var_mean_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    p = points(ctx, ins[0], attrs["axes"], attrs["keepdims"])
    stages, mean, squares = moment_stages(ctx, cast(element(ins[0], *p.point), f64), p)
    variance = _variance(squares, p, attrs["correction"])
    return [
        *stages,
        stage(outs[0], p.kept, variance, index=p.index),
        stage(outs[1], p.kept, load(mean, *p.kept), index=p.index),
    ]


def _var_mean_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, Array]:
    (x,) = arrays
    keep = attrs["keepdims"]
    return _wide_variance(x, attrs, keep, None), _wide_mean(x, attrs["axes"], keep)


define("mean", _float_reduction, _mean_meaning, _mean_compute)
_spread("var", lambda variance: variance, lambda variance: variance)
_spread("std", lambda variance: call("sqrt", variance), np.sqrt)
define(
    "var_mean",
    lambda types, attrs: (_float_reduction(types, attrs),) * 2,
    _var_mean_meaning,
    _var_mean_compute,
)


def mean(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """The mean over `axes`, of floats; NaN of no elements."""
    return _emit(b, "mean", x, axes, keepdims)


def var(
    b: GraphBuilder, x: Value, axes: Axes = None, correction: float = 1, keepdims: bool = False
) -> Value:
    """The variance over `axes`, of floats, with n - correction degrees of freedom."""
    return _emit(b, "var", x, axes, keepdims, correction=correction)


def std(
    b: GraphBuilder, x: Value, axes: Axes = None, correction: float = 1, keepdims: bool = False
) -> Value:
    """The square root of the variance."""
    return _emit(b, "std", x, axes, keepdims, correction=correction)


def var_mean(
    b: GraphBuilder, x: Value, axes: Axes = None, correction: float = 1, keepdims: bool = False
) -> tuple[Value, Value]:
    """(variance, mean)."""
    return _emit(b, "var_mean", x, axes, keepdims, correction=correction)


# ---- arg reductions ------------------------------------------------------------------------------


def _arg(name: str, make: Callable[[DType], Monoid], find: Any, best: Any) -> None:
    """Define (values, indices); over several axes the index counts through them in order."""

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, TensorType]:
        (t,) = types
        axes, keep = attrs["axes"], attrs["keepdims"]
        check_not_empty(name, t, axes)
        return reduced_type(t, axes, keep, t.dtype), reduced_type(t, axes, keep, i64)

    def apply(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, Array]:
        (x,) = arrays
        axes, keep = attrs["axes"], attrs["keepdims"]
        axis = axes[0] if len(axes) == 1 else None
        index = np.asarray(find(x, axis=axis, keepdims=keep), np.int64)
        return np.asarray(best(x, axis=axes, keepdims=keep)), index

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        p = points(ctx, ins[0], attrs["axes"], attrs["keepdims"])
        value = element(ins[0], *p.point)
        place: Expr = ZERO
        for a in p.over:
            place = place * a.extent + a
        out = outs[0]
        narrow = out.dtype != value.dtype
        target = ctx.buf("wide", (a.extent for a in p.kept), value.dtype) if narrow else out
        fold = Compute(p.kept, (value, place), Reduce(p.over, make(value.dtype)))
        where = p.kept if narrow else p.index
        targets = (Access(target, where), Access(outs[1], p.index))
        stages = [Stage(outs[1].name, targets, fold)]
        if narrow:
            stages.append(stage(out, p.kept, load(target, *p.kept), index=p.index))
        return stages

    define(name, infer, apply, compute, requires=lambda types, a: not_empty(types[0], a["axes"]))


_arg("max_with_index", ARGMAX, np.argmax, np.max)
_arg("min_with_index", ARGMIN, np.argmin, np.min)


def _emit_arg(b: GraphBuilder, op: str, x: Value, axis: int | None, keepdims: bool) -> Any:
    if x.rank == 0:
        return x, full(b, (), 0, i64)
    axes = None if axis is None else (normal_axis(op, axis, x.rank),)
    return _emit(b, op, x, axes, keepdims)


def max_with_index(
    b: GraphBuilder, x: Value, axis: int | None = None, keepdims: bool = False
) -> tuple[Value, Value]:
    """(greatest elements, their i64 indices) along `axis`, or of the flattened tensor."""
    return _emit_arg(b, "max_with_index", x, axis, keepdims)


def min_with_index(
    b: GraphBuilder, x: Value, axis: int | None = None, keepdims: bool = False
) -> tuple[Value, Value]:
    """(least elements, their i64 indices) along `axis`, or of the flattened tensor."""
    return _emit_arg(b, "min_with_index", x, axis, keepdims)


def argmax(b: GraphBuilder, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """The i64 index of the first greatest element along `axis`, or in the flattened tensor."""
    return max_with_index(b, x, axis, keepdims)[1]


def argmin(b: GraphBuilder, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """The i64 index of the first least element along `axis`, or in the flattened tensor."""
    return min_with_index(b, x, axis, keepdims)[1]


# ---- logsumexp and norms -------------------------------------------------------------------------


def _logsumexp_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    p = points(ctx, ins[0], attrs["axes"], attrs["keepdims"])
    value = element(ins[0], *p.point)
    dtype, shape = value.dtype, tuple(a.extent for a in p.kept)
    top, shift, total = (ctx.buf(n, shape, dtype) for n in ("max", "shift", "sum"))
    axes = ctx.axes(shape)
    highest = load(top, *axes)
    infinite = call("isinf", highest)
    shifted = call("exp", value - load(shift, *p.kept))
    result = call("log", load(total, *p.kept)) + load(shift, *p.kept)
    return [
        stage(top, p.kept, value, Reduce(p.over, MAX(dtype))),
        stage(shift, axes, select(infinite, const(0, dtype), highest)),
        stage(total, p.kept, shifted, Reduce(p.over, SUM(dtype))),
        stage(outs[0], p.kept, result, index=p.index),
    ]


def _logsumexp_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, axes = upcast(arrays[0]), attrs["axes"]
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isinf(top), 0, top)
    total = np.sum(np.exp(x - top), axis=axes, keepdims=True)
    out = np.log(total) + top
    return np.asarray(out if attrs["keepdims"] else np.squeeze(out, axes))


define("logsumexp", _float_reduction, _logsumexp_meaning, _logsumexp_compute)


def logsumexp(b: GraphBuilder, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """log(sum(exp(x))) over `axes`, of floats, without overflow."""
    return _emit(b, "logsumexp", x, axes, keepdims)


def p_norm(
    b: GraphBuilder, x: Value, p: float = 2.0, axes: Axes = None, keepdims: bool = False
) -> Value:
    """The vector p-norm over `axes`, of floats: sum(|x|^p)^(1/p); the greatest or least |x| for
    p = inf or -inf, the number of elements that are not 0 for p = 0.
    """
    wide = el.cast(b, x, x.dtype.compute)
    size = el.abs(b, wide)
    if p == float("inf"):
        out = reduce_max(b, size, axes, keepdims)
    elif p == float("-inf"):
        out = reduce_min(b, size, axes, keepdims)
    elif p == 0:
        out = reduce_sum(b, el.cast(b, el.ne(b, size, 0), wide.dtype), axes, keepdims)
    elif p == 1:
        out = reduce_sum(b, size, axes, keepdims)
    elif p == 2:
        out = el.sqrt(b, reduce_sum(b, el.mul(b, wide, wide), axes, keepdims))
    else:
        total = reduce_sum(b, el.pow(b, size, p), axes, keepdims)
        out = el.pow(b, total, 1 / p)
    return el.cast(b, out, x.dtype)
