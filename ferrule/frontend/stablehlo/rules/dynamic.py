"""Operations whose sizes a program computes: they must follow from constants and inputs' sizes."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.rules.shapes import broadcast, each, padded
from ferrule.frontend.stablehlo.table import Complex, Context, is_complex, rule
from ferrule.ir.graph import Value


def sizes(cx: Context, x: Value, what: str = "a shape") -> list[Any]:
    """The numbers of a tensor of sizes. Raises UnsupportedError where data decide them."""
    known = cx.known(x)
    if known is None:
        raise UnsupportedError(f"{what} that depends on data")
    return list(known.reshape(-1).tolist())


@rule("stablehlo.dynamic_reshape")
def _dynamic_reshape(cx: Context, x: Any, shape: Value) -> Any:
    new = sizes(cx, shape)
    return each(x, lambda v: ops.reshape(cx.b, v, new))


@rule("stablehlo.dynamic_broadcast_in_dim")
def _dynamic_broadcast_in_dim(cx: Context, x: Any, shape: Value) -> Any:
    new = sizes(cx, shape)
    return each(x, lambda v: broadcast(cx.b, v, new, cx.attr("broadcast_dimensions")))


@rule("stablehlo.dynamic_iota")
def _dynamic_iota(cx: Context, shape: Value) -> Any:
    real = ops.iota(cx.b, sizes(cx, shape), cx.attr("iota_dimension"), cx.dtype)
    if is_complex(cx.result()):
        return Complex(real, ops.full(cx.b, real.shape, 0, cx.dtype))
    return real


@rule("stablehlo.real_dynamic_slice")
def _real_dynamic_slice(cx: Context, x: Any, lo: Value, hi: Value, by: Value) -> Any:
    first, last = cx.known(lo), cx.known(hi)
    steps = sizes(cx, by, "a step")
    if not all(isinstance(n, int) for n in steps):
        raise UnsupportedError("a step that is no constant")
    if first is not None and last is not None:
        return each(x, lambda v: ops.slice(cx.b, v, first.tolist(), last.tolist(), steps))
    return _of_known_size(cx, x, lo, steps)


def _of_known_size(cx: Context, x: Any, lo: Value, steps: list[int]) -> Any:
    """A slice that begins where data say, whose sizes the program tells."""
    shape = cx.result().shape or ()
    if any(n is None for n in shape) or any(n != 1 for n in steps):
        raise UnsupportedError("a slice whose size depends on data")
    starts = [ops.select_index(cx.b, lo, 0, d) for d in range(len(shape))]
    known = [n for n in shape if n is not None]
    return each(x, lambda v: ops.dynamic_slice(cx.b, v, starts, known))


@rule("stablehlo.dynamic_pad")
def _dynamic_pad(cx: Context, x: Any, value: Any, lo: Value, hi: Value, between: Value) -> Any:
    interior = sizes(cx, between, "padding")
    if not all(isinstance(n, int) for n in interior):
        raise UnsupportedError("padding between elements that is no constant")
    return padded(cx, x, value, sizes(cx, lo, "padding"), sizes(cx, hi, "padding"), interior)
