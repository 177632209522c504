"""Operators of elements, and those that fold many."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ferrule.frontend.tensorflow.model import DTYPES, Element
from ferrule.frontend.tflite.model import Operator
from ferrule.frontend.tflite.writer import Writer, operator

_SAME: Mapping[str, str] = {
    "ABS": "Abs", "ADD_N": "AddN", "ATAN2": "Atan2", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu",
    "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log", "LOGISTIC": "Sigmoid", "NEG": "Neg",
    "POW": "Pow", "RELU": "Relu", "RELU6": "Relu6", "ROUND": "Round", "RSQRT": "Rsqrt",
    "SIGN": "Sign", "SIN": "Sin", "SQUARE": "Square", "TANH": "Tanh",
    "LOGICAL_AND": "LogicalAnd", "LOGICAL_NOT": "LogicalNot", "LOGICAL_OR": "LogicalOr",
    "FLOOR_DIV": "FloorDiv", "FLOOR_MOD": "FloorMod", "LOG_SOFTMAX": "LogSoftmax",
    "BITWISE_XOR": "BitwiseXor",
    "RIGHT_SHIFT": "RightShift", "EQUAL": "Equal", "NOT_EQUAL": "NotEqual", "LESS": "Less",
    "LESS_EQUAL": "LessEqual", "GREATER": "Greater", "GREATER_EQUAL": "GreaterEqual",
    "MAXIMUM": "Maximum", "MINIMUM": "Minimum", "RELU_N1_TO_1": "tfl.RELU_N1_TO_1",
    "RELU_0_TO_1": "tfl.RELU_0_TO_1", "HARD_SWISH": "tfl.HARD_SWISH", "PRELU": "tfl.PRELU",
    "L2_NORMALIZATION": "tfl.L2_NORMALIZATION",
}  # fmt: skip
_ACTIVATED = {"ADD": "AddV2", "SUB": "Sub", "MUL": "Mul"}
_REDUCE = {
    "MEAN": "Mean", "SUM": "Sum", "REDUCE_PROD": "Prod", "REDUCE_MAX": "Max", "REDUCE_MIN": "Min",
    "REDUCE_ANY": "Any", "REDUCE_ALL": "All",
}  # fmt: skip


def _plain(lite: str, own: str) -> None:
    operator(lite)(lambda w, op, *xs: w.add(own, *xs))


def _activated(lite: str, own: str) -> None:
    operator(lite)(lambda w, op, x, y: w.activated(w.add(own, x, y), op))


def _reduction(lite: str, own: str) -> None:
    def build(w: Writer, op: Operator, x: str, axes: str) -> str:
        return w.add(own, x, axes, keep_dims=bool(op.options.get("keep_dims", False)))

    operator(lite)(build)


for _lite, _own in _SAME.items():
    _plain(_lite, _own)
for _lite, _own in _ACTIVATED.items():
    _activated(_lite, _own)
for _lite, _own in _REDUCE.items():
    _reduction(_lite, _own)


@operator("DIV")
def _div(w: Writer, op: Operator, x: str, y: str) -> str:
    kind = "RealDiv" if w.tensor(op.inputs[0]).type.startswith("FLOAT") else "TruncateDiv"
    whole = w.quantised(op.inputs[0])
    return w.activated(w.add("RealDiv" if whole else kind, x, y), op)


@operator("SQRT", exact=True)
def _sqrt(w: Writer, op: Operator, x: str) -> str:
    """Steps of a quantised result are rounded down."""
    y = w.add("Sqrt", w.float_of(x, op.inputs[0]))
    return w.bytes_of(y, op.outputs[0], down=True)


@operator("SQUARED_DIFFERENCE", exact=True)
def _squared_difference(w: Writer, op: Operator, x: str, y: str) -> str:
    if not w.quantised(op.outputs[0]):
        return w.add("SquaredDifference", x, y)
    one, other, made = (w.tensor(i) for i in (*op.inputs, op.outputs[0]))
    scales = {"one": one.quant, "other": other.quant, "made": made.quant}
    return w.add("tfl.SQUARED_DIFFERENCE.BYTES", x, y, **scales, dtype=DTYPES[made.code])


@operator("GELU")
def _gelu(w: Writer, op: Operator, x: str) -> str:
    return w.add("tfl.GELU", x, approximate=bool(op.options.get("approximate", False)))


@operator("LEAKY_RELU")
def _leaky_relu(w: Writer, op: Operator, x: str) -> str:
    return w.add("LeakyRelu", x, alpha=float(op.options.get("alpha", 0.0)))


@operator("SOFTMAX")
def _softmax(w: Writer, op: Operator, x: str) -> str:
    beta = float(op.options.get("beta", 0.0))
    if beta != 1.0:
        x = w.add("Mul", x, w.const(beta, np.float32))
    return w.add("Softmax", x)


@operator("CAST")
def _cast(w: Writer, op: Operator, x: str) -> str:
    return w.add("Cast", x, DstT=Element(w.tensor(op.outputs[0]).code))


@operator("BITCAST", moves=True)
def _bitcast(w: Writer, op: Operator, x: str) -> str:
    return w.add("Bitcast", x, type=Element(w.tensor(op.outputs[0]).code))


@operator("SELECT", moves=True)
def _select(w: Writer, op: Operator, c: str, x: str, y: str) -> str:
    return w.add("Select", c, x, y)


@operator("SELECT_V2", moves=True)
def _select_v2(w: Writer, op: Operator, c: str, x: str, y: str) -> str:
    return w.add("SelectV2", c, x, y)


@operator("ZEROS_LIKE")
def _zeros_like(w: Writer, op: Operator, x: str) -> str:
    return w.add("ZerosLike", x)


@operator("FAKE_QUANT")
def _fake_quant(w: Writer, op: Operator, x: str) -> str:
    names = ("min", "max", "num_bits", "narrow_range")
    return w.add("FakeQuantWithMinMaxArgs", x, **{n: op.options[n] for n in names})


@operator("ARG_MAX", moves=True)
def _arg_max(w: Writer, op: Operator, x: str, axis: str) -> str:
    return w.add("ArgMax", x, axis, output_type=Element(w.tensor(op.outputs[0]).code))


@operator("ARG_MIN", moves=True)
def _arg_min(w: Writer, op: Operator, x: str, axis: str) -> str:
    return w.add("ArgMin", x, axis, output_type=Element(w.tensor(op.outputs[0]).code))


@operator("TOPK_V2", moves=True)
def _top_k(w: Writer, op: Operator, x: str, k: str) -> list[str]:
    kind = w.tensor(op.outputs[1]).code if len(op.outputs) > 1 else 3
    return w.several(2, "TopKV2", x, k, index_type=Element(kind))


@operator("CUMSUM")
def _cumsum(w: Writer, op: Operator, x: str, axis: str) -> str:
    flags = {n: bool(op.options.get(n, False)) for n in ("exclusive", "reverse")}
    return w.add("Cumsum", x, axis, **flags)


@operator("BUCKETIZE")
def _bucketize(w: Writer, op: Operator, x: str) -> str:
    return w.add("Bucketize", x, boundaries=tuple(map(float, op.options["boundaries"])))


@operator("LOCAL_RESPONSE_NORMALIZATION")
def _local_response(w: Writer, op: Operator, x: str) -> str:
    own = {n: float(op.options[n]) for n in ("bias", "alpha", "beta")}
    return w.add("LRN", x, depth_radius=int(op.options["radius"]), **own)


@operator("SEGMENT_SUM")
def _segment_sum(w: Writer, op: Operator, x: str, ids: str) -> str:
    count = int(np.max(w.known(op.inputs[1]), initial=-1)) + 1
    return w.add("UnsortedSegmentSum", x, ids, w.const(count))


for _kind in ("Sum", "Max", "Min", "Prod"):
    _plain(f"UNSORTED_SEGMENT_{_kind.upper()}", f"UnsortedSegment{_kind}")


@operator("QUANTIZE", exact=True)
def _quantize(w: Writer, op: Operator, x: str) -> str:
    given, made = w.tensor(op.inputs[0]), w.tensor(op.outputs[0])
    if given.quant is None or not w.quantised(op.inputs[0]):
        return w.bytes_of(x, op.outputs[0])
    return w.add("tfl.REQUANTIZE", x, given=given.quant, made=made.quant, dtype=DTYPES[made.code])


@operator("DEQUANTIZE", exact=True)
def _dequantize(w: Writer, op: Operator, x: str) -> str:
    if w.tensor(op.inputs[0]).type == "FLOAT16":
        return w.add("Cast", x, DstT=Element(1))
    return w.float_of(x, op.inputs[0])

