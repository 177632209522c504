"""Products of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.table import Complex, Context, rule
from ferrule.ir.agree import agree
from ferrule.ir.graph import GraphBuilder, Value


@rule("stablehlo.dot_general")
def _dot_general(cx: Context, x: Any, y: Any) -> Any:
    n = cx.attr("dot_dimension_numbers")
    batch = n["lhs_batching_dimensions"], n["rhs_batching_dimensions"]
    contract = n["lhs_contracting_dimensions"], n["rhs_contracting_dimensions"]
    for one, other in (batch, contract):
        agree([x.shape[d] for d in one], [y.shape[d] for d in other])
    return bilinear(cx.b, x, y, lambda b, v, w: _product(b, v, w, batch, contract, cx.dtype))


@rule("stablehlo.dot")
def _dot(cx: Context, x: Any, y: Any) -> Any:
    contract = ((x.rank - 1,), (0,)) if x.rank and y.rank else ((), ())
    return bilinear(cx.b, x, y, lambda b, v, w: _product(b, v, w, ((), ()), contract, cx.dtype))


def _product(
    b: GraphBuilder, x: Value, y: Value, batch: Any, contract: Any, dtype: DType
) -> Value:
    """The product, summed in `dtype` or wider."""
    if x.dtype == y.dtype and x.dtype.is_float and x.dtype.compute == dtype:
        return ops.dot_general(b, x, y, batch, contract, wide=True)
    if x.dtype == y.dtype == dtype and not dtype.is_bool:
        return ops.dot_general(b, x, y, batch, contract)
    if dtype.is_bool:
        some = ops.dot_general(b, ops.cast(b, x, i32), ops.cast(b, y, i32), batch, contract)
        return ops.ne(b, some, 0)
    wide = dtype.compute
    out = ops.dot_general(b, ops.cast(b, x, wide), ops.cast(b, y, wide), batch, contract)
    return ops.cast(b, out, dtype)


def bilinear(b: GraphBuilder, x: Any, y: Any, product: Any) -> Any:
    """`product(b, x, y)` of tensors that may be complex, by products of their parts."""
    if not isinstance(x, Complex):
        if not isinstance(y, Complex):
            return product(b, x, y)
        return y.map(lambda v: product(b, x, v))
    if not isinstance(y, Complex):
        return x.map(lambda v: product(b, v, y))
    real = ops.sub(b, product(b, x.real, y.real), product(b, x.imag, y.imag))
    imag = ops.add(b, product(b, x.real, y.imag), product(b, x.imag, y.real))
    return Complex(real, imag)


# ---- convolution ---------------------------------------------------------------------------------


@rule("stablehlo.convolution")
def _convolution(cx: Context, x: Any, w: Any) -> Any:
    padding = cx.attr("padding").values.tolist()
    return bilinear(cx.b, x, w, lambda b, v, u: _convolved(cx, b, v, u, padding))


@rule("stablehlo.dynamic_conv")
def _dynamic_conv(cx: Context, x: Any, w: Any, padding: Value) -> Any:
    known = cx.known(padding)
    if known is None:
        raise UnsupportedError("padding that depends on data")
    return bilinear(cx.b, x, w, lambda b, v, u: _convolved(cx, b, v, u, known.tolist()))


def _convolved(cx: Context, b: GraphBuilder, x: Value, w: Value, padding: Any) -> Value:
    n = cx.attr("dimension_numbers")
    return ops.convolution(
        b, x, w,
        (n["input_batch_dimension"], n["input_feature_dimension"], *n["input_spatial_dimensions"]),
        (
            n["kernel_output_feature_dimension"], n["kernel_input_feature_dimension"],
            *n["kernel_spatial_dimensions"],
        ),
        (
            n["output_batch_dimension"], n["output_feature_dimension"],
            *n["output_spatial_dimensions"],
        ),
        cx.attr("window_strides"), [tuple(p) for p in padding], cx.attr("lhs_dilation"),
        cx.attr("rhs_dilation"), cx.attr("window_reversal"), cx.attr("feature_group_count"),
        cx.attr("batch_group_count"), cx.dtype,
    )  # fmt: skip


# ---- other products ------------------------------------------------------------------------------


@rule("stablehlo.einsum")
def _einsum(cx: Context, x: Value, y: Value) -> Any:
    return ops.einsum(cx.b, cx.attr("einsum_config"), x, y)


@rule("stablehlo.unary_einsum")
def _unary_einsum(cx: Context, x: Value) -> Any:
    return ops.einsum(cx.b, cx.attr("einsum_config"), x)


@rule("chlo.ragged_dot")
def _ragged_dot(cx: Context, x: Value, y: Value, sizes: Value) -> Any:
    """A product by groups of rows of x: rows of other groups count as 0, so that each group is a
    term of one sum, or, where the groups divide the contracted dim, a product of its own.
    """
    b, n = cx.b, cx.attr("ragged_dot_dimension_numbers")
    batch = n["lhs_batching_dimensions"], n["rhs_batching_dimensions"]
    contract = n["lhs_contracting_dimensions"], n["rhs_contracting_dimensions"]
    (ragged,) = n["lhs_ragged_dimensions"]
    if ragged in batch[0]:
        return _product(b, x, y, batch, contract, cx.dtype)
    masked = _in_groups(b, x, sizes, ragged, batch[0])  # [group, dims of x..]
    own = tuple(tuple(d + 1 for d in dims) for dims in (batch[0], contract[0]))
    if ragged not in contract[0]:
        (group,) = n["rhs_group_dimensions"]
        over = (0, *own[1]), (group, *contract[1])
        return _product(b, masked, y, (own[0], batch[1]), over, cx.dtype)
    out = _product(b, masked, y, (own[0], batch[1]), (own[1], contract[1]), cx.dtype)
    k = len(batch[0])
    return ops.transpose(b, out, (k, *range(k), *range(k + 1, out.rank)))


def _in_groups(b: GraphBuilder, x: Value, sizes: Value, d: int, batch: Any) -> Value:
    """`x` once for each group, with 0 where an index of dim `d` is in another group."""
    *outer, groups = sizes.shape
    ends = ops.cumsum(b, ops.cast(b, sizes, i64), -1)
    starts = ops.sub(b, ends, ops.cast(b, sizes, i64))
    # bounds of the groups as [group, dims of x..]
    shape: list[Any] = [groups, *[1] * x.rank]
    for place, size in zip(batch, outer):
        shape[1 + place] = size
    order = (sizes.rank - 1, *np.argsort(batch[: len(outer)]).tolist())
    low, high = (
        ops.reshape(b, ops.transpose(b, v, order), shape) for v in (starts, ends)
    )
    at = ops.iota(b, (1, *x.shape), d + 1)
    inside = ops.logical_and(b, ops.le(b, low, at), ops.lt(b, at, high))
    return ops.select(b, inside, ops.unsqueeze(b, x, 0), 0)
