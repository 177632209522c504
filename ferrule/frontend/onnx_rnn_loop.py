"""Recurrent layers over long or unknown numbers of steps: chunks of a fixed number of steps, one
after another, each compiled once.

The last chunk is filled up, and sequence lengths say that what fills it is not there: it leaves the
state as it is. So one program serves every number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx_model import Array, Body, Op, Port
from ferrule.frontend.onnx_run import CONTROL, Runner
from ferrule.frontend.onnx_table import Attributes, host

CHUNK = 16
_WEIGHTS = {"RNN": (1, 2, 3), "GRU": (1, 2, 3), "LSTM": (1, 2, 3, 7)}
_STATES = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}

Values = list[Any]


@host("RNN", "GRU", "LSTM", folds=False)
def _elsewhere(a: Attributes, *xs: Any) -> Any:
    """Says that these run without compiled code around them; CONTROL has how."""
    raise UnsupportedError("recurrent layers run by chunks")


def _layer(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    a = Attributes(op)
    args = args + [None] * (8 - len(args))
    batch_first = bool(a.int("layout", 0))
    x = np.swapaxes(args[0], 0, 1) if batch_first else args[0]
    steps, batch = x.shape[:2]
    lengths = np.full(batch, steps) if args[4] is None else args[4].astype(np.int64)
    kind = a.text("direction", "forward").lower()
    turns = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[kind]
    ys, ends = [], []
    for d, turned in enumerate(turns):
        body = runner.derived((id(op), d), partial(_chunk, op, d, len(turns), turned))
        state = [_start(args[i], d, batch_first, (batch, _size(args[2]))) for i in _STATES[op.type]]
        given = runner.captured(body, env)
        y, end = _chunks(runner.child(body), given, x, lengths, state, turned)
        ys.append(y)
        ends.append(end)
    y = np.stack(ys, 1)
    last = [np.stack(column) for column in zip(*ends)]
    if batch_first:
        y, last = np.moveaxis(y, 2, 0), [np.swapaxes(s, 0, 1) for s in last]
    return (y, *last)


def _size(r: Array) -> int:
    return int(r.shape[2])


def _start(given: Array | None, d: int, batch_first: bool, shape: tuple[int, int]) -> Array:
    """The state of a direction before the first step."""
    if given is None:
        return np.zeros(shape, np.float32)
    return np.asarray(given[:, d] if batch_first else given[d])


def _chunks(
    runner: Runner, given: Mapping[str, Any], x: Array, lengths: Array, state: Values,
    turned: bool,
) -> tuple[Array, Values]:  # fmt: skip
    """All steps of one direction, and its last state."""
    steps = x.shape[0]
    rows = []
    state = [s.astype(x.dtype) for s in state]
    starts = range(0, steps, CHUNK)
    for t in reversed(starts) if turned else starts:
        part = x[t : t + CHUNK]
        missing = CHUNK - len(part)
        if missing:
            part = np.concatenate([part, np.zeros((missing, *x.shape[1:]), x.dtype)])
        alive = np.clip(lengths - t, 0, CHUNK).astype(np.int32)
        feed = {"x": part, "alive": alive, **{f"s{i}": s[None] for i, s in enumerate(state)}}
        y, *last = runner.results({**given, **feed})
        state = [s[0] for s in last]
        rows.append(y[: CHUNK - missing, 0])
    if not rows:
        return np.zeros((0, *state[0].shape), x.dtype), state
    return np.concatenate(rows[::-1] if turned else rows), state


def _chunk(op: Op, d: int, directions: int, turned: bool) -> Body:
    """The layer's direction `d` on one chunk, as a body that captures the weights."""
    a = Attributes(op)
    if directions > 1 and (a.has("activation_alpha") or a.has("activation_beta")):
        raise UnsupportedError("a long bidirectional layer with parameters of activations")
    attrs = {k: v for k, v in op.attrs.items() if k not in ("layout", "direction", "activations")}
    attrs["direction"] = "reverse" if turned else "forward"
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
    names_in[0], names_in[4] = "x", "alive"
    for k, i in enumerate(states):
        names_in[i] = f"s{k}"
    while not names_in[-1]:
        names_in.pop()
    results = ("y", *(f"end{k}" for k in range(len(states))))
    ops.append(Op(op.type, "", op.version, tuple(names_in), results, attrs, op.name))
    inputs = ("x", "alive", *(f"s{k}" for k in range(len(states))))
    captures = tuple(n for o in ops[:-1] for n in o.inputs[:1])
    return Body(
        f"{op.type}_chunk", tuple(map(Port, inputs)), tuple(map(Port, results)), constants,
        tuple(ops), captures,
    )  # fmt: skip


CONTROL.update(dict.fromkeys(_STATES, _layer))
