"""Branches and loops: PyTorch's higher-order operators, whose bodies are graphs of their own.

A rule gets a body as a function of a builder and operands, which gives the body's results in that
builder's graph. What a body can't be converted for is its operator's: that one runs in PyTorch then
and calls its bodies (`bodies`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import boolean
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import HIGHER, Context
from ferrule.ir.graph import GraphBuilder, Value

Values = Sequence[Value]
Body = Callable[[GraphBuilder, Sequence[Any]], list[Value]]


def _cond(cx: Context, flag: Any, then: Body, otherwise: Body, operands: Sequence[Any] = ()) -> Any:
    """`then(operands)` where `flag` is true, else `otherwise(operands)`."""
    return ops.cond(
        cx.b, _truth(cx.b, flag), lambda b: then(b, operands), lambda b: otherwise(b, operands)
    )


def _while_loop(
    cx: Context, goes: Body, body: Body, states: Sequence[Any], others: Sequence[Any] = ()
) -> Any:
    """The first states for which `goes` gives false; `others` are the same at each step."""

    def condition(b: GraphBuilder, now: Values) -> Value:
        (flag,) = goes(b, (*now, *others))
        return _truth(b, flag)

    def step(b: GraphBuilder, now: Values) -> Values:
        return body(b, (*now, *others))

    return ops.while_loop(cx.b, condition, step, _tensors(states))


def _scan(
    cx: Context, body: Body, first: Sequence[Any], rows: Sequence[Any], others: Sequence[Any] = ()
) -> Any:
    """The states behind the last row, then the further results, with a row for each step."""
    first, rows = _tensors(first), _tensors(rows)
    count = len(first)

    def step(b: GraphBuilder, states: Values, row: Values) -> tuple[Values, Values]:
        found = body(b, (*states, *row, *others))
        return found[:count], found[count:]

    if not rows or not rows[0].rank:
        raise UnsupportedError("it goes over no rows")
    return ops.loop(cx.b, step, rows[0].shape[0], first, rows, last=(True,) * count)


def _map(cx: Context, body: Body, rows: Sequence[Any], others: Sequence[Any] = ()) -> Any:
    """What the body gives for each row."""
    return _scan(cx, body, (), rows, others)


def _truth(b: GraphBuilder, flag: Any) -> Value:
    if not isinstance(flag, Value):
        raise UnsupportedError(f"its condition {flag} is no tensor")
    return ops.cast(b, ops.reshape(b, flag, ()), boolean)


def _tensors(xs: Sequence[Any]) -> tuple[Value, ...]:
    if not all(isinstance(x, Value) for x in xs):
        raise UnsupportedError("one of its states is a number, and no tensor")
    return tuple(xs)


HIGHER.update({"cond": _cond, "while_loop": _while_loop, "scan": _scan, "map_impl": _map})
