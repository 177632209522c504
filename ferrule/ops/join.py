"""Joining and padding: operators whose every element is one of several operands, or a value.

concat   out[i] = x[i] for i < size of x, else y[i - size of x], ..
pad      out[i] = x[i - low] inside of x; elsewhere a value, or another element of x
         out[i] = x[(i - low) / (k + 1)] with k values of padding between neighbours
tril     out[i, j] = x[i, j] for j <= i + k, else 0
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    both,
    cast,
    compare,
    const,
    eq,
    load,
    lt,
    maximum,
)
from ferrule.ir.expr import select as choose
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.simplify import equal, prove_nonneg, simplify
from ferrule.ir.system import Stage
from ferrule.ops.create import number_of
from ferrule.ops.op import (
    Array,
    define,
    normal_axis,
    same_dtype,
    stage,
)
from ferrule.ops.view import sizes_of, unsqueeze

Size = Expr | int
MANY = 16  # pieces that are not asked for one after another


# ---- joining and padding -------------------------------------------------------------------------


def _concat_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    d = attrs["axis"]
    dtype = same_dtype("concat", types)
    total = ZERO
    for t in types:
        if t.rank != types[0].rank or any(
            i != d and not equal(s, o)
            for i, (s, o) in enumerate(zip(t.shape, types[0].shape, strict=True))
        ):
            raise CompileError(
                f"concat along axis {d} of {types[0]} and {t}: the other sizes differ"
            )
        total = total + t.shape[d]
    return tensor((*types[0].shape[:d], total, *types[0].shape[d + 1 :]), dtype)


def _concat_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes, d = ctx.axes(outs[0].shape), attrs["axis"]
    starts = [ZERO]
    for b in ins:
        starts.append(simplify(starts[-1] + b.shape[d]))
    pieces = []
    for b, start in zip(ins, starts):
        at = ZERO if equal(b.shape[d], ONE) else simplify(axes[d] - start)
        pieces.append(load(b, *axes[:d], at, *axes[d + 1 :]))
    return [stage(outs[0], axes, _piece(axes[d], pieces, starts[1:]))]


def _piece(at: Expr, pieces: list[Expr], ends: list[Expr]) -> Expr:
    """The one of `pieces`, each of which lies before its end, in which `at` lies: one after another
    is asked, but of many it is first asked for the half.
    """
    if len(pieces) > MANY:
        half = len(pieces) // 2
        below = _piece(at, pieces[:half], ends[:half])
        above = _piece(at, pieces[half:], ends[half:])
        return choose(lt(at, ends[half - 1]), below, above)
    value = pieces[-1]
    for piece, end in zip(pieces[-2::-1], ends[-2::-1], strict=True):
        value = choose(lt(at, end), piece, value)
    return value


define(
    "concat",
    _concat_infer,
    lambda arrays, attrs: np.concatenate(arrays, attrs["axis"]),
    _concat_compute,
)


def concat(b: GraphBuilder, xs: Sequence[Value], axis: int) -> Value:
    """The operands one after another along an axis."""
    d = normal_axis("concat", axis, xs[0].rank)
    some = [x for x in xs if not equal(x.shape[d], ZERO)] or list(xs[:1])
    return some[0] if len(some) == 1 else b.emit("concat", *some, axis=d)


def stack(b: GraphBuilder, xs: Sequence[Value], axis: int) -> Value:
    """The operands along a new axis."""
    d = axis if axis >= 0 else axis + xs[0].rank + 1
    return concat(b, [unsqueeze(b, x, d) for x in xs], d)


def spread(n: Expr, between: int) -> Expr:
    """The size of an axis of `n` elements with `between` others after each but the last."""
    if not between:
        return n
    gaps = n - 1 if prove_nonneg(n - 1) else maximum(ZERO, n - 1)
    return simplify(n + gaps * between)


def _between(attrs: Attrs, rank: int) -> tuple[int, ...]:
    found: tuple[int, ...] = attrs.get("interior", (0,) * rank)
    return found


def _pad_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x = types[0]
    if len(types) > 1:
        same_dtype("pad", types)
        if types[1].rank:
            raise CompileError(f"pad of {x}: its value is a tensor of rank 0, not {types[1]}")
    given = (attrs["low"], attrs["high"], _between(attrs, x.rank))
    if any(len(v) != x.rank for v in given):
        raise CompileError(f"pad of {x} takes amounts for each of its axes, got {given}")
    sizes = zip(x.shape, *map(sizes_of, given[:2]), given[2], strict=True)
    return tensor((lo + spread(n, k) + hi for n, lo, hi, k in sizes), x.dtype)


def _pad_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes, mode, between = ctx.axes(outs[0].shape), attrs["mode"], _between(attrs, len(ins[0].shape))
    guard, idx = [], []
    for a, n, lo, hi, k in zip(
        axes, ins[0].shape, sizes_of(attrs["low"]), sizes_of(attrs["high"]), between, strict=True
    ):
        i = simplify(a - lo)
        if mode == "reflect":
            i = _reflected(i, n)
        elif mode == "replicate":
            i = simplify(_clamped(i, n))
        elif mode == "circular":
            i = _wrapped(a, n, lo, hi)
        else:
            guard += [] if lo is ZERO else [compare("le", ZERO, i)]
            guard += [] if hi is ZERO else [lt(i, spread(n, k))]
            guard += [eq(simplify(i % (k + 1)), ZERO)] if k else []
            i = simplify(i // (k + 1)) if k else i
        idx.append(i)
    inside = simplify(both(*guard))
    dtype = outs[0].dtype
    value = load(ins[0], *idx)
    if not (inside.is_const and inside.attr):
        number = cast(const(attrs["value"], dtype.compute), dtype)
        value = choose(inside, value, load(ins[1]) if len(ins) > 1 else number)
    return [stage(outs[0], axes, value)]


def _reflected(i: Expr, n: Expr) -> Expr:
    """|i| folded at n - 1: the border itself is not repeated."""
    up = choose(lt(i, ZERO), ZERO - i, i)
    return choose(lt(up, n), up, (n - 1) * 2 - up)


def _clamped(i: Expr, n: Expr) -> Expr:
    low = choose(lt(i, ZERO), ZERO, i)
    return choose(lt(low, n), low, n - 1)


def _wrapped(a: Expr, n: Expr, lo: Expr, hi: Expr) -> Expr:
    """Element `a` of what comes round; what is cropped does not."""
    first = maximum(ZERO, ZERO - lo)
    left = n - first - maximum(ZERO, ZERO - hi)
    return simplify(first + (a - maximum(ZERO, lo)) % left)


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, pairs = arrays[0], list(zip(attrs["low"], attrs["high"], strict=True))
    if attrs["mode"] == "constant":
        value = arrays[1] if len(arrays) > 1 else np.asarray(attrs["value"]).astype(x.dtype)
        return _filled(x, pairs, _between(attrs, x.ndim), value)
    if attrs["mode"] == "replicate":  # the nearest element, which cropping may have left out
        for d, (n, (lo, hi)) in enumerate(zip(x.shape, pairs, strict=True)):
            if lo or hi:
                x = x.take(np.clip(np.arange(-lo, n + hi), 0, n - 1), d)
        return x
    crop = tuple(
        builtins.slice(builtins.max(0, -lo), n - builtins.max(0, -hi))
        for n, (lo, hi) in zip(x.shape, pairs, strict=True)
    )
    grow = [(builtins.max(0, lo), builtins.max(0, hi)) for lo, hi in pairs]
    kind: Any = _MODES[attrs["mode"]]
    return np.pad(x[crop], grow, mode=kind)


def _filled(
    x: Array, pairs: list[tuple[int, int]], between: tuple[int, ...], value: Array
) -> Array:
    """The elements of `x` where they come to lie, `value` elsewhere."""
    sizes = [
        lo + builtins.max(n + (n - 1) * k, 0) + hi
        for n, (lo, hi), k in zip(x.shape, pairs, between, strict=True)
    ]
    out = np.full(sizes, value, x.dtype)
    own, places = [], []
    for n, m, (lo, _), k in zip(x.shape, sizes, pairs, between, strict=True):
        at = lo + np.arange(n) * (k + 1)
        own.append(np.flatnonzero((at >= 0) & (at < m)))
        places.append(at[own[-1]])
    out[np.ix_(*places)] = x[np.ix_(*own)]
    return out


def _enough_to_pad(types: tuple[TensorType, ...], attrs: Attrs) -> list[Expr]:
    """What an axis must hold so that the elements that are repeated exist."""
    facts: list[Expr] = []
    if attrs["mode"] == "constant":
        return facts
    for n, low, high in zip(
        types[0].shape, sizes_of(attrs["low"]), sizes_of(attrs["high"]), strict=True
    ):
        left = n - maximum(ZERO, ZERO - low) - maximum(ZERO, ZERO - high)
        for grow in (low, high):
            if not prove_nonneg(ZERO - grow):
                kept = left if attrs["mode"] == "circular" else n
                facts.append(lt(grow, n) if attrs["mode"] == "reflect" else lt(ZERO, kept))
    return facts


define(
    "pad",
    _pad_infer,
    _pad_meaning,
    _pad_compute,
    requires=_enough_to_pad,
)


def pad(
    b: GraphBuilder,
    x: Value,
    low: Sequence[Size],
    high: Sequence[Size],
    value: float | Value = 0.0,
    mode: str = "constant",
    interior: Sequence[int] | None = None,
) -> Value:
    """`x` grown at both ends of each axis; negative amounts crop, what padding `interior` put
    between the elements too.

    `mode` is constant (of `value`, a number or a tensor of rank 0), reflect, replicate or circular;
    the last three have no interior. Raises CompileError for what does not fit.
    """
    if mode not in ("constant", *_MODES):
        raise CompileError(f"pad: mode {mode!r} is none of constant, {', '.join(_MODES)}")
    between = tuple(interior or ()) if any(interior or ()) else None
    if between and (mode != "constant" or builtins.min(between) < 0):
        raise CompileError(f"pad: an interior of {between} with mode {mode}")
    number = number_of(b, value) if isinstance(value, Value) else value
    given: tuple[Value, ...] = (value,) if isinstance(value, Value) and number is None else ()
    return b.emit(
        "pad", x, *given, low=sizes_of(low), high=sizes_of(high), mode=mode, interior=between,
        value=0.0 if number is None else number,
    )  # fmt: skip


# ---- triangles -----------------------------------------------------------------------------------


def _triangle(
    name: str, keep: Callable[[Expr, Expr, int], Expr], meaning: Callable[..., Array]
) -> None:
    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        dtype = outs[0].dtype
        zero = cast(const(0, dtype.compute), dtype)
        return [
            stage(
                outs[0],
                axes,
                choose(keep(axes[-2], axes[-1], attrs["k"]), load(ins[0], *axes), zero),
            )
        ]

    define(
        name,
        lambda types, attrs: types[0],
        lambda arrays, attrs: meaning(arrays[0], attrs["k"]),
        compute,
    )


_triangle("tril", lambda i, j, k: compare("le", j, i + k), np.tril)
_triangle("triu", lambda i, j, k: compare("le", i + k, j), np.triu)


def tril(b: GraphBuilder, x: Value, k: int = 0) -> Value:
    """Zero above the k-th diagonal of the last two axes."""
    return b.emit("tril", x, k=k)


def triu(b: GraphBuilder, x: Value, k: int = 0) -> Value:
    """Zero below the k-th diagonal of the last two axes."""
    return b.emit("triu", x, k=k)
