"""ATen rules: reductions, scans, softmax and norms of vectors."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, aten, axes_of, product, truth
from ferrule.ir.graph import Value

_FEW = 64


def _reduction(names: tuple[str, ...], op: str) -> None:
    @aten(*names)
    def rule(cx: Context, x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
        wide = cx.dtype if cx.dtype != boolean else x.dtype
        return getattr(ops, op)(cx.b, cx.value(x, wide), _dims(x, dim), keepdims=keepdim)


def _dims(x: Value, dim: Any) -> tuple[int, ...] | None:
    axes = axes_of(dim)
    return () if x.rank == 0 else axes


_reduction(("sum.default", "sum.dim_IntList"), "reduce_sum")
_reduction(("mean.default", "mean.dim"), "mean")
_reduction(("amax.default", "max.default"), "reduce_max")
_reduction(("amin.default", "min.default"), "reduce_min")
_reduction(("prod.default", "prod.dim_int"), "reduce_prod")


def _truth_reduction(name: str) -> None:
    @aten(f"{name}.default", f"{name}.dim", f"{name}.dims")
    def rule(cx: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return getattr(ops, f"reduce_{name}")(cx.b, truth(cx, x), _dims(x, dim), keepdims=keepdim)


_truth_reduction("any")
_truth_reduction("all")


@aten("logsumexp.default")
def _logsumexp(cx: Context, x: Value, dim: Any, keepdim: bool = False) -> Value:
    return ops.logsumexp(cx.b, cx.value(x, cx.dtype), _dims(x, dim), keepdims=keepdim)


@aten("var.correction", "var.dim")
def _var(
    cx: Context,
    x: Value,
    dim: Any = None,
    *unbiased: Any,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    return ops.var(
        cx.b,
        x,
        _dims(x, dim),
        correction=_correction(unbiased, correction),
        keepdims=_keep(unbiased, keepdim),
    )


@aten("std.correction", "std.dim")
def _std(
    cx: Context,
    x: Value,
    dim: Any = None,
    *unbiased: Any,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    return ops.std(
        cx.b,
        x,
        _dims(x, dim),
        correction=_correction(unbiased, correction),
        keepdims=_keep(unbiased, keepdim),
    )


@aten("var_mean.correction", "var_mean.dim")
def _var_mean(
    cx: Context,
    x: Value,
    dim: Any = None,
    *unbiased: Any,
    correction: float | None = None,
    keepdim: bool = False,
) -> Any:
    return ops.var_mean(
        cx.b,
        x,
        _dims(x, dim),
        correction=_correction(unbiased, correction),
        keepdims=_keep(unbiased, keepdim),
    )


def _correction(unbiased: tuple[Any, ...], correction: float | None) -> float:
    if unbiased:
        return 1 if unbiased[0] else 0
    return 1 if correction is None else correction


def _keep(unbiased: tuple[Any, ...], keepdim: bool) -> bool:
    return bool(unbiased[1]) if len(unbiased) > 1 else keepdim


@aten("argmax.default")
def _argmax(cx: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(cx, "argmax", x, dim, keepdim)


@aten("argmin.default")
def _argmin(cx: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    return _arg(cx, "argmin", x, dim, keepdim)


def _arg(cx: Context, name: str, x: Value, dim: int | None, keepdim: bool) -> Value:
    if x.rank == 0:
        return ops.full(cx.b, (), 0, i64)
    return getattr(ops, name)(cx.b, x, dim, keepdims=keepdim)


@aten("max.dim")
def _max_dim(cx: Context, x: Value, dim: int, keepdim: bool = False) -> Any:
    return (
        (x, ops.full(cx.b, (), 0, i64))
        if x.rank == 0
        else ops.max_with_index(cx.b, x, dim, keepdims=keepdim)
    )


@aten("min.dim")
def _min_dim(cx: Context, x: Value, dim: int, keepdim: bool = False) -> Any:
    return (
        (x, ops.full(cx.b, (), 0, i64))
        if x.rank == 0
        else ops.min_with_index(cx.b, x, dim, keepdims=keepdim)
    )


def _scan(name: str) -> None:
    @aten(f"{name}.default")
    def rule(cx: Context, x: Value, dim: int, **_: Any) -> Value:
        wide = cx.value(x, cx.dtype)
        return wide if x.rank == 0 else getattr(ops, name)(cx.b, wide, dim)


for _name in ("cumsum", "cumprod", "logcumsumexp"):
    _scan(_name)


def _scan_index(name: str) -> None:
    @aten(f"{name}.default")
    def rule(cx: Context, x: Value, dim: int) -> Any:
        return (x, ops.full(cx.b, (), 0, i64)) if x.rank == 0 else getattr(ops, name)(cx.b, x, dim)


_scan_index("cummax")
_scan_index("cummin")


@aten("linalg_vector_norm.default", "norm.ScalarOpt_dim", "norm.Scalar")
def _vector_norm(
    cx: Context, x: Value, ord: float = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Value:
    p = 2.0 if ord is None else float(ord)
    return ops.p_norm(cx.b, cx.value(x, cx.dtype), p, _dims(x, dim), keepdims=keepdim)


@aten("_cdist_forward.default")
def _cdist(cx: Context, x: Value, y: Value, p: float, mode: int | None) -> Value:
    """p-norms of the differences of all pairs of rows."""
    rows = ops.unsqueeze(cx.b, x, x.rank - 1)
    difference = ops.sub(cx.b, rows, ops.unsqueeze(cx.b, y, y.rank - 2))
    return ops.p_norm(cx.b, difference, float(p), (-1,))


@aten("softmax.int", "_softmax.default")
def _softmax(cx: Context, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    wide = cx.value(x, cx.dtype)
    return ops.exp(cx.b, ops.sub(cx.b, wide, wide)) if x.rank == 0 else ops.softmax(cx.b, wide, dim)


@aten("_safe_softmax.default")
def _safe_softmax(cx: Context, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    """Softmax, of which a row of -inf alone gives zeros."""
    wide = cx.value(x, cx.dtype)
    least = ops.full(cx.b, (), float("-inf"), wide.dtype)
    masked = ops.eq(cx.b, wide, least)
    if x.rank:
        masked = ops.reduce_all(cx.b, masked, (dim,), keepdims=True)
    zero = ops.full(cx.b, (), 0, wide.dtype)
    return ops.select(cx.b, masked, zero, _softmax(cx, x, dim))


@aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(cx: Context, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    wide = cx.value(x, cx.dtype)
    return ops.sub(cx.b, wide, wide) if x.rank == 0 else ops.log_softmax(cx.b, wide, dim)


@aten("bucketize.Tensor")
def _bucketize(
    cx: Context, x: Value, boundaries: Value, *, out_int32: bool = False, right: bool = False
) -> Value:
    """How many boundaries lie before each element: all of them before a NaN."""
    size = boundaries.shape[0]
    if not size.is_const or size.value > _FEW or x.dtype != boundaries.dtype:
        raise UnsupportedError(f"bucketize of {x.type} by {boundaries.type}: a search is better")
    beyond = (ops.gt if right else ops.ge)(cx.b, boundaries, ops.unsqueeze(cx.b, x, x.rank))
    before = ops.cast(cx.b, ops.logical_not(cx.b, beyond), cx.dtype)
    return ops.reduce_sum(cx.b, before, (-1,))


@aten("histc.default")
def _histc(cx: Context, x: Value, bins: int = 100, min: Any = 0, max: Any = 0) -> Value:
    """How many elements lie in each of `bins` equal parts of [min, max]; others do not count."""
    if not (isinstance(min, int | float) and isinstance(max, int | float) and min < max):
        raise UnsupportedError("histc whose range depends on the data")
    b, flat = cx.b, ops.reshape(cx.b, x, (product(x.shape),))
    low, high = cx.value(min, x.dtype), cx.value(max, x.dtype)
    counts = ops.logical_and(b, ops.ge(b, flat, low), ops.le(b, flat, high))
    above = ops.sub(b, ops.select(b, counts, flat, low), low)
    place = ops.div(b, ops.mul(b, above, cx.value(bins, x.dtype)), ops.sub(b, high, low))
    place = ops.minimum(b, ops.cast(b, place, i64), cx.value(bins - 1, i64))
    none = ops.full(b, (bins,), 0, cx.dtype)
    return ops.scatter(b, none, 0, place, ops.cast(b, counts, cx.dtype), reduce="sum")
