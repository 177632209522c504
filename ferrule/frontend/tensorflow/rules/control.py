"""Calls and branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ferrule import ops
from ferrule.frontend.tensorflow.rules.elements import truth
from ferrule.frontend.tensorflow.table import Context, flat, like, rule, tensor_of
from ferrule.ir.graph import GraphBuilder, Value


@rule("PartitionedCall", "StatefulPartitionedCall")
def _call(cx: Context, *xs: Any) -> Any:
    return cx.call(cx.attr("f").name, cx.b, xs)


@rule("NoOp")
def _nothing(cx: Context) -> Any:
    return ()


@rule("If", "StatelessIf")
def _if(cx: Context, flag: Any, *xs: Any) -> Any:
    names = [cx.attr(n).name for n in ("then_branch", "else_branch")]
    known = cx.known(flag)
    if known is not None and known.size == 1:
        return cx.call(names[0 if known.item() else 1], cx.b, xs)
    given = truth(cx.b, tensor_of(flag))
    return _branches(cx, names, xs, lambda blocks: ops.cond(cx.b, given, *blocks))


@rule("Case", "StatelessCase")
def _case(cx: Context, index: Any, *xs: Any) -> Any:
    names = [f.name for f in cx.attr("branches")]
    known = cx.known(index)
    if known is not None and isinstance(known.item(), int):
        place = known.item()
        return cx.call(names[place if 0 <= place < len(names) else -1], cx.b, xs)
    return _branches(cx, names, xs, lambda blocks: ops.case(cx.b, tensor_of(index), blocks))


def _branches(
    cx: Context, names: Sequence[str], xs: Sequence[Any],
    choose: Callable[[Sequence[Any]], Sequence[Value]],
) -> Any:  # fmt: skip
    """What one of several functions returns for the same operands."""
    kinds: list[tuple[Any, ...]] = []

    def block(name: str) -> Any:
        def build(b: GraphBuilder) -> Sequence[Value]:
            found = cx.call(name, b, xs)
            kinds.append(found)
            return flat(found)

        return build

    out = choose([block(name) for name in names])
    return like(kinds[0], out)
