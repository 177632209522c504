"""Products, convolutions, pools. On bytes they have sums of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.model import DTYPES
from ferrule.frontend.tflite.model import Operator, Quant
from ferrule.frontend.tflite.writer import BYTES, Writer, activation, enum, operator, pair

_BYTES = ("INT8", "UINT8", "INT4")


def windows(op: Operator) -> dict[str, Any]:
    """Strides, dilation and padding as a TensorFlow operator has them."""
    return {
        "strides": (1, *pair(op, "stride"), 1),
        "dilations": (1, _dilation(op, "h"), _dilation(op, "w"), 1),
        "padding": enum(op, "padding", "Padding"),
        "data_format": "NHWC",
    }


def _dilation(op: Operator, d: str) -> int:
    return int(op.options.get(f"dilation_{d}factor", 1))


def quantities(w: Writer, op: Operator, x: int, weights: int) -> dict[str, Any] | None:
    """What a product of quantised operands needs to know of them: None where they are floats.
    `x` and `weights` are the places of the operands.

    Of float activations and weights of bytes, the activations are rounded to bytes as they come.
    """
    given, own, made = (w.tensor(n) for n in (x, weights, op.outputs[0]))
    if own.type not in _BYTES or own.quant is None:
        return None
    scales = {"weights": own.quant, "bytes": own.data}
    if given.type == "FLOAT32":
        return {**scales, "asymmetric": bool(op.options.get("asymmetric_quantize_inputs", False))}
    if given.quant is None or made.quant is None:
        raise UnsupportedError(f"a product of {given.type} without scales")
    if given.type not in ("INT8", "UINT8") or made.type not in BYTES:
        return None
    low, high = bounds(activation(op), made.quant, DTYPES[made.code])
    return {
        **scales, "given": given.quant, "made": made.quant, "dtype": DTYPES[made.code],
        "low": low, "high": high,
    }  # fmt: skip


_REACH = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def bounds(kind: str, quant: Quant, dtype: Any) -> tuple[int, int]:
    """What an activation leaves of the range of a quantised result."""
    low, high = int(dtype.min), int(dtype.max)
    if kind == "NONE":
        return low, high
    if kind not in _REACH:
        raise UnsupportedError(f"{kind} behind a product of bytes")
    ends = [None if e is None else quantised(e, quant) for e in _REACH[kind]]
    least = low if ends[0] is None else max(low, ends[0])
    return least, high if ends[1] is None else min(high, ends[1])


def quantised(x: float, quant: Quant) -> int:
    """A number in the steps of a scale, halves away from 0."""
    steps = np.float32(x) / np.float32(quant.factor)
    return quant.number + int(np.trunc(steps + np.copysign(np.float32(0.5), steps)))


def _product(
    w: Writer, op: Operator, kind: str, operands: list[str], places: tuple[int, int], **attrs: Any
) -> str:
    """A product of the operands with these places, and the bias behind them."""
    known = quantities(w, op, *places)
    if known is None:
        if any(map(w.quantised, (*places, op.outputs[0]))):
            operands = [w.float_of(n, i) for n, i in zip(operands, op.inputs)]
            y = w.activated(w.add(kind, *operands, **attrs), op)
            return w.bytes_of(y, op.outputs[0])
        return w.activated(w.add(kind, *operands, **attrs), op)
    if "given" not in known:
        return w.activated(w.add(f"{kind}.HYBRID", *operands, **attrs, **known), op)
    return w.add(f"{kind}.BYTES", *operands, **attrs, **known)


@operator("CONV_2D", exact=True)
def _conv(w: Writer, op: Operator, *xs: str) -> str:
    return _product(w, op, "tfl.CONV_2D", [*xs], (op.inputs[0], op.inputs[1]), **windows(op))


@operator("DEPTHWISE_CONV_2D", exact=True)
def _depthwise(w: Writer, op: Operator, *xs: str) -> str:
    places = op.inputs[0], op.inputs[1]
    return _product(w, op, "tfl.DEPTHWISE_CONV_2D", [*xs], places, **windows(op))


@operator("TRANSPOSE_CONV", exact=True)
def _transposed(w: Writer, op: Operator, sizes: str, filters: str, x: str, *bias: str) -> str:
    turned = Operator(
        op.name, (op.inputs[2], op.inputs[1], *op.inputs[3:], op.inputs[0]), op.outputs, op.options
    )
    operands = [x, filters, bias[0] if bias else w.ref(-1), sizes]
    return _product(
        w, turned, "tfl.TRANSPOSE_CONV", operands, (op.inputs[2], op.inputs[1]), **windows(op)
    )


@operator("FULLY_CONNECTED", exact=True)
def _fully_connected(w: Writer, op: Operator, *xs: str) -> str:
    if enum(op, "weights_format", "FullyConnectedOptionsWeightsFormat") != "DEFAULT":
        raise UnsupportedError("weights that are shuffled")
    keep = bool(op.options.get("keep_num_dims", False))
    places = op.inputs[0], op.inputs[1]
    return _product(w, op, "tfl.FULLY_CONNECTED", [*xs], places, keep=keep)


@operator("CONV_3D")
def _conv_3d(w: Writer, op: Operator, x: str, filters: str, *bias: str) -> str:
    y = w.add("Conv3D", x, filters, **_deep(op))
    return w.activated(w.add("AddV2", y, *bias) if bias and op.inputs[2] >= 0 else y, op)


@operator("CONV_3D_TRANSPOSE")
def _conv_3d_transposed(
    w: Writer, op: Operator, sizes: str, filters: str, x: str, *bias: str
) -> str:
    y = w.add("Conv3DBackpropInputV2", sizes, filters, x, **_deep(op))
    return w.activated(w.add("AddV2", y, *bias) if bias and op.inputs[3] >= 0 else y, op)


def _deep(op: Operator) -> dict[str, Any]:
    own = op.options
    return {
        "strides": (1, *(int(own.get(f"stride_{d}", 1)) for d in "dhw"), 1),
        "dilations": (1, *(int(own.get(f"dilation_{d}_factor", 1)) for d in "dhw"), 1),
        "padding": enum(op, "padding", "Padding"),
        "data_format": "NDHWC",
    }


@operator("BATCH_MATMUL", exact=True)
def _batch_matmul(w: Writer, op: Operator, x: str, y: str) -> str:
    flags = {n: bool(op.options.get(n, False)) for n in ("adj_x", "adj_y")}
    quants = [w.tensor(i).quant for i in (*op.inputs, *op.outputs)]
    whole = all(q is not None and q.one for q in quants)
    known = quantities(w, op, *op.inputs) if whole else None
    if known is not None and "given" in known:
        return w.add("tfl.BATCH_MATMUL.BYTES", x, y, **flags, **known)
    names = [w.float_of(n, i) for n, i in zip((x, y), op.inputs)]
    return w.bytes_of(w.add("BatchMatMulV2", *names, **flags), op.outputs[0])


# ---- pools ---------------------------------------------------------------------------------------


def _pooled(op: Operator) -> dict[str, Any]:
    window = (1, int(op.options["filter_height"]), int(op.options["filter_width"]), 1)
    return {**windows(op), "ksize": window}


@operator("MAX_POOL_2D", exact=True)
def _max_pool(w: Writer, op: Operator, x: str) -> str:
    y = w.add("MaxPool", x, **_pooled(op))
    place = op.outputs[0]
    if activation(op) == "NONE" or not w.quantised(place):
        return w.activated(y, op)
    return w.bytes_of(w.activated(w.float_of(y, place), op), place)


@operator("AVERAGE_POOL_2D", exact=True)
def _avg_pool(w: Writer, op: Operator, x: str) -> str:
    made = w.tensor(op.outputs[0])
    if not w.quantised(op.inputs[0]) or made.quant is None:
        return w.activated(w.add("AvgPool", x, **_pooled(op)), op)
    low, high = bounds(activation(op), made.quant, DTYPES[made.code])
    return w.add("tfl.AVERAGE_POOL_2D.BYTES", x, **_pooled(op), low=low, high=high)


@operator("L2_POOL_2D")
def _l2_pool(w: Writer, op: Operator, x: str) -> str:
    squares = w.add("AvgPool", w.add("Square", x), **_pooled(op))
    return w.activated(w.add("Sqrt", squares), op)


