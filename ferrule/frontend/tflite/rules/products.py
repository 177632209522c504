"""Convolutions and products of matrices, by TensorFlow Lite's layouts of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.rules.products import as_given, channels_first, paddings, spatial
from ferrule.frontend.tensorflow.table import RULES, Context
from ferrule.frontend.tflite.table import lite, there
from ferrule.ir.agree import agree
from ferrule.ir.expr import as_index, call, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Product = Callable[..., Value]
"""The sums of a product of x and w, without a bias; channels are its dimension `channel_of`."""


def convolution(cx: Context, x: Value, w: Value, bound: int | None = None) -> Value:
    """x [n, h, w, channels] by w [out, h, w, channels / groups]."""
    return _convolved(cx, x, ops.transpose(cx.b, w, (0, 3, 1, 2)), bound)


def depthwise(cx: Context, x: Value, w: Value, bound: int | None = None) -> Value:
    """x [n, h, w, channels] by w [1, h, w, channels * factor]."""
    return _convolved(cx, x, ops.transpose(cx.b, w, (3, 0, 1, 2)), bound)


def _convolved(cx: Context, x: Value, w: Value, bound: int | None) -> Value:
    if not all(n.is_const for n in w.shape):
        raise UnsupportedError("a filter of unknown size")
    strides, dilations = (spatial(cx, cx.attr(n)) for n in ("strides", "dilations"))
    x = channels_first(cx, x)
    window = [(n.value - 1) * d + 1 for n, d in zip(w.shape[2:], dilations)]
    pads = paddings(cx, x.shape[2:], window, strides)
    groups = simplify(call("floordiv", x.shape[1], w.shape[1]))
    if not groups.is_const:
        raise UnsupportedError("a convolution of an unknown number of channels")
    y = ops.conv(
        cx.b, x, w, stride=strides, padding=pads, dilation=dilations, groups=groups.value,
        bound=bound,
    )  # fmt: skip
    return as_given(cx, y)


def transposed(cx: Context, x: Value, w: Value, sizes: Value, bound: int | None = None) -> Value:
    """The transposed convolution of x by w [out, h, w, channels], to a result of these sizes."""
    turned = ops.transpose(cx.b, w, (1, 2, 0, 3))
    made: Value = RULES["Conv2DBackpropInput"].build(cx, sizes, turned, x)
    return made


def fully_connected(cx: Context, x: Value, w: Value, bound: int | None = None) -> Value:
    """x [.., in] by w [out, in]; [rows, out] unless the attribute `keep` is set."""
    if not cx.attr("keep"):
        x = as_rows(cx, x, w)
    agree(x.shape[-1:], w.shape[-1:])
    return ops.dot_general(cx.b, x, w, contract=((x.rank - 1,), (1,)), bound=bound)


def as_rows(cx: Context, x: Value, w: Value) -> Value:
    """The elements of x as rows that are as long as those of w."""
    if x.rank == 2:
        return x
    n = w.shape[1]
    rows = simplify(call("floordiv", product(x.shape), n))
    agree((simplify(product(x.shape) % n),), (as_index(0),))
    return ops.reshape(cx.b, x, (rows, n))


PRODUCTS: dict[str, Product] = {
    "CONV_2D": convolution, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": fully_connected,
}  # fmt: skip


def _floats(build: Product) -> Callable[..., Value]:
    def built(cx: Context, x: Value, w: Value, bias: Any = None) -> Value:
        return biased(cx, build(cx, x, w), bias)

    return built


def biased(cx: Context, y: Value, bias: Any) -> Value:
    """With a bias for each channel, where there is one."""
    own = there(bias)
    if own is None:
        return y
    agree(own.shape, y.shape[-1:])
    return ops.add(cx.b, y, own)


for _name, _build in PRODUCTS.items():
    lite(_name)(_floats(_build))


@lite("TRANSPOSE_CONV")
def _transposed(cx: Context, x: Value, w: Value, bias: Any, sizes: Value) -> Value:
    return biased(cx, transposed(cx, x, w, sizes), bias)
