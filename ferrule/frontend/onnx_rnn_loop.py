"""Recurrent layers over long or unknown numbers of steps: chunks of a fixed number of steps, one
after another, each compiled once.

Chunks are of 16 steps, then of 8, 4, 2 and 1 for those that are left, so that five programs serve
every number of steps. Where sequences have lengths of their own, these say within a chunk which
rows go on: the others keep their state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx_attention import INNER
from ferrule.frontend.onnx_model import Array, Body, Op, Port
from ferrule.frontend.onnx_run import CONTROL, RESULTS, Runner
from ferrule.frontend.onnx_table import Attributes, host
from ferrule.ir.expr import const
from ferrule.ir.graph import TensorType

CHUNK = 16
_WEIGHTS = {"RNN": (1, 2, 3), "GRU": (1, 2, 3), "LSTM": (1, 2, 3, 7)}
_STATES = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}
_TURNS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

Values = list[Any]


@host("RNN", "GRU", "LSTM", folds=False)
def _elsewhere(a: Attributes, *xs: Any) -> Any:
    """Says that these run without compiled code around them; CONTROL has how."""
    raise UnsupportedError("recurrent layers run by chunks")


@host("LstmWeights", domain=INNER, large=True)
def _weights(a: Attributes, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """Quantised weights [directions, inputs, gates] as f32 in the order of LSTM's own; scale and
    zero point are one a direction, or one for each gate of it.
    """
    factor = scale.reshape(len(x), 1, -1)
    low = None if zero is None else zero.reshape(len(x), 1, -1)
    wide = x.astype(np.float32) if low is None else x.astype(np.float32) - low
    return np.ascontiguousarray(np.swapaxes(wide * factor, 1, 2).astype(np.float32))


def _turns(a: Attributes) -> tuple[bool, ...]:
    """For each direction, whether it goes from the last step to the first."""
    kind = a.text("direction", "forward").lower()
    if kind not in _TURNS:
        raise InputError(f"a direction is forward, reverse or bidirectional, not {kind!r}")
    return _TURNS[kind]


def _layer(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    a = Attributes(op)
    args = args + [None] * (8 - len(args))
    batch_first = bool(a.int("layout", 0))
    x = np.swapaxes(args[0], 0, 1) if batch_first else args[0]
    lengths = None if args[4] is None else args[4].astype(np.int64)
    shape = (x.shape[1], _size(args[2]))
    ys, ends = [], []
    for d in range(len(_turns(a))):
        state = [_start(args[i], d, batch_first, shape, x.dtype) for i in _STATES[op.type]]
        y, end = _direction(runner, op, d, (x, lengths, state), env)
        ys.append(y)
        ends.append(end)
    y = np.stack(ys, 1)
    last = [np.stack(column) for column in zip(*ends)]
    if batch_first:
        y, last = np.moveaxis(y, 2, 0), [np.swapaxes(s, 0, 1) for s in last]
    return (y, *last)


def _results(
    op: Op, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> tuple[TensorType, ...]:
    """The types of a layer's results. KeyError where those of its operands are not known."""
    a = Attributes(op)
    x, directions = types[op.inputs[0]], const(len(_turns(a)))
    r = constants[op.inputs[2]].shape if op.inputs[2] in constants else types[op.inputs[2]].shape
    size = const(r[2]) if isinstance(r[2], int) else r[2]
    if a.int("layout", 0):
        batch, steps = x.shape[:2]
        shapes = (batch, steps, directions, size), (batch, directions, size)
    else:
        steps, batch = x.shape[:2]
        shapes = (steps, directions, batch, size), (directions, batch, size)
    state = TensorType(shapes[1], x.dtype)
    return (TensorType(shapes[0], x.dtype), *[state] * len(_STATES[op.type]))


def _size(r: Array) -> int:
    return int(r.shape[2])


def _start(
    given: Array | None, d: int, batch_first: bool, shape: tuple[int, int], dtype: Any
) -> Array:
    """The state of a direction before the first step."""
    if given is None:
        return np.zeros(shape, dtype)
    return np.asarray(given[:, d] if batch_first else given[d])


def _parts(steps: int) -> Iterator[tuple[int, int]]:
    """The first step and the number of steps of each chunk."""
    at = 0
    while at < steps:
        size = min(CHUNK, 1 << ((steps - at).bit_length() - 1))
        yield at, size
        at += size


def _direction(
    runner: Runner, op: Op, d: int, operands: tuple[Array, Array | None, Values],
    env: Mapping[str, Any],
) -> tuple[Array, Values]:  # fmt: skip
    """All steps of direction `d`, and its last states."""
    x, lengths, state = operands
    turns = _turns(Attributes(op))
    parts = list(_parts(x.shape[0]))
    rows: list[Array] = []
    for t, size in reversed(parts) if turns[d] else parts:
        body = runner.derived((id(op), d, size), partial(_chunk, op, d, turns, lengths is not None))
        feed = {"x": x[t : t + size], **{f"s{i}": s[None] for i, s in enumerate(state)}}
        if lengths is not None:
            feed["alive"] = np.clip(lengths - t, 0, size).astype(np.int32)
        y, *last = runner.child(body).results({**runner.captured(body, env), **feed})
        state = [s[0] for s in last]
        rows.append(y[:, 0])
    if not rows:
        return np.zeros((0, *state[0].shape), x.dtype), state
    return np.concatenate(rows[::-1] if turns[d] else rows), state


def _chunk(op: Op, d: int, turns: Sequence[bool], ragged: bool) -> Body:
    """The layer's direction `d` on one chunk, as a body that captures the weights."""
    a, directions = Attributes(op), len(turns)
    if directions > 1 and (a.has("activation_alpha") or a.has("activation_beta")):
        raise UnsupportedError("a long bidirectional layer with parameters of activations")
    attrs = {k: v for k, v in op.attrs.items() if k not in ("layout", "direction", "activations")}
    attrs["direction"] = "reverse" if turns[d] else "forward"
    if a.has("activations"):
        names = a.texts("activations")
        each = len(names) // directions
        attrs["activations"] = names[d * each : (d + 1) * each]
    names_in = [""] * 8
    ops: list[Op] = []
    constants = {"from": np.array([d]), "to": np.array([d + 1]), "first": np.array([0])}
    for i in _WEIGHTS[op.type]:
        if i < len(op.inputs) and op.inputs[i]:
            names_in[i] = f"part{i}"
            cut = (op.inputs[i], "from", "to", "first")
            ops.append(Op("Slice", "", 13, cut, (names_in[i],)))
    states = _STATES[op.type]
    names_in[0], names_in[4] = "x", "alive" if ragged else ""
    for k, i in enumerate(states):
        names_in[i] = f"s{k}"
    while not names_in[-1]:
        names_in.pop()
    results = ("y", *(f"end{k}" for k in range(len(states))))
    ops.append(Op(op.type, INNER, op.version, tuple(names_in), results, attrs, op.name))
    inputs = ("x", *(["alive"] if ragged else []), *(f"s{k}" for k in range(len(states))))
    captures = tuple(n for o in ops[:-1] for n in o.inputs[:1])
    return Body(
        f"{op.type}_chunk", tuple(map(Port, inputs)), tuple(map(Port, results)), constants,
        tuple(ops), captures,
    )  # fmt: skip


CONTROL.update(dict.fromkeys(_STATES, _layer))
RESULTS.update(dict.fromkeys(_STATES, _results))
