"""Resizing: the spatial dims of x[n, channels, spatial..] sampled at other sizes.

    resize_nearest   y[n, c, p..] = x[n, c, s(p)..]
    resize_linear    y[n, c, p..] = sum over two neighbours a dim of weight * x[n, c, neighbour..]

`s` is PyTorch's map of coordinates, computed as its kernels do, in the dtype that x is computed in
or f32 for integers: rounding decides which neighbour is the nearest. A nearest map between
constant sizes becomes integer arithmetic, `p // 2` say, where that is the same for every p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, f32, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    call,
    cast,
    const,
    load,
    lt,
    maximum,
    minimum,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Stage
from ferrule.ops.op import Array, check_kind, define, element, stage, upcast

Size = Expr | int
Scales = Sequence[float | None] | None


# ---- the type rule -------------------------------------------------------------------------------


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (x,) = types
    n = len(attrs["sizes"])
    if x.rank != n + 2 or len(attrs["scales"]) != n:
        raise CompileError(
            f"resizing takes x[n, channels, ..], and a size and a scale for each further dim, got "
            f"{x} with {n} sizes and {len(attrs['scales'])} scales"
        )
    if any(s.is_const and s.value == 0 for s in x.shape[2:]):
        raise CompileError(f"resizing takes sizes that are not 0, got {x}")
    return tensor((*x.shape[:2], *attrs["sizes"]), x.dtype)


def _requires(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    return [lt(ZERO, s) for s in types[0].shape[2:]]


def _linear_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    check_kind("resize_linear", types[0], "f")
    return _infer(types, attrs)


# ---- coordinates ---------------------------------------------------------------------------------


def _coordinate_dtype(dtype: DType) -> DType:
    return dtype.compute if dtype.is_float else f32


def _step(old: Expr, new: Expr, scale: float, dtype: DType) -> Expr:
    """The distance in x between neighbours of the result: 1/scale if one is given (not 0)."""
    return const(1.0 / scale, dtype) if scale else _ratio(old, new, dtype)


def _ratio(a: Expr, b: Expr, dtype: DType) -> Expr:
    if a.is_const and b.is_const:
        return const(dtype.numpy.type(a.value) / dtype.numpy.type(b.value or 1), dtype)
    return cast(a, dtype) / cast(b, dtype)


def _steps_of(old: int, new: int, scale: float, kind: np.dtype[Any]) -> Any:
    return kind.type(1.0 / scale) if scale else kind.type(old) / kind.type(max(new, 1))


# ---- resize_nearest ------------------------------------------------------------------------------


def _nearest(p: Expr, old: Expr, new: Expr, scale: float, exact: bool, dtype: DType) -> Expr:
    """The place in x, along a dim resized from `old` to `new`, of the result's place `p`."""
    if equal(old, new) and scale in (0.0, 1.0):
        return p
    whole = _whole(old, new, scale, exact, dtype)
    if whole is not None:
        factor, offset, divisor = whole
        return simplify((p * factor + offset) // divisor)
    at = cast(p, dtype) + const(0.5 if exact else 0.0, dtype)
    place = cast(call("floor", at * _step(old, new, scale, dtype)), i64)
    return minimum(maximum(place, ZERO), old - 1)


def _whole(
    old: Expr, new: Expr, scale: float, exact: bool, dtype: DType
) -> tuple[int, int, int] | None:
    """(a, c, b) such that the place of p is (a*p + c) // b for every p, if there are any."""
    if not old.is_const or not new.is_const:
        k = simplify(new // old)
        power = k.is_const and k.value > 0 and k.value & (k.value - 1) == 0
        same = power and equal(k * old, new) and scale in (0.0, float(k.value))
        return (1, 0, k.value) if same else None
    n, m = old.value, new.value
    if n <= 0 or m <= 0:
        return None
    expected = _nearest_places(n, m, scale, exact, dtype.numpy)
    up, down = max(m // n, 1), max(n // m, 1)
    candidates = [(1, 0, up), (down, down // 2 if exact else 0, 1)]
    candidates.append((2 * n, n, 2 * m) if exact else (n, 0, m))
    p = np.arange(m)
    for a, c, b in candidates:
        if np.array_equal((a * p + c) // b, expected):
            return a, c, b
    return None


def _nearest_places(n: int, m: int, scale: float, exact: bool, kind: np.dtype[Any]) -> Array:
    p = np.arange(m).astype(kind) + kind.type(0.5 if exact else 0.0)
    place = np.floor(p * _steps_of(n, m, scale, kind)).astype(np.int64)
    return np.clip(place, 0, n - 1)


def _nearest_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (out,) = ins, outs
    n, c, *spatial = axes = ctx.axes(out.shape)
    dtype = _coordinate_dtype(x.dtype)
    place = (
        _nearest(p, x.shape[d + 2], out.shape[d + 2], attrs["scales"][d], attrs["exact"], dtype)
        for d, p in enumerate(spatial)
    )
    return [stage(out, axes, load(x, n, c, *place))]


def _nearest_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    (x,) = arrays
    kind = upcast(x[:0]).dtype if x.dtype.kind == "f" else np.dtype(np.float32)
    for d, (m, scale) in enumerate(zip(attrs["sizes"], attrs["scales"], strict=True), 2):
        place = _nearest_places(x.shape[d], m, scale, attrs["exact"], kind)
        x = np.take(x, place, axis=d)
    return x


define("resize_nearest", _infer, _nearest_meaning, _nearest_compute, requires=_requires)


def resize_nearest(
    b: GraphBuilder,
    x: Value,
    sizes: Sequence[Size],
    scales: Scales = None,
    exact: bool = False,
) -> Value:
    """x[n, channels, spatial..] at `sizes`, each element its nearest neighbour.

    The place of p is floor(p * s), or floor((p + 0.5) * s) if `exact`, where s is the old size
    over the new one, or 1/scale where `scales` gives the factor of enlargement.
    """
    return b.emit("resize_nearest", x, sizes=_sizes(sizes), scales=_factors(scales, len(sizes)),
                  exact=exact)  # fmt: skip


def _sizes(sizes: Sequence[Size]) -> Shape:
    return tuple(simplify(as_index(s)) for s in sizes)


def _factors(scales: Scales, n: int) -> tuple[float, ...]:
    """Scales as an attribute: 0 where none is given."""
    return tuple(float(s or 0.0) for s in scales) if scales is not None else (0.0,) * n


# ---- resize_linear -------------------------------------------------------------------------------

Neighbours = list[tuple[Expr, Expr | None]]  # place in x and weight, None for 1


def _neighbours(
    p: Expr, old: Expr, new: Expr, scale: float, align: bool, dtype: DType
) -> Neighbours:
    """The places in x, along one dim, that make up the result's place `p`."""
    if equal(old, new) and (align or scale in (0.0, 1.0)):
        return [(p, None)]
    if align:
        whole = new.is_const and new.value <= 1
        at = cast(p, dtype) * (const(0, dtype) if whole else _aligned(old, new, dtype))
    else:
        half = const(0.5, dtype)
        middle = (cast(p, dtype) + half) * _step(old, new, scale, dtype) - half
        at = call("max", middle, const(0, dtype))
    low = minimum(cast(at, i64), old - 1)  # `at` is not negative: the cast rounds down
    high = minimum(low + 1, old - 1)
    weight = call("min", at - cast(low, dtype), const(1, dtype))
    return [(low, const(1, dtype) - weight), (high, weight)]


def _aligned(old: Expr, new: Expr, dtype: DType) -> Expr:
    """The step that maps the last place onto the last place; of a single place, any will do."""
    return _ratio(simplify(old - 1), simplify(maximum(new - 1, ONE)), dtype)


def _linear_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (out,) = ins, outs
    n, c, *spatial = axes = ctx.axes(out.shape)
    dtype = x.dtype.compute
    every = [
        _neighbours(p, x.shape[d], out.shape[d], attrs["scales"][d - 2], attrs["align"], dtype)
        for d, p in enumerate(spatial, 2)
    ]
    return [stage(out, axes, _blend(x, (n, c), every))]


def _blend(x: Buf, point: tuple[Expr, ...], rest: list[Neighbours]) -> Expr:
    """The weighted sum over the neighbours of the dims that `point` lacks."""
    if not rest:
        return element(x, *point)
    total: Expr | None = None
    for place, weight in rest[0]:
        part = _blend(x, (*point, place), rest[1:])
        part = part if weight is None else part * weight
        total = part if total is None else total + part
    assert total is not None
    return total


def _linear_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    """Two rows blended along one dim after another."""
    x = upcast(arrays[0])
    kind = x.dtype
    for d, (m, scale) in enumerate(zip(attrs["sizes"], attrs["scales"], strict=True), 2):
        n = x.shape[d]
        p = np.arange(m).astype(kind)
        if attrs["align"]:
            at = p * (kind.type(n - 1) / kind.type(max(m - 1, 1)) if m > 1 else kind.type(0))
        else:
            half = kind.type(0.5)
            at = np.maximum((p + half) * _steps_of(n, m, scale, kind) - half, kind.type(0))
        low = np.minimum(at.astype(np.int64), n - 1)
        high = np.minimum(low + 1, n - 1)
        weight = np.minimum(at - low.astype(kind), kind.type(1))
        weight = weight.reshape(-1, *(1,) * (x.ndim - d - 1))
        x = np.take(x, low, axis=d) * (1 - weight) + np.take(x, high, axis=d) * weight
    return x


define("resize_linear", _linear_infer, _linear_meaning, _linear_compute, requires=_requires)


def resize_linear(
    b: GraphBuilder,
    x: Value,
    sizes: Sequence[Size],
    scales: Scales = None,
    align_corners: bool = False,
) -> Value:
    """x[n, channels, spatial..] of floats at `sizes`, interpolated linearly along each dim.

    The place of p is (p + 0.5) * s - 0.5, no less than 0, with s as in `resize_nearest`; with
    `align_corners` it is p * (old - 1) / (new - 1).
    """
    return b.emit("resize_linear", x, sizes=_sizes(sizes), scales=_factors(scales, len(sizes)),
                  align=align_corners)  # fmt: skip
