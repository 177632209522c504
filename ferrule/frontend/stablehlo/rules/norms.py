"""Batch normalisation, as older programs have it.

Specification: StableHLO, `batch_norm_training`, `batch_norm_inference`, `batch_norm_grad`.
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.frontend.stablehlo.table import Context, rule
from ferrule.ir.graph import GraphBuilder, Value


def _wide(b: GraphBuilder, v: Value, x: Value, axis: int) -> Value:
    """A number for each feature, as a tensor that broadcasts with `x`."""
    shape: list[Any] = [1] * x.rank
    shape[axis] = x.shape[axis]
    return ops.reshape(b, v, shape)


def _centred(b: GraphBuilder, x: Value, mean: Value, axis: int) -> Value:
    return ops.sub(b, x, _wide(b, mean, x, axis))


def _scaled(cx: Context, x: Value, scale: Value, offset: Value, mean: Value, var: Value) -> Value:
    b, axis = cx.b, cx.attr("feature_index")
    rstd = ops.rsqrt(b, ops.add(b, var, cx.attr("epsilon")))
    y = ops.mul(b, _centred(b, x, mean, axis), _wide(b, ops.mul(b, rstd, scale), x, axis))
    return ops.add(b, y, _wide(b, offset, x, axis))


def _others(x: Value, axis: int) -> tuple[int, ...]:
    return tuple(d for d in range(x.rank) if d != axis)


@rule("stablehlo.batch_norm_inference")
def _inference(
    cx: Context, x: Value, scale: Value, offset: Value, mean: Value, var: Value
) -> Value:
    return _scaled(cx, x, scale, offset, mean, var)


@rule("stablehlo.batch_norm_training")
def _training(cx: Context, x: Value, scale: Value, offset: Value) -> Any:
    axes = _others(x, cx.attr("feature_index"))
    var, mean = ops.var_mean(cx.b, x, axes, 0)
    return _scaled(cx, x, scale, offset, mean, var), mean, var


@rule("stablehlo.batch_norm_grad")
def _grad(cx: Context, x: Value, scale: Value, mean: Value, var: Value, dy: Value) -> Any:
    b, axis = cx.b, cx.attr("feature_index")
    axes = _others(x, axis)
    centred = _centred(b, x, mean, axis)
    rstd = ops.rsqrt(b, ops.add(b, var, cx.attr("epsilon")))
    offset = ops.reduce_sum(b, dy, axes)
    by_x = ops.reduce_sum(b, ops.mul(b, dy, centred), axes)
    # dx = scale rstd (dy - mean(dy) - (x - mean) rstd^2 mean(dy (x - mean)))
    mean_dy = ops.mean(b, dy, axes)
    mean_by_x = ops.mean(b, ops.mul(b, dy, centred), axes)
    slope = ops.mul(b, ops.square(b, rstd), mean_by_x)
    rest = ops.mul(b, centred, _wide(b, slope, x, axis))
    inner = ops.sub(b, ops.sub(b, dy, _wide(b, mean_dy, x, axis)), rest)
    dx = ops.mul(b, inner, _wide(b, ops.mul(b, scale, rstd), x, axis))
    return dx, ops.mul(b, by_x, rstd), offset
