"""Operations that fold many elements by a region: reductions, windows, sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i32
from ferrule.frontend.stablehlo.rules.control import flat, like
from ferrule.frontend.stablehlo.table import Context, rule
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ops.body import body_graph, scalars


@rule("stablehlo.sort")
def _sort(cx: Context, *xs: Any) -> Any:
    """The region takes pairs: an element of the one tuple, the same of the other."""
    parts = flat(xs)
    n = len(parts)

    def before(b: GraphBuilder, *given: Value) -> Sequence[Value]:
        one, other = like(xs, given[:n]), like(xs, given[n:])
        return cx.run(cx.op.regions[0], b, [v for pair in zip(one, other) for v in pair])

    kinds = [v.dtype for v in parts]
    (order,) = scalars(body_graph(cx.b, "sort", [*kinds, *kinds], before))
    return like(xs, ops.sort_together(cx.b, parts, cx.attr("dimension"), order))


@rule("chlo.top_k")
def _top_k(cx: Context, x: Value) -> Any:
    """By the total order of floats: NaN is the greatest, and NaN with a sign the least."""
    b, keep = cx.b, cx.attr("k")
    place = ops.iota(b, x.shape, x.rank - 1, i32)
    if not x.dtype.is_float:
        return ops.sort_together(b, (x, place), -1, "descending", keep)
    key = ops.total_order(b, x)
    return ops.sort_together(b, (key, x, place), -1, "descending", keep)[1:]
