"""Normalisations: softmax and the norms of neural networks, kept whole in the graph.

    softmax     m = max x,  e = exp(x - m),  y = e * (1 / sum e)
    layer norm  mean,  rstd = rsqrt(sum (x - mean)^2 / n + eps),  y = (x - mean)*rstd*weight + bias
    rms norm    y = x * rsqrt(mean x^2 + eps) * weight
    group norm  layer norm over (channels / groups, positions..), weight and bias by channel
    batch norm  y = x*a + c,  a and c by channel, from given statistics

A Compute rule is the stages above in order, with intermediate buffers; what is the same along a
row is computed once a row. Statistics are those of floats computed in f32 (f64), in two passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr, call, cast, const, load
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value
from ferrule.ir.monoids import PEAK, SUM
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Reduce, Stage
from ferrule.ops.op import (
    Array,
    Index,
    check_kind,
    define,
    element,
    normal_axis,
    show_shape,
    stage,
    upcast,
)
from ferrule.ops.reduce import Points, moment_stages, points, reduced_type

# ---- softmax -------------------------------------------------------------------------------------


def softmax(b: GraphBuilder, x: Value, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along `axis`, of floats; NaN where all of a row are -inf."""
    return b.emit("softmax", x, axis=normal_axis("softmax", axis, x.rank))


def log_softmax(b: GraphBuilder, x: Value, axis: int = -1) -> Value:
    """x - log(sum(exp(x))) along `axis`, of floats."""
    return b.emit("log_softmax", x, axis=normal_axis("log_softmax", axis, x.rank))


def _same_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    check_kind("softmax", types[0], "f")
    return types[0]


def _softmax_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (y,) = ins, outs
    p = points(ctx, x, (attrs["axis"],))
    value = element(x, *p.point)
    dtype, rows = value.dtype, tuple(a.extent for a in p.kept)
    top, total, scale = (ctx.buf(stem, rows, dtype) for stem in ("max", "sum", "scale"))
    e = ctx.buf("exp", x.shape, dtype)
    return [
        stage(top, p.kept, value, Reduce(p.over, PEAK(dtype))),
        stage(e, p.point, call("exp_nonpositive", value - load(top, *p.kept))),
        stage(total, p.kept, load(e, *p.point), Reduce(p.over, SUM(dtype))),
        stage(scale, p.kept, 1.0 / load(total, *p.kept)),
        stage(y, p.point, load(e, *p.point) * load(scale, *p.kept)),
    ]


def _log_softmax_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,), (y,) = ins, outs
    p = points(ctx, x, (attrs["axis"],))
    value = element(x, *p.point)
    dtype, rows = value.dtype, tuple(a.extent for a in p.kept)
    top, total, logged = (ctx.buf(stem, rows, dtype) for stem in ("max", "sum", "log"))
    shifted = value - load(top, *p.kept)
    return [
        stage(top, p.kept, value, Reduce(p.over, PEAK(dtype))),
        stage(total, p.kept, call("exp_nonpositive", shifted), Reduce(p.over, SUM(dtype))),
        stage(logged, p.kept, call("log", load(total, *p.kept))),
        stage(y, p.point, shifted - load(logged, *p.kept)),
    ]


def _shifted(x: Array, axis: int) -> Array:
    return x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)


def _softmax_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    e = np.exp(_shifted(upcast(arrays[0]), attrs["axis"]))
    return e / np.sum(e, axis=attrs["axis"], keepdims=True)


def _log_softmax_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    d = _shifted(upcast(arrays[0]), attrs["axis"])
    return d - np.log(np.sum(np.exp(d), axis=attrs["axis"], keepdims=True))


define("softmax", _same_type, _softmax_meaning, _softmax_compute)
define("log_softmax", _same_type, _log_softmax_meaning, _log_softmax_compute)


# ---- operands of norms ---------------------------------------------------------------------------


def _affine(weight: Value | None, bias: Value | None) -> tuple[tuple[Value, ...], str]:
    """The operands that are there, and which they are: "", "w", "b" or "wb"."""
    named = {"w": weight, "b": bias}
    given = {k: v for k, v in named.items() if v is not None}
    return tuple(given.values()), "".join(given)


def _named(items: tuple[Any, ...], affine: str) -> dict[str, Any]:
    return dict(zip(affine, items, strict=True))


def _check_affine(name: str, types: tuple[TensorType, ...], shape: Shape) -> None:
    """CompileError unless all are floats of the sizes `shape`."""
    for t in types:
        check_kind(f"{name}'s weight or bias", t, "f")
        if t.rank != len(shape) or not all(map(equal, t.shape, shape)):
            raise CompileError(
                f"{name} takes a weight and bias of shape {show_shape(shape)}, got {t}"
            )


