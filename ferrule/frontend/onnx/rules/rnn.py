"""ONNX rules: RNN, GRU and LSTM in all directions, with sequence lengths, peepholes and clipping.

The products of all inputs are one matrix product before a loop over the steps (`ops.loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import CompileError, InputError, UnsupportedError
from ferrule.frontend.onnx.table import Context, onnx
from ferrule.ir.expr import ONE, ZERO, Expr
from ferrule.ir.graph import GraphBuilder, Value

Activation = Callable[[GraphBuilder, Value], Value]
State = tuple[Value, ...]


def _activations(cx: Context, default: tuple[str, ...], directions: int) -> list[Activation]:
    """The activation functions of all directions, with their parameters."""
    names = cx.texts("activations", default * directions)
    alphas, betas = list(cx.floats("activation_alpha", ())), list(cx.floats("activation_beta", ()))
    out: list[Activation] = []
    for name in names:
        kind = name.lower()
        a, b = _DEFAULTS.get(kind, (None, None))
        alpha = alphas.pop(0) if a is not None and alphas else a
        beta = betas.pop(0) if b is not None and betas else b
        out.append(_activation(kind, alpha or 0.0, beta or 0.0))
    return out


_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "affine": (1.0, 0.0), "leakyrelu": (0.01, None), "thresholdedrelu": (1.0, None),
    "scaledtanh": (1.0, 1.0), "hardsigmoid": (0.2, 0.5), "elu": (1.0, None),
}  # fmt: skip


def _activation(kind: str, alpha: float, beta: float) -> Activation:
    plain: dict[str, Activation] = {
        "tanh": ops.tanh, "relu": ops.relu, "sigmoid": ops.sigmoid, "softsign": ops.softsign,
        "softplus": lambda b, x: ops.softplus(b, x, threshold=80.0),
        "leakyrelu": lambda b, x: ops.leaky_relu(b, x, alpha),
        "elu": lambda b, x: ops.elu(b, x, alpha),
        "affine": lambda b, x: ops.add(b, ops.mul(b, x, alpha), beta),
        "scaledtanh": lambda b, x: ops.mul(b, ops.tanh(b, ops.mul(b, x, beta)), alpha),
        "thresholdedrelu": lambda b, x: ops.select(b, ops.ge(b, x, alpha), x, 0),
        "hardsigmoid": lambda b, x: ops.clamp(b, ops.add(b, ops.mul(b, x, alpha), beta), 0, 1),
    }  # fmt: skip
    if kind not in plain:
        raise UnsupportedError(f"the activation {kind!r} is not known")
    return plain[kind]


class Weights(Protocol):
    """The weights of inputs or of the state, for all gates."""

    def product(self, b: GraphBuilder, x: Value) -> Value:
        """The products with the last axis of x: [.., gates * size]."""


@dataclass(frozen=True)
class FloatWeights:
    """Weights [gates * size, ..] as they are."""

    value: Value

    def product(self, b: GraphBuilder, x: Value) -> Value:
        return ops.dot_general(b, x, self.value, contract=((x.rank - 1,), (1,)))


def directions(w: Value) -> range:
    """The numbers of the directions that weights are for, along their first axis."""
    if not w.shape[0].is_const:
        raise UnsupportedError(f"weights {w.type} of a number of directions that is not known")
    return range(int(w.shape[0].value))


def _floats(cx: Context, w: Value) -> list[FloatWeights]:
    """The weights of each direction."""
    return [FloatWeights(ops.select_index(cx.b, w, 0, d)) for d in directions(w)]


@dataclass(frozen=True)
class Cell:
    """One direction of a layer: `x` is [steps, batch, inputs], `w` and `r` the weights of inputs
    and state, `wb` and `rb` their biases.
    """

    x: Value
    w: Weights
    r: Weights
    wb: Value | None
    rb: Value | None
    size: int
    clip: float
    act: list[Activation]

    def inputs(self, b: GraphBuilder) -> Value:
        """The inputs' part of all gates at all steps: [steps, batch, gates * size]."""
        out = self.w.product(b, self.x)
        return out if self.wb is None else ops.add(b, out, self.wb)

    def gates(self, b: GraphBuilder, given: Value, h: Value, recurrent: bool = True) -> list[Value]:
        """given + h * r, apart by gate."""
        total = ops.add(b, given, self.recurrent(b, h)) if recurrent else given
        count = int(total.shape[-1].value) // self.size
        return list(ops.split(b, total, (self.size,) * count, total.rank - 1))

    def recurrent(self, b: GraphBuilder, h: Value) -> Value:
        """The state's part of all gates."""
        out = self.r.product(b, h)
        return out if self.rb is None else ops.add(b, out, self.rb)

    def clipped(self, b: GraphBuilder, x: Value) -> Value:
        """x in [-clip, clip], if there is one."""
        return ops.clamp(b, x, -self.clip, self.clip) if self.clip else x


