"""Products of tensors."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType, i32
from ferrule.frontend.stablehlo.table import Complex, Context, agree, is_complex, rule
from ferrule.ir.graph import GraphBuilder, Value


@rule("stablehlo.dot_general")
def _dot_general(cx: Context, x: Any, y: Any) -> Any:
    n = cx.attr("dot_dimension_numbers")
    batch = n["lhs_batching_dimensions"], n["rhs_batching_dimensions"]
    contract = n["lhs_contracting_dimensions"], n["rhs_contracting_dimensions"]
    for one, other in (batch, contract):
        agree([x.shape[d] for d in one], [y.shape[d] for d in other])
    return bilinear(cx, x, y, lambda b, v, w: _product(b, v, w, batch, contract, cx.dtype))


@rule("stablehlo.dot")
def _dot(cx: Context, x: Any, y: Any) -> Any:
    contract = ((x.rank - 1,), (0,)) if x.rank and y.rank else ((), ())
    return bilinear(cx, x, y, lambda b, v, w: _product(b, v, w, ((), ()), contract, cx.dtype))


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


def bilinear(cx: Context, x: Any, y: Any, product: Any) -> Any:
    """`product` of tensors that may be complex, by products of their parts."""
    b = cx.b
    if not is_complex(cx.result()):
        return product(b, x, y)
    if not isinstance(x, Complex):
        return y.map(lambda v: product(b, x, v))
    if not isinstance(y, Complex):
        return x.map(lambda v: product(b, v, y))
    real = ops.sub(b, product(b, x.real, y.real), product(b, x.imag, y.imag))
    imag = ops.add(b, product(b, x.real, y.imag), product(b, x.imag, y.real))
    return Complex(real, imag)
