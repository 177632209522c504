"""Attention: softmax(q k' * scale + mask) v, kept whole so that fusion sees rows of scores that nobody else needs."""

from __future__ import annotations

import numpy as np

from ferrule.base.dtype import boolean
from ferrule.base.errors import CompileError
from ferrule.ir.compute import Stage
from ferrule.ir.expr import Buf, Expr, call, cast, compare, const, load, select
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.monoids import MAX, SUM
from ferrule.ir.simplify import equal, simplify
from ferrule.ops.op import (
    Array,
    at,
    broadcast,
    define,
    element,
    folded,
    same_dtype,
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
    return tensor((*_lead(q, k, v, attrs["grouped"]), q.shape[-2], v.shape[-1]), dtype)


def _lead(q: TensorType, k: TensorType, v: TensorType, grouped: bool) -> tuple[Expr, ...]:
    return q.shape[:-2] if grouped else broadcast((q.shape[:-2], k.shape[:-2], v.shape[:-2]))


def _grouped(buf: Buf, lead: tuple[Expr, ...], grouped: bool) -> tuple[Expr, ...]:
    """The leading index of a key or value buffer: heads in groups share one."""
    if not grouped:
        return at_lead(buf, lead)
    head = lead[-1]
    per = simplify(head.extent // buf.shape[-3])
    return (*lead[:-1], simplify(head // per))


def at_lead(buf: Buf, lead: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return at(Buf(buf.name, buf.shape[:-2], buf.dtype), lead)


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    q, k, v = ins[:3]
    mask = ins[3] if len(ins) > 3 else None
    out = outs[0]
    wide = q.dtype.compute
    rows = (*out.shape[:-1],)
    scores_shape = (*rows, k.shape[-2])
    scores = ctx.buf("scores", scores_shape, wide)
    *lead, i, j = ctx.axes(scores_shape)
    at_rows = tuple(lead)
    (r,) = ctx.axes((q.shape[-1],), "r")
    product = element(q, *at_lead(q, at_rows), i, r) * element(
        k, *_grouped(k, at_rows, attrs["grouped"]), j, r
    )
    stages = folded(ctx, scores, (*at_rows, i, j), product, (r,), SUM(wide))
    biased = ctx.buf("biased", scores_shape, wide)
    axes = ctx.axes(scores_shape)
    stages.append(
        stage(
            biased, axes, _masked(load(scores, *axes) * attrs["scale"], mask, axes, attrs["causal"])
        )
    )
    top = ctx.buf("top", rows, wide)
    *at_row, j = ctx.axes(scores_shape)
    stages += folded(ctx, top, tuple(at_row), load(biased, *at_row, j), (j,), MAX(wide))
    weights = ctx.buf("weights", scores_shape, wide)
    axes = ctx.axes(scores_shape)
    peak = load(top, *axes[:-1])
    # A row that is masked whole has no peak to subtract: its weights are all 0.
    floor = const(-np.inf, wide)
    stages.append(
        stage(
            weights,
            axes,
            call(
                "exp",
                load(biased, *axes) - select(compare("eq", peak, floor), const(0, wide), peak),
            ),
        )
    )
    total = ctx.buf("total", rows, wide)
    *at_row, j = ctx.axes(scores_shape)
    stages += folded(ctx, total, tuple(at_row), load(weights, *at_row, j), (j,), SUM(wide))
    summed = ctx.buf("summed", out.shape, wide)
    *at_out, f = ctx.axes(out.shape)
    (j,) = ctx.axes((k.shape[-2],), "j")
    at_rows = tuple(at_out[:-1])
    weighted = load(weights, *at_out, j) * element(v, *_grouped(v, at_rows, attrs["grouped"]), j, f)
    stages += folded(ctx, summed, (*at_out, f), weighted, (j,), SUM(wide))
    axes = ctx.axes(out.shape)
    sum_ = load(total, *axes[:-1])
    # Eager's kernel gives 0 for rows that are masked whole.
    safe = select(compare("eq", sum_, const(0, wide)), const(0, wide), 1.0 / sum_)
    stages.append(stage(out, axes, load(summed, *axes) * safe))
    return stages


def _masked(score: Expr, mask: Buf | None, axes: tuple[Expr, ...], causal: bool) -> Expr:
    floor = const(-np.inf, score.dtype)
    if mask is not None:
        m = load(mask, *at(mask, axes))
        score = select(m, score, floor) if mask.dtype == boolean else score + cast(m, score.dtype)
    return select(compare("le", axes[-1], axes[-2]), score, floor) if causal else score


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    q, k, v = (upcast(a) for a in arrays[:3])
    dtype = q.dtype
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    if attrs["grouped"]:
        k, v = (np.repeat(a, q.shape[-3] // a.shape[-3], axis=-3) for a in (k, v))
    s = np.matmul(q, np.swapaxes(k, -1, -2)) * attrs["scale"]
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
    scale: float = 1.0,
    causal: bool = False,
    grouped: bool = False,
) -> Value:
    """Scaled dot-product attention (Vaswani et al., 2017) of q[.., L, E], k[.., S, E], v[.., S, F].

    A bool mask keeps where it is true, any other is added to the scores; `causal` keeps keys up to the query's own
    position; with `grouped`, axis -3 of k and v divides that of q and each of their heads serves a group of queries.
    """
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    return b.emit("attention", *operands, scale=float(scale), causal=causal, grouped=grouped)