_TURNS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

Step = Callable[[GraphBuilder, Cell, Value, State], State]


def _layer(
    cx: Context, x: Value, w: Sequence[Weights], r: Sequence[Weights], size: int,
    bias: Value | None, lengths: Value | None, states: list[Value | None], gates: int,
    default: tuple[str, ...], step_of: Callable[..., Step],
) -> tuple[Value, list[Value]]:  # fmt: skip
    """(all steps' results [steps, directions, batch, size], each state at the end); `w` and `r` are
    the weights of each direction.
    """
    b = cx.b
    if cx.int("layout", 0):
        x = ops.transpose(b, x, (1, 0, 2))
        states = [None if s is None else ops.transpose(b, s, (1, 0, 2)) for s in states]
    kind = cx.text("direction", "forward").lower()
    turns = _TURNS.get(kind)
    if turns is None:
        raise InputError(f"a direction is forward, reverse or bidirectional, not {kind!r}")
    if len(turns) != len(w) or len(turns) != len(r):
        raise CompileError(f"weights of {len(w)} and {len(r)} directions of a layer that is {kind}")
    acts = _activations(cx, default, len(turns))
    each = len(acts) // len(turns)
    rows, ends = [], []
    for d, turned in enumerate(turns):
        wb, rb = (None, None) if bias is None else _biases(cx, bias, d, gates * size)
        cell = Cell(
            x, w[d], r[d], wb, rb, size, cx.float("clip", 0.0), acts[d * each : (d + 1) * each],
        )  # fmt: skip
        zero = ops.full(b, (x.shape[1], size), 0, x.dtype)
        state = tuple(zero if s is None else ops.select_index(b, s, 0, d) for s in states)
        y, end = _run(cx, cell, state, lengths, turned, step_of(d))
        rows.append(y)
        ends.append(end)
    y = ops.stack(b, rows, 1)
    last = [ops.stack(b, column, 0) for column in zip(*ends)]
    if cx.int("layout", 0):
        y = ops.transpose(b, y, (2, 0, 1, 3))
        last = [ops.transpose(b, v, (1, 0, 2)) for v in last]
    return y, last


def hidden_size(cx: Context, r: Value, gates: int, state: int = 2) -> int:
    """The size of the state, which recurrent weights have along the axis `state`, and the number of
    gates as many times along the other.
    """
    known = r.shape[state]
    size = cx.int("hidden_size", int(known.value) if known.is_const else None)
    wide = r.shape[3 - state]
    if wide.is_const and wide.value != gates * size:
        raise CompileError(f"recurrent weights {r.type} do not fit a state of {size}")
    return size


def _biases(cx: Context, bias: Value, d: int, width: int) -> tuple[Value, Value]:
    own = ops.select_index(cx.b, bias, 0, d)
    one, other = ops.split(cx.b, own, (width, width), 0)
    return one, other


def _run(
    cx: Context, cell: Cell, state: State, lengths: Value | None, turned: bool, step: Step
) -> tuple[Value, State]:
    """All steps of one direction. Beyond a row's length its state stays and its result is 0; a row
    of length 0 leaves the state 0, as in ONNX Runtime.
    """
    b, count = cx.b, cell.x.shape[0]
    if count is ZERO:
        return ops.full(b, (0, *state[0].shape), 0, state[0].dtype), state
    rows = (cell.inputs(b), *(() if lengths is None else (_alive(b, lengths, count),)))

    def body(b: GraphBuilder, old: State, row: State) -> tuple[State, State]:
        new = step(b, cell, row[0], old)
        if lengths is None:
            return new, ()
        kept = tuple(ops.select(b, row[1], n, s) for n, s in zip(new, old))
        return kept, (ops.select(b, row[1], new[0], 0),)

    if count is ONE:
        end, out = body(b, state, tuple(ops.select_index(b, v, 0, 0) for v in rows))
        return ops.unsqueeze(b, (*out, end[0])[0], 0), _lasting(b, end, lengths)
    made = ops.loop(b, body, count, state, rows, turned)
    last = ZERO if turned else count - ONE
    end = tuple(ops.select_index(b, v, 0, last) for v in made[: len(state)])
    return made[0 if lengths is None else -1], _lasting(b, end, lengths)


def _lasting(b: GraphBuilder, end: State, lengths: Value | None) -> State:
    """The states at the end, 0 in rows that have no step."""
    if lengths is None:
        return end
    some = ops.unsqueeze(b, ops.gt(b, lengths, 0), 1)
    return tuple(ops.select(b, some, s, 0) for s in end)


def _alive(b: GraphBuilder, lengths: Value, count: Expr) -> Value:
    """For each step and row of the batch, whether the row goes on: [steps, batch, 1]."""
    numbers = ops.iota(b, (count, ONE, ONE), 0)
    return ops.gt(b, ops.unsqueeze(b, ops.cast(b, lengths, i64), 1), numbers)


