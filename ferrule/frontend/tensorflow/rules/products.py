"""Products of matrices, Einstein sums, convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, rule, tensor_of
from ferrule.ir.agree import agree
from ferrule.ir.expr import ONE, Expr, as_index, call, ceildiv
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify


@rule("MatMul")
def _mat_mul(cx: Context, x: Value, y: Value) -> Value:
    return _product(cx, x, y, cx.attr("transpose_a", False), cx.attr("transpose_b", False))


@rule("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _batch_mat_mul(cx: Context, x: Value, y: Value) -> Value:
    wide = cx.dtype("Tout", x.dtype)
    if wide.is_int or x.dtype != y.dtype:
        x, y = ops.cast(cx.b, x, wide), ops.cast(cx.b, y, wide)
    return _product(cx, x, y, cx.attr("adj_x", False), cx.attr("adj_y", False))


def _product(cx: Context, x: Value, y: Value, turn_x: bool, turn_y: bool) -> Value:
    """The product of the last two dimensions, the others broadcast."""
    x = _turned(cx.b, x) if turn_x else x
    y = _turned(cx.b, y) if turn_y else y
    agree(x.shape[-1:], y.shape[-2:-1])
    for n, m in zip(reversed(x.shape[:-2]), reversed(y.shape[:-2])):
        if not equal(n, ONE) and not equal(m, ONE):
            agree((n,), (m,))
    return ops.matmul(cx.b, x, y)


def _turned(b: GraphBuilder, x: Value) -> Value:
    return ops.transpose(b, x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@rule("Einsum")
def _einsum(cx: Context, *xs: Any) -> Value:
    spec = cx.text("equation").replace(" ", "")
    sizes: dict[str, Expr] = {}
    for term, x in zip(spec.partition("->")[0].split(","), xs):
        for c, n in zip(_names(term, tensor_of(x).rank), x.shape):
            if c in sizes and not equal(n, ONE) and not equal(sizes[c], ONE):
                agree((sizes[c],), (n,))
            sizes.setdefault(c, n)
    return ops.einsum(cx.b, spec, *xs)


def _names(term: str, rank: int) -> list[str]:
    """A name for each dimension; those of an ellipsis are counted from behind."""
    head, dots, tail = term.partition("...")
    count = rank - len(head) - len(tail) if dots else 0
    return [*head, *(f".{k}" for k in range(count, 0, -1)), *tail]


@rule("BiasAdd", "BiasAddV1")
def _bias_add(cx: Context, x: Value, bias: Value) -> Value:
    if not cx.text("data_format", "NHWC").startswith("NC"):
        agree(bias.shape, x.shape[-1:])
        return ops.add(cx.b, x, bias)
    agree(bias.shape, x.shape[1:2])
    return ops.add(cx.b, x, ops.reshape(cx.b, bias, (bias.shape[0], *(1,) * (x.rank - 2))))


# ---- where channels stand ------------------------------------------------------------------------


def channels_first(cx: Context, x: Value) -> Value:
    """`x` as [n, channels, spatial..]."""
    if cx.text("data_format", "NHWC").startswith("NC"):
        return x
    return ops.transpose(cx.b, x, (0, x.rank - 1, *range(1, x.rank - 1)))


def as_given(cx: Context, x: Value) -> Value:
    """[n, channels, spatial..] as the operator has it."""
    if cx.text("data_format", "NHWC").startswith("NC"):
        return x
    return ops.transpose(cx.b, x, (0, *range(2, x.rank), 1))


def spatial(cx: Context, values: Sequence[int]) -> list[int]:
    """Those of the spatial dimensions of numbers that stand for all of them."""
    return list(values[2:] if cx.text("data_format", "NHWC").startswith("NC") else values[1:-1])


def paddings(
    cx: Context, sizes: Sequence[Expr], window: Sequence[int], strides: Sequence[int]
) -> list[tuple[Expr, Expr]]:
    """What comes before and behind each spatial dimension; `window` are its sizes with dilation."""
    kind = cx.text("padding")
    if kind == "VALID":
        return [(as_index(0), as_index(0)) for _ in sizes]
    if kind == "EXPLICIT":
        pairs = cx.attr("explicit_paddings")
        given = zip(spatial(cx, pairs[::2]), spatial(cx, pairs[1::2]))
        return [(as_index(lo), as_index(hi)) for lo, hi in given]
    out = []
    for n, k, s in zip(sizes, window, strides):
        total = simplify((ceildiv(n, s) - 1) * s + k - n)
        total = total if prove_nonneg(total) else simplify(call("max", total, as_index(0)))
        low = simplify(call("floordiv", total, as_index(2)))
        out.append((low, simplify(total - low)))
    return out


def _window(w: Value, dilations: Sequence[int]) -> list[int]:
    """The sizes of a filter [spatial.., in, out] with dilation."""
    sizes = w.shape[:-2]
    if not all(n.is_const for n in sizes):
        raise UnsupportedError("a filter of unknown size")
    return [(n.value - 1) * d + 1 for n, d in zip(sizes, dilations)]


# ---- convolutions --------------------------------------------------------------------------------


@rule("Conv2D", "Conv3D")
def _conv(cx: Context, x: Value, w: Value) -> Value:
    """w is [spatial.., in / groups, out]."""
    n = w.rank - 2
    strides = spatial(cx, cx.attr("strides"))
    dilations = spatial(cx, cx.attr("dilations", (1,) * (n + 2)))
    x = channels_first(cx, x)
    pads = paddings(cx, x.shape[2:], _window(w, dilations), strides)
    groups = simplify(call("floordiv", x.shape[1], w.shape[-2]))
    if not groups.is_const:
        raise UnsupportedError("a convolution of an unknown number of channels")
    turned = ops.transpose(cx.b, w, (n + 1, n, *range(n)))
    y = ops.conv(
        cx.b, x, turned, stride=strides, padding=pads, dilation=dilations, groups=groups.value
    )
    return as_given(cx, y)


@rule("DepthwiseConv2dNative")
def _depthwise(cx: Context, x: Value, w: Value) -> Value:
    """w is [h, w, in, factor]."""
    strides = spatial(cx, cx.attr("strides"))
    dilations = spatial(cx, cx.attr("dilations", (1, 1, 1, 1)))
    x = channels_first(cx, x)
    pads = paddings(cx, x.shape[2:], _window(w, dilations), strides)
    h, width, channels, factor = w.shape
    turned = ops.transpose(cx.b, w, (2, 3, 0, 1))
    turned = ops.reshape(cx.b, turned, (channels * factor, 1, h, width))
    y = ops.conv(
        cx.b, x, turned, stride=strides, padding=pads, dilation=dilations, groups=channels.value
    )
    return as_given(cx, y)


@rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _transposed(cx: Context, sizes: Value, w: Value, y: Value) -> Value:
    """The transposed convolution of y; w is [spatial.., out, in]."""
    n = w.rank - 2
    strides = spatial(cx, cx.attr("strides"))
    dilations = spatial(cx, cx.attr("dilations", (1,) * (n + 2)))
    known = cx.numbers(sizes)
    wanted = [as_index(s) for s in (spatial(cx, known) if len(known) == n + 2 else known)]
    y = channels_first(cx, y)
    window = _window(w, dilations)
    pads, more = [], []
    pairs = paddings(cx, wanted, window, strides)
    for (lo, hi), m, k, s, size in zip(pairs, y.shape[2:], window, strides, wanted):
        if cx.text("padding") == "SAME":
            total = simplify((m - 1) * s + k - size)
            total = total if prove_nonneg(total) else simplify(call("max", total, as_index(0)))
            lo = simplify(call("floordiv", total, as_index(2)))
            hi = simplify(total - lo)
        rest = simplify(size - ((m - 1) * s + k - lo - hi))
        if not rest.is_const:
            raise UnsupportedError("a transposed convolution to a size that does not follow")
        pads.append((lo, hi))
        more.append(rest.value)
    turned = ops.transpose(cx.b, w, (n + 1, n, *range(n)))
    out = ops.conv(
        cx.b, y, turned, stride=strides, padding=pads, dilation=dilations, transposed=True,
        output_padding=more,
    )  # fmt: skip
    return as_given(cx, out)
