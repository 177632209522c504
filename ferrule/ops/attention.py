"""Attention: softmax(q k' * scale + mask) v, with a scale of 1 / sqrt(head size) if none is given.

    scores[.., i, j] = sum over r of q[.., i, r] * k[.., j, r]
    biased  = scores * scale, and the mask
    weights = exp(biased - max over j of biased)
    out[.., i, f] = sum over j of weights[.., i, j] * v[.., j, f] / sum over j of weights[.., i, j]

Kept whole so that fusion sees rows of scores that nobody else needs. Where it is causal the folds
over j end at i.
"""

from __future__ import annotations

import numpy as np

from ferrule.base.dtype import boolean
from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    call,
    cast,
    compare,
    const,
    load,
    maximum,
    select,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.monoids import PEAK, SUM
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Stage
from ferrule.ops.op import (
    Array,
    at,
    at_shape,
    broadcast,
    check_kind,
    define,
    element,
    folded,
    same_dtype,
    show_shape,
    show_types,
    stage,
    upcast,
)


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    q, k, v = types[:3]
    dtype = same_dtype("attention", types[:3])
    if (
        min(t.rank for t in (q, k, v)) < 2
        or not equal(q.shape[-1], k.shape[-1])
        or not equal(k.shape[-2], v.shape[-2])
    ):
        raise CompileError(
            f"attention takes q[.., L, E], k[.., S, E], v[.., S, F], got {show_types((q, k, v))}"
        )
    if dtype.kind != "f":
        raise CompileError(f"attention is defined on floats, got {show_types((q, k, v))}")
    lead = _lead(q, k, v, attrs["grouped"])
    if len(types) > 3:
        _check_mask(types[3], (*lead, q.shape[-2], k.shape[-2]))
    return tensor((*lead, q.shape[-2], v.shape[-1]), dtype)


def _lead(q: TensorType, k: TensorType, v: TensorType, grouped: bool) -> Shape:
    if not grouped:
        return broadcast((q.shape[:-2], k.shape[:-2], v.shape[:-2]))
    fits = q.rank == k.rank == v.rank and q.rank > 2
    for t in (k, v):
        fits = fits and all(map(equal, t.shape[:-3], q.shape[:-3]))
        fits = fits and equal(q.shape[-3] % t.shape[-3], ZERO)
    if not fits:
        raise CompileError(
            "grouped attention takes q, k and v with the same leading sizes, and heads of k and v "
            f"that divide those of q, got {show_types((q, k, v))}"
        )
    return q.shape[:-2]


def _check_mask(mask: TensorType, scores: Shape) -> None:
    """CompileError unless `mask` is bool or float and broadcasts to the scores."""
    check_kind("attention with a mask", mask, "fb")
    wide = broadcast((scores, mask.shape))
    if len(wide) != len(scores) or not all(map(equal, wide, scores)):
        raise CompileError(
            f"attention: a mask {mask} does not broadcast to the scores {show_shape(scores)}"
        )


