"""Control flow that the program can't hold (`loop`): If, Loop, Scan and SequenceMap, whose bodies
are compiled and whose steps are not.

Each gets the Runner of the graph around it, the node, its operands and the run's values. A body
is compiled once for each combination of shapes that it meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.base.errors import InputError
from ferrule.frontend.onnx.model import Array, Body, Op
from ferrule.frontend.onnx.run import CONTROL, Runner
from ferrule.frontend.onnx.table import Attributes

Values = list[Any]


def _inner(runner: Runner, body: Body, args: Sequence[Any], env: Mapping[str, Any]) -> Values:
    """The results of a body on `args`."""
    names = [p.name for p in body.inputs]
    given = {**runner.captured(body, env), **dict(zip(names, args))}
    return runner.child(body).results(given)


def _if(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    branch = "then_branch" if bool(np.asarray(args[0]).reshape(-1)[0]) else "else_branch"
    return tuple(_inner(runner, op.body(branch), (), env))


def _loop(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    body = op.body("body")
    limit = None if args[0] is None else int(np.asarray(args[0]).reshape(-1)[0])
    go = len(args) < 2 or args[1] is None or bool(np.asarray(args[1]).reshape(-1)[0])
    state = list(args[2:])
    rows: list[Values] = [[] for _ in range(len(body.outputs) - 1 - len(state))]
    i = 0
    while go and (limit is None or i < limit):
        results = _inner(runner, body, (np.array(i, np.int64), np.array(go), *state), env)
        go, state = bool(np.asarray(results[0]).reshape(-1)[0]), results[1 : 1 + len(state)]
        for row, x in zip(rows, results[1 + len(state) :]):
            row.append(x)
        i += 1
    ports = body.outputs[1 + len(state) :]
    return (*state, *(_stacked(row, p) for row, p in zip(rows, ports)))


def _stacked(rows: Values, port: Any) -> Any:
    if rows:
        return np.stack(rows)
    shape = [s if isinstance(s, int) else 0 for s in port.shape or ()]
    return np.zeros((0, *shape), port.dtype or np.float32)


def _scan(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    a, body = Attributes(op), op.body("body")
    if op.version < 9:
        return _scan_batched(runner, op, args, env)
    n = a.int("num_scan_inputs")
    k = len(args) - n
    axes = _scan_axes(a, "scan_input_axes", args[k:])
    turned = a.ints("scan_input_directions", (0,) * n)
    xs = [np.moveaxis(x, d, 0) for x, d in zip(args[k:], axes)]
    xs = [x[::-1] if t else x for x, t in zip(xs, turned)]
    state, rows = _scanned(runner, body, list(args[:k]), xs, env)
    out_turned = a.ints("scan_output_directions", (0,) * len(rows))
    out_axes = a.ints("scan_output_axes", (0,) * len(rows))
    outs = [r[::-1] if t else r for r, t in zip(rows, out_turned)]
    return (*state, *(np.moveaxis(r, 0, d) for r, d in zip(outs, out_axes)))


def _scan_axes(a: Attributes, name: str, xs: Sequence[Array]) -> tuple[int, ...]:
    return a.ints(name, (0,) * len(xs))


def _scanned(
    runner: Runner, body: Body, state: Values, xs: Sequence[Array], env: Mapping[str, Any]
) -> tuple[Values, list[Array]]:
    """The last state, and each further result stacked along a new first axis."""
    steps = {x.shape[0] for x in xs}
    if len(steps) != 1:
        raise InputError(f"the scanned inputs have different lengths: {sorted(steps)}")
    k = len(state)
    rows: list[Values] = [[] for _ in body.outputs[k:]]
    for i in range(steps.pop()):
        results = _inner(runner, body, (*state, *(np.asarray(x[i]) for x in xs)), env)
        state = results[:k]
        for row, x in zip(rows, results[k:]):
            row.append(x)
    return state, [_stacked(r, p) for r, p in zip(rows, body.outputs[k:])]


def _scan_batched(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    """Scan of version 8: a leading batch dim, and optional lengths in the first operand."""
    a, body = Attributes(op), op.body("body")
    lengths, args = args[0], args[1:]
    n = a.int("num_scan_inputs")
    k = len(args) - n
    turned = a.ints("directions", (0,) * n)
    each: list[Values] = []
    for b in range(args[k].shape[0]):
        stop = args[k].shape[1] if lengths is None else int(lengths[b])
        xs = [x[b, :stop] for x in args[k:]]
        xs = [x[::-1] if t else x for x, t in zip(xs, turned)]
        state, rows = _scanned(runner, body, [x[b] for x in args[:k]], xs, env)
        full = [np.pad(r, [(0, args[k].shape[1] - stop)] + [(0, 0)] * (r.ndim - 1)) for r in rows]
        each.append([*state, *full])
    return tuple(np.stack(column) for column in zip(*each))


def _sequence_map(runner: Runner, op: Op, args: Values, env: Mapping[str, Any]) -> tuple[Any, ...]:
    body = op.body("body")
    columns: list[Values] = [[] for _ in body.outputs]
    for i in range(len(args[0])):
        given = [x[i] if isinstance(x, list) else x for x in args]
        for column, x in zip(columns, _inner(runner, body, given, env)):
            column.append(x)
    return tuple(columns)


CONTROL.update({"If": _if, "Loop": _loop, "Scan": _scan, "SequenceMap": _sequence_map})
