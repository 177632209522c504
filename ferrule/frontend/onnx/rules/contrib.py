"""ONNX rules: the operators of com.microsoft that real exports hold, as ONNX Runtime says."""

from __future__ import annotations

import math
from typing import Any

from ferrule import ops
from ferrule.base.dtype import f32, i32, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.rules.attention import join_heads, rotated, split_heads
from ferrule.frontend.onnx.rules.integer import Operand, matmul, operand
from ferrule.frontend.onnx.rules.nn import conv, rms_norm
from ferrule.frontend.onnx.rules.quant import dynamic_quantize, rescaled
from ferrule.frontend.onnx.table import MICROSOFT, Context, onnx
from ferrule.ir.expr import ONE
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Maybe = Value | None


# ---- products and activations --------------------------------------------------------------------


@onnx("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def _fused_matmul(cx: Context, x: Value, y: Value) -> Value:
    x = _turned(cx, x, cx.int("transA", 0), cx.int("transBatchA", 0))
    y = _turned(cx, y, cx.int("transB", 0), cx.int("transBatchB", 0))
    return ops.scaled(cx.b, ops.matmul(cx.b, x, y), cx.float("alpha", 1.0))


def _turned(cx: Context, x: Value, last: int, batch: int) -> Value:
    """x with its last two axes exchanged, and before that its first moved next to the last."""
    if x.rank < 2:
        return x
    order = list(range(x.rank))
    if batch:
        order = [*order[1:-1], 0, order[-1]]
    if last:
        order[-2:] = order[:-3:-1]
    return ops.transpose(cx.b, x, order)


@onnx("FusedGemm", domain=MICROSOFT)
def _fused_gemm(cx: Context, x: Value, y: Value, bias: Maybe = None) -> Value:
    x = ops.transpose(cx.b, x, (1, 0)) if cx.int("transA", 0) else x
    y = ops.transpose(cx.b, y, (1, 0)) if cx.int("transB", 0) else y
    out = ops.scaled(cx.b, ops.matmul(cx.b, x, y), cx.float("alpha", 1.0))
    if bias is not None:
        out = ops.add(cx.b, out, ops.scaled(cx.b, bias, cx.float("beta", 1.0)))
    return _activated(cx, out, cx.text("activation", ""))


@onnx("FusedConv", domain=MICROSOFT)
def _fused_conv(cx: Context, x: Value, w: Value, bias: Maybe = None, z: Maybe = None) -> Value:
    y = conv(cx, x, w, bias)
    y = y if z is None else ops.add(cx.b, y, z)
    return _activated(cx, y, cx.text("activation", ""))


def _activated(cx: Context, x: Value, name: str) -> Value:
    parameters = cx.floats("activation_params", ())
    if name in ("LeakyRelu", "Clip", "HardSigmoid") and parameters:
        first, second = (*parameters, 0.0)[:2]
        if name == "LeakyRelu":
            return ops.leaky_relu(cx.b, x, first)
        if name == "Clip":
            return ops.clamp(cx.b, x, first, second)
        return ops.clamp(cx.b, ops.add(cx.b, ops.mul(cx.b, x, first), second), 0, 1)
    plain = {"": lambda b, v: v, "Relu": ops.relu, "Tanh": ops.tanh, "Sigmoid": ops.sigmoid}
    if name not in plain:
        raise UnsupportedError(f"the activation {name!r} is not known")
    return plain[name](cx.b, x)


@onnx("Gelu", domain=MICROSOFT)
def _gelu(cx: Context, x: Value) -> Value:
    return ops.gelu(cx.b, x)


@onnx("BiasGelu", domain=MICROSOFT)
def _bias_gelu(cx: Context, x: Value, bias: Value) -> Value:
    return ops.gelu(cx.b, ops.add(cx.b, x, bias))


@onnx("FastGelu", domain=MICROSOFT)
def _fast_gelu(cx: Context, x: Value, bias: Maybe = None) -> Value:
    return ops.gelu(cx.b, x if bias is None else ops.add(cx.b, x, bias), "tanh")


@onnx("QuickGelu", domain=MICROSOFT)
def _quick_gelu(cx: Context, x: Value) -> Value:
    scaled = ops.mul(cx.b, x, cx.float("alpha", 1.702))
    return ops.mul(cx.b, x, ops.sigmoid(cx.b, scaled))


# ---- normalisation -------------------------------------------------------------------------------


@onnx("SimplifiedLayerNormalization")
@onnx("SimplifiedLayerNormalization", domain=MICROSOFT)
def _simplified(cx: Context, x: Value, scale: Value) -> Value:
    return rms_norm(cx, x, scale)


@onnx("SkipLayerNormalization", domain=MICROSOFT)
def _skip_norm(
    cx: Context, x: Value, skip: Value, gamma: Value, beta: Maybe = None, bias: Maybe = None
) -> Any:
    total = _summed(cx, x, skip, bias)
    eps = cx.float("epsilon", 1e-12)
    y = ops.layer_norm(cx.b, total, gamma, beta, axes=1, eps=eps)
    mean, rstd = ops.layer_norm_stats(cx.b, total, axes=1, eps=eps)
    return y, mean, rstd, total


@onnx("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _skip_simplified(cx: Context, x: Value, skip: Value, gamma: Value, bias: Maybe = None) -> Any:
    if cx.wants(1) or cx.wants(2):
        raise UnsupportedError("the statistics of SkipSimplifiedLayerNormalization")
    total = _summed(cx, x, skip, bias)
    y = ops.rms_norm(cx.b, total, gamma, axes=1, eps=cx.float("epsilon", 1e-12))
    return y, total, total, total


def _summed(cx: Context, x: Value, skip: Value, bias: Maybe) -> Value:
    total = ops.add(cx.b, x, skip)
    return total if bias is None else ops.add(cx.b, total, bias)


@onnx("EmbedLayerNormalization", domain=MICROSOFT)
def _embed_norm(
    cx: Context, ids: Value, segments: Maybe, words: Value, places: Value, kinds: Maybe,
    gamma: Value, beta: Value, mask: Maybe = None, place_ids: Maybe = None,
) -> Any:  # fmt: skip
    b = cx.b
    total = ops.take(b, words, ids)
    if place_ids is None:
        own = ops.slice_axis(b, places, 0, 0, ids.shape[1])
    else:
        own = ops.take(b, places, place_ids)
    total = ops.add(b, total, own)
    if segments is not None and kinds is not None:
        total = ops.add(b, total, ops.take(b, kinds, segments))
    y = ops.layer_norm(b, total, gamma, beta, axes=1, eps=cx.float("epsilon", 1e-12))
    if mask is None:
        count = ops.full(b, (ids.shape[0],), 0, i32)
    else:
        count = ops.reduce_sum(b, ops.cast(b, mask, i32), (1,))
    return y, count, total


# ---- attention -----------------------------------------------------------------------------------


@onnx("Attention", domain=MICROSOFT)
def _attention(
    cx: Context, x: Value, w: Value, bias: Maybe = None, mask: Maybe = None, past: Maybe = None,
    added: Maybe = None, *rest: Maybe,
) -> Any:  # fmt: skip
    b, heads = cx.b, cx.int("num_heads")
    if cx.int("do_rotary", 0) or any(v is not None for v in rest):
        raise UnsupportedError("Attention with rotation or a shared buffer")
    packed = ops.matmul(b, x, w)
    packed = packed if bias is None else ops.add(b, packed, bias)
    third = simplify(w.shape[1] // 3)
    widths = cx.ints("qkv_hidden_sizes", ()) or (third, third, third)
    q, k, v = (split_heads(cx, part, heads) for part in ops.split(b, packed, widths, 2))
    present = None
    before = None
    if past is not None:
        before = past.shape[3]
        old_k, old_v = (ops.select_index(b, past, 0, i) for i in (0, 1))
        k, v = ops.concat(b, (old_k, k), 2), ops.concat(b, (old_v, v), 2)
    if cx.wants(1):
        present = ops.stack(b, (k, v), 0)
    bias_sum = _bias(cx, q, k, mask, added, before)
    y = ops.attention(b, q, k, v, bias_sum, scale=_scale(cx, q))
    return join_heads(cx, y), present if present is not None else y


def _scale(cx: Context, q: Value) -> float:
    given = cx.float("scale", 0.0)
    if given:
        return given
    if not q.shape[-1].is_const:
        raise UnsupportedError("attention with a symbolic head size")
    return 1 / math.sqrt(q.shape[-1].value)


def _bias(cx: Context, q: Value, k: Value, mask: Maybe, added: Maybe, before: Any) -> Maybe:
    """All masks as one that is added to the scores."""
    b = cx.b
    allowed = None if mask is None else _allowed(cx, mask, k)
    if cx.int("unidirectional", 0):
        row = ops.iota(b, (ONE, ONE, q.shape[2], ONE), 2)
        if before is not None:
            row = ops.add(b, row, ops.scalar(b, before))
        order = ops.le(b, ops.iota(b, (ONE, ONE, ONE, k.shape[2]), 3), row)
        allowed = order if allowed is None else ops.logical_and(b, allowed, order)
    if allowed is None:
        return added
    filler = ops.full(b, (), cx.float("mask_filter_value", -10000.0), q.dtype)
    out = ops.select(b, allowed, ops.full(b, (), 0, q.dtype), filler)
    return out if added is None else ops.add(b, out, added)


def _allowed(cx: Context, mask: Value, k: Value) -> Value:
    """A mask of lengths [batch], keys [batch, keys] or pairs [batch, queries, keys], as bools."""
    b = cx.b
    if mask.rank == 1:
        length = ops.reshape(b, ops.cast(b, mask, i64), (mask.shape[0], 1, 1, 1))
        return ops.lt(b, ops.iota(b, (ONE, ONE, ONE, k.shape[2]), 3), length)
    if mask.rank not in (2, 3):
        raise UnsupportedError(f"Attention with a mask {mask.type}")
    axes = (1, 1) if mask.rank == 2 else (1,)
    wide = ops.ne(b, mask, 0)
    for d in axes:
        wide = ops.unsqueeze(b, wide, d)
    return wide


@onnx("MultiHeadAttention", domain=MICROSOFT)
def _multi_head(
    cx: Context, q: Value, k: Maybe = None, v: Maybe = None, bias: Maybe = None,
    mask: Maybe = None, added: Maybe = None, past_k: Maybe = None, past_v: Maybe = None,
    *rest: Maybe,
) -> Any:  # fmt: skip
    b, heads = cx.b, cx.int("num_heads")
    if k is None or v is None or q.rank != 3 or any(x is not None for x in rest):
        raise UnsupportedError("MultiHeadAttention of packed operands or a shared buffer")
    if bias is not None:
        own = q.shape[2]
        parts = ops.split(b, bias, (own, own, simplify(bias.shape[0] - own * 2)), 0)
        q, k, v = (x if x.rank == 4 else ops.add(b, x, p) for x, p in zip((q, k, v), parts))
    q = split_heads(cx, q, heads)
    k, v = (x if x.rank == 4 else split_heads(cx, x, heads) for x in (k, v))
    before = None
    if past_k is not None and past_v is not None:
        before = past_k.shape[2]
        k, v = ops.concat(b, (past_k, k), 2), ops.concat(b, (past_v, v), 2)
    y = ops.attention(b, q, k, v, _bias(cx, q, k, mask, added, before), scale=_scale(cx, q))
    return join_heads(cx, y), k, v


@onnx("RotaryEmbedding", domain=MICROSOFT)
def _rotary(cx: Context, x: Value, places: Value, cos: Value, sin: Value) -> Value:
    b, flat = cx.b, x.rank == 3
    heads = cx.int("num_heads", 0)
    if flat and not heads:
        count = simplify(x.shape[2] // simplify(cos.shape[1] * 2))
        if not count.is_const:
            raise UnsupportedError("RotaryEmbedding of a symbolic number of heads")
        heads = int(count.value)
    y = split_heads(cx, x, heads) if flat else x
    if places.rank == 1:
        steps = ops.iota(b, (ONE, y.shape[2]), 1)
        places = ops.add(b, steps, ops.cast(b, ops.unsqueeze(b, places, 0), i64))
    out = rotated(cx, y, ops.take(b, cos, places), ops.take(b, sin, places))
    return join_heads(cx, out) if flat else out


# ---- quantised -----------------------------------------------------------------------------------


def _real(cx: Context, x: Value, scale: Value, zero: Maybe) -> Value:
    """What a quantised tensor of one scale stands for."""
    wide = ops.cast(cx.b, operand(cx, x, zero).centred(cx, x.rank - 1), f32)
    return ops.mul(cx.b, wide, ops.reshape(cx.b, scale, ()))


def _quantised(cx: Context, y: Value, scale: Value, zero: Maybe, like: Value) -> Value:
    dtype = like.dtype if zero is None else zero.dtype
    one = ops.full(cx.b, (), 1.0, f32)
    factor = ops.div(cx.b, one, ops.reshape(cx.b, scale, ()))
    return rescaled(cx, y, factor, zero, dtype)


def _pairwise(name: str, build: Any) -> None:
    @onnx(name, domain=MICROSOFT)
    def rule(
        cx: Context, x: Value, x_scale: Value, x_zero: Maybe, y: Value, y_scale: Value,
        y_zero: Maybe, scale: Value, zero: Maybe = None,
    ) -> Value:  # fmt: skip
        out = build(cx.b, _real(cx, x, x_scale, x_zero), _real(cx, y, y_scale, y_zero))
        return _quantised(cx, out, scale, zero, x)


_pairwise("QLinearAdd", ops.add)
_pairwise("QLinearMul", ops.mul)


def _single(name: str, build: Any) -> None:
    @onnx(name, domain=MICROSOFT)
    def rule(
        cx: Context, x: Value, x_scale: Value, x_zero: Maybe, scale: Value, zero: Maybe = None
    ) -> Value:
        return _quantised(cx, build(cx, _real(cx, x, x_scale, x_zero)), scale, zero, x)


_single("QLinearSigmoid", lambda cx, x: ops.sigmoid(cx.b, x))
_single("QLinearLeakyRelu", lambda cx, x: ops.leaky_relu(cx.b, x, cx.float("alpha", 0.01)))
_single("QLinearSoftmax", lambda cx, x: ops.softmax(cx.b, x, cx.int("axis", -1)))


@onnx("QLinearGlobalAveragePool", domain=MICROSOFT)
def _global_average(
    cx: Context, x: Value, x_scale: Value, x_zero: Maybe, scale: Value, zero: Maybe = None
) -> Value:
    axes = tuple(range(1, x.rank - 1)) if cx.int("channels_last", 0) else tuple(range(2, x.rank))
    y = ops.mean(cx.b, _real(cx, x, x_scale, x_zero), axes, True)
    return _quantised(cx, y, scale, zero, x)


@onnx("QLinearConcat", domain=MICROSOFT)
def _concat(cx: Context, scale: Value, zero: Value, *parts: Value) -> Value:
    triples = zip(parts[0::3], parts[1::3], parts[2::3])
    each = [_quantised(cx, _real(cx, *t), scale, zero, t[0]) for t in triples]
    return ops.concat(cx.b, each, cx.int("axis"))


@onnx("MatMulIntegerToFloat", domain=MICROSOFT)
def _matmul_to_float(
    cx: Context, x: Value, y: Value, x_scale: Value, y_scale: Value, x_zero: Maybe = None,
    y_zero: Maybe = None, bias: Maybe = None,
) -> Value:  # fmt: skip
    left, right = operand(cx, x, x_zero, 0, 4), operand(cx, y, y_zero, 1, 5)
    return _scaled_product(cx, left, right, x_scale, y_scale, bias)


def _scaled_product(
    cx: Context, x: Operand, y: Operand, x_scale: Value, y_scale: Value, bias: Maybe
) -> Value:
    total = ops.cast(cx.b, matmul(cx, x, y), f32)
    factor = ops.mul(cx.b, ops.reshape(cx.b, x_scale, ()), y_scale)
    out = ops.mul(cx.b, total, factor)
    return out if bias is None else ops.add(cx.b, out, bias)


@onnx("DynamicQuantizeMatMul", domain=MICROSOFT)
def _dynamic_matmul(
    cx: Context, x: Value, y: Value, y_scale: Value, y_zero: Maybe = None, bias: Maybe = None
) -> Value:
    small, scale, zero = dynamic_quantize(cx, x)
    right = operand(cx, y, y_zero, 1, 3)
    return _scaled_product(cx, operand(cx, small, zero), right, scale, y_scale, bias)


@onnx("QGemm", domain=MICROSOFT)
def _qgemm(
    cx: Context, x: Value, x_scale: Value, x_zero: Value, y: Value, y_scale: Value, y_zero: Value,
    bias: Maybe = None, scale: Maybe = None, zero: Maybe = None,
) -> Value:  # fmt: skip
    b = cx.b
    left, right = operand(cx, x, x_zero, 0, 2), operand(cx, y, y_zero, 3, 5)
    left = left.turned(cx) if cx.int("transA", 0) else left
    right = right.turned(cx) if cx.int("transB", 0) else right
    total = matmul(cx, left, right)
    total = total if bias is None else ops.add(b, total, bias)
    factor = ops.mul(b, ops.reshape(b, x_scale, ()), y_scale)
    factor = ops.scaled(b, factor, cx.float("alpha", 1.0))
    if scale is None or zero is None:
        return ops.mul(b, ops.cast(b, total, f32), factor)
    factor = ops.div(b, factor, ops.reshape(b, scale, ()))
    return rescaled(cx, total, factor, zero, zero.dtype)
