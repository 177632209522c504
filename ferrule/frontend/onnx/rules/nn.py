"""ONNX rules: products, convolutions, pooling, normalisations."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.table import Context, dtype_of, element_type, onnx, sizes
from ferrule.ir.expr import ONE, Expr, as_index, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Pairs = tuple[tuple[int, int], ...]

# ---- products ------------------------------------------------------------------------------------


@onnx("MatMul")
def _matmul(cx: Context, x: Value, y: Value) -> Value:
    return ops.matmul(cx.b, x, y)


@onnx("Gemm")
def _gemm(cx: Context, x: Value, y: Value, bias: Value | None = None) -> Value:
    alpha, beta = cx.float("alpha", 1.0), cx.float("beta", 1.0)
    if cx.int("transA", 0):
        x = ops.transpose(cx.b, x, (1, 0))
    if cx.int("transB", 0):
        y = ops.transpose(cx.b, y, (1, 0))
    out = ops.scaled(cx.b, ops.matmul(cx.b, x, y), _number(x, alpha))
    if bias is None or beta == 0:
        return out
    return ops.add(cx.b, out, ops.scaled(cx.b, bias, _number(x, beta)))


def _number(x: Value, factor: float) -> float:
    return factor if x.dtype.is_float else int(factor)


@onnx("Einsum")
def _einsum(cx: Context, *xs: Value) -> Value:
    spec = cx.text("equation").replace(" ", "")
    return ops.einsum(cx.b, _without_ellipsis(spec, [x.rank for x in xs]), *xs)


def _without_ellipsis(spec: str, ranks: Sequence[int]) -> str:
    """`spec` with letters for the axes that "..." stands for."""
    if "..." not in spec:
        return spec
    left, _, out = spec.partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in spec]
    counts = [r - len(t.replace("...", "")) for t, r in zip(terms, ranks) if "..." in t]
    names = "".join(free[: max(counts)])
    left = ",".join(
        t.replace("...", names[len(names) - (r - len(t) + 3) :] if r > len(t) - 3 else "")
        for t, r in zip(terms, ranks)
    )
    if "->" not in spec:
        letters = "".join(terms).replace("...", "")
        out = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return f"{left}->{out.replace('...', names)}"


# ---- convolution ---------------------------------------------------------------------------------


def window_padding(
    cx: Context, sizes: Sequence[Expr], kernel: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:  # fmt: skip
    """(low, high) of each spatial dim, from `pads` or `auto_pad`."""
    auto, n = cx.text("auto_pad", "NOTSET"), len(kernel)
    if auto in ("NOTSET", "VALID", ""):
        pads = cx.ints("pads", (0,) * (2 * n)) if auto != "VALID" else (0,) * (2 * n)
        return tuple(zip(pads[:n], pads[n:]))
    out = []
    for s, k, t, d in zip(sizes, kernel, stride, dilation):
        reach = (k - 1) * d + 1
        if t == 1:
            total = reach - 1
        elif s.is_const:
            size = int(s.value)
            total = max((-(-size // t) - 1) * t + reach - size, 0)
        else:
            raise UnsupportedError(f"{auto} with a stride and a symbolic size")
        half = total // 2
        out.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    return tuple(out)


def _window_sizes(w: Value) -> tuple[int, ...]:
    if not all(s.is_const for s in w.shape[2:]):
        raise UnsupportedError("a convolution with a window of symbolic size")
    return tuple(int(s.value) for s in w.shape[2:])


@onnx("Conv")
def conv(
    cx: Context, x: Value, w: Value, bias: Value | None = None, bound: int | None = None
) -> Value:
    """Convolution of floats or integers, whose terms come to `bound` at most."""
    kernel = _window_sizes(w)
    n = len(kernel)
    stride, dilation = cx.ints("strides", (1,) * n), cx.ints("dilations", (1,) * n)
    padding = window_padding(cx, x.shape[2:], kernel, stride, dilation)
    return ops.conv(
        cx.b, x, w, bias, stride=stride, padding=padding, dilation=dilation,
        groups=cx.int("group", 1), bound=bound,
    )  # fmt: skip


@onnx("ConvTranspose")
def _conv_transpose(cx: Context, x: Value, w: Value, bias: Value | None = None) -> Value:
    kernel = _window_sizes(w)
    n = len(kernel)
    stride, dilation = cx.ints("strides", (1,) * n), cx.ints("dilations", (1,) * n)
    extra = cx.ints("output_padding", (0,) * n)
    padding = _transposed_padding(cx, x, kernel, stride, dilation, extra)
    return ops.conv(
        cx.b, x, w, bias, stride=stride, padding=padding, dilation=dilation,
        groups=cx.int("group", 1), transposed=True, output_padding=extra,
    )  # fmt: skip


def _transposed_padding(
    cx: Context, x: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    extra: Sequence[int],
) -> Any:  # fmt: skip
    """What is cut off at both ends so that the result has the size that is asked for."""
    auto, n = cx.text("auto_pad", "NOTSET"), len(kernel)
    if not cx.has("output_shape") and auto in ("NOTSET", "VALID", ""):
        pads = cx.ints("pads", (0,) * (2 * n)) if auto != "VALID" else (0,) * (2 * n)
        return tuple(zip(pads[:n], pads[n:]))
    wanted: list[Any] = list(cx.ints("output_shape")[-n:] if cx.has("output_shape") else ())
    if not wanted:
        wanted = [simplify(s * t) for s, t in zip(x.shape[2:], stride)]
    out = []
    for s, k, t, d, e, size in zip(x.shape[2:], kernel, stride, dilation, extra, wanted):
        total = simplify((s - 1) * t + e + ((k - 1) * d + 1) - as_index(size))
        if not total.is_const:
            raise UnsupportedError("a ConvTranspose of given output size and symbolic input size")
        cut = int(total.value)
        half = cut // 2
        out.append((half, cut - half) if auto == "SAME_UPPER" else (cut - half, half))
    return tuple(out)


# ---- pooling -------------------------------------------------------------------------------------


def _pool_window(cx: Context, x: Value) -> tuple[Any, Any, Any, Pairs, bool]:
    kernel = cx.ints("kernel_shape")
    n = len(kernel)
    stride, dilation = cx.ints("strides", (1,) * n), cx.ints("dilations", (1,) * n)
    padding = window_padding(cx, x.shape[2:], kernel, stride, dilation)
    return kernel, stride, dilation, padding, bool(cx.int("ceil_mode", 0))


@onnx("MaxPool")
def _max_pool(cx: Context, x: Value) -> Any:
    kernel, stride, dilation, padding, ceil = _pool_window(cx, x)
    if not cx.wants(1):
        return ops.max_pool(cx.b, x, kernel, stride, padding, dilation, ceil)
    y, place = ops.max_pool(cx.b, x, kernel, stride, padding, dilation, ceil, with_indices=True)
    if cx.int("storage_order", 0):
        place = _column_major(cx, place, x.shape[2:])
    channel = ops.reshape(cx.b, _channels(cx, x), (*x.shape[:2], *(ONE,) * len(kernel)))
    size = ops.scalar(cx.b, simplify(product(x.shape[2:])))
    return y, ops.add(cx.b, place, ops.mul(cx.b, channel, size))


def _channels(cx: Context, x: Value) -> Value:
    """The number of each of x's channels, counted through the batch."""
    return ops.iota(cx.b, (simplify(x.shape[0] * x.shape[1]),), 0)


