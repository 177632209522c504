"""Calls, loops and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.table import Complex, Context, Token, Tuple, rule
from ferrule.ir.graph import GraphBuilder, Value


@rule("func.call")
def _call(cx: Context, *xs: Any) -> Any:
    return cx.call(cx.attr("callee"), cx.b, xs)


@rule("stablehlo.composite")
def _composite(cx: Context, *xs: Any) -> Any:
    return cx.call(cx.attr("decomposition"), cx.b, xs)


def flat(vals: Sequence[Any]) -> tuple[Value, ...]:
    """The tensors that values consist of."""
    out: list[Value] = []
    for v in vals:
        if isinstance(v, Value):
            out.append(v)
        elif isinstance(v, Complex):
            out += (v.real, v.imag)
        elif isinstance(v, Tuple):
            out += flat(v.items)
    return tuple(out)


def like(vals: Sequence[Any], tensors: Sequence[Value]) -> tuple[Any, ...]:
    """Values of the same kinds as `vals`, which consist of these tensors."""
    rest = iter(tensors)

    def again(v: Any) -> Any:
        if isinstance(v, Complex):
            return Complex(next(rest), next(rest))
        if isinstance(v, Tuple):
            return Tuple(tuple(map(again, v.items)))
        return v if isinstance(v, Token) else next(rest)

    return tuple(map(again, vals))


@rule("stablehlo.while")
def _while(cx: Context, *xs: Any) -> Any:
    condition, body = cx.op.regions

    def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
        (flag,) = cx.run(condition, b, like(xs, states))
        assert isinstance(flag, Value)
        return flag

    def step(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
        return flat(cx.run(body, b, like(xs, states)))

    return like(xs, ops.while_loop(cx.b, goes, step, flat(xs)))


@rule("stablehlo.case")
def _case(cx: Context, index: Value) -> Any:
    return _branches(cx, lambda blocks: ops.case(cx.b, index, blocks))


@rule("stablehlo.if")
def _if(cx: Context, flag: Value) -> Any:
    return _branches(cx, lambda blocks: ops.cond(cx.b, flag, *blocks))


def _branches(cx: Context, choose: Any) -> Any:
    kinds: list[tuple[Any, ...]] = []

    def block(region: Any) -> Any:
        def build(b: GraphBuilder) -> Sequence[Value]:
            found = cx.run(region, b, ())
            kinds.append(found)
            return flat(found)

        return build

    out = choose([block(r) for r in cx.op.regions])
    return like(kinds[0], out)


@rule("stablehlo.custom_call")
def _custom_call(cx: Context, *xs: Any) -> Any:
    target = cx.attr("call_target_name")
    build = CUSTOM_CALLS.get(target)
    if build is None:
        raise UnsupportedError(f"the custom call @{target} is not supported")
    return build(cx, *xs)


CUSTOM_CALLS: dict[str, Any] = {
    # what only tells a compiler how to lay values out over devices
    "Sharding": lambda cx, x: x,
    "SPMDFullToShardShape": lambda cx, x: x,
    "SPMDShardToFullShape": lambda cx, x: x,
    "xla.sdy.FuncResultSharding": lambda cx, x: x,
    "annotate_device_placement": lambda cx, x: x,
    "shape_assertion": lambda cx, *xs: (),
}
