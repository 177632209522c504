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
    x = x if cx.attr("time_major") else ops.transpose(b, x, (1, 0, 2))
    rows = []
    first = 0 if given[0] is not None else 1  # without weights of its own, 1 - the forget gate
    for w, bias in zip(given[first:4], given[11 + first : 15]):
        if w is None or bias is None:
            raise UnsupportedError("an LSTM without all gates")
        rows.append(ops.add(b, ops.dot_general(b, x, w, contract=((2,), (1,))), bias))
    size = rows[0].shape[2]
    out = size if given[5] is None else given[5].shape[1]
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
    first = 4 - len(rows)
    gates: dict[int, Value] = {}
    for k, row in enumerate(rows, first):
        w = given[4 + k]
        if w is None:
            raise UnsupportedError("an LSTM without all gates")
        gates[k] = ops.add(b, row, ops.dot_general(b, h, w, contract=((1,), (1,))))
    peep = dict(zip((0, 1, 3), given[8:11]))

    def gate(k: int, cell: Value) -> Value:
        own = peep[k]
        seen = gates[k] if own is None else ops.add(b, gates[k], ops.mul(b, cell, own))
        return ops.sigmoid(b, seen)

    act = ops.tanh if cx.attr("activation") == "TANH" else ops.relu
    if cx.attr("activation") not in ("TANH", "RELU"):
        raise UnsupportedError(f"an LSTM of {cx.attr('activation')}")
    forget = gate(1, c)
    write = ops.sub(b, ops.full(b, (), 1, c.dtype), forget) if first else gate(0, c)
    new = ops.add(b, ops.mul(b, forget, c), ops.mul(b, write, act(b, gates[2])))
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