def _column_major(cx: Context, place: Value, sizes: Sequence[Expr]) -> Value:
    """Row-major places in the spatial dims as column-major ones."""
    out, step = None, ONE
    rest = place
    parts = []
    for s in reversed(sizes):
        n = ops.scalar(cx.b, s)
        parts.append(ops.mod(cx.b, rest, n))
        rest = ops.floordiv(cx.b, rest, n)
    for part, s in zip(reversed(parts), sizes):
        term = ops.mul(cx.b, part, ops.scalar(cx.b, step))
        out = term if out is None else ops.add(cx.b, out, term)
        step = simplify(step * s)
    assert out is not None
    return out


@onnx("AveragePool")
def _average_pool(cx: Context, x: Value) -> Value:
    kernel, stride, dilation, padding, ceil = _pool_window(cx, x)
    whole = bool(cx.int("count_include_pad", 0))
    if set(dilation) == {1}:
        return ops.avg_pool(cx.b, x, kernel, stride, padding, ceil, whole)
    ones = ops.full(cx.b, (ONE, ONE, *x.shape[2:]), 1, x.dtype)
    if whole:
        ends = list(zip(*padding))
        low, high = (0, 0, *ends[0]), (0, 0, *ends[1])
        ones = ops.pad(cx.b, ones, low, high, 1.0)
        count = _window_sum(cx, ones, kernel, stride, ((0, 0),) * len(kernel), dilation, ceil)
    else:
        count = _window_sum(cx, ones, kernel, stride, padding, dilation, ceil)
    total = _window_sum(cx, x, kernel, stride, padding, dilation, ceil)
    return ops.div(cx.b, total, count)