def _scaled(value: Expr, affine: dict[str, Buf], index: Index) -> Expr:
    """value * weight[index] + bias[index], as far as they are there."""
    if "w" in affine:
        value = value * cast(element(affine["w"], *index), value.dtype)
    if "b" in affine:
        value = value + cast(element(affine["b"], *index), value.dtype)
    return value


def _scaled_array(value: Array, arrays: tuple[Array, ...], affine: str, shape: Any) -> Array:
    operands = {k: upcast(a).reshape(shape) for k, a in _named(arrays, affine).items()}
    value = value * operands["w"].astype(value.dtype) if "w" in operands else value
    return value + operands["b"].astype(value.dtype) if "b" in operands else value


def _trailing(name: str, x: TensorType | Value, axes: int) -> tuple[int, ...]:
    if not 0 < axes <= x.rank:
        raise CompileError(f"{name} over {axes} trailing dimensions of a tensor of rank {x.rank}")
    return tuple(range(x.rank - axes, x.rank))


def _rstd_stage(ctx: ComputeContext, squares: Buf, p: Points, eps: float) -> tuple[Stage, Buf]:
    """rstd = rsqrt(squares / n + eps), once for each kept point."""
    rstd = ctx.buf("rstd", squares.shape, squares.dtype)
    spread = load(squares, *p.kept) / cast(p.count, squares.dtype)
    return stage(rstd, p.kept, call("rsqrt", spread + eps)), rstd


