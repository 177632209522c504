"""The LSTM over a sequence."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context
from ferrule.frontend.tflite.table import lite, there
from ferrule.ir.graph import GraphBuilder, Value


@lite("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(cx: Context, x: Value, *operands: Any) -> Value:
    """x [batch, steps, in], or with the attribute `time_major` [steps, batch, in].

    Operands: 4 weights of the input, 4 of the state, 3 peepholes, 4 biases, a projection and its
    bias, the states, 4 factors of norms. The products of all inputs are made before the loop.
    """
    b = cx.b
    given = [there(v) for v in (*operands, *[None] * (23 - len(operands)))]
    if any(v is not None for v in given[19:23]):
        raise UnsupportedError("an LSTM with norms inside")
    if given[0] is None:
        raise UnsupportedError("an LSTM whose input gate is the forget gate")
    x = x if cx.attr("time_major") else ops.transpose(b, x, (1, 0, 2))
    rows = []
    for w, bias in zip(given[:4], given[11:15]):
        if w is None or bias is None:
            raise UnsupportedError("an LSTM without all gates")
        rows.append(ops.add(b, ops.dot_general(b, x, w, contract=((2,), (1,))), bias))
    size, out = rows[0].shape[2], given[4].shape[1] if given[4] is not None else rows[0].shape[2]
    start = [ops.full(b, (x.shape[1], n), 0, x.dtype) for n in (out, size)]

    def body(
        inner: GraphBuilder, states: tuple[Value, ...], now: tuple[Value, ...]
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        return _step(cx, inner, states, now, given), ()

    made = ops.loop(b, body, x.shape[0], start, rows)
    return made[0] if cx.attr("time_major") else ops.transpose(b, made[0], (1, 0, 2))


def _step(
    cx: Context, b: GraphBuilder, states: tuple[Value, ...], rows: tuple[Value, ...],
    given: list[Value | None],
) -> tuple[Value, ...]:  # fmt: skip
    """The states behind a step."""
    h, c = states
    gates = []
    for row, w in zip(rows, given[4:8]):
        assert w is not None
        gates.append(ops.add(b, row, ops.dot_general(b, h, w, contract=((1,), (1,)))))
    peep = dict(zip((0, 1, 3), given[8:11]))

    def gate(k: int, cell: Value) -> Value:
        own = peep[k]
        seen = gates[k] if own is None else ops.add(b, gates[k], ops.mul(b, cell, own))
        return ops.sigmoid(b, seen)

    act = ops.tanh if cx.attr("activation") == "TANH" else ops.relu
    if cx.attr("activation") not in ("TANH", "RELU"):
        raise UnsupportedError(f"an LSTM of {cx.attr('activation')}")
    new = ops.add(
        b, ops.mul(b, gate(1, c), c), ops.mul(b, gate(0, c), act(b, gates[2]))
    )
    clip = cx.attr("cell_clip")
    new = ops.clamp(b, new, -clip, clip) if clip > 0 else new
    y = ops.mul(b, gate(3, new), act(b, new))
    projection, bias = given[15:17]
    if projection is not None:
        y = ops.dot_general(b, y, projection, contract=((1,), (1,)))
        y = y if bias is None else ops.add(b, y, bias)
        most = cx.attr("proj_clip")
        y = ops.clamp(b, y, -most, most) if most > 0 else y
    return y, new