def _at_heads(buf: Buf, lead: tuple[Expr, ...], grouped: bool) -> tuple[Expr, ...]:
    """The leading index of keys or values at the leading index of the result: `grouped`, heads
    share them.
    """
    if not grouped:
        return _at_lead(buf, lead)
    head = lead[-1]
    group = simplify(head.extent // buf.shape[-3])
    return (*lead[:-1], simplify(head // group))


def _at_lead(buf: Buf, lead: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return at_shape(buf.shape[:-2], lead)


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    q, k, v = ins[:3]
    mask = ins[3] if len(ins) > 3 else None
    (out,) = outs
    wide = q.dtype.compute
    rows = out.shape[:-1]
    shape = (*rows, k.shape[-2])
    scores, biased, weights = (ctx.buf(n, shape, wide) for n in ("scores", "biased", "weights"))
    top, total = (ctx.buf(n, rows, wide) for n in ("top", "total"))
    summed = ctx.buf("summed", out.shape, wide)
    axes = ctx.axes(shape)
    score = load(scores, *axes) * _scale(q, attrs)
    peak, row = load(top, *axes[:-1]), axes[-1:]
    seen = _seen(axes, attrs["causal"])
    at_out = ctx.axes(out.shape)
    return [
        *_product(ctx, scores, q, k, attrs["grouped"]),
        stage(biased, axes, _masked(score, mask, axes)),
        *folded(ctx, top, axes[:-1], load(biased, *axes), row, PEAK(wide), seen),
        stage(weights, axes, call("exp_nonpositive", load(biased, *axes) - _finite(peak))),
        *folded(ctx, total, axes[:-1], load(weights, *axes), row, SUM(wide), seen),
        *_weighted(ctx, summed, weights, v, attrs),
        stage(out, at_out, load(summed, *at_out) * _inverse(load(total, *at_out[:-1]))),
    ]


def _scale(q: Buf, attrs: Attrs) -> Expr | float:
    """The given scale, else 1 / sqrt(head size); scores of empty heads are 0 whatever it is."""
    if "scale" in attrs:
        return float(attrs["scale"])
    return call("rsqrt", cast(maximum(q.shape[-1], ONE), q.dtype.compute))


def _product(ctx: ComputeContext, scores: Buf, q: Buf, k: Buf, grouped: bool) -> list[Stage]:
    """scores[.., i, j] = sum over r of q[.., i, r] * k[.., j, r]."""
    *lead, i, j = axes = ctx.axes(scores.shape)
    (r,) = ctx.axes((q.shape[-1],), "r")
    at = tuple(lead)
    value = element(q, *_at_lead(q, at), i, r) * element(k, *_at_heads(k, at, grouped), j, r)
    return folded(ctx, scores, axes, value, (r,), SUM(value.dtype))


def _weighted(ctx: ComputeContext, summed: Buf, weights: Buf, v: Buf, attrs: Attrs) -> list[Stage]:
    """summed[.., i, f] = sum over j of weights[.., i, j] * v[.., j, f]."""
    *lead, i, f = axes = ctx.axes(summed.shape)
    (j,) = ctx.axes((v.shape[-2],), "j")
    at = tuple(lead)
    value = load(weights, *at, i, j) * element(v, *_at_heads(v, at, attrs["grouped"]), j, f)
    seen = _seen((*at, i, j), attrs["causal"])
    return folded(ctx, summed, axes, value, (j,), SUM(value.dtype), seen)


def _seen(axes: tuple[Expr, ...], causal: bool) -> Expr | None:
    """The guard of folds over the keys: row i goes up to key i. Scores past it are never read."""
    return compare("le", axes[-1], axes[-2]) if causal else None


def _finite(peak: Expr) -> Expr:
    """What to subtract from a row's scores: a row that is masked whole has no peak."""
    zero = const(0, peak.dtype)
    return select(compare("eq", peak, const(-np.inf, peak.dtype)), zero, peak)


def _inverse(total: Expr) -> Expr:
    """1 / total; 0 for a row that is masked whole, whose result is 0 in PyTorch too."""
    zero = const(0, total.dtype)
    return select(compare("eq", total, zero), zero, 1.0 / total)


def _masked(score: Expr, mask: Buf | None, axes: tuple[Expr, ...]) -> Expr:
    if mask is None:
        return score
    m = load(mask, *at(mask, axes))
    if mask.dtype == boolean:
        return select(m, score, const(-np.inf, score.dtype))
    return score + cast(m, score.dtype)


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    q, k, v = (upcast(a) for a in arrays[:3])
    dtype = q.dtype
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    if attrs["grouped"]:
        k, v = (np.repeat(a, q.shape[-3] // a.shape[-3], axis=-3) for a in (k, v))
    scale = attrs.get("scale", max(q.shape[-1], 1) ** -0.5)
    s = np.matmul(q, np.swapaxes(k, -1, -2)) * scale
    if len(arrays) > 3:
        mask = arrays[3]
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + upcast(mask)
    if attrs["causal"]:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(top == -np.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    return (np.matmul(e, v) / np.where(total == 0, 1, total)).astype(dtype)


define("attention", _infer, _meaning, _compute)


def attention(
    b: GraphBuilder,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    scale: float | None = 1.0,
    causal: bool = False,
    grouped: bool = False,
) -> Value:
    """Scaled dot-product attention (Vaswani et al., 2017) of q[.., L, E], k[.., S, E], v[.., S, F].

    A bool mask keeps where it is true, any other is added to the scores; `causal` keeps keys up to
    the query's own position; with `grouped`, axis -3 of k and v divides that of q, and each of
    their heads serves a group of those of q. Without a scale (None) it is 1 / sqrt(E).
    """
    if scale is None and q.shape[-1].is_const:
        scale = max(q.shape[-1].value, 1) ** -0.5
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    number = None if scale is None else float(scale)
    return b.emit("attention", *operands, scale=number, causal=causal, grouped=grouped)
