"""Loops: `While`, whose condition and body are functions of the program.

What the body leaves as it is is no state. A loop that counts to a number that sizes decide is an
`ops.loop`: lists that its body reads or writes at the place of the step become rows of it. Any
other is an `ops.while_loop`, with its lists as tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.known import plain
from ferrule.frontend.tensorflow.model import Function, Node
from ferrule.frontend.tensorflow.rules.elements import truth
from ferrule.frontend.tensorflow.rules.lists import blank
from ferrule.frontend.tensorflow.table import (
    Context,
    Made,
    Row,
    TensorList,
    as_known,
    flat,
    like,
    list_of,
    rule,
    tensor_of,
)
from ferrule.ir.expr import Expr, as_index, call
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify

_SAME = ("Identity", "StopGradient")
_SUMS = ("AddV2", "Add")
_ITEMS = ("TensorListGetItem", "TensorListSetItem")


@rule("While", "StatelessWhile")
def _while(cx: Context, *xs: Any) -> Any:
    condition, body = (cx.function(cx.attr(n).name) for n in ("cond", "body"))
    kept = {k for k, name in enumerate(body.results) if origin(body, name) == k}
    held = _settled(cx, body, xs, kept)
    given = _Loop(cx, condition, body, held, frozenset(kept))
    counted = given.counted()
    return given.while_loop() if counted is None else given.loop(*counted)


def origin(f: Function, name: str) -> int | Node:
    """What a value of a function is: an argument, or what a node makes of others."""
    for _ in range(len(f.nodes) + 1):
        stem = name.partition(":")[0]
        node = f.nodes.get(stem)
        if node is None:
            break
        if node.op not in _SAME:
            return node
        name = node.operands[0]
    if stem not in f.arguments:
        raise UnsupportedError(f"{f.name} has no value {name!r}")
    return f.arguments.index(stem)


def _settled(cx: Context, body: Function, xs: Sequence[Any], kept: set[int]) -> tuple[Any, ...]:
    """The first states, where the body tells the shapes of lists without tensors so far."""
    open_ = [k for k, x in enumerate(xs) if _is_blank(x) and k not in kept]
    if not open_:
        return tuple(xs)
    b = cx.b.inner("probe")
    b.stem = f"{b.stem}p"
    given = [x if k in kept or _is_blank(x) else _placeholder(b, x, k) for k, x in enumerate(xs)]
    after = cx.call(body.name, b, given)
    out = list(xs)
    for k in open_:
        found = after[k]
        if isinstance(found, TensorList) and found.tensor is not None:
            out[k] = replace(xs[k], shape=found.tensor.shape[1:])
    return tuple(out)


def _is_blank(x: Any) -> bool:
    return isinstance(x, TensorList) and x.tensor is None


def _placeholder(b: GraphBuilder, x: Any, k: int) -> Any:
    """A state of the type of `x`."""
    if isinstance(x, TensorList):
        return list_of(b.input(tensor_of(x.tensor).type, f"{b.stem}a{k}"))
    return b.input(x.type, f"{b.stem}a{k}") if isinstance(x, Value) else x


@dataclass(frozen=True, eq=False)
class _Loop:
    """A loop: its functions, its first states, and the places of those that stay as they are."""

    cx: Context
    condition: Function
    body: Function
    xs: tuple[Any, ...]
    kept: frozenset[int]

    # ---- as long as a condition holds ------------------------------------------------------------

    def while_loop(self) -> tuple[Any, ...]:
        cx, moving = self.cx, [k for k in range(len(self.xs)) if k not in self.kept]
        first = [_held(cx.b, self.xs[k]) for k in moving]

        def whole(states: Sequence[Value]) -> list[Any]:
            return self.merged(dict(zip(moving, like(first, states))))

        def goes(b: GraphBuilder, states: Sequence[Value]) -> Value:
            (flag,) = cx.call(self.condition.name, b, whole(states))
            return truth(b, tensor_of(flag))

        def step(b: GraphBuilder, states: Sequence[Value]) -> Sequence[Value]:
            after = cx.call(self.body.name, b, whole(states))
            return flat([after[k] for k in moving])

        out = ops.while_loop(cx.b, goes, step, flat(first))
        return tuple(self.merged(dict(zip(moving, like(first, out)))))

    def merged(self, instead: dict[int, Any]) -> list[Any]:
        """The states, with others in place of some."""
        return [instead.get(k, x) for k, x in enumerate(self.xs)]

    # ---- counted ---------------------------------------------------------------------------------

    def counted(self) -> tuple[Expr, dict[int, Any]] | None:
        """(how often the body runs, the numbers that counters begin with), where sizes say."""
        starts = {k: n for k in range(len(self.xs)) if (n := self.start(k)) is not None}
        (result,) = self.condition.results
        limits = list(self.limits(result, starts))
        if not limits or any(n is None for n in limits):
            return None
        count = limits[0]
        for n in limits[1:]:
            count = count if equal(count, n) else simplify(call("min", count, n))
        if not prove_nonneg(count):
            count = simplify(call("max", count, as_index(0)))
        return count, starts

    def start(self, k: int) -> Any:
        """What a state that grows by 1 each step begins with; None where it is no such, or where
        that is not known.
        """
        x, found = self.xs[k], origin(self.body, self.body.results[k])
        if k in self.kept or not isinstance(x, Value) or x.rank or not x.dtype.is_int:
            return None
        if not isinstance(found, Node) or found.op not in _SUMS:
            return None
        one, other = (origin(self.body, n) for n in found.operands)
        one, other = (one, other) if one == k else (other, one)
        numbers = self.cx.known(x)
        if one != k or self.fixed(other) != 1 or numbers is None:
            return None
        return numbers.item()

    def limits(self, name: str, starts: dict[int, Any]) -> Iterator[Any]:
        """For each counter that the condition compares how many steps are left; None for what else
        it asks.
        """
        found = origin(self.condition, name)
        if not isinstance(found, Node):
            yield None
        elif found.op == "LogicalAnd":
            for n in found.operands:
                yield from self.limits(n, starts)
        elif found.op in ("Less", "Greater"):
            low, high = found.operands if found.op == "Less" else found.operands[::-1]
            k = origin(self.condition, low)
            n = self.fixed(origin(self.condition, high))
            counts = isinstance(k, int) and k in starts and n is not None
            yield simplify(as_index(n) - as_index(starts[k])) if counts else None  # type: ignore[index]
        else:
            known = _constant(found)
            if known is not True:
                yield None

    def fixed(self, found: int | Node) -> Any:
        """A number of the condition or body that no step changes; None for another."""
        if isinstance(found, Node):
            return _constant(found)
        if found not in self.kept:
            return None
        numbers = self.cx.known(self.xs[found])
        return None if numbers is None or numbers.size != 1 else numbers.item()

    def loop(self, count: Expr, starts: dict[int, Any]) -> tuple[Any, ...]:
        """The loop of `count` steps."""
        cx, b = self.cx, self.cx.b
        reads = [k for k in self.kept if self.is_read(k, count, starts)]
        writes = [k for k in range(len(self.xs)) if self.is_written(k, count, starts)]
        apart = {*self.kept, *starts, *writes}
        moving = [k for k in range(len(self.xs)) if k not in apart]
        first = [_held(b, self.xs[k]) for k in moving]
        read = [k for k in starts if self.is_needed(k, {*reads, *writes})]
        counters = [ops.arange(b, starts[k], 1, count, self.xs[k].dtype) for k in read]
        lists = [tensor_of(self.xs[k].tensor) for k in reads]

        def step(inner: GraphBuilder, states: Any, rows: Any) -> Any:
            instead: dict[int, Any] = dict(zip(moving, like(first, states)))
            instead.update(zip(read, rows))
            instead.update((k, Row(v)) for k, v in zip(reads, rows[len(read) :]))
            instead.update((k, Made()) for k in writes)
            after = cx.call(self.body.name, inner, self.merged(instead))
            made = [after[k].value for k in writes]
            return flat([after[k] for k in moving]), made

        out = ops.loop(b, step, count, flat(first), [*counters, *lists])
        last = [_last(b, x, v, count) for x, v in zip(flat(first), out)]
        instead: dict[int, Any] = dict(zip(moving, like(first, last)))
        instead.update(zip(writes, map(list_of, out[len(first) :])))
        for k, n in starts.items():
            end = plain(as_index(n) + count)
            v = ops.cast(b, ops.scalar(b, end), self.xs[k].dtype)
            instead[k] = cx.tell(v, as_known(end))
        return tuple(self.merged(instead))

    def is_read(self, k: int, count: Expr, starts: dict[int, Any]) -> bool:
        """Whether each step reads its own row of a list, and does no more with it."""
        x = self.xs[k]
        if not isinstance(x, TensorList) or x.tensor is None:
            return False
        uses = self.uses(k)
        return equal(x.tensor.shape[0], count) and all(
            n.op == "TensorListGetItem" and self.is_step(n.operands[1], starts) for n in uses
        )

    def is_written(self, k: int, count: Expr, starts: dict[int, Any]) -> bool:
        """Whether each step writes its own row of a list, and does no more with it."""
        x, found = self.xs[k], origin(self.body, self.body.results[k])
        if k in self.kept or not isinstance(x, TensorList) or not isinstance(found, Node):
            return False
        if found.op != "TensorListSetItem" or self.uses(k) != [found]:
            return False
        return equal(as_index(x.size), count) and self.is_step(found.operands[1], starts)

    def is_needed(self, k: int, lists: set[int]) -> bool:
        """Whether the body does more with a counter than count, and say the rows of `lists`."""
        body = self.body
        if any(origin(body, r) == k for r in body.results):
            return True
        own = origin(body, body.results[k])
        return any(n is not own and not self.is_place(n, k, lists) for n in self.uses(k))

    def is_place(self, n: Node, k: int, lists: set[int]) -> bool:
        """Whether a node has argument k only as the place in one of `lists`."""
        if n.op not in _ITEMS or origin(self.body, n.operands[0]) not in lists:
            return False
        return all(origin(self.body, x) != k for x in n.operands[2:])

    def is_step(self, name: str, starts: dict[int, Any]) -> bool:
        """Whether a value of the body is the number of the step, from 0."""
        k = origin(self.body, name)
        return isinstance(k, int) and starts.get(k) == 0 and not isinstance(starts.get(k), Expr)

    def uses(self, k: int) -> list[Node]:
        """The nodes of the body that read argument k."""
        return [
            n for n in self.body.nodes.values()
            if n.op not in _SAME and any(origin(self.body, x) == k for x in n.operands)
        ]  # fmt: skip


def _held(b: GraphBuilder, x: Any) -> Any:
    return blank(b, x) if isinstance(x, TensorList) else x


def _last(b: GraphBuilder, x: Value, rows: Value, count: Expr) -> Value:
    """What a state is in the end: the last of its rows, or `x` where there are none."""
    if prove_nonneg(simplify(count - 1)):
        return ops.select_index(b, rows, 0, simplify(count - 1))
    both = ops.concat(b, [ops.unsqueeze(b, x, 0), rows], 0)
    return ops.select_index(b, both, 0, count)


def _constant(n: Node) -> Any:
    """The number of a constant of rank 0; None for what is none."""
    held = n.attrs.get("value") if n.op == "Const" else None
    return held.item() if isinstance(held, np.ndarray) and held.size == 1 else None
