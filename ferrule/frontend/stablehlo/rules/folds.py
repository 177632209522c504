"""Operations that fold many elements by a region: reductions, windows, sorting; and random bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.module import Constant
from ferrule.frontend.stablehlo.rules.control import CUSTOM_CALLS, flat, like
from ferrule.frontend.stablehlo.table import Context, dtype_of, rule
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


def _approx_top_k(cx: Context, x: Value, place: Value, *inits: Value) -> Any:
    """The exact ones, in the order that the comparator of elements says."""
    config = cx.attr("backend_config")
    d, keep = int(config["reduction_dim"]), int(config["top_k"])
    if not config.get("aggregate_to_topk", True):
        raise UnsupportedError("the elements of several parts are not made one")
    (name,) = cx.attr("called_computations")

    def before(b: GraphBuilder, *given: Value) -> Sequence[Value]:
        (x, i), (y, j) = given[:2], given[2:]
        return cx.call(name, b, (x, y, i, j))

    kinds = [x.dtype, place.dtype]
    (order,) = scalars(body_graph(cx.b, "top_k", [*kinds, *kinds], before))
    return ops.sort_together(cx.b, (x, place), d, order, keep)


CUSTOM_CALLS["ApproxTopK"] = _approx_top_k


@rule("stablehlo.rng_bit_generator")
def _rng_bit_generator(cx: Context, state: Value) -> Any:
    t = cx.result(1)
    shape = [n for n in t.shape or () if n is not None]
    return ops.random_bits(cx.b, state, shape, dtype_of(t), cx.attr("rng_algorithm"))


# ---- reductions ----------------------------------------------------------------------------------


def _halves(cx: Context, operands: Sequence[Any]) -> tuple[Any, Any, Any]:
    """The tensors of a fold, what it begins with, and its body, on parts of complex numbers."""
    k = len(operands) // 2
    xs, inits = operands[:k], operands[k:]
    n = len(flat(xs))

    def body(b: GraphBuilder, *given: Value) -> Sequence[Value]:
        old, new = like(xs, given[:n]), like(xs, given[n:])
        return flat(cx.run(cx.op.regions[0], b, (*old, *new)))

    return xs, inits, body


@rule("stablehlo.reduce")
def _reduce(cx: Context, *operands: Any) -> Any:
    xs, inits, body = _halves(cx, operands)
    return like(xs, ops.reduce(cx.b, flat(xs), flat(inits), cx.attr("dimensions"), body))


def _padding(cx: Context) -> Any:
    """Pairs of numbers, or None."""
    found = cx.op.attributes.get("padding")
    return found.values.tolist() if isinstance(found, Constant) else found


@rule("stablehlo.reduce_window")
def _reduce_window(cx: Context, *operands: Any) -> Any:
    xs, inits, body = _halves(cx, operands)
    out = ops.reduce_window(
        cx.b, flat(xs), flat(inits), body, cx.attr("window_dimensions"),
        cx.attr("window_strides"), cx.attr("base_dilations"), cx.attr("window_dilations"),
        _padding(cx),
    )  # fmt: skip
    return like(xs, out)


@rule("stablehlo.select_and_scatter")
def _select_and_scatter(cx: Context, x: Value, source: Value, init: Value) -> Any:
    select, scatter = cx.op.regions

    def chosen(b: GraphBuilder, one: Value, other: Value) -> Any:
        return cx.run(select, b, (one, other))[0]

    def added(b: GraphBuilder, old: Value, new: Value) -> Any:
        return cx.run(scatter, b, (old, new))[0]

    return ops.select_and_scatter(
        cx.b, x, source, init, chosen, added, cx.attr("window_dimensions"),
        cx.attr("window_strides"), _padding(cx),
    )  # fmt: skip
