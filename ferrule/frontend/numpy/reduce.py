"""NumPy's reductions, scans and statistics on traced arrays.

The dtype of a result is what NumPy gives for the same call on one element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, f64, from_numpy, u8
from ferrule.base.errors import InputTypeError, UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    REFUSED,
    Operand,
    Traced,
    call_ufunc,
    numpy_dtype,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.frontend.numpy.shape import normal
from ferrule.ir.expr import ZERO, maximum
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Axes = int | tuple[int, ...] | None


def _result(name: str, x: Traced, dtype: Any = None) -> DType:
    """The dtype of numpy.name(x, dtype=dtype)."""
    extra = {} if dtype is None else {"dtype": np.dtype(dtype)}
    try:
        out = getattr(np, name)(np.ones(1, x.dtype), **extra).dtype
    except TypeError as error:
        raise InputTypeError(f"numpy.{name} of {x.dtype}: {error}") from None
    return from_numpy(out)


def kept(x: Traced, where: Operand, otherwise: float) -> Traced:
    """`x`, but a neutral number where the condition does not hold."""
    if where is True:
        return x
    like = np.asarray(otherwise).astype(x.dtype)
    out: Traced = FUNCTIONS["where"](where, x, like)
    return out


# ---- folds ---------------------------------------------------------------------------------------


def _accumulated(name: str, neutral: int) -> Callable[..., Traced]:
    """A sum or product, in NumPy's wider type for integers; of bools whether any or all are."""
    fold = getattr(ops, f"reduce_{name}")
    of_bools = ops.reduce_any if name == "sum" else ops.reduce_all

    def apply(
        a: Operand, axis: Axes = None, dtype: Any = None, keepdims: bool = False,
        initial: Operand = None, where: Operand = True,
    ) -> Traced:  # fmt: skip
        x = traced(tape_of(a, initial, where), a)
        wanted = _result(name, x, dtype)
        wide = ops.cast(x.b, kept(x, where, neutral).value, wanted)
        out = (of_bools if wanted.is_bool else fold)(x.b, wide, axis, keepdims=keepdims)
        if initial is not None:
            start = x.tape.lift(initial, numpy_dtype(wanted))
            out = (ops.add if name == "sum" else ops.mul)(x.b, out, start)
        return x.wrap(out)

    return apply


FUNCTIONS["sum"] = _accumulated("sum", 0)
FUNCTIONS["prod"] = _accumulated("prod", 1)


def _extreme(name: str) -> Callable[..., Traced]:
    """The greatest or least element."""
    fold, pair = getattr(ops, f"reduce_{name}"), getattr(ops, f"{name}imum")

    def apply(
        a: Operand, axis: Axes = None, keepdims: bool = False, initial: Operand = None,
        where: Operand = True,
    ) -> Traced:  # fmt: skip
        x = traced(tape_of(a, initial, where), a)
        if where is not True:
            if initial is None:
                raise InputTypeError(f"numpy.{name} with `where` needs `initial`, as in NumPy")
            x = FUNCTIONS["where"](where, x, x.wrap(x.tape.lift(initial, x.dtype)))
        out = fold(x.b, x.value, axis, keepdims=keepdims)
        return x.wrap(out if initial is None else pair(x.b, out, x.tape.lift(initial, x.dtype)))

    return apply


FUNCTIONS["max"] = FUNCTIONS["amax"] = _extreme("max")
FUNCTIONS["min"] = FUNCTIONS["amin"] = _extreme("min")


def _logical(name: str, neutral: bool) -> Callable[..., Traced]:
    fold = getattr(ops, f"reduce_{name}")

    def apply(
        a: Operand, axis: Axes = None, keepdims: bool = False, where: Operand = True
    ) -> Traced:
        x = kept(traced(tape_of(a, where), a).astype(bool), where, neutral)
        return x.wrap(fold(x.b, x.value, axis, keepdims=keepdims))

    return apply


FUNCTIONS["any"] = _logical("any", False)
FUNCTIONS["all"] = _logical("all", True)


@numpy_function("ptp")
def _ptp(a: Traced, axis: Axes = None, keepdims: bool = False) -> Traced:
    high: Traced = FUNCTIONS["max"](a, axis, keepdims)
    out: Traced = high - FUNCTIONS["min"](a, axis, keepdims)
    return out


@numpy_function("count_nonzero")
def _count_nonzero(a: Traced, axis: Axes = None, *, keepdims: bool = False) -> Traced:
    out: Traced = FUNCTIONS["sum"](a.astype(bool), axis, np.int64, keepdims)
    return out


# ---- means and variances -------------------------------------------------------------------------


