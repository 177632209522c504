"""Joining and padding: operators whose every element is one of several operands, or a value.

concat   out[i] = x[i] for i < size of x, else y[i - size of x], ..
pad      out[i] = x[i - low] inside of x; elsewhere a value, or another element of x
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
    load,
    lt,
    maximum,
)
from ferrule.ir.expr import select as choose
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.simplify import equal, prove_nonneg, simplify
from ferrule.ir.system import Stage
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


def _padded_shape(t: TensorType, attrs: Attrs) -> Shape:
    return tuple(
        simplify(lo + s + hi)
        for s, lo, hi in zip(t.shape, sizes_of(attrs["low"]), sizes_of(attrs["high"]), strict=True)
    )


def _pad_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    axes, mode = ctx.axes(outs[0].shape), attrs["mode"]
    guard, idx = [], []
    for a, n, lo, hi in zip(
        axes, ins[0].shape, sizes_of(attrs["low"]), sizes_of(attrs["high"]), strict=True
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
            guard += [] if hi is ZERO else [lt(i, n)]
        idx.append(i)
    inside = simplify(both(*guard))
    dtype = outs[0].dtype
    value = load(ins[0], *idx)
    if not (inside.is_const and inside.attr):
        value = choose(inside, value, cast(const(attrs["value"], dtype.compute), dtype))
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
    if attrs["mode"] == "constant":
        return np.pad(x[crop], grow, constant_values=np.asarray(attrs["value"]).astype(x.dtype))
    kind: Any = _MODES[attrs["mode"]]
    return np.pad(x[crop], grow, mode=kind)


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
    lambda types, attrs: tensor(_padded_shape(types[0], attrs), types[0].dtype),
    _pad_meaning,
    _pad_compute,
    requires=_enough_to_pad,
)


def pad(
    b: GraphBuilder,
    x: Value,
    low: Sequence[Size],
    high: Sequence[Size],
    value: float = 0.0,
    mode: str = "constant",
) -> Value:
    """`x` grown at both ends of each axis; negative amounts crop.

    `mode` is constant (of `value`), reflect, replicate or circular.
    """
    if mode not in ("constant", *_MODES):
        raise CompileError(f"pad: mode {mode!r} is none of constant, {', '.join(_MODES)}")
    return b.emit("pad", x, low=sizes_of(low), high=sizes_of(high), value=value, mode=mode)


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
