"""ONNX rules: attention in its variants, rotary embedding, linear attention, causal convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import f32, i64
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.onnx.table import Context, dtype_of, element_type, onnx
from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, simplify

INNER = "ferrule"  # the domain of operators that expansions use


def split_heads(cx: Context, x: Value, heads: int) -> Value:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    n, length, width = x.shape
    y = ops.reshape(cx.b, x, (n, length, heads, simplify(width // heads)))
    return ops.transpose(cx.b, y, (0, 2, 1, 3))


def join_heads(cx: Context, x: Value) -> Value:
    """The inverse of split_heads."""
    n, heads, length, size = x.shape
    y = ops.transpose(cx.b, x, (0, 2, 1, 3))
    return ops.reshape(cx.b, y, (n, length, simplify(heads * size)))


# ---- Attention -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operands:
    """What attention works on: 4-d tensors, what is masked out, and what is added to the scores."""

    q: Value
    k: Value
    v: Value
    allowed: Value | None
    bias: Value | None


@onnx("Attention", since=23)
def _attention(
    cx: Context, q: Value, k: Value, v: Value, mask: Value | None = None,
    past_k: Value | None = None, past_v: Value | None = None, valid: Value | None = None,
) -> Any:  # fmt: skip
    flat = q.rank == 3
    if flat:
        heads, shared = cx.int("q_num_heads"), cx.int("kv_num_heads")
        q, k, v = split_heads(cx, q, heads), split_heads(cx, k, shared), split_heads(cx, v, shared)
    past = None if past_k is None else past_k.shape[2]
    if past_k is not None and past_v is not None:
        k, v = ops.concat(cx.b, (past_k, k), 2), ops.concat(cx.b, (past_v, v), 2)
    x = Operands(q, k, v, *_masks(cx, q, k, mask, past, valid))
    given = cx.float("scale") if cx.has("scale") else _scale(q)
    y, scores = _attended(cx, x, given)
    return join_heads(cx, y) if flat else y, k, v, scores


def _scale(q: Value) -> float:
    if not q.shape[-1].is_const:
        raise UnsupportedError("attention with a symbolic head size")
    return 1 / math.sqrt(q.shape[-1].value or 1)


def _masks(
    cx: Context, q: Value, k: Value, mask: Value | None, past: Expr | None, valid: Value | None
) -> tuple[Value | None, Value | None]:
    """(which scores take part, what is added to them): each broadcasts to the scores."""
    allowed: Value | None = None
    bias: Value | None = None
    if mask is not None:
        mask = _full_width(cx, mask, k.shape[2])
        allowed, bias = (mask, None) if mask.dtype.is_bool else (None, mask)
    for rule in _windows(cx, q, k, past, valid):
        allowed = rule if allowed is None else ops.logical_and(cx.b, allowed, rule)
    return allowed, bias


def _full_width(cx: Context, mask: Value, width: Expr) -> Value:
    """A mask whose last axis may be shorter than the keys: the rest is masked out."""
    missing = simplify(width - mask.shape[-1])
    if equal(mask.shape[-1], width) or mask.shape[-1] is ONE:
        return mask
    fill = 0.0 if mask.dtype.is_bool else -math.inf
    none = [0] * (mask.rank - 1)
    return ops.pad(cx.b, mask, (*none, 0), (*none, missing), fill)


def _windows(
    cx: Context, q: Value, k: Value, past: Expr | None, valid: Value | None
) -> list[Value]:
    """Where a query sees a key: by order, by a sliding window, by the number of valid keys."""
    b, out = cx.b, []
    causal = bool(cx.int("is_causal", 0))
    left, right = cx.int("left_window_size", -1), cx.int("right_window_size", -1)
    key = ops.iota(b, (ONE, ONE, ONE, k.shape[2]), 3)
    lengths = None
    if valid is not None:
        lengths = ops.reshape(b, ops.cast(b, valid, i64), (valid.shape[0], 1, 1, 1))
    if causal or left >= 0 or right >= 0:
        place = ops.iota(b, (ONE, ONE, q.shape[2], ONE), 2)
        if past is not None:
            place = ops.add(b, place, ops.scalar(b, past))
        elif lengths is not None and cx.version >= 24:
            before = ops.sub(b, lengths, ops.scalar(b, q.shape[2]))
            place = ops.add(b, place, before)
        ahead = ops.sub(b, key, place)
        out += [ops.le(b, ahead, 0)] if causal else []
        out += [ops.le(b, ops.neg(b, ahead), left)] if left >= 0 else []
        out += [ops.le(b, ahead, right)] if right >= 0 else []
    if lengths is not None:
        out.append(ops.lt(b, key, lengths))
    return out


def _attended(cx: Context, x: Operands, scale: float) -> tuple[Value, Value]:
    """(the result, the scores that the node gives)."""
    softcap, mode = cx.float("softcap", 0.0), cx.int("qk_matmul_output_mode", 0)
    if not softcap and not cx.wants(3) and (x.allowed is None or x.bias is None):
        return _fused(cx, x, scale), x.q
    scores, biased, weights = _scored(cx, x, scale, softcap)
    given = {0: scores, 1: scores, 2: biased, 3: weights}.get(mode, scores)
    v = _repeated(cx, x.v, x.q)
    y = ops.matmul(cx.b, ops.cast(cx.b, weights, v.dtype), v)
    return y, ops.cast(cx.b, given, x.q.dtype)


def _fused(cx: Context, x: Operands, scale: float) -> Value:
    mask = x.allowed if x.allowed is not None else x.bias
    if mask is not None and mask.dtype.is_float and mask.dtype != x.q.dtype:
        mask = ops.cast(cx.b, mask, x.q.dtype)
    grouped = not equal(x.q.shape[1], x.k.shape[1])
    return ops.attention(cx.b, x.q, x.k, x.v, mask, scale=scale, grouped=grouped)


def _scored(cx: Context, x: Operands, scale: float, softcap: float) -> tuple[Value, Value, Value]:
    """(scores, scores with masks, their softmax), in the precision that is asked for."""
    b = cx.b
    precision = element_type(cx.int("softmax_precision")) if cx.has("softmax_precision") else None
    wide = x.q.dtype.compute if precision is None else dtype_of(precision)
    wide = wide if wide.bits >= x.q.dtype.compute.bits else x.q.dtype.compute
    q = ops.cast(b, x.q, wide)
    k = ops.cast(b, _repeated(cx, x.k, x.q), wide)
    scores = ops.mul(b, ops.matmul(b, q, ops.transpose(b, k, (0, 1, 3, 2))), scale)
    if softcap:
        scores = ops.mul(b, ops.tanh(b, ops.div(b, scores, softcap)), softcap)
    biased = scores
    if x.bias is not None:
        biased = ops.add(b, biased, ops.cast(b, x.bias, wide))
    if x.allowed is not None:
        biased = ops.select(b, x.allowed, biased, -math.inf)
    top = ops.reduce_max(b, biased, (3,), True)
    top = ops.select(b, ops.eq(b, top, -math.inf), 0, top)
    e = ops.exp(b, ops.sub(b, biased, top))
    total = ops.reduce_sum(b, e, (3,), True)
    weights = ops.div(b, e, ops.select(b, ops.eq(b, total, 0), 1, total))
    return scores, biased, weights


def _repeated(cx: Context, x: Value, q: Value) -> Value:
    """Keys or values with each head repeated for the queries' heads that share it."""
    heads, own = q.shape[1], x.shape[1]
    if equal(heads, own):
        return x
    times = simplify(heads // own)
    if not equal(times * own, heads):
        raise CompileError(f"attention of {heads} heads with {own} heads of keys and values")
    n, _, length, size = x.shape
    wide = ops.expand(cx.b, ops.unsqueeze(cx.b, x, 2), (n, own, times, length, size))
    return ops.reshape(cx.b, wide, (n, heads, length, size))


@onnx("FlexScores", domain=INNER)
def _flex_scores(cx: Context, q: Value, k: Value) -> Value:
    """The scaled scores of FlexAttention, in its softmax's precision."""
    default = dtype_of(np.float64) if q.dtype.bits == 64 else f32
    given = cx.has("softmax_precision")
    wide = dtype_of(element_type(cx.int("softmax_precision"))) if given else default
    scale = cx.float("scale") if cx.has("scale") else _scale(q)
    k = ops.transpose(cx.b, _repeated(cx, k, q), (0, 1, 3, 2))
    product = ops.matmul(cx.b, ops.cast(cx.b, q, f32 if wide.bits < 32 else wide),
                         ops.cast(cx.b, k, f32 if wide.bits < 32 else wide))  # fmt: skip
    return ops.cast(cx.b, ops.mul(cx.b, product, scale), wide)


@onnx("FlexValues", domain=INNER)
def _flex_values(cx: Context, weights: Value, q: Value, v: Value) -> Value:
    """The weighted sum of FlexAttention."""
    return ops.matmul(cx.b, ops.cast(cx.b, weights, v.dtype), _repeated(cx, v, q))


# ---- RotaryEmbedding -----------------------------------------------------------------------------


@onnx("RotaryEmbedding", since=23)
def _rotary(cx: Context, x: Value, cos: Value, sin: Value, places: Value | None = None) -> Value:
    y = split_heads(cx, x, cx.int("num_heads")) if x.rank == 3 else x
    if places is not None:
        cos, sin = ops.take(cx.b, cos, places), ops.take(cx.b, sin, places)
    out = rotated(cx, y, cos, sin)
    return join_heads(cx, out) if x.rank == 3 else out


def rotated(cx: Context, y: Value, cos: Value, sin: Value) -> Value:
    """y [batch, heads, length, size] with pairs of elements turned (Su et al., 2021) by the angles
    whose cosines and sines are [batch, length, pairs]; what has no angle stays.
    """
    b = cx.b
    if not y.shape[3].is_const:
        raise UnsupportedError("RotaryEmbedding with a symbolic head size")
    size = int(y.shape[3].value)
    turned = cx.int("rotary_embedding_dim", 0) or size
    cos, sin = ops.unsqueeze(b, cos, 1), ops.unsqueeze(b, sin, 1)
    part, half = ops.slice_axis(b, y, 3, 0, turned), turned // 2
    if cx.int("interleaved", 0):
        pairs = ops.reshape(b, part, (*part.shape[:3], half, 2))
        first, second = (ops.select_index(b, pairs, 4, i) for i in (0, 1))
    else:
        first, second = ops.split(b, part, (half, half), 3)
    real = ops.sub(b, ops.mul(b, cos, first), ops.mul(b, sin, second))
    imaginary = ops.add(b, ops.mul(b, sin, first), ops.mul(b, cos, second))
    if cx.int("interleaved", 0):
        out = ops.reshape(b, ops.stack(b, (real, imaginary), 4), part.shape)
    else:
        out = ops.concat(b, (real, imaginary), 3)
    rest = ops.slice_axis(b, y, 3, turned, size)
    return ops.concat(b, (out, rest), 3) if turned < size else out


# ---- linear attention ----------------------------------------------------------------------------

_STEPS = 512


@onnx("LinearAttention")
def _linear_attention(
    cx: Context, q: Value, k: Value, v: Value, past: Value | None = None,
    decay: Value | None = None, beta: Value | None = None,
) -> Any:  # fmt: skip
    """The recurrence, one step after another (Katharopoulos et al., 2020; Yang et al., 2024)."""
    b, heads, shared = cx.b, cx.int("q_num_heads"), cx.int("kv_num_heads")
    steps = q.shape[1]
    if not steps.is_const or steps.value > _STEPS:
        raise UnsupportedError(f"LinearAttention over more than {_STEPS} or a symbolic number")
    kept = q.dtype if past is None else past.dtype
    wide = [
        ops.cast(b, split_heads(cx, x, n), f32) for x, n in ((q, heads), (k, shared), (v, shared))
    ]
    q4, k4, v4 = wide
    size = (q.shape[0], shared, k4.shape[3], v4.shape[3])
    state = ops.full(b, size, 0, f32) if past is None else ops.cast(b, past, f32)
    scale = cx.float("scale", 0.0) or _scale(q4)
    gates = None if decay is None else ops.exp(b, ops.cast(b, split_heads(cx, decay, shared), f32))
    rates = None if beta is None else ops.cast(b, ops.transpose(b, beta, (0, 2, 1)), f32)
    out = []
    for t in range(int(steps.value)):
        row, key, value = (ops.select_index(b, x, 2, t) for x in (q4, k4, v4))
        if gates is not None:
            gate = ops.unsqueeze(b, ops.select_index(b, gates, 2, t), 3)
            state = ops.mul(b, state, gate)
        column = ops.unsqueeze(b, key, 3)
        if rates is not None:
            held = ops.reduce_sum(b, ops.mul(b, state, column), (2,))
            rate = ops.unsqueeze(b, ops.select_index(b, rates, 2, t), 2)
            value = ops.mul(b, rate, ops.sub(b, value, held))
        state = ops.add(b, state, ops.mul(b, column, ops.unsqueeze(b, value, 2)))
        read = _repeated(cx, state, ops.unsqueeze(b, row, 2))
        total = ops.reduce_sum(b, ops.mul(b, ops.unsqueeze(b, row, 3), read), (2,))
        out.append(ops.mul(b, total, scale))
    y = ops.stack(b, out, 2)
    return ops.cast(b, join_heads(cx, y), q.dtype), ops.cast(b, state, kept)


@onnx("CausalConvWithState")
def _causal_conv(
    cx: Context, x: Value, w: Value, bias: Value | None = None, past: Value | None = None
) -> Any:
    b, k = cx.b, w.shape[2]
    if not k.is_const or not x.shape[1].is_const:
        raise UnsupportedError("CausalConvWithState with a symbolic window or channels")
    lead = int(k.value) - 1
    if past is None:
        past = ops.full(b, (x.shape[0], x.shape[1], lead), 0, x.dtype)
    wide = ops.concat(b, (past, x), 2) if lead else x
    y = ops.conv(b, wide, w, bias, groups=int(x.shape[1].value))
    if cx.text("activation", "none") in ("silu", "swish"):
        y = ops.silu(b, y)
    length = wide.shape[2]
    return y, ops.slice_axis(b, wide, 2, simplify(length - lead), length)


__all__ = ["INNER", "join_heads", "split_heads"]