def _count(x: Traced, axis: Axes, where: Operand, keepdims: bool) -> Traced:
    """How many elements a reduction folds together, as an i64 array."""
    here = np.ones((), bool) if where is True else where
    every = FUNCTIONS["broadcast_to"](traced(x.tape, here), x.shape)
    out: Traced = FUNCTIONS["sum"](every, axis, np.int64, keepdims)
    return out


@numpy_function("mean")
def _mean(
    a: Operand, axis: Axes = None, dtype: Any = None, keepdims: bool = False,
    *, where: Operand = True,
) -> Traced:  # fmt: skip
    x = traced(tape_of(a, where), a)
    wanted = _result("mean", x, dtype)
    wide = ops.cast(x.b, x.value, wanted.compute if wanted.is_float else f64)
    if where is True:
        return x.wrap(ops.cast(x.b, ops.mean(x.b, wide, axis, keepdims), wanted))
    total = FUNCTIONS["sum"](x.wrap(wide), axis, None, keepdims, where=where)
    mean: Traced = (total / _count(x, axis, where, keepdims)).astype(numpy_dtype(wanted))
    return mean


@numpy_function("var")
def _var(
    a: Operand, axis: Axes = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False,
    *, where: Operand = True, correction: float | None = None,
) -> Traced:  # fmt: skip
    x = traced(tape_of(a, where), a)
    wanted = _result("var", x, dtype)
    free = ddof if correction is None else correction
    wide = x.wrap(ops.cast(x.b, x.value, wanted.compute if wanted.is_float else f64))
    if where is True:
        return x.wrap(ops.cast(x.b, ops.var(x.b, wide.value, axis, free, bool(keepdims)), wanted))
    apart: Any = wide - _mean(wide, axis, keepdims=True, where=where)
    total = FUNCTIONS["sum"](apart * apart, axis, None, keepdims, where=where)
    count: Any = _count(x, axis, where, keepdims)
    out: Traced = (total / (count - free)).astype(numpy_dtype(wanted))
    return out


@numpy_function("std")
def _std(
    a: Operand, axis: Axes = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False,
    *, where: Operand = True, correction: float | None = None,
) -> Traced:  # fmt: skip
    out = _var(a, axis, dtype, ddof, keepdims, where=where, correction=correction)
    return out.wrap(ops.sqrt(out.b, out.value))


@numpy_function("average")
def _average(
    a: Operand, axis: Axes = None, weights: Operand = None, returned: bool = False,
    *, keepdims: bool = False,
) -> Any:  # fmt: skip
    x = traced(tape_of(a, weights), a)
    if weights is None:
        mean = _mean(x, axis, keepdims=keepdims)
        return (mean, _count(x, axis, True, keepdims).astype(mean.dtype)) if returned else mean
    w = traced(x.tape, weights)
    if w.ndim != x.ndim:
        if w.ndim != 1 or not isinstance(axis, int):
            raise UnsupportedError(
                f"numpy.average of {x} with weights {w} needs weights of the same rank, or a "
                "vector and one axis"
            )
        w = w.reshape(*(-1 if d == axis % x.ndim else 1 for d in range(x.ndim)))
    total: Any = FUNCTIONS["sum"](FUNCTIONS["broadcast_to"](w, x.shape), axis, None, keepdims)
    kind = np.result_type(x.dtype, w.dtype, np.float64 if x.dtype.kind in "iub" else x.dtype)
    total = total.astype(kind)
    wide: Any = x.astype(kind)
    out = FUNCTIONS["sum"](wide * w, axis, None, keepdims) / total
    return (out, total) if returned else out


# ---- without NaN ---------------------------------------------------------------------------------


def _but_nan(name: str) -> Callable[..., Traced]:
    """The reduction of the elements that are not NaN."""

    def apply(a: Traced, axis: Axes = None, dtype: Any = None, keepdims: bool = False) -> Traced:
        x: Any = a
        given = {} if dtype is None else {"dtype": dtype}
        out: Traced = FUNCTIONS[name](x, axis, keepdims=keepdims, where=x == x, **given)
        return out

    return apply


for _name in ("sum", "prod", "mean", "var", "std"):
    FUNCTIONS[f"nan{_name}"] = _but_nan(_name)


def _extreme_but_nan(name: str, worst: float) -> Callable[..., Traced]:
    def apply(a: Traced, axis: Axes = None, keepdims: bool = False) -> Traced:
        if a.dtype.kind != "f":
            out: Traced = FUNCTIONS[name](a, axis, keepdims)
            return out
        x: Any = a
        found = FUNCTIONS[name](x, axis, keepdims, initial=worst, where=x == x)
        some = FUNCTIONS["any"](x == x, axis, keepdims)
        chosen: Traced = FUNCTIONS["where"](some, found, float("nan"))
        return chosen

    return apply


