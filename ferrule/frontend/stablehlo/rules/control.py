"""Calls, loops and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import u32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.module import Constant
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


@rule("stablehlo.partition_id", "stablehlo.replica_id")
def _only_one(cx: Context) -> Value:
    return ops.full(cx.b, (), 0, u32)


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


@rule("chlo.scan")
def _scan(cx: Context, *operands: Any) -> Any:
    """A loop over rows along one dim, whose body gives a row of each output, then the states."""
    count = cx.attr("operandSegmentSizes")[0]
    d, reverse = cx.attr("dimension"), cx.attr("is_reverse")
    xs, inits = operands[:count], operands[count:]
    rows = [ops.transpose(cx.b, v, (d, *(k for k in range(v.rank) if k != d))) for v in flat(xs)]
    made: list[Any] = []

    def body(b: GraphBuilder, states: Any, row: Any) -> Any:
        given = (*like(xs, row), *like(inits, states))
        found = cx.run(cx.op.regions[0], b, given)
        results = found[: len(found) - len(inits)]
        made[:] = [results]
        return flat(found[len(results) :]), flat(results)

    out = ops.loop(cx.b, body, rows[0].shape[0], flat(inits), rows, reverse)
    n = len(flat(inits))
    last = [ops.select_index(cx.b, v, 0, 0 if reverse else v.shape[0] - 1) for v in out[:n]]
    back = [ops.transpose(cx.b, v, (*range(1, d + 1), 0, *range(d + 1, v.rank))) for v in out[n:]]
    return (*like(made[0], back), *like(inits, last))


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
    sizes = cx.op.attributes.get("indices_of_shape_operands")  # of results, which rules find alone
    left = sizes.values.tolist() if isinstance(sizes, Constant) else ()
    return build(cx, *(x for k, x in enumerate(xs) if k not in left))


CUSTOM_CALLS: dict[str, Any] = {
    # what only tells a compiler how to lay values out over devices
    "Sharding": lambda cx, x: x,
    "SPMDFullToShardShape": lambda cx, x: x,
    "SPMDShardToFullShape": lambda cx, x: x,
    "xla.sdy.FuncResultSharding": lambda cx, x: x,
    "annotate_device_placement": lambda cx, x: x,
    "shape_assertion": lambda cx, *xs: (),
    "dce_sink": lambda cx, *xs: (),  # which only keeps what it is given from being left out
}
