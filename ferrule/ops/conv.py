"""Convolution, of one to three spatial dims, as a sum over windows:

    y[n, o, p..] = sum over i, k.. of x[n, g*I + i, p*stride + k*dilation - low] * w[o, i, k..]

with I input channels a group, g = o // (output channels / groups), and what lies outside of x left
out. The transposed convolution is its gradient, as a sum over the x that reach p:

    y[n, o, p..] = sum over i, k.. of x[n, g*I + i, q / stride] * w[g*I + i, o % O, k..]
                   where q = p + low - k*dilation is a multiple of the stride
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, promote
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, as_index, both, eq, le, lt
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.monoids import EXACT_SUM, SUM
from ferrule.ir.simplify import equal, simplify
from ferrule.ir.system import Stage
from ferrule.ops.contract import dot_general
from ferrule.ops.elementary import add, cast
from ferrule.ops.join import pad
from ferrule.ops.op import (
    Array,
    Index,
    check_bound,
    check_kind,
    define,
    element,
    folded,
    same_dtype,
    show_types,
    upcast,
    within_bound,
)
from ferrule.ops.view import reshape, reverse, transpose

Size = Expr | int
Padding = int | Sequence[Size | tuple[Size, Size]]


# ---- the type rule -------------------------------------------------------------------------------


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    x, w = types
    dtype = same_dtype("conv", types)
    check_kind("conv", x, "fiu")
    check_bound("conv", dtype, attrs)
    groups, transposed = attrs["groups"], attrs["transposed"]
    n = w.rank - 2
    if n not in (1, 2, 3) or x.rank != w.rank or len(attrs["stride"]) != n:
        raise CompileError(
            "conv takes x[n, channels, ..] and w[channels, channels, ..] of the same 1 to 3 "
            f"spatial dims, got {show_types(types)}"
        )
    into = w.shape[0] if transposed else w.shape[1] * groups
    rest = simplify(w.shape[0] % groups)
    if not equal(x.shape[1], into) or (rest.is_const and rest.value):
        raise CompileError(
            f"conv of {show_types(types)} in {groups} groups: x must have {simplify(into)} "
            "channels, and the first size of w must divide into the groups"
        )
    channels = w.shape[1] * groups if transposed else w.shape[0]
    place = _transposed_size if transposed else _size
    spatial = (place(x.shape[d + 2], w.shape[d + 2], d, attrs) for d in range(n))
    return tensor((x.shape[0], channels, *spatial), dtype.compute if attrs.get("wide") else dtype)


def _size(size: Expr, kernel: Expr, d: int, attrs: Attrs) -> Expr:
    """How many windows there are along the spatial dim `d`."""
    low, high = attrs["padding"][d]
    reach = (kernel - 1) * attrs["dilation"][d]
    return (size + low + high - reach - 1) // attrs["stride"][d] + 1


def _transposed_size(size: Any, kernel: Any, d: int, attrs: Attrs) -> Any:
    """How many places there are along the spatial dim `d`, of sizes that are Exprs or numbers."""
    low, high = attrs["padding"][d]
    reach = (kernel - 1) * attrs["dilation"][d]
    spread = (size - 1) * attrs["stride"][d]
    return spread + reach + 1 + attrs["output_padding"][d] - low - high


# ---- the Compute ---------------------------------------------------------------------------------


def _compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    x, w = ins
    (out,) = outs
    n, o, *place = axes = ctx.axes(out.shape)
    transposed, groups = attrs["transposed"], attrs["groups"]
    inner = simplify(x.shape[1] // groups)
    sizes = (inner, *w.shape[2:])
    every = ctx.axes(sizes, "k")
    over = tuple(a for a in every if a.extent is not ONE) or every[:1]
    channel, *window = (a if a in over else ZERO for a in every)
    source = _gathered if transposed else _window
    index, guards = source(x, tuple(place), tuple(window), attrs)
    each = simplify(out.shape[1] // groups)  # output channels a group
    group = o // each if groups > 1 else ZERO
    read = simplify(group * inner + channel)
    if transposed:
        at_w = (read, simplify(o % each) if groups > 1 else o)
    else:
        at_w = (o, channel)
    value = element(x, n, read, *index) * element(w, *at_w, *window)
    where = simplify(both(*guards))
    guard = None if where.is_const and where.value else where
    summed = EXACT_SUM if attrs.get("exact") else SUM
    return folded(ctx, out, axes, value, over, summed(value.dtype), guard)


def _window(x: Buf, place: Index, window: Index, attrs: Attrs) -> tuple[Index, list[Expr]]:
    """The spatial index into x, and what must hold of it."""
    index, guards = [], []
    for d, (p, k) in enumerate(zip(place, window, strict=True)):
        low, high = attrs["padding"][d]
        i = simplify(p * attrs["stride"][d] + k * attrs["dilation"][d] - low)
        guards += [] if low is ZERO else [le(ZERO, i)]
        guards += [] if high is ZERO else [lt(i, x.shape[d + 2])]
        index.append(i)
    return tuple(index), guards


def _gathered(x: Buf, place: Index, window: Index, attrs: Attrs) -> tuple[Index, list[Expr]]:
    """The spatial index into x of a transposed convolution, and what must hold of it."""
    index, guards = [], []
    for d, (p, k) in enumerate(zip(place, window, strict=True)):
        stride = as_index(attrs["stride"][d])
        q = simplify(p + attrs["padding"][d][0] - k * attrs["dilation"][d])
        guards += [le(ZERO, q), lt(q, x.shape[d + 2] * stride)]
        guards += [] if stride is ONE else [eq(simplify(q % stride), ZERO)]
        index.append(simplify(q // stride))
    return tuple(index), guards


# ---- the meaning ---------------------------------------------------------------------------------


def _meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    """One product of matrices for each place in the window, floats summed in f64."""
    x, w = map(upcast, arrays)
    wide = np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype
    place = _transposed_meaning if attrs["transposed"] else _direct_meaning
    within_bound("conv", attrs, x, w, lambda x, w: place(x, w, attrs))
    return place(x.astype(wide), w.astype(wide), attrs).astype(x.dtype)


def _direct_meaning(x: Array, w: Array, attrs: Attrs) -> Array:
    groups, stride = attrs["groups"], attrs["stride"]
    x = _padded(x, attrs["padding"])
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], attrs["dilation"], strict=True)]
    size = [(s - r) // t + 1 for s, r, t in zip(x.shape[2:], reach, stride, strict=True)]
    x = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    out = np.zeros((x.shape[0], groups, w.shape[1], *size), x.dtype)
    for k in np.ndindex(*w.shape[3:]):
        first = [i * d for i, d in zip(k, attrs["dilation"], strict=True)]
        cut = tuple(slice(f, f + n * t, t) for f, n, t in zip(first, size, stride, strict=True))
        at_x, at_w = (slice(None),) * 3 + cut, (slice(None),) * 3 + k
        out += np.einsum("ngi...,goi->ngo...", x[at_x], w[at_w])
    return out.reshape(out.shape[0], groups * out.shape[2], *size)


def _padded(x: Array, padding: tuple[tuple[int, int], ...]) -> Array:
    """Spatial dims grown by zeros, or cropped where the amounts are negative."""
    grow = [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
    x = np.pad(x, [(0, 0), (0, 0), *grow])
    cut = (slice(max(-lo, 0), s - max(-hi, 0)) for (lo, hi), s in zip(padding, x.shape[2:]))
    return np.asarray(x[(slice(None),) * 2 + tuple(cut)])


def _transposed_meaning(x: Array, w: Array, attrs: Attrs) -> Array:
    """The direct one of x spread out by the stride, with the window turned round; 0 where x has no
    place to come from.
    """
    groups, stride = attrs["groups"], attrs["stride"]
    if 0 in x.shape[2:]:
        sizes = enumerate(zip(x.shape[2:], w.shape[2:], strict=True))
        place = (int(_transposed_size(s, k, d, attrs)) for d, (s, k) in sizes)
        return np.zeros((x.shape[0], w.shape[1] * groups, *place), x.dtype)
    spread = [(s - 1) * t + 1 for s, t in zip(x.shape[2:], stride, strict=True)]
    wide = np.zeros((*x.shape[:2], *spread), x.dtype)
    wide[(slice(None),) * 2 + tuple(slice(None, None, t) for t in stride)] = x
    padding = tuple(
        ((k - 1) * d - lo, (k - 1) * d - hi + extra)
        for k, d, (lo, hi), extra in zip(
            w.shape[2:], attrs["dilation"], attrs["padding"], attrs["output_padding"], strict=True
        )
    )
    inner = w.shape[0] // groups
    turned = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, inner, *w.shape[1:])
    turned = turned.swapaxes(1, 2).reshape(groups * w.shape[1], inner, *w.shape[2:])
    direct = {**attrs, "padding": padding, "stride": (1,) * len(stride)}
    return _direct_meaning(wide, turned, direct)


define("conv", _infer, _meaning, _compute)


# ---- the builder ---------------------------------------------------------------------------------


def conv(
    b: GraphBuilder,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
    exact: bool = False,
    bound: int | None = None,
) -> Value:
    """The convolution of x[n, channels, spatial..] with w[out, channels / groups, window..].

    Each of the spatial arguments is one number for all dims or one a dim; `padding` may also give
    (low, high). Transposed, w is [channels, out / groups, window..] and `output_padding` adds to
    the high end of the result. `exact` says that integers held in floats are summed, which no
    algorithm may round; of integers themselves, `bound` says that no result's terms come to more in
    size (`check_bound`). The sum with the bias is rounded once. Raises CompileError for shapes or
    dtypes that do not fit.
    """
    n = w.rank - 2
    attrs = {
        "stride": spatial(stride, n),
        "padding": paddings(padding, n),
        "dilation": spatial(dilation, n),
        "groups": groups,
        "transposed": transposed,
        "output_padding": spatial(output_padding, n),
        "exact": exact or None,
        "bound": bound,
        "wide": (bias is not None and x.dtype.compute != x.dtype) or None,
    }
    y: Value = _tiled(b, x, w, attrs) if _tiles(x, w, attrs) else b.emit("conv", x, w, **attrs)
    if bias is None:
        return y
    each = reshape(b, cast(b, bias, y.dtype), (*bias.shape, *(ONE,) * n))
    return cast(b, add(b, y, each), x.dtype)


def _tiles(x: Value, w: Value, attrs: Attrs) -> bool:
    """Whether the windows of a transposed convolution lie side by side: no sum over them is left.
    """
    pads = [p for pair in attrs["padding"] for p in pair] + list(attrs["output_padding"])
    plain = attrs["transposed"] and attrs["groups"] == 1 and set(attrs["dilation"]) == {1}
    aside = all(equal(as_index(k), as_index(s)) for k, s in zip(w.shape[2:], attrs["stride"]))
    fits = x.rank == w.rank > 2 and x.dtype == w.dtype and equal(x.shape[1], w.shape[0])
    return bool(plain and aside and fits) and all(equal(as_index(p), ZERO) for p in pads)


def _tiled(b: GraphBuilder, x: Value, w: Value, attrs: Attrs) -> Value:
    """That convolution as a product, whose columns are the points of a window."""
    n, wide, bound = w.rank - 2, bool(attrs["wide"]), attrs["bound"]
    # y is [batch, spatial.., out, window..]
    y = dot_general(b, x, w, contract=((1,), (0,)), wide=wide, bound=bound)
    order = [0, n + 1, *(d for i in range(n) for d in (1 + i, n + 2 + i))]
    sizes = [s * k for s, k in zip(x.shape[2:], w.shape[2:])]
    return reshape(b, transpose(b, y, order), (x.shape[0], w.shape[1], *sizes))


def spatial(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """An argument of `n` spatial dims, which may be given once for all."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def paddings(padding: Padding, n: int) -> tuple[tuple[Expr, Expr], ...]:
    """(low, high) of each of `n` spatial dims."""
    given = (padding,) if isinstance(padding, int) else tuple(padding)
    pairs = [p if isinstance(p, tuple) else (p, p) for p in given]
    wide = pairs * n if len(pairs) == 1 else pairs
    return tuple((as_index(lo), as_index(hi)) for lo, hi in wide)


