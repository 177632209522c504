"""Resizing of images [n, height, width, channels]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.rules.products import paddings
from ferrule.frontend.tensorflow.rules.variables import literal
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.expr import as_index
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, simplify


def _in_planes(b: GraphBuilder, x: Value, fn: Callable[[Value], Value]) -> Value:
    """`fn` of [n, channels, height, width]."""
    return ops.transpose(b, fn(ops.transpose(b, x, (0, 3, 1, 2))), (0, 2, 3, 1))


@rule("ResizeBilinear")
def _bilinear(cx: Context, x: Value, size: Value) -> Value:
    sizes, aligned = cx.numbers(size), cx.attr("align_corners", False)
    x = ops.cast(cx.b, x, f32)
    if all(equal(n, as_index(m)) for n, m in zip(x.shape[1:3], sizes)):
        return x
    if aligned or cx.attr("half_pixel_centers", False):
        return _in_planes(cx.b, x, lambda v: ops.resize_linear(cx.b, v, sizes, None, aligned))
    for d, (n, m) in enumerate(_constants(x, sizes), 1):
        at = np.arange(m, dtype=np.float32) * (np.float32(n) / np.float32(m))
        low = np.floor(at).astype(np.int64)
        shape = (1,) * d + (m,) + (1,) * (3 - d)
        weight = literal(cx, (at - low).astype(np.float32).reshape(shape), f32)
        parts = [_taken(cx, x, p, d) for p in (low, np.minimum(low + 1, n - 1))]
        x = ops.add(cx.b, parts[0], ops.mul(cx.b, ops.sub(cx.b, parts[1], parts[0]), weight))
    return x


@rule("ResizeNearestNeighbor")
def _nearest(cx: Context, x: Value, size: Value) -> Value:
    sizes, half = cx.numbers(size), cx.attr("half_pixel_centers", False)
    if not cx.attr("align_corners", False):
        return _in_planes(cx.b, x, lambda v: ops.resize_nearest(cx.b, v, sizes, None, half))
    for d, (n, m) in enumerate(_constants(x, sizes), 1):
        step = np.float32(n - 1) / np.float32(m - 1) if m > 1 else np.float32(0)
        at = np.arange(m, dtype=np.float32) * step
        away = np.floor(at + np.float32(0.5)).astype(np.int64)
        x = _taken(cx, x, np.minimum(away, n - 1), d)
    return x


def _constants(x: Value, sizes: Any) -> list[tuple[int, int]]:
    """(old, new) height and width, which must be constants."""
    pairs = list(zip(x.shape[1:3], map(as_index, sizes)))
    if not all(n.is_const and m.is_const for n, m in pairs):
        raise UnsupportedError("resizing by old coordinates to or from sizes that are no constants")
    return [(n.value, m.value) for n, m in pairs]


def _taken(cx: Context, x: Value, places: Any, axis: int) -> Value:
    return ops.take(cx.b, x, literal(cx, places, i64), axis)


@rule("ExtractImagePatches")
def _patches(cx: Context, x: Value) -> Value:
    """The elements of each window one after another as the channels of its place."""
    window, strides, rates = (cx.attr(n)[1:3] for n in ("ksizes", "strides", "rates"))
    wide = [(k - 1) * r + 1 for k, r in zip(window, rates)]
    pads = paddings(cx, x.shape[1:3], wide, strides)
    low: list[Any] = [0, *(lo for lo, _ in pads), 0]
    high: list[Any] = [0, *(hi for _, hi in pads), 0]
    x = ops.pad(cx.b, x, low, high, 0)
    last = [simplify(n - w + 1) for n, w in zip(x.shape[1:3], wide)]
    parts = []
    for i in range(window[0]):
        for j in range(window[1]):
            y, begin = x, (i * rates[0], j * rates[1])
            for d in (0, 1):
                end = simplify(last[d] + begin[d])
                y = ops.slice_axis(cx.b, y, d + 1, begin[d], end, strides[d])
            parts.append(y)
    return ops.concat(cx.b, parts, 3)
