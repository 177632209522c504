"""Operators that fold many elements, put them in order, or run along a dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ferrule import ops
from ferrule.base.dtype import i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.table import Context, rule
from ferrule.ir.agree import agree
from ferrule.ir.expr import product
from ferrule.ir.graph import GraphBuilder, Value

_REDUCE: Mapping[str, Callable[..., Value]] = {
    "Sum": ops.reduce_sum, "Prod": ops.reduce_prod, "Max": ops.reduce_max, "Min": ops.reduce_min,
    "Any": ops.reduce_any, "All": ops.reduce_all,
    "Mean": lambda b, x, axes, keep: _mean(b, x, axes, keep),
    "EuclideanNorm": lambda b, x, axes, keep: ops.p_norm(b, x, 2.0, axes, keep),
}  # fmt: skip


def _mean(b: GraphBuilder, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """The mean; of integers rounded to 0."""
    if x.dtype.is_float:
        return ops.mean(b, x, axes, keep)
    count = ops.cast(b, ops.scalar(b, product([x.shape[d] for d in axes])), x.dtype)
    return ops.truncdiv(b, ops.reduce_sum(b, x, axes, keep), count)


def _reduction(build: Callable[..., Value]) -> Callable[..., Value]:
    def built(cx: Context, x: Value, axes: Value) -> Value:
        over = tuple(d % max(1, x.rank) for d in cx.ints(axes))
        if not over or not x.rank:
            return x
        return build(cx.b, x, over, bool(cx.attr("keep_dims", False)))

    return built


for _name, _build in _REDUCE.items():
    rule(_name)(_reduction(_build))


@rule("ArgMax")
def _arg_max(cx: Context, x: Value, axis: Value) -> Value:
    return ops.cast(cx.b, ops.argmax(cx.b, x, cx.ints(axis)[0]), cx.dtype("output_type", i64))


@rule("ArgMin")
def _arg_min(cx: Context, x: Value, axis: Value) -> Value:
    return ops.cast(cx.b, ops.argmin(cx.b, x, cx.ints(axis)[0]), cx.dtype("output_type", i64))


@rule("TopKV2", outputs=("values", "indices"))
def _top_k(cx: Context, x: Value, k: Value) -> Any:
    values, places = ops.top_k(cx.b, x, cx.numbers(k, "a number of elements")[0])
    return values, ops.cast(cx.b, places, cx.dtype("index_type", i32))


def _scan(build: Callable[..., Value]) -> Callable[..., Value]:
    def built(cx: Context, x: Value, axis: Value) -> Value:
        exclusive, reverse = cx.attr("exclusive", False), cx.attr("reverse", False)
        return build(cx.b, x, cx.ints(axis)[0] % x.rank, bool(exclusive), bool(reverse))

    return built


rule("Cumsum")(_scan(ops.cumsum))
rule("Cumprod")(_scan(ops.cumprod))


@rule("CumulativeLogsumexp")
def _cumulative_logsumexp(cx: Context, x: Value, axis: Value) -> Value:
    if cx.attr("exclusive", False) or cx.attr("reverse", False):
        raise UnsupportedError("a running logsumexp that is exclusive or from behind")
    return ops.logcumsumexp(cx.b, x, cx.ints(axis)[0] % x.rank)


@rule("SoftmaxCrossEntropyWithLogits", outputs=("loss", "backprop"))
def _cross_entropy(cx: Context, x: Value, labels: Value) -> Any:
    agree(x.shape, labels.shape)
    b = cx.b
    loss = ops.reduce_sum(b, ops.mul(b, ops.log_softmax(b, x), labels), (-1,))
    return ops.neg(b, loss), ops.sub(b, ops.softmax(b, x), labels)


@rule("SparseSoftmaxCrossEntropyWithLogits", outputs=("loss", "backprop"))
def _sparse_cross_entropy(cx: Context, x: Value, labels: Value) -> Any:
    agree(x.shape[:1], labels.shape)
    own = ops.cast(cx.b, ops.one_hot(cx.b, labels, x.shape[-1]), x.dtype)
    return _cross_entropy(cx, x, own)