# ---- StableHLO's convolution ---------------------------------------------------------------------


def convolution(
    b: GraphBuilder,
    x: Value,
    w: Value,
    input_dims: Sequence[int],
    kernel_dims: Sequence[int],
    output_dims: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Sequence[tuple[Size, Size]] | None = None,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    reversal: Sequence[bool] | None = None,
    feature_groups: int = 1,
    batch_groups: int = 1,
    dtype: DType | None = None,
) -> Value:
    """StableHLO's convolution: of `x`, whose elements lie `lhs_dilation` apart, by `w`, whose
    window is turned round along the dims of `reversal`.

    `input_dims` are (batch, feature, spatial..) of x, `kernel_dims` (output feature, input feature,
    spatial..) of w, and `output_dims` (batch, feature, spatial..) of the result. Paddings may be
    negative. `dtype` is the result's, by default that of x. Raises CompileError for what does not
    fit, and for more than three spatial dims.
    """
    n, result = x.rank - 2, dtype or x.dtype
    common = promote(promote(x.dtype, w.dtype), result)
    x = transpose(b, cast(b, x, common), input_dims)
    w = transpose(b, cast(b, w, common), kernel_dims)
    turned = [d + 2 for d, turns in enumerate(reversal or ()) if turns]
    w = reverse(b, w, turned) if turned else w
    if batch_groups > 1:  # the groups of the batch become groups of features
        batch, features = simplify(x.shape[0] // batch_groups), x.shape[1]
        x = transpose(b, reshape(b, x, (batch_groups, batch, *x.shape[1:])), _moved(n))
        x = reshape(b, x, (batch, simplify(features * batch_groups), *x.shape[3:]))
    groups = max(feature_groups, batch_groups)
    if not n:
        y = _of_points(b, x, w, groups)
    else:
        ones = (1,) * n
        y = _of_spread(
            b, x, w, tuple(strides or ones), paddings(padding or 0, n),
            tuple(lhs_dilation or ones), tuple(rhs_dilation or ones), groups,
        )  # fmt: skip
    order = [list(output_dims).index(d) for d in range(y.rank)]
    return cast(b, transpose(b, y, order), result)


def _moved(n: int) -> list[int]:
    """The second of n + 3 dims in front of the first."""
    return [1, 0, *range(2, n + 3)]


def _of_points(b: GraphBuilder, x: Value, w: Value, groups: int) -> Value:
    """A convolution without spatial dims: a product for each group."""
    inner, outer = w.shape[1], simplify(w.shape[0] // groups)
    x = reshape(b, x, (x.shape[0], groups, inner))
    y = dot_general(b, x, reshape(b, w, (groups, outer, inner)), ((1,), (0,)), ((2,), (2,)))
    return reshape(b, transpose(b, y, (1, 0, 2)), (x.shape[0], w.shape[0]))


def _of_spread(
    b: GraphBuilder,
    x: Value,
    w: Value,
    strides: tuple[int, ...],
    padding: tuple[tuple[Expr, Expr], ...],
    spread: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Value:
    """The convolution of x with its elements `spread` apart. With strides of 1 that is a transposed
    one, by the window turned round; else x is padded between its elements.
    """
    n = len(strides)
    if set(spread) == {1}:
        return conv(b, x, w, None, strides, padding, dilation, groups)
    if set(strides) != {1}:
        none = (0,) * x.rank
        x = pad(b, x, none, none, interior=(0, 0, *(s - 1 for s in spread)))
        return conv(b, x, w, None, strides, padding, dilation, groups)
    outer, inner = simplify(w.shape[0] // groups), w.shape[1]
    reach = [(k - 1) * d for k, d in zip(w.shape[2:], dilation, strict=True)]
    turned = reshape(b, reverse(b, w, range(2, n + 2)), (groups, outer, inner, *w.shape[2:]))
    turned = transpose(b, turned, (0, 2, 1, *range(3, n + 3)))
    turned = reshape(b, turned, (x.shape[1], outer, *w.shape[2:]))
    pairs = tuple(
        (simplify(r - lo), simplify(r - hi)) for r, (lo, hi) in zip(reach, padding, strict=True)
    )
    return conv(b, x, turned, None, spread, pairs, dilation, groups, transposed=True)