def _window_sum(
    cx: Context, x: Value, kernel: Any, stride: Any, padding: Pairs, dilation: Any, ceil: bool
) -> Value:
    pairs = tuple((as_index(lo), as_index(hi)) for lo, hi in padding)
    out: Value = cx.b.emit(
        "avg_pool", x, kernel=tuple(kernel), stride=tuple(stride), padding=pairs,
        dilation=tuple(dilation), ceil_mode=ceil, include_pad=True, divisor=1,
    )  # fmt: skip
    return out


@onnx("LpPool")
def _lp_pool(cx: Context, x: Value) -> Value:
    kernel, stride, dilation, padding, ceil = _pool_window(cx, x)
    p = float(cx.int("p", 2))
    powers = ops.pow(cx.b, ops.abs(cx.b, x), p)
    total = _window_sum(cx, powers, kernel, stride, padding, dilation, ceil)
    return ops.pow(cx.b, total, 1 / p)


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(range(2, x.rank))


@onnx("GlobalAveragePool")
def _global_average(cx: Context, x: Value) -> Value:
    return ops.mean(cx.b, x, _spatial(x), True)


@onnx("GlobalMaxPool")
def _global_max(cx: Context, x: Value) -> Value:
    return ops.reduce_max(cx.b, x, _spatial(x), True)


@onnx("GlobalLpPool")
def _global_lp(cx: Context, x: Value) -> Value:
    return ops.p_norm(cx.b, x, float(cx.int("p", 2)), _spatial(x), True)


# ---- normalisation -------------------------------------------------------------------------------


@onnx("BatchNormalization")
def _batch_norm(cx: Context, x: Value, scale: Value, bias: Value, mean: Value, var: Value) -> Any:
    training = (
        cx.int("training_mode", 0)
        if cx.version >= 14
        else cx.version < 7 and (not cx.int("is_test", 0) and cx.wants(1))
    )
    eps = cx.float("epsilon", 1e-5)
    if training:
        return _batch_statistics(cx, x, scale, bias, mean, var, eps)
    if x.rank == 1:
        wide = ops.reshape(cx.b, x, (*x.shape, ONE))
        out = ops.batch_norm(cx.b, wide, mean, var, scale, bias, eps)
        return ops.reshape(cx.b, out, x.shape)
    return ops.batch_norm(cx.b, x, mean, var, scale, bias, eps)


def _batch_statistics(
    cx: Context, x: Value, scale: Value, bias: Value, mean: Value, var: Value, eps: float
) -> Any:
    """With the batch's own statistics; the running ones come back updated."""
    now_var, now_mean = ops.batch_moments(cx.b, x)
    y = ops.batch_norm(cx.b, x, now_mean, now_var, scale, bias, eps)
    keep = cx.float("momentum", 0.9)

    def updated(old: Value, new: Value) -> Value:
        fresh = ops.mul(cx.b, ops.cast(cx.b, new, old.dtype), 1 - keep)
        return ops.add(cx.b, ops.mul(cx.b, old, keep), fresh)

    return y, updated(mean, now_mean), updated(var, now_var)


@onnx("InstanceNormalization")
def _instance_norm(cx: Context, x: Value, scale: Value, bias: Value) -> Value:
    return ops.instance_norm(cx.b, x, scale, bias, cx.float("epsilon", 1e-5))


