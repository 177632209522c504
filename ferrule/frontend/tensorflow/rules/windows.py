"""Pools and norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.frontend.tensorflow.rules.products import (
    as_given,
    channels_first,
    paddings,
    spatial,
)
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.agree import agree
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify


@rule("MaxPool", "MaxPool3D")
def _max_pool(cx: Context, x: Value) -> Value:
    kernel, strides = spatial(cx, cx.attr("ksize")), spatial(cx, cx.attr("strides"))
    x = channels_first(cx, x)
    pads = paddings(cx, x.shape[2:], kernel, strides)
    return as_given(cx, ops.max_pool(cx.b, x, kernel, strides, pads))


@rule("MaxPoolWithArgmax", outputs=("output", "argmax"))
def _max_pool_with_places(cx: Context, x: Value) -> Any:
    """The places are into an image's elements, or with `include_batch_in_index` into those of x."""
    b, (_, height, width, channels) = cx.b, x.shape
    kernel, strides = spatial(cx, cx.attr("ksize")), spatial(cx, cx.attr("strides"))
    x = channels_first(cx, x)
    pads = paddings(cx, x.shape[2:], kernel, strides)
    y, at = (as_given(cx, v) for v in ops.max_pool(b, x, kernel, strides, pads, with_indices=True))
    at = ops.add(b, ops.mul(b, at, ops.scalar(b, channels)), ops.iota(b, at.shape, 3, i64))
    if cx.attr("include_batch_in_index", False):
        each = ops.scalar(b, simplify(height * width * channels))
        at = ops.add(b, at, ops.mul(b, ops.iota(b, at.shape, 0, i64), each))
    return y, ops.cast(b, at, cx.dtype("Targmax", i64))


@rule("AvgPool", "AvgPool3D")
def _avg_pool(cx: Context, x: Value) -> Value:
    """What lies outside does not count."""
    kernel, strides = spatial(cx, cx.attr("ksize")), spatial(cx, cx.attr("strides"))
    x = channels_first(cx, x)
    pads = paddings(cx, x.shape[2:], kernel, strides)
    return as_given(cx, ops.avg_pool(cx.b, x, kernel, strides, pads, count_include_pad=False))


@rule(
    "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3",
    outputs=("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
)  # fmt: skip
def _batch_norm(
    cx: Context, x: Value, scale: Value, offset: Value, mean: Value, variance: Value
) -> Any:
    """Of the statistics that are given, or in training of those of x."""
    b, channel = cx.b, 1 if cx.text("data_format", "NHWC").startswith("NC") else x.rank - 1
    wide = ops.cast(b, x, f32)
    shape: list[Any] = [x.shape[channel], *(1,) * (x.rank - 1 - channel)]
    training = bool(cx.attr("is_training", True))
    for v in (scale, offset) if training else (scale, offset, mean, variance):
        agree(v.shape, (x.shape[channel],))
    if training:
        over = tuple(d for d in range(x.rank) if d != channel)
        variance, mean = ops.var_mean(b, wide, over, 0)
    eps = cx.attr("epsilon", 1e-4)
    factor = ops.mul(b, scale, ops.rsqrt(b, ops.add(b, variance, float(np.float32(eps)))))
    rest = ops.sub(b, offset, ops.mul(b, mean, factor))
    if training:  # x may be far from 0: its mean is taken off first
        y = ops.sub(b, wide, ops.reshape(b, mean, shape))
        y = ops.add(b, ops.mul(b, y, ops.reshape(b, factor, shape)), ops.reshape(b, offset, shape))
    else:
        y = ops.add(b, ops.mul(b, wide, ops.reshape(b, factor, shape)), ops.reshape(b, rest, shape))
    return ops.cast(b, y, x.dtype), mean, variance, mean, variance, mean


@rule("L2Loss")
def _l2_loss(cx: Context, x: Value) -> Value:
    return ops.mul(cx.b, ops.reduce_sum(cx.b, ops.square(cx.b, x)), 0.5)


@rule("LRN")
def _local_response(cx: Context, x: Value) -> Value:
    """x / (bias + alpha * the sum of squares of channels near by) ^ beta."""
    b, radius = cx.b, cx.attr("depth_radius", 5)
    low = [0] * (x.rank - 1) + [radius]
    near = ops.unfold(b, ops.pad(b, ops.square(b, x), low, low, 0), x.rank - 1, 2 * radius + 1, 1)
    total = ops.mul(b, ops.reduce_sum(b, near, (-1,)), cx.attr("alpha", 1.0))
    power = ops.pow(b, ops.add(b, total, cx.attr("bias", 1.0)),
                    ops.full(b, (), -cx.attr("beta", 0.5), x.dtype))  # fmt: skip
    return ops.mul(b, x, power)