# ---- the three layers ----------------------------------------------------------------------------


@onnx("RNN")
def _rnn(
    cx: Context, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, h: Value | None = None,
) -> Any:  # fmt: skip
    def step(b: GraphBuilder, c: Cell, given: Value, state: State) -> State:
        (total,) = c.gates(b, given, state[0])
        return (c.act[0](b, c.clipped(b, total)),)

    size, weights = hidden_size(cx, r, 1), (_floats(cx, w), _floats(cx, r))
    y, (end,) = _layer(cx, x, *weights, size, bias, lengths, [h], 1, ("Tanh",), lambda d: step)
    return y, end


@onnx("GRU")
def _gru(
    cx: Context, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, h: Value | None = None,
) -> Any:  # fmt: skip
    late = bool(cx.int("linear_before_reset", 0))

    def step(b: GraphBuilder, c: Cell, given: Value, state: State) -> State:
        (old,), n = state, c.size
        f, g = c.act
        zi, ri, hi = c.gates(b, given, old, False)
        own = c.recurrent(b, old)
        zr, rr, hr = ops.split(b, own, (n, n, n), 1)
        z = f(b, c.clipped(b, ops.add(b, zi, zr)))
        reset = f(b, c.clipped(b, ops.add(b, ri, rr)))
        if late:
            inner = ops.mul(b, reset, hr)
        else:
            assert isinstance(c.r, FloatWeights)
            weights = FloatWeights(ops.slice_axis(b, c.r.value, 0, 2 * n, 3 * n))
            inner = weights.product(b, ops.mul(b, reset, old))
            if c.rb is not None:
                inner = ops.add(b, inner, ops.slice_axis(b, c.rb, 0, 2 * n, 3 * n))
        new = g(b, c.clipped(b, ops.add(b, hi, inner)))
        keep = ops.mul(b, z, old)
        fresh = ops.mul(b, ops.sub(b, ops.full(b, (), 1, z.dtype), z), new)
        return (ops.add(b, fresh, keep),)

    acts = ("Sigmoid", "Tanh")
    size, weights = hidden_size(cx, r, 3), (_floats(cx, w), _floats(cx, r))
    y, (end,) = _layer(cx, x, *weights, size, bias, lengths, [h], 3, acts, lambda d: step)
    return y, end


@onnx("LSTM")
def _lstm(
    cx: Context, x: Value, w: Value, r: Value, bias: Value | None = None,
    lengths: Value | None = None, h: Value | None = None, c0: Value | None = None,
    peep: Value | None = None,
) -> Any:  # fmt: skip
    size = hidden_size(cx, r, 4)
    return lstm(cx, x, _floats(cx, w), _floats(cx, r), size, bias, lengths, h, c0, peep)


def lstm(
    cx: Context, x: Value, w: Sequence[Weights], r: Sequence[Weights], size: int,
    bias: Value | None, lengths: Value | None, h: Value | None, c0: Value | None,
    peep: Value | None,
) -> tuple[Value, Value, Value]:  # fmt: skip
    """An LSTM with weights of each direction: (all results, h and c at the end)."""
    coupled = bool(cx.int("input_forget", 0))

    def step_of(d: int) -> Step:
        looks = None if peep is None else ops.select_index(cx.b, peep, 0, d)
        return lambda b, c, given, state: _lstm_step(b, c, given, state, looks, coupled)

    acts = ("Sigmoid", "Tanh", "Tanh")
    states = [h, c0]
    y, (end, memory) = _layer(cx, x, w, r, size, bias, lengths, states, 4, acts, step_of)
    return y, end, memory


def _lstm_step(
    b: GraphBuilder, c: Cell, given: Value, state: State, looks: Value | None, coupled: bool
) -> State:
    """(h, c) after one step; `looks` are the peepholes of the gates i, o and f."""
    old, memory = state
    f, g, out = c.act
    i, o, forget, new = c.gates(b, given, old)
    holes = [None] * 3 if looks is None else list(ops.split(b, looks, (c.size,) * 3, 0))

    def seen(x: Value, hole: Value | None, m: Value) -> Value:
        return x if hole is None else ops.add(b, x, ops.mul(b, hole, m))

    i = f(b, c.clipped(b, seen(i, holes[0], memory)))
    if coupled:
        forget = ops.sub(b, ops.full(b, (), 1, i.dtype), i)
    else:
        forget = f(b, c.clipped(b, seen(forget, holes[2], memory)))
    new = g(b, c.clipped(b, new))
    memory = ops.add(b, ops.mul(b, forget, memory), ops.mul(b, i, new))
    o = f(b, c.clipped(b, seen(o, holes[1], memory)))
    return ops.mul(b, o, out(b, memory)), memory