@onnx("GroupNormalization", since=18)
def _group_norm(cx: Context, x: Value, scale: Value, bias: Value) -> Value:
    groups = cx.int("num_groups")
    if cx.version < 21:  # one scale a group
        shape = (as_index(groups), simplify(x.shape[1] // groups))
        scale, bias = (
            ops.reshape(cx.b, ops.expand(cx.b, ops.unsqueeze(cx.b, v, 1), shape), (x.shape[1],))
            for v in (scale, bias)
        )
    return ops.group_norm(cx.b, x, scale, bias, groups, cx.float("epsilon", 1e-5))


@onnx("LayerNormalization")
def layer_norm(cx: Context, x: Value, scale: Value, bias: Value | None = None) -> Any:
    """Layer normalisation with its mean and inverse deviation, if these are read."""
    axis, eps = cx.int("axis", -1), cx.float("epsilon", 1e-5)
    axes = x.rank - axis if axis >= 0 else -axis
    stats = dtype_of(element_type(cx.int("stash_type", 1)))
    wide = ops.cast(cx.b, x, stats) if stats.is_float and stats.bits > x.dtype.bits else x
    y = _normed(cx, wide, x, scale, bias, axes, eps)
    if not (cx.wants(1) or cx.wants(2)):
        return y
    mean, rstd = ops.layer_norm_stats(cx.b, wide, axes=axes, eps=eps)
    return y, ops.cast(cx.b, mean, stats), ops.cast(cx.b, rstd, stats)


def _normed(
    cx: Context, wide: Value, x: Value, scale: Value, bias: Value | None, axes: int, eps: float
) -> Value:
    """The normalisation: as one operator where weight and bias have the shape of what is folded."""
    inner = x.shape[x.rank - axes :]
    fits = all(v is None or v.shape == inner for v in (scale, bias))
    if fits and wide is x:
        return ops.layer_norm(cx.b, x, scale, bias, axes=axes, eps=eps)
    y = ops.cast(cx.b, ops.layer_norm(cx.b, wide, axes=axes, eps=eps), x.dtype)
    y = ops.mul(cx.b, y, scale)
    return y if bias is None else ops.add(cx.b, y, bias)


@onnx("RMSNormalization", since=23)
def rms_norm(cx: Context, x: Value, scale: Value) -> Value:
    """Root mean square normalisation over the axes from `axis` on."""
    axis, eps = cx.int("axis", -1), cx.float("epsilon", 1e-5)
    axes = x.rank - axis if axis >= 0 else -axis
    stats = dtype_of(element_type(cx.int("stash_type", 1)))
    wide = ops.cast(cx.b, x, stats) if stats.bits > x.dtype.bits else x
    if wide is x and scale.shape == x.shape[x.rank - axes :]:
        return ops.rms_norm(cx.b, x, scale, axes=axes, eps=eps)
    y = ops.cast(cx.b, ops.rms_norm(cx.b, wide, None, axes=axes, eps=eps), x.dtype)
    return ops.mul(cx.b, y, scale)


@onnx("LRN")
def _lrn(cx: Context, x: Value) -> Value:
    """Local response normalisation over neighbouring channels."""
    size, alpha = cx.int("size"), cx.float("alpha", 1e-4)
    beta, bias = cx.float("beta", 0.75), cx.float("bias", 1.0)
    low, high = (size - 1) // 2, size - 1 - (size - 1) // 2
    n, c, *rest = x.shape
    flat = ops.reshape(cx.b, ops.mul(cx.b, x, x), (n, ONE, c, simplify(product(rest))))
    total = _window_sum(cx, flat, (size, 1), (1, 1), ((low, high), (0, 0)), (1, 1), False)
    total = ops.reshape(cx.b, total, x.shape)
    scale = ops.add(cx.b, ops.mul(cx.b, total, alpha / size), bias)
    return ops.div(cx.b, x, ops.pow(cx.b, scale, beta))


@onnx("MaxUnpool", static=(2,))
def _max_unpool(cx: Context, x: Value, places: Value, shape: Any = None) -> Value:
    kernel = cx.ints("kernel_shape")
    n = len(kernel)
    stride, pads = cx.ints("strides", (1,) * n), cx.ints("pads", (0,) * (2 * n))
    own = [
        simplify((s - 1) * t + k - pads[d] - pads[n + d])
        for d, (s, t, k) in enumerate(zip(x.shape[2:], stride, kernel))
    ]
    inner = (*x.shape[:2], *own)
    zeros = ops.full(cx.b, (simplify(product(inner)),), 0, x.dtype)
    index = ops.reshape(cx.b, ops.cast(cx.b, places, i64), (simplify(product(x.shape)),))
    values = ops.reshape(cx.b, x, index.shape)
    y = ops.reshape(cx.b, ops.scatter(cx.b, zeros, 0, index, values), inner)
    if shape is None:
        return y
    high = [simplify(as_index(n) - s) for n, s in zip(sizes(shape), inner, strict=True)]
    return ops.pad(cx.b, y, (0,) * y.rank, high)


__all__ = ["conv", "layer_norm", "rms_norm", "window_padding"]
