"""Operations that make, move, join and cut tensors at places that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import from_storage
from ferrule.frontend.stablehlo.module import Constant
from ferrule.frontend.stablehlo.table import (
    Complex,
    Context,
    Token,
    Tuple,
    dtype_of,
    is_complex,
    rule,
)
from ferrule.ir.agree import agree
from ferrule.ir.expr import ONE, as_index
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal

_LITERAL = 64


def each(x: Any, fn: Any) -> Any:
    """`fn` of a tensor, or of both parts of a complex one."""
    return x.map(fn) if isinstance(x, Complex) else fn(x)


@rule("stablehlo.constant", "chlo.constant")
def _constant(cx: Context) -> Any:
    value = cx.attr("value")
    assert isinstance(value, Constant)
    dtype = dtype_of(value.type)
    if is_complex(value.type):
        return Complex(*(literal(cx, x, dtype) for x in (value.values.real, value.values.imag)))
    return literal(cx, value.values, dtype)


def literal(cx: Context, array: Any, dtype: Any) -> Value:
    """An array in storage form: a literal where it is small, else a param."""
    splat = array.size > 0 and not any(array.strides)
    if splat or array.size == 1:
        one = from_storage(array.reshape(-1)[:1], dtype).reshape(())
        return ops.expand(cx.b, ops.constant(cx.b, one, dtype), array.shape)
    if array.size <= _LITERAL:
        return ops.constant(cx.b, from_storage(array, dtype), dtype)
    return cx.param(np.ascontiguousarray(array), dtype)


@rule("stablehlo.iota")
def _iota(cx: Context) -> Any:
    t = cx.result()
    assert t.shape is not None
    real = ops.iota(cx.b, [_known(n) for n in t.shape], cx.attr("iota_dimension"), cx.dtype)
    if is_complex(t):
        return Complex(real, ops.full(cx.b, real.shape, 0, cx.dtype))
    return real


def _known(n: int | None) -> int:
    assert n is not None
    return n


@rule("stablehlo.reshape")
def _reshape(cx: Context, x: Any) -> Any:
    shape = cx.result().shape or ()
    return each(x, lambda v: ops.reshape(cx.b, v, [_known(n) for n in shape]))


@rule("stablehlo.broadcast_in_dim")
def _broadcast_in_dim(cx: Context, x: Any) -> Any:
    shape = [_known(n) for n in cx.result().shape or ()]
    return each(x, lambda v: broadcast(cx.b, v, shape, cx.attr("broadcast_dimensions")))


def broadcast(b: GraphBuilder, x: Value, shape: Sequence[Any], dims: Sequence[int]) -> Value:
    """`x` whose dim i is dim dims[i] of `shape`, of that size or of 1."""
    x = ops.transpose(b, x, np.argsort(dims).tolist()) if list(dims) != sorted(dims) else x
    own: list[Any] = [1] * len(shape)
    for d, n in zip(sorted(dims), x.shape):
        own[d] = n
        if not equal(n, ONE):
            agree((n,), (as_index(shape[d]),))
    return ops.expand(b, ops.reshape(b, x, own), shape)


@rule("stablehlo.broadcast")
def _broadcast(cx: Context, x: Any) -> Any:
    sizes = tuple(cx.attr("broadcast_sizes"))
    return each(x, lambda v: ops.expand(cx.b, v, (*sizes, *v.shape)))


@rule("stablehlo.transpose")
def _transpose(cx: Context, x: Any) -> Any:
    return each(x, lambda v: ops.transpose(cx.b, v, cx.attr("permutation")))


@rule("stablehlo.reverse")
def _reverse(cx: Context, x: Any) -> Any:
    return each(x, lambda v: ops.reverse(cx.b, v, tuple(cx.attr("dimensions"))))


@rule("stablehlo.concatenate")
def _concatenate(cx: Context, *xs: Any) -> Any:
    d = cx.attr("dimension")
    for x in xs[1:]:
        agree([n for k, n in enumerate(xs[0].shape) if k != d],
              [n for k, n in enumerate(x.shape) if k != d])  # fmt: skip
    if isinstance(xs[0], Complex):
        parts = ([x.real for x in xs], [x.imag for x in xs])
        return Complex(*(ops.concat(cx.b, part, d) for part in parts))
    return ops.concat(cx.b, xs, d)


@rule("stablehlo.slice")
def _slice(cx: Context, x: Any) -> Any:
    lo, hi, by = (cx.attr(n) for n in ("start_indices", "limit_indices", "strides"))
    return each(x, lambda v: ops.slice(cx.b, v, lo, hi, by))


@rule("stablehlo.optimization_barrier", "builtin.unrealized_conversion_cast")
def _barrier(cx: Context, *xs: Any) -> Any:
    """The second one stands in artifacts around operations of other dialects, whose types differ
    from those of VHLO in name alone.
    """
    return xs


@rule("stablehlo.after_all", "stablehlo.create_token")
def _token(cx: Context, *tokens: Any) -> Token:
    return Token()


@rule("stablehlo.tuple")
def _tuple(cx: Context, *xs: Any) -> Tuple:
    return Tuple(xs)


@rule("stablehlo.get_tuple_element")
def _get_tuple_element(cx: Context, x: Tuple) -> Any:
    return x.items[cx.attr("index")]


@rule("stablehlo.pad")
def _pad(cx: Context, x: Any, value: Any) -> Any:
    low, high, interior = (
        cx.attr(n) for n in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    return padded(cx, x, value, low, high, interior)


def padded(cx: Context, x: Any, value: Any, low: Any, high: Any, interior: Any) -> Any:
    """`x` with `value` around and between its elements."""
    if isinstance(x, Complex):
        pairs = ((x.real, value.real), (x.imag, value.imag))
        return Complex(*(ops.pad(cx.b, v, low, high, p, interior=interior) for v, p in pairs))
    return ops.pad(cx.b, x, low, high, value, interior=interior)
