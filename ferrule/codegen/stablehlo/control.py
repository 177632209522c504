"""Control: `loop`, `while` and `case`, whose bodies are graphs.

A loop is a `while` that counts: its states are the loop's, and the tensors that hold a row of each
step. Bodies name the values around them, which StableHLO allows there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ferrule.base.dtype import i64
from ferrule.codegen.stablehlo.operators import number
from ferrule.codegen.stablehlo.stages import sizes
from ferrule.codegen.stablehlo.writer import Block, Tensor, Writer
from ferrule.ir.graph import Graph, Node

Inline = Callable[[Graph, Sequence[Tensor]], Sequence[Tensor]]


def write_loop(
    w: Writer, n: Node, xs: Sequence[Tensor], inline: Inline
) -> Sequence[Tensor]:
    """A loop; `inline` writes a graph with these inputs."""
    attrs = n.attributes
    count, s, over = number(attrs["count"]), attrs["states"], attrs["rows"]
    made = [w.number(0, v.dtype, sizes(v.shape)) for v in n.outputs]
    if not count:
        return made
    rows, captured = xs[s : s + over], xs[s + over :]

    def step(args: Sequence[Tensor]) -> Sequence[Tensor]:
        at, states, held = args[0], args[1 : s + 1], args[s + 1 :]
        place = w.binary("subtract", w.number(count - 1, i64), at) if attrs["reverse"] else at
        given = [_row(w, x, place) for x in rows]
        found = inline(attrs["body"], [*states, *given, *captured])
        kept = [_with_row(w, x, y, place) for x, y in zip(held, found, strict=True)]
        return [w.binary("add", at, w.number(1, i64)), *found[:s], *kept]

    def goes_on(args: Sequence[Tensor]) -> Sequence[Tensor]:
        return [w.compare("LT", args[0], w.number(count, i64))]

    first = [w.number(0, i64), *xs[:s], *made]
    return _while(w, first, goes_on, step)[s + 1 :]


def _row(w: Writer, x: Tensor, place: Tensor) -> Tensor:
    zero = w.number(0, i64)
    part = w.dynamic_slice(x, [place, *[zero] * (x.rank - 1)], (1, *x.shape[1:]))
    return w.reshape(part, x.shape[1:])


def _with_row(w: Writer, x: Tensor, row: Tensor, place: Tensor) -> Tensor:
    if 0 in x.shape:
        return x
    zero = w.number(0, i64)
    update = w.reshape(row, (1, *row.shape))
    return w.dynamic_update_slice(x, update, [place, *[zero] * row.rank])


def _while(
    w: Writer, first: Sequence[Tensor], goes_on: Block, step: Block
) -> tuple[Tensor, ...]:
    types = [(x.shape, x.dtype) for x in first]
    blocks = [w.block(types, goes_on, False), w.block(types, step, False)]
    return w.with_regions("while", first, "", blocks, types)


def write_while(
    w: Writer, n: Node, xs: Sequence[Tensor], inline: Inline
) -> Sequence[Tensor]:
    """A body that runs as long as its flag is true; the flag is the last of the states."""
    attrs = n.attributes
    s = attrs["states"]
    captured = xs[1 + s :]
    first = [*xs[1 : 1 + s], xs[0]]

    def step(args: Sequence[Tensor]) -> Sequence[Tensor]:
        return inline(attrs["body"], [*args[:-1], *captured])

    return _while(w, first, lambda args: [args[-1]], step)[:-1]


def write_case(
    w: Writer, n: Node, xs: Sequence[Tensor], inline: Inline
) -> Sequence[Tensor]:
    """One of several bodies; of the last for an index outside of them, as StableHLO has it too."""
    graphs = [n.attributes[f"branch{k}"] for k in range(len(n.attrs))]
    blocks = [w.block([], _branch(g, xs[1:], inline), False) for g in graphs]
    types = [(sizes(v.shape), v.dtype) for v in n.outputs]
    return w.with_regions("case", xs[:1], "", blocks, types)


def _branch(graph: Graph, captured: Sequence[Tensor], inline: Inline) -> Block:
    return lambda _: inline(graph, captured)


CONTROL = {"loop": write_loop, "while": write_while, "case": write_case}
