"""Scans: running folds along one axis.

    out[.., i, ..] = fold over k <= i of x[.., k, ..]      cumsum cumprod logcumsumexp
                                                           running_max running_min
    (values, indices) of the running extreme               cummax cummin

`exclusive` leaves out the element itself, `reverse` runs from the end. The running value of a sum,
product or logarithm of floats is an f64, as in PyTorch: n terms of f32 add an error of n * 2^-53 to
that of the last rounding. The running extremes are PyTorch's: of equal elements the last is found,
and NaN, once met, stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ferrule.base.dtype import DType, f64, from_numpy, i64
from ferrule.ir.expr import Buf, Expr, arg, call, cast, compare, const, select
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value
from ferrule.ir.monoids import MAX, MIN, PROD, SUM
from ferrule.ir.system import Access, Compute, Monoid, Scan, Stage
from ferrule.ops.create import full
from ferrule.ops.op import Array, check_kind, define, element, normal_axis

# ---- monoids -------------------------------------------------------------------------------------


@cache
def LOG_ADD_EXP(dtype: DType) -> Monoid:
    """log(exp(a) + exp(b)), from the greater of the two; equal infinities stay."""
    a, b = arg(0, dtype), arg(1, dtype)
    high, low = call("max", a, b), call("min", a, b)
    alone = call("and", compare("eq", high, low), call("isinf", high))
    summed = high + call("log1p", call("exp", low - high))
    identity = const(-np.inf, dtype)
    return Monoid("log_add_exp", (identity,), (select(alone, high, summed),))


def _last_extremum(name: str, dtype: DType, worst: int | float, op: str) -> Monoid:
    """Folds (value, index): the extreme, NaN above all; of equal ones that with the last index."""
    old, at_old, new, at_new = arg(0, dtype), arg(1, i64), arg(2, dtype), arg(3, i64)
    later = compare("le", at_old, at_new)
    pair = (old, new) if op == "max" else (new, old)
    better = call("or", compare("lt", *pair), call("and", compare("eq", old, new), later))
    if dtype.is_float:
        old_nan, new_nan = call("isnan", old), call("isnan", new)
        better = call("or", better, call("and", new_nan, call("or", call("not", old_nan), later)))
    combine = (select(better, new, old), select(better, at_new, at_old))
    return Monoid(name, (const(worst, dtype), const(-1)), combine, True, True)


@cache
def LAST_MAX(dtype: DType) -> Monoid:
    """(value, i64 index) of the last greatest value; the last NaN if there is one."""
    return _last_extremum("last_max", dtype, dtype.min, "max")


@cache
def LAST_MIN(dtype: DType) -> Monoid:
    """(value, i64 index) of the last least value; the last NaN if there is one."""
    return _last_extremum("last_min", dtype, dtype.max, "min")


# ---- running folds -------------------------------------------------------------------------------


def _scan(
    ctx: ComputeContext, outs: tuple[Buf, ...], values: Callable[[tuple[Expr, ...]], list[Expr]],
    monoid: Callable[[DType], Monoid], attrs: Attrs,
) -> list[Stage]:  # fmt: skip
    """outs[i..] = the fold of values(i..) along attrs["axis"], rounded to what outs hold."""
    point = ctx.axes(outs[0].shape)
    axis = attrs["axis"]
    rest = tuple(a for d, a in enumerate(point) if d != axis)
    given = tuple(values(point))
    fold = Scan(
        point[axis],
        monoid(given[0].dtype),
        exclusive=attrs.get("exclusive", False),
        reverse=attrs.get("reverse", False),
    )
    targets = tuple(Access(out, point) for out in outs)
    return [Stage(outs[0].name, targets, Compute(rest, given, fold))]


def _running(dtype: DType) -> DType:
    """What the running value of a fold of such elements is."""
    return f64 if dtype.is_float else dtype


def _cumulative(
    name: str, make: Callable[[DType], Monoid], meaning: Callable[..., Array], accepts: str
) -> None:
    """Define the running fold by the monoid of `make`; `meaning(x, axis)` is the inclusive one."""

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        check_kind(name, types[0], accepts)
        return types[0]

    def apply(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
        given = arrays[0].astype(_running(from_numpy(arrays[0].dtype)).numpy)
        x = np.moveaxis(given, attrs["axis"], -1)
        x = x[..., ::-1] if attrs["reverse"] else x
        if attrs["exclusive"] and x.shape[-1]:
            identity = make(from_numpy(x.dtype)).identity[0].value
            x = np.concatenate((np.full_like(x[..., :1], identity), x[..., :-1]), axis=-1)
        out = meaning(x)
        return np.moveaxis(out[..., ::-1] if attrs["reverse"] else out, -1, attrs["axis"])

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        def values(point: tuple[Expr, ...]) -> list[Expr]:
            x = element(ins[0], *point)
            return [cast(x, _running(x.dtype))]

        return _scan(ctx, outs, values, make, attrs)

    define(name, infer, apply, compute)


_cumulative("cumsum", SUM, lambda x: np.cumsum(x, axis=-1, dtype=x.dtype), "fiu")
_cumulative("cumprod", PROD, lambda x: np.cumprod(x, axis=-1, dtype=x.dtype), "fiu")
_cumulative("logcumsumexp", LOG_ADD_EXP, lambda x: np.logaddexp.accumulate(x, axis=-1), "f")


_cumulative("running_max", MAX, lambda x: np.maximum.accumulate(x, axis=-1), "fiu")
_cumulative("running_min", MIN, lambda x: np.minimum.accumulate(x, axis=-1), "fiu")


def _emit(b: GraphBuilder, op: str, x: Value, axis: int, exclusive: bool, reverse: bool) -> Value:
    if x.rank == 0 and not exclusive and axis in (0, -1):
        return x
    return b.emit(op, x, axis=normal_axis(op, axis, x.rank), exclusive=exclusive, reverse=reverse)


def cumsum(
    b: GraphBuilder, x: Value, axis: int, exclusive: bool = False, reverse: bool = False
) -> Value:
    """The running sum along `axis`, in the dtype of `x`."""
    return _emit(b, "cumsum", x, axis, exclusive, reverse)


def cumprod(
    b: GraphBuilder, x: Value, axis: int, exclusive: bool = False, reverse: bool = False
) -> Value:
    """The running product along `axis`, in the dtype of `x`."""
    return _emit(b, "cumprod", x, axis, exclusive, reverse)


def logcumsumexp(b: GraphBuilder, x: Value, axis: int) -> Value:
    """log(cumsum(exp(x))) along `axis`, of floats, without overflow."""
    return _emit(b, "logcumsumexp", x, axis, False, False)


def running_max(
    b: GraphBuilder, x: Value, axis: int, exclusive: bool = False, reverse: bool = False
) -> Value:
    """The greatest element up to here along `axis`, NaN once there was one."""
    return _emit(b, "running_max", x, axis, exclusive, reverse)


def running_min(
    b: GraphBuilder, x: Value, axis: int, exclusive: bool = False, reverse: bool = False
) -> Value:
    """The least element up to here along `axis`, NaN once there was one."""
    return _emit(b, "running_min", x, axis, exclusive, reverse)


# ---- running extremes ----------------------------------------------------------------------------


def _extreme(name: str, make: Callable[[DType], Monoid], ufunc: np.ufunc) -> None:
    """Define (values, indices) of the running extreme."""

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, TensorType]:
        check_kind(name, types[0], "fiu")
        return types[0], TensorType(types[0].shape, i64)

    def apply(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, Array]:
        x = np.moveaxis(arrays[0], attrs["axis"], -1)
        best = ufunc.accumulate(x, axis=-1)
        found = (x == best) | (x != x)
        index = np.maximum.accumulate(np.where(found, np.arange(x.shape[-1]), 0), axis=-1)
        return np.moveaxis(best, -1, attrs["axis"]), np.moveaxis(index, -1, attrs["axis"])

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        def values(point: tuple[Expr, ...]) -> list[Expr]:
            return [element(ins[0], *point), point[attrs["axis"]]]

        return _scan(ctx, outs, values, make, attrs)

    define(name, infer, apply, compute)


_extreme("cummax", LAST_MAX, np.maximum)
_extreme("cummin", LAST_MIN, np.minimum)


def _emit_extreme(b: GraphBuilder, op: str, x: Value, axis: int) -> tuple[Value, Value]:
    if x.rank == 0 and axis in (0, -1):
        return x, full(b, (), 0, i64)
    out: tuple[Value, Value] = b.emit(op, x, axis=normal_axis(op, axis, x.rank))
    return out


def cummax(b: GraphBuilder, x: Value, axis: int) -> tuple[Value, Value]:
    """(the greatest element up to here, its i64 index) along `axis`."""
    return _emit_extreme(b, "cummax", x, axis)


def cummin(b: GraphBuilder, x: Value, axis: int) -> tuple[Value, Value]:
    """(the least element up to here, its i64 index) along `axis`."""
    return _emit_extreme(b, "cummin", x, axis)
