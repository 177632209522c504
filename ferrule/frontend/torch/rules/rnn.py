"""ATen rules: LSTM, GRU and plain recurrent layers, each operator a stack of layers as a whole.

PyTorch would write every step out. Here the products of all inputs of a layer and direction are one
matrix product, and what depends on the state is a loop over the steps (`ops.loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, aten
from ferrule.ir.expr import ONE, ZERO
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal

State = tuple[Value, ...]


@dataclass(frozen=True)
class Weights:
    """One direction of a layer: `inputs` is [gates * size, inputs], `state` [gates * size,
    outputs], the biases [gates * size]; `projection`, if there is one, is [outputs, size].
    """

    inputs: Value
    state: Value
    input_bias: Value | None
    state_bias: Value | None
    projection: Value | None

    def recurrent(self, b: GraphBuilder, h: Value) -> Value:
        """The state's part of all gates: [batch, gates * size]."""
        return ops.linear(b, h, self.state, self.state_bias)


Step = Callable[[GraphBuilder, Weights, Value, State], State]


@dataclass(frozen=True)
class Layers:
    """A stack of layers: the last six arguments of each of the operators."""

    biases: bool
    count: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    def run(
        self, b: GraphBuilder, x: Value, states: State, params: Sequence[Value], step: Step,
        projected: bool = False,
    ) -> tuple[Value, ...]:  # fmt: skip
        """The results of all steps in the last layer, and each state [layers * directions, batch,
        size] behind the last step. Raises UnsupportedError for dropout in training.
        """
        if self.dropout and self.train and self.count > 1:
            raise UnsupportedError("a recurrent layer with dropout in training")
        x = ops.transpose(b, x, (1, 0, 2)) if self.batch_first else x
        weights = list(_weights(params, self.biases, projected))
        ends: list[State] = []
        for _ in range(self.count):
            rows = []
            for turned in (False, True)[: 1 + self.bidirectional]:
                start = tuple(ops.select_index(b, s, 0, len(ends)) for s in states)
                y, end = _direction(b, weights[len(ends)], x, start, turned, step)
                rows.append(y)
                ends.append(end)
            x = ops.concat(b, rows, 2) if self.bidirectional else rows[0]
        x = ops.transpose(b, x, (1, 0, 2)) if self.batch_first else x
        return (x, *(ops.stack(b, column, 0) for column in zip(*ends)))


def _weights(params: Sequence[Value], biases: bool, projected: bool) -> Iterator[Weights]:
    """The parameters of each direction of each layer, in ATen's order."""
    each = 2 + 2 * biases + projected
    for i in range(0, len(params), each):
        own = params[i : i + each]
        bias = own[2:4] if biases else (None, None)
        yield Weights(own[0], own[1], bias[0], bias[1], own[-1] if projected else None)


def _direction(
    b: GraphBuilder, w: Weights, x: Value, start: State, turned: bool, step: Step
) -> tuple[Value, State]:
    """All steps of one direction of a layer, x being [steps, batch, inputs]: the first state behind
    each step, and all of them behind the last.
    """
    given, count = ops.linear(b, x, w.inputs, w.input_bias), x.shape[0]
    if count is ONE:
        end = step(b, w, ops.select_index(b, given, 0, 0), start)
        return ops.unsqueeze(b, end[0], 0), end

    def body(b: GraphBuilder, old: State, row: State) -> tuple[State, State]:
        return step(b, w, row[0], old), ()

    made = ops.loop(b, body, count, start, (given,), turned)
    last = ZERO if turned else count - ONE
    return made[0], tuple(ops.select_index(b, v, 0, last) for v in made)


def _split(b: GraphBuilder, gates: Value, count: int) -> list[Value]:
    size = int(gates.shape[-1].value) // count
    return list(ops.split(b, gates, (size,) * count, gates.rank - 1))


# ---- the operators -------------------------------------------------------------------------------


@aten("lstm.input")
def _lstm(cx: Context, x: Value, hx: list[Value], params: list[Value], *rest: Any) -> Any:
    projected = not equal(hx[0].shape[2], hx[1].shape[2])
    return Layers(*rest).run(cx.b, x, tuple(hx), params, _lstm_step, projected)


def _lstm_step(b: GraphBuilder, w: Weights, given: Value, state: State) -> State:
    h, c = state
    i, f, g, o = _split(b, ops.add(b, given, w.recurrent(b, h)), 4)
    kept = ops.mul(b, ops.sigmoid(b, f), c)
    c = ops.add(b, kept, ops.mul(b, ops.sigmoid(b, i), ops.tanh(b, g)))
    h = ops.mul(b, ops.sigmoid(b, o), ops.tanh(b, c))
    return (h if w.projection is None else ops.linear(b, h, w.projection)), c


@aten("gru.input")
def _gru(cx: Context, x: Value, hx: Value, params: list[Value], *rest: Any) -> Any:
    return Layers(*rest).run(cx.b, x, (hx,), params, _gru_step)


def _gru_step(b: GraphBuilder, w: Weights, given: Value, state: State) -> State:
    (h,) = state
    ri, zi, ni = _split(b, given, 3)
    rh, zh, nh = _split(b, w.recurrent(b, h), 3)
    r, z = ops.sigmoid(b, ops.add(b, ri, rh)), ops.sigmoid(b, ops.add(b, zi, zh))
    n = ops.tanh(b, ops.add(b, ni, ops.mul(b, r, nh)))
    return (ops.add(b, ops.mul(b, ops.sub(b, h, n), z), n),)


def _plain(activation: Callable[[GraphBuilder, Value], Value]) -> Any:
    def step(b: GraphBuilder, w: Weights, given: Value, state: State) -> State:
        return (activation(b, ops.add(b, given, w.recurrent(b, state[0]))),)

    def rule(cx: Context, x: Value, hx: Value, params: list[Value], *rest: Any) -> Any:
        return Layers(*rest).run(cx.b, x, (hx,), params, step)

    return rule


aten("rnn_tanh.input")(_plain(ops.tanh))
aten("rnn_relu.input")(_plain(ops.relu))
