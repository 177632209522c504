"""ATen rules: sorting, and choosing by rank. NaN is above all numbers, as in PyTorch.

Of equal elements PyTorch leaves open which one `topk`, `kthvalue` and the medians tell the index
of; here it is the first one.
"""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.dtype import i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, aten, product
from ferrule.ir.expr import Expr, as_index
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Pair = tuple[Value, Value]


@aten("sort.default")
def _sort(cx: Context, x: Value, dim: int = -1, descending: bool = False) -> Pair:
    return ops.sort(cx.b, x, dim, descending)


@aten("sort.stable")
def _sort_stable(
    cx: Context, x: Value, *, stable: Any = None, dim: int = -1, descending: bool = False
) -> Pair:
    return ops.sort(cx.b, x, dim, descending)


@aten("topk.default")
def _topk(
    cx: Context, x: Value, k: int | Expr, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Pair:
    if x.rank == 0 and k != 1:
        raise UnsupportedError(f"topk of {k} elements of a scalar")
    return ops.top_k(cx.b, x, k, dim, largest)


@aten("kthvalue.default")
def _kthvalue(
    cx: Context, x: Value, k: int | Expr, dim: int = -1, keepdim: bool = False
) -> Pair:
    if x.rank == 0:
        return ops.top_k(cx.b, x, 1, dim)
    first = ops.top_k(cx.b, x, k, dim, largest=False)
    return _at(cx, first, dim, simplify(as_index(k) - 1), keepdim)


def _at(cx: Context, pair: Pair, dim: int, index: Expr, keepdim: bool) -> Pair:
    """Both of `pair` at one place of the axis `dim`."""
    taken = [ops.slice_axis(cx.b, v, dim, index, index + 1) for v in pair]
    if not keepdim:
        taken = [ops.squeeze(cx.b, v, (dim,)) for v in taken]
    return taken[0], taken[1]


@aten("median.dim")
def _median_dim(cx: Context, x: Value, dim: int, keepdim: bool = False) -> Pair:
    """The lower of two middle elements; the first NaN, if there is one."""
    if x.rank == 0:
        return x, ops.full(cx.b, (), 0, i64)
    pair = ops.sort(cx.b, x, dim)
    n = pair[0].shape[dim]
    middle = _at(cx, pair, dim, simplify((n - 1) // 2), keepdim)
    if not x.dtype.is_float:
        return middle
    missing = ops.isnan(cx.b, x)
    any_missing = ops.reduce_any(cx.b, missing, (dim,), keepdims=keepdim)
    first = ops.argmax(cx.b, ops.cast(cx.b, missing, i64), dim, keepdims=keepdim)
    nan = ops.full(cx.b, (), float("nan"), x.dtype)
    return (
        ops.select(cx.b, any_missing, nan, middle[0]),
        ops.select(cx.b, any_missing, first, middle[1]),
    )


@aten("median.default")
def _median(cx: Context, x: Value) -> Value:
    return _median_dim(cx, _flat(cx, x), 0)[0]


@aten("nanmedian.dim")
def _nanmedian_dim(cx: Context, x: Value, dim: int, keepdim: bool = False) -> Pair:
    """The lower of the two middle ones of the elements that are numbers; a NaN if none is."""
    if x.rank == 0 or not x.dtype.is_float:
        return _median_dim(cx, x, dim, keepdim)
    pair = ops.sort(cx.b, x, dim)
    numbers = ops.cast(cx.b, ops.logical_not(cx.b, ops.isnan(cx.b, x)), i64)
    count = ops.reduce_sum(cx.b, numbers, (dim,), keepdims=True)
    zero, one, two = (ops.full(cx.b, (), k, i64) for k in range(3))
    middle = ops.maximum(cx.b, ops.floordiv(cx.b, ops.sub(cx.b, count, one), two), zero)
    taken = [ops.take_along_axis(cx.b, v, middle, dim) for v in pair]
    if not keepdim:
        taken = [ops.squeeze(cx.b, v, (dim,)) for v in taken]
    return taken[0], taken[1]


@aten("nanmedian.default")
def _nanmedian(cx: Context, x: Value) -> Value:
    return _nanmedian_dim(cx, _flat(cx, x), 0)[0]


def _flat(cx: Context, x: Value) -> Value:
    size = product(x.shape)
    if size.is_const and size.value == 0:
        raise UnsupportedError("a median of nothing")
    return ops.reshape(cx.b, x, (size,))
