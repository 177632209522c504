"""Slices at places that data say: gather, scatter and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.rules.shapes import each
from ferrule.frontend.stablehlo.table import Complex, Context, rule
from ferrule.ir.graph import GraphBuilder, Value


@rule("stablehlo.gather")
def _gather(cx: Context, x: Any, starts: Value) -> Any:
    return _gathered(cx, x, starts, cx.attr("slice_sizes"))


@rule("stablehlo.dynamic_gather")
def _dynamic_gather(cx: Context, x: Any, starts: Value, sizes: Value) -> Any:
    known = cx.known(sizes)
    if known is None:
        raise UnsupportedError("sizes of slices that depend on data")
    return _gathered(cx, x, starts, known.tolist())


def _gathered(cx: Context, x: Any, starts: Value, sizes: Sequence[Any]) -> Any:
    n = cx.attr("dimension_numbers")
    return each(
        x,
        lambda v: ops.gather(
            cx.b, v, starts, n["offset_dims"], n["collapsed_slice_dims"],
            n["operand_batching_dims"], n["start_indices_batching_dims"], n["start_index_map"],
            n["index_vector_dim"], sizes,
        ),
    )  # fmt: skip


@rule("stablehlo.scatter")
def _scatter(cx: Context, *operands: Any) -> Any:
    k = len(operands) // 2
    xs, indices, updates = operands[:k], operands[k], operands[k + 1 :]
    if any(isinstance(x, Complex) for x in xs):
        return _scatter_parts(cx, xs, indices, updates)
    return _scattered(cx, xs, indices, updates, _body(cx))


def _body(cx: Context) -> Any:
    def build(b: GraphBuilder, *scalars: Value) -> Sequence[Value]:
        return cx.run(cx.op.regions[0], b, scalars)

    return build


def _scattered(cx: Context, xs: Any, indices: Value, updates: Any, body: Any) -> Any:
    n = cx.attr("scatter_dimension_numbers")
    return ops.scatter_slices(
        cx.b, xs, indices, updates, body, n["update_window_dims"], n["inserted_window_dims"],
        n["input_batching_dims"], n["scatter_indices_batching_dims"],
        n["scatter_dims_to_operand_dims"], n["index_vector_dim"],
    )  # fmt: skip


def _scatter_parts(cx: Context, xs: Any, indices: Value, updates: Any) -> Any:
    """Complex operands as two each; the body sees them joined."""

    def parts(vals: Sequence[Any]) -> list[Value]:
        return [p for v in vals for p in ((v.real, v.imag) if isinstance(v, Complex) else (v,))]

    def joined(tensors: Sequence[Value]) -> list[Any]:
        rest = iter(tensors)
        return [Complex(next(rest), next(rest)) if isinstance(x, Complex) else next(rest)
                for x in xs]  # fmt: skip

    def body(b: GraphBuilder, *scalars: Value) -> Sequence[Value]:
        half = len(scalars) // 2
        given = (*joined(scalars[:half]), *joined(scalars[half:]))
        return parts(cx.run(cx.op.regions[0], b, given))

    return tuple(joined(_scattered(cx, parts(xs), indices, parts(updates), body)))


@rule("stablehlo.dynamic_slice")
def _dynamic_slice(cx: Context, x: Any, *starts: Value) -> Any:
    return each(x, lambda v: ops.dynamic_slice(cx.b, v, starts, cx.attr("slice_sizes")))


@rule("stablehlo.dynamic_update_slice")
def _dynamic_update_slice(cx: Context, x: Any, update: Any, *starts: Value) -> Any:
    if isinstance(x, Complex):
        pairs = ((x.real, update.real), (x.imag, update.imag))
        return Complex(*(ops.dynamic_update_slice(cx.b, a, u, starts) for a, u in pairs))
    return ops.dynamic_update_slice(cx.b, x, update, starts)