FUNCTIONS["nanmax"] = _extreme_but_nan("max", -np.inf)
FUNCTIONS["nanmin"] = _extreme_but_nan("min", np.inf)


# ---- where extremes are --------------------------------------------------------------------------


def _arg(name: str) -> Callable[..., Traced]:
    find = getattr(ops, name)

    def apply(a: Traced, axis: int | None = None, *, keepdims: bool = False) -> Traced:
        x = a.value
        if x.dtype.is_bool:
            x = ops.cast(a.b, x, from_numpy(np.uint8))
        return a.wrap(find(a.b, x, axis, keepdims=keepdims))

    return apply


FUNCTIONS["argmax"] = _arg("argmax")
FUNCTIONS["argmin"] = _arg("argmin")


# ---- scans ---------------------------------------------------------------------------------------


def _along(a: Traced, axis: int | None) -> tuple[Value, int]:
    """The operand of a scan, flattened for an axis of None."""
    if axis is None:
        return a.reshape(-1).value, 0
    return a.value, axis


def _running(name: str, fold: str) -> Callable[..., Traced]:
    scan = getattr(ops, name)

    def apply(a: Traced, axis: int | None = None, dtype: Any = None) -> Traced:
        x, d = _along(a, axis)
        wanted = _result(fold, a, dtype)
        if not wanted.is_bool:
            return a.wrap(scan(a.b, ops.cast(a.b, x, wanted), d))
        extreme = ops.cummax if fold == "sum" else ops.cummin  # any and all of those so far
        truth = ops.cast(a.b, ops.cast(a.b, x, wanted), u8)
        return a.wrap(ops.cast(a.b, extreme(a.b, truth, d)[0], wanted))

    return apply


FUNCTIONS["cumsum"] = _running("cumsum", "sum")
FUNCTIONS["cumprod"] = _running("cumprod", "prod")


def _running_but_nan(name: str, neutral: int) -> Callable[..., Traced]:
    def apply(a: Traced, axis: int | None = None, dtype: Any = None) -> Traced:
        x: Any = a
        known = FUNCTIONS["where"](x == x, x, neutral) if a.dtype.kind == "f" else a
        out: Traced = FUNCTIONS[name](known, axis, dtype)
        return out

    return apply


FUNCTIONS["nancumsum"] = _running_but_nan("cumsum", 0)
FUNCTIONS["nancumprod"] = _running_but_nan("cumprod", 1)


def _running_extreme(name: str) -> Callable[..., Traced]:
    scan = getattr(ops, name)

    def apply(a: Traced, axis: int | None = None) -> Traced:
        return a.wrap(scan(a.b, a.value, axis)[0])

    return apply


FUNCTIONS["cummax"] = _running_extreme("cummax")
FUNCTIONS["cummin"] = _running_extreme("cummin")


def _cumulative(name: str, start: int) -> Callable[..., Traced]:
    """The array API's scan, which may begin with the neutral element."""

    def apply(
        x: Traced, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> Traced:
        d = 0 if axis is None else axis
        out: Traced = FUNCTIONS[name](x, d, dtype)
        if not include_initial:
            return out
        shape = [1 if i == d % out.ndim else n for i, n in enumerate(out.shape)]
        first = FUNCTIONS["full_like"](out, start, shape=tuple(shape))
        joined: Traced = FUNCTIONS["concatenate"]([first, out], d)
        return joined

    return apply


FUNCTIONS["cumulative_sum"] = _cumulative("cumsum", 0)
FUNCTIONS["cumulative_prod"] = _cumulative("cumprod", 1)


@numpy_function("diff")
def _diff(a: Traced, n: int = 1, axis: int = -1) -> Traced:
    d, out = normal(axis, a.ndim), a
    for _ in range(n):
        size = out.value.shape[d]
        left = simplify(maximum(size - 1, ZERO))
        later, earlier = (
            a.wrap(ops.slice_axis(a.b, out.value, d, *ends))
            for ends in ((size - left, size), (ZERO, left))
        )
        differ = np.not_equal if a.dtype.kind == "b" else np.subtract
        out = call_ufunc(differ, (later, earlier))
    return out


_COUNTED = (
    "the size of its result depends on values; keep the shape and choose with "
    "numpy.where(condition, a, b)"
)
_COUNTS = (
    "nonzero flatnonzero argwhere unique unique_values compress extract bincount setdiff1d "
    "intersect1d union1d histogram trim_zeros"
)
REFUSED.update(dict.fromkeys(_COUNTS.split(), _COUNTED))
