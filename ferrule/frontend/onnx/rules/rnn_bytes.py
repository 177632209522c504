"""DynamicQuantizeLSTM: an LSTM whose weights are bytes, and whose inputs and states become bytes
for each product, with the range that they have there. The sums are exact on each machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.rules.integer import Operand, matmul, operand
from ferrule.frontend.onnx.rules.quant import dynamic_quantize
from ferrule.frontend.onnx.rules.rnn import Weights, directions, hidden_size, lstm
from ferrule.frontend.onnx.table import MICROSOFT, Context, onnx
from ferrule.ir.graph import GraphBuilder, Value


@dataclass(frozen=True)
class _ByteWeights:
    """Quantised weights [inputs, gates * size], with a scale for all or for each column."""

    cx: Context
    weights: Operand
    scale: Value

    def product(self, b: GraphBuilder, x: Value) -> Value:
        cx = self.cx.within(b)
        small, scale, zero = dynamic_quantize(cx, x)
        total = matmul(cx, operand(cx, small, zero), self.weights)
        return ops.mul(b, ops.cast(b, total, f32), ops.mul(b, self.scale, scale))


def _directions(
    cx: Context, w: Value, scale: Value, zero: Value | None, at: int, zero_at: int
) -> list[Weights]:
    """The weights of each direction of `w`, [directions, inputs, gates * size]; scale and zero
    point are one a direction, or one for each column of it.
    """
    b = cx.b
    out: list[Weights] = []
    known = operand(cx, w, zero, at, zero_at)
    zeros = known.known_zero
    for d in directions(w):
        own = Operand(
            ops.select_index(b, w, 0, d),
            None if zero is None else ops.select_index(b, zero, 0, d),
            None if known.known is None else known.known[d],
            zeros if zeros is None or not zeros.ndim else zeros[d],
        )
        out.append(_ByteWeights(cx, own, ops.select_index(b, scale, 0, d)))
    return out


@onnx("DynamicQuantizeLSTM", domain=MICROSOFT)
def _quantized_lstm(
    cx: Context, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, h: Value | None = None, c0: Value | None = None,
    peep: Value | None = None, w_scale: Value | None = None, w_zero: Value | None = None,
    r_scale: Value | None = None, r_zero: Value | None = None,
) -> Any:  # fmt: skip
    if w_scale is None or r_scale is None:
        raise UnsupportedError("DynamicQuantizeLSTM without the scales of its weights")
    inputs = _directions(cx, w, w_scale, w_zero, 1, 9)
    states = _directions(cx, r, r_scale, r_zero, 2, 11)
    size = hidden_size(cx, r, 4, 1)
    return lstm(cx, x, inputs, states, size, bias, lengths, h, c0, peep)
