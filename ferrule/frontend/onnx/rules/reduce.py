"""ONNX rules: reductions, softmax and what else folds axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.view import axes_of
from ferrule.frontend.onnx.table import Context, dtype_of, element_type, onnx
from ferrule.ir.expr import ONE, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Fold = Callable[[Any, Value, tuple[int, ...], bool], Value]


def _reduction(name: str, fold: Fold) -> None:
    """A reduction over axes: attributes in early versions, an operand in later ones."""

    @onnx(name, static=(1,))
    def rule(cx: Context, x: Value, axes: Array | None = None) -> Value:
        given = axes_of(cx, axes, x.rank)
        if not given and cx.int("noop_with_empty_axes", 0):
            return _elementwise(cx, name, x)
        over = given or tuple(range(x.rank))
        return fold(cx.b, x, over, bool(cx.int("keepdims", 1)))


def _elementwise(cx: Context, name: str, x: Value) -> Value:
    """A reduction over no axes: what it does to each element."""
    if name in ("ReduceL1", "ReduceL2"):
        return ops.abs(cx.b, x)
    if name == "ReduceSumSquare":
        return ops.mul(cx.b, x, x)
    return ops.log(cx.b, x) if name == "ReduceLogSum" else x


def _mean(b: Any, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    if x.dtype.is_float:
        return ops.mean(b, x, axes, keep)
    total = ops.reduce_sum(b, x, axes, keep)
    count = simplify(product([x.shape[d] for d in axes]))
    return ops.div(b, total, ops.cast(b, ops.scalar(b, count), x.dtype))


def _norm(b: Any, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    if x.dtype.is_float:
        return ops.p_norm(b, x, 2.0, axes, keep)
    total = ops.reduce_sum(b, ops.mul(b, x, x), axes, keep)
    return ops.cast(b, ops.sqrt(b, ops.cast(b, total, f32)), x.dtype)


def _log_sum_exp(b: Any, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    if x.dtype.is_float:
        return ops.logsumexp(b, x, axes, keep)
    return ops.cast(b, ops.logsumexp(b, ops.cast(b, x, f32), axes, keep), x.dtype)


def _extreme(fold: Callable[..., Value], largest: bool) -> Fold:
    """The greatest or least element; of no elements, the end of the dtype's range."""

    def apply(b: Any, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        if not any(x.shape[d].is_const and x.shape[d].value == 0 for d in axes):
            return fold(b, x, axes, keep, empty=True)
        kept = [ONE if d in axes else s for d, s in enumerate(x.shape) if keep or d not in axes]
        return ops.full(b, kept, x.dtype.min if largest else x.dtype.max, x.dtype)

    return apply


_FOLDS: dict[str, Fold] = {
    "ReduceSum": ops.reduce_sum,
    "ReduceProd": ops.reduce_prod,
    "ReduceMax": _extreme(ops.reduce_max, True),
    "ReduceMin": _extreme(ops.reduce_min, False),
    "ReduceMean": _mean,
    "ReduceL1": lambda b, x, axes, keep: ops.reduce_sum(b, ops.abs(b, x), axes, keep),
    "ReduceL2": _norm,
    "ReduceSumSquare": lambda b, x, axes, keep: ops.reduce_sum(b, ops.mul(b, x, x), axes, keep),
    "ReduceLogSum": lambda b, x, axes, keep: ops.log(b, ops.reduce_sum(b, x, axes, keep)),
    "ReduceLogSumExp": _log_sum_exp,
}
for _name, _make in _FOLDS.items():
    _reduction(_name, _make)


@onnx("ArgMax")
def _argmax(cx: Context, x: Value) -> Value:
    return _arg(cx, x, ops.argmax)


@onnx("ArgMin")
def _argmin(cx: Context, x: Value) -> Value:
    return _arg(cx, x, ops.argmin)


def _arg(cx: Context, x: Value, find: Callable[..., Value]) -> Value:
    axis, keep = cx.int("axis", 0), bool(cx.int("keepdims", 1))
    axis = axis + x.rank if axis < 0 else axis
    if not cx.int("select_last_index", 0):
        return find(cx.b, x, axis, keep)
    index = find(cx.b, ops.reverse(cx.b, x, (axis,)), axis, keep)
    last = ops.scalar(cx.b, simplify(x.shape[axis] - 1))
    return ops.sub(cx.b, last, index)


# ---- softmax -------------------------------------------------------------------------------------


def _softmax(name: str, build: Callable[[Any, Value, int], Value]) -> None:
    @onnx(name, since=13)
    def rule(cx: Context, x: Value) -> Value:
        return build(cx.b, x, cx.int("axis", -1))

    @onnx(name)
    def flattened(cx: Context, x: Value) -> Value:
        """Before version 13: over all axes from `axis` on, as one."""
        axis = cx.int("axis", 1)
        axis = axis + x.rank if axis < 0 else axis
        flat = (simplify(product(x.shape[:axis])), simplify(product(x.shape[axis:])))
        out = build(cx.b, ops.reshape(cx.b, x, flat), 1)
        return ops.reshape(cx.b, out, x.shape)


def _hardmax(b: Any, x: Value, axis: int) -> Value:
    axis = axis + x.rank if axis < 0 else axis
    first = ops.argmax(b, x, axis, True)
    return ops.cast(b, ops.eq(b, ops.iota(b, x.shape, axis), first), x.dtype)


_softmax("Softmax", ops.softmax)
_softmax("LogSoftmax", ops.log_softmax)
_softmax("Hardmax", _hardmax)


@onnx("LpNormalization")
def _lp_normalization(cx: Context, x: Value) -> Value:
    norm = ops.p_norm(cx.b, x, float(cx.int("p", 2)), (cx.int("axis", -1),), True)
    safe = ops.select(cx.b, ops.eq(cx.b, norm, 0), 1, norm)
    return ops.div(cx.b, x, safe)


@onnx("MeanVarianceNormalization")
def _mean_variance(cx: Context, x: Value) -> Value:
    axes = cx.ints("axes", (0, 2, 3))
    centred = ops.sub(cx.b, x, ops.mean(cx.b, x, axes, True))
    square = ops.mean(cx.b, ops.mul(cx.b, centred, centred), axes, True)
    return ops.div(cx.b, centred, ops.add(cx.b, ops.sqrt(cx.b, square), 1e-9))


# ---- losses --------------------------------------------------------------------------------------


@onnx("NegativeLogLikelihoodLoss")
def _nll(cx: Context, x: Value, target: Value, weight: Value | None = None) -> Value:
    return _likelihood(cx, x, target, weight)


def _likelihood(cx: Context, x: Value, target: Value, weight: Value | None) -> Value:
    """-log likelihood of the target classes along axis 1, weighted and reduced as told."""
    b = cx.b
    ignored = cx.get("ignore_index")
    place = target
    if ignored is not None:
        kept = ops.ne(b, target, int(ignored))
        place = ops.select(b, kept, target, 0)
    picked = ops.take_along_axis(b, x, ops.unsqueeze(b, place, 1), 1)
    loss = ops.neg(b, ops.reshape(b, picked, target.shape))
    share = None if weight is None else ops.take(b, weight, place)
    if ignored is not None:
        one = share if share is not None else ops.full(b, target.shape, 1, x.dtype)
        share = ops.select(b, kept, one, 0)
    if share is not None:
        loss = ops.mul(b, loss, share)
    how = cx.text("reduction", "mean")
    if how == "none":
        return loss
    total = ops.reduce_sum(b, loss)
    if how == "sum":
        return total
    if share is None:
        return ops.mean(b, loss)
    return ops.div(b, total, ops.reduce_sum(b, share))


@onnx("SoftmaxCrossEntropyLoss")
def _cross_entropy(cx: Context, x: Value, target: Value, weight: Value | None = None) -> Any:
    log_likelihood = ops.log_softmax(cx.b, x, 1)
    return _likelihood(cx, log_likelihood, target, weight), log_likelihood


# ---- windows -------------------------------------------------------------------------------------


def _window(name: str, coefficients: tuple[float, ...]) -> None:
    """A sum of cosines (Harris, 1978), of a size that is known."""

    @onnx(name, static=(0,))
    def rule(cx: Context, size: Array) -> Value:
        import numpy as np

        dtype = dtype_of(element_type(cx.int("output_datatype", 1)))
        n = int(size.reshape(-1)[0])
        if n < 0 or n > 1 << 24:
            raise UnsupportedError(f"a window of {n} elements")
        step = 2 * np.pi / max(n if cx.int("periodic", 1) else n - 1, 1)
        angle = ops.mul(cx.b, ops.iota(cx.b, (n,), 0, f32), float(step))
        out = ops.full(cx.b, (n,), coefficients[0], f32)
        for k, c in enumerate(coefficients[1:], 1):
            wave = ops.cos(cx.b, ops.mul(cx.b, angle, float(k)))
            out = ops.add(cx.b, out, ops.mul(cx.b, wave, c))
        return ops.cast(cx.b, out, dtype)


_window("HannWindow", (0.5, -0.5))
_window("HammingWindow", (25 / 46, -21 / 46))
_window("BlackmanWindow", (0.42, -0.5, 0.08))