def _moments(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """(mean, rstd) over `axes`, which stay with size 1."""
    n = x.dtype.type(math.prod(x.shape[a] for a in axes))
    mean = np.sum(x, axis=axes, keepdims=True) / n
    squares = np.sum(np.square(x - mean), axis=axes, keepdims=True)
    return mean, 1 / np.sqrt(squares / n + x.dtype.type(eps))


# ---- layer norm and rms norm ---------------------------------------------------------------------


def layer_norm(
    b: GraphBuilder, x: Value, weight: Value | None = None, bias: Value | None = None,
    axes: int = 1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    """(x - mean) * rstd * weight + bias over the last `axes` dimensions (Ba et al., 2016).

    `weight` and `bias` have the sizes of those dimensions.
    """
    operands, affine = _affine(weight, bias)
    return b.emit("layer_norm", x, *operands, axes=axes, eps=float(eps), affine=affine)


def layer_norm_stats(
    b: GraphBuilder, x: Value, axes: int = 1, eps: float = 1e-5
) -> tuple[Value, Value]:
    """(mean, rstd) of a layer norm, reduced dimensions kept with size 1."""
    stats: tuple[Value, Value] = b.emit("layer_norm_stats", x, axes=axes, eps=float(eps))
    return stats


def rms_norm(
    b: GraphBuilder, x: Value, weight: Value | None = None, axes: int = 1, eps: float = 1e-6
) -> Value:
    """x * rsqrt(mean(x^2) + eps) * weight over the last `axes` dimensions.

    Zhang and Sennrich, 2019; without centring and bias.
    """
    operands, affine = _affine(weight, None)
    return b.emit("rms_norm", x, *operands, axes=axes, eps=float(eps), affine=affine)


def _trailing_norm(name: str) -> Callable[..., TensorType]:
    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        x = types[0]
        check_kind(name, x, "f")
        over = _trailing(name, x, attrs["axes"])
        _check_affine(name, types[1:], tuple(x.shape[d] for d in over))
        return x

    return infer


def _layer_norm_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *operands = ins
    rank = len(x.shape)
    p = points(ctx, x, tuple(range(rank - attrs["axes"], rank)))
    stages, mean, squares = moment_stages(ctx, element(x, *p.point), p)
    rstd_stage, rstd = _rstd_stage(ctx, squares, p, attrs["eps"])
    value = (element(x, *p.point) - load(mean, *p.kept)) * load(rstd, *p.kept)
    value = _scaled(value, _named(tuple(operands), attrs["affine"]), p.over)
    return [*stages, rstd_stage, stage(outs[0], p.point, value)]


def _layer_norm_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x = upcast(arrays[0])
    mean, rstd = _moments(x, tuple(range(x.ndim - attrs["axes"], x.ndim)), attrs["eps"])
    shape = x.shape[x.ndim - attrs["axes"] :]
    return _scaled_array((x - mean) * rstd, arrays[1:], attrs["affine"], shape)


def _stats_type(types: tuple[TensorType, ...], attrs: Attrs) -> tuple[TensorType, TensorType]:
    (x,) = types
    check_kind("layer_norm_stats", x, "f")
    out = reduced_type(x, _trailing("layer_norm_stats", x, attrs["axes"]), True, x.dtype)
    return out, out


def _stats_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (x,) = ins
    rank = len(x.shape)
    p = points(ctx, x, tuple(range(rank - attrs["axes"], rank)), keepdims=True)
    stages, mean, squares = moment_stages(ctx, element(x, *p.point), p)
    rstd_stage, rstd = _rstd_stage(ctx, squares, p, attrs["eps"])
    copies = [
        stage(out, p.kept, load(buf, *p.kept), index=p.index)
        for out, buf in zip(outs, (mean, rstd), strict=True)
    ]
    return [*stages, rstd_stage, *copies]


def _stats_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, Array]:
    x = upcast(arrays[0])
    return _moments(x, tuple(range(x.ndim - attrs["axes"], x.ndim)), attrs["eps"])


def _rms_norm_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *operands = ins
    rank = len(x.shape)
    p = points(ctx, x, tuple(range(rank - attrs["axes"], rank)))
    value = element(x, *p.point)
    squares = ctx.buf("squares", (a.extent for a in p.kept), value.dtype)
    rstd_stage, rstd = _rstd_stage(ctx, squares, p, attrs["eps"])
    scaled = value * load(rstd, *p.kept)
    scaled = _scaled(scaled, _named(tuple(operands), attrs["affine"]), p.over)
    return [
        stage(squares, p.kept, value * value, Reduce(p.over, SUM(value.dtype))),
        rstd_stage,
        stage(outs[0], p.point, scaled),
    ]


def _rms_norm_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x = upcast(arrays[0])
    axes = tuple(range(x.ndim - attrs["axes"], x.ndim))
    mean = np.mean(np.square(x), axis=axes, keepdims=True)
    value = x / np.sqrt(mean + x.dtype.type(attrs["eps"]))
    return _scaled_array(value, arrays[1:], attrs["affine"], x.shape[axes[0] :])


define("layer_norm", _trailing_norm("layer_norm"), _layer_norm_meaning, _layer_norm_compute)
define("layer_norm_stats", _stats_type, _stats_meaning, _stats_compute)
define("rms_norm", _trailing_norm("rms_norm"), _rms_norm_meaning, _rms_norm_compute)


# ---- group norm ----------------------------------------------------------------------------------


def group_norm(
    b: GraphBuilder, x: Value, weight: Value | None, bias: Value | None, groups: int,
    eps: float = 1e-5,
) -> Value:  # fmt: skip
    """`x` [n, channels, positions..] normalised over each group of channels (Wu and He, 2018).

    `weight` and `bias` are [channels]; `groups` divides the channels.
    """
    operands, affine = _affine(weight, bias)
    return b.emit("group_norm", x, *operands, groups=groups, eps=float(eps), affine=affine)


def instance_norm(
    b: GraphBuilder, x: Value, weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:  # fmt: skip
    """A group norm with one channel a group; the number of channels must be a constant."""
    if x.rank < 2 or not x.shape[1].is_const:
        raise CompileError(f"instance_norm takes [n, channels, ..] of known channels, got {x.type}")
    return group_norm(b, x, weight, bias, x.shape[1].value, eps)


def _group_norm_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, groups = types[0], attrs["groups"]
    check_kind("group_norm", x, "f")
    if x.rank < 2 or groups < 1 or not equal(x.shape[1] % groups, const(0)):
        raise CompileError(f"group_norm takes [n, channels, ..] in {groups} equal groups, got {x}")
    _check_affine("group_norm", types[1:], (x.shape[1],))
    return x


def _group_norm_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, *operands = ins
    n, channels, *positions = x.shape
    size = simplify(channels // attrs["groups"])
    batch, group, member, *rest = ctx.axes((n, const(attrs["groups"]), size, *positions))
    place = (batch, group * size + member, *rest)
    p = Points((batch, group), (member, *rest), place, (batch, group))
    stages, mean, squares = moment_stages(ctx, element(x, *p.point), p)
    rstd_stage, rstd = _rstd_stage(ctx, squares, p, attrs["eps"])
    axes = ctx.axes(x.shape)
    own = (axes[0], simplify(axes[1] // size))
    value = (element(x, *axes) - load(mean, *own)) * load(rstd, *own)
    value = _scaled(value, _named(tuple(operands), attrs["affine"]), (axes[1],))
    return [*stages, rstd_stage, stage(outs[0], axes, value)]


def _group_norm_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x = upcast(arrays[0])
    n, channels, *positions = x.shape
    split = x.reshape(n, attrs["groups"], channels // attrs["groups"], *positions)
    mean, rstd = _moments(split, tuple(range(2, split.ndim)), attrs["eps"])
    value = ((split - mean) * rstd).reshape(x.shape)
    shape = (channels,) + (1,) * len(positions)
    return _scaled_array(value, arrays[1:], attrs["affine"], shape)


define("group_norm", _group_norm_type, _group_norm_meaning, _group_norm_compute)


# ---- batch norm ----------------------------------------------------------------------------------


def batch_moments(b: GraphBuilder, x: Value) -> tuple[Value, Value]:
    """(variance, mean) of each channel of `x` [n, channels, positions..], both [channels], as norms
    compute them: in two passes, in f32 (f64). The variance is that of all of `x`, not an estimate.
    """
    moments: tuple[Value, Value] = b.emit("batch_moments", x)
    return moments


def _channels(rank: int) -> tuple[int, ...]:
    """The dimensions that are not the channel."""
    return tuple(d for d in range(rank) if d != 1)


def _batch_moments_type(
    types: tuple[TensorType, ...], attrs: Attrs
) -> tuple[TensorType, TensorType]:
    (x,) = types
    check_kind("batch_moments", x, "f")
    if x.rank < 2:
        raise CompileError(f"batch_moments takes [n, channels, ..], got {x}")
    return (reduced_type(x, _channels(x.rank), False, x.dtype.compute),) * 2


def _batch_moments_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    p = points(ctx, ins[0], _channels(len(ins[0].shape)))
    stages, mean, squares = moment_stages(ctx, element(ins[0], *p.point), p)
    variance = load(squares, *p.kept) / cast(p.count, squares.dtype)
    return [*stages, stage(outs[0], p.kept, variance), stage(outs[1], p.kept, load(mean, *p.kept))]


def _batch_moments_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> tuple[Array, Array]:
    x = arrays[0].astype(np.float64)
    axes = _channels(x.ndim)
    n = np.float64(math.prod(x.shape[a] for a in axes))
    mean = np.sum(x, axis=axes, keepdims=True) / n
    squares = np.sum(np.square(x - mean), axis=axes)
    return squares / n, mean.reshape(-1)


define("batch_moments", _batch_moments_type, _batch_moments_meaning, _batch_moments_compute)


def batch_norm(
    b: GraphBuilder, x: Value, mean: Value, variance: Value, weight: Value | None = None,
    bias: Value | None = None, eps: float = 1e-5,
) -> Value:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, with given statistics (inference).

    `x` is [n, channels, positions..], the others [channels] (Ioffe and Szegedy, 2015).
    """
    operands, affine = _affine(weight, bias)
    return b.emit("batch_norm", x, mean, variance, *operands, eps=float(eps), affine=affine)


def _batch_norm_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x = types[0]
    check_kind("batch_norm", x, "f")
    if x.rank < 2:
        raise CompileError(f"batch_norm takes [n, channels, ..], got {x}")
    _check_affine("batch_norm", types[1:], (x.shape[1],))
    return x


def _batch_norm_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    """x*a + c with a = weight * rsqrt(variance + eps) and c = bias - mean*a, by channel."""
    x, mean, variance, *operands = ins
    dtype = x.dtype.compute
    given = _named(tuple(operands), attrs["affine"])
    (c,) = ctx.axes((x.shape[1],))
    slope, base = (ctx.buf(stem, (x.shape[1],), dtype) for stem in ("slope", "base"))

    def of_channel(buf: Buf) -> Expr:
        return cast(element(buf, c), dtype)

    scale = call("rsqrt", of_channel(variance) + attrs["eps"])
    if "w" in given:
        scale = scale * of_channel(given["w"])
    start = -(of_channel(mean) * load(slope, c))
    if "b" in given:
        start = of_channel(given["b"]) - of_channel(mean) * load(slope, c)
    axes = ctx.axes(x.shape)
    value = element(x, *axes) * load(slope, axes[1]) + load(base, axes[1])
    return [
        stage(slope, (c,), scale),
        stage(base, (c,), start),
        stage(outs[0], axes, value),
    ]


def _batch_norm_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, mean, variance = (upcast(a) for a in arrays[:3])
    shape = (-1,) + (1,) * (x.ndim - 2)
    spread = np.sqrt(variance + variance.dtype.type(attrs["eps"])).reshape(shape)
    value = ((x - mean.reshape(shape)) / spread).astype(x.dtype)
    return _scaled_array(value, arrays[3:], attrs["affine"], shape)


define("batch_norm", _batch_norm_type, _batch_norm_meaning, _batch_norm_compute)
