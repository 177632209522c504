"""Views: operators whose every result element is one element of the operand, or a fill value.

    out[i..] = x[map(i..)]

Below Graph there are no views, so an operator here is nothing but its index map, which fusion substitutes into consumers.
`reshape` matches dims in groups of equal size, so that [B, S, 768] -> [B, S, 12, 64] is x[b, s, h*64 + d]: axes that a
reshape leaves alone stay bare.
"""
from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ferrule.base.errors import CompileError
from ferrule.ir.compute import Stage
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, as_index, both, cast, ceildiv, compare, const, load, lt, product
from ferrule.ir.expr import select as choose
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.simplify import equal, prove_nonneg, simplify
from ferrule.ops.op import Array, at_shape, define, normal_axis, same_dtype, show_shape, stage

Size = Expr | int
IndexMap = Callable[[Buf, tuple[Expr, ...], Attrs], tuple[Expr, ...]]


def _sizes(values: Iterable[Size]) -> tuple[Expr, ...]:
    return tuple(simplify(as_index(v)) for v in values)


def define_view(name: str, shape: Callable[[TensorType, Attrs], Iterable[Size]], index: IndexMap,
                meaning: Callable[[Array, Attrs], Array]) -> None:
    """Define a view by the result's shape, the operand's index at a point of the result, and its meaning."""

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        return tensor(shape(types[0], attrs), types[0].dtype)

    def compute(ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        idx = tuple(simplify(i) for i in index(ins[0], axes, attrs))
        return [stage(outs[0], axes, load(ins[0], *idx))]

    define(name, infer, lambda arrays, attrs: meaning(arrays[0], attrs), compute)


# ---- reshape --------------------------------------------------------------------------------------------------------------


def groups(old: Shape, new: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of dims of `old` and `new` with equal products, as short as can be found from the left."""
    out: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0, a, b = i, j, ONE, ONE
        while True:
            if (i > i0 or j > j0) and equal(a, b) and i > i0 and j > j0:
                break
            if i == len(old) and j == len(new):
                break
            grow_old = j == len(new) or i < len(old) and (i == i0 or j > j0 and prove_nonneg(simplify(b - a - 1)))
            if i < len(old) and (grow_old or j == len(new)):
                a = simplify(a * old[i])
                i += 1
            elif j < len(new):
                b = simplify(b * new[j])
                j += 1
            if i > i0 and j > j0 and not equal(a, b) and i < len(old) and j < len(new) and not (
                    prove_nonneg(simplify(a - b)) or prove_nonneg(simplify(b - a))):
                i, j = len(old), len(new)  # not comparable: one group of all that is left
                break
        out.append((tuple(range(i0, i)), tuple(range(j0, j))))
    return out


def _reshape_index(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    idx: list[Expr] = [ZERO] * len(buf.shape)
    for old, new in groups(buf.shape, tuple(a.extent for a in axes)):
        live = [d for d in old if not equal(buf.shape[d], ONE)]
        flat = ZERO
        for j in new:
            flat = flat * axes[j].extent + axes[j]
        flat = simplify(flat)
        for k, d in enumerate(live):
            inner = product([buf.shape[e] for e in live[k + 1:]])
            i = flat // inner
            idx[d] = simplify(i if k == 0 else i % buf.shape[d])
    return tuple(idx)


def _reshape_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    new = _sizes(attrs["shape"])
    before, after = simplify(product(t.shape)), simplify(product(new))
    if before.is_const and after.is_const and before is not after:
        raise CompileError(f"reshape of {t} to {show_shape(new)}: {before} elements are not {after}")
    return new


define_view("reshape", _reshape_shape, _reshape_index, lambda x, attrs: x.reshape(attrs["shape"]))


def reshape(b: GraphBuilder, x: Value, shape: Sequence[Size]) -> Value:
    """The elements of `x` in order, in another shape."""
    new = _sizes(shape)
    return x if new == x.shape else b.emit("reshape", x, shape=new)


def unsqueeze(b: GraphBuilder, x: Value, axis: int) -> Value:
    at = axis if axis >= 0 else axis + x.rank + 1
    return reshape(b, x, (*x.shape[:at], ONE, *x.shape[at:]))


def squeeze(b: GraphBuilder, x: Value, axes: Iterable[int] | None = None) -> Value:
    """`x` without the given axes of size one (all of them by default)."""
    drop = {a % x.rank for a in axes} if axes is not None and x.rank else set(range(x.rank))
    return reshape(b, x, tuple(s for d, s in enumerate(x.shape) if d not in drop or not equal(s, ONE)))


# ---- axes -----------------------------------------------------------------------------------------------------------------


def _transposed(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    idx: list[Expr] = [ZERO] * len(axes)
    for a, d in zip(axes, attrs["perm"], strict=True):
        idx[d] = a
    return tuple(idx)


define_view("transpose", lambda t, attrs: (t.shape[d] for d in attrs["perm"]), _transposed,
            lambda x, attrs: x.transpose(attrs["perm"]))


def transpose(b: GraphBuilder, x: Value, perm: Sequence[int]) -> Value:
    """Axis i of the result is axis perm[i] of `x`."""
    order = tuple(normal_axis("transpose", d, x.rank) for d in perm)
    if sorted(order) != list(range(x.rank)):
        raise CompileError(f"transpose of {x.type} by {tuple(perm)}: expected each of {x.rank} axes once")
    return x if order == tuple(range(x.rank)) else b.emit("transpose", x, perm=order)


def _expanded(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    new = _sizes(attrs["shape"])
    lead = len(new) - t.rank
    if lead < 0 or any(not equal(s, ONE) and not equal(s, n) for s, n in zip(t.shape, new[lead:], strict=True)):
        raise CompileError(f"{t} does not expand to {show_shape(new)}")
    return new


define_view("expand", _expanded, lambda buf, axes, attrs: at_shape(buf.shape, axes),
            lambda x, attrs: np.broadcast_to(x, attrs["shape"]))


def expand(b: GraphBuilder, x: Value, shape: Sequence[Size]) -> Value:
    """`x` broadcast to `shape`, as in NumPy."""
    new = _sizes(shape)
    return x if new == x.shape else b.emit("expand", x, shape=new)


def _reversed(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    return tuple(a.extent - 1 - a if d in attrs["axes"] else a for d, a in enumerate(axes))


define_view("reverse", lambda t, attrs: t.shape, _reversed, lambda x, attrs: np.flip(x, attrs["axes"]))


def reverse(b: GraphBuilder, x: Value, axes: Iterable[int]) -> Value:
    return b.emit("reverse", x, axes=tuple(sorted({normal_axis("reverse", a, x.rank) for a in axes})))


# ---- slices ---------------------------------------------------------------------------------------------------------------


def _slice_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    return (simplify(ceildiv(stop - start, step)) for start, stop, step in
            zip(_sizes(attrs["starts"]), _sizes(attrs["stops"]), attrs["steps"], strict=True))


def _sliced(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    return tuple(start + a * step for a, start, step in zip(axes, _sizes(attrs["starts"]), attrs["steps"], strict=True))


define_view("slice", _slice_shape, _sliced, lambda x, attrs: x[tuple(
    builtins.slice(a, o, s) for a, o, s in zip(attrs["starts"], attrs["stops"], attrs["steps"], strict=True))])


def slice(b: GraphBuilder, x: Value, starts: Sequence[Size], stops: Sequence[Size],
          steps: Sequence[int] | None = None) -> Value:
    """Elements start, start + step, .. below stop of each axis, with 0 <= start <= stop <= size."""
    begin, end, by = _sizes(starts), _sizes(stops), tuple(steps or (1,) * x.rank)
    if all(s is ZERO for s in begin) and all(equal(e, n) for e, n in zip(end, x.shape, strict=True)) and set(by) <= {1}:
        return x
    return b.emit("slice", x, starts=begin, stops=end, steps=by)


def slice_axis(b: GraphBuilder, x: Value, axis: int, start: Size, stop: Size, step: int = 1) -> Value:
    """A slice of one axis."""
    d = normal_axis("slice", axis, x.rank)
    starts: list[Size] = [0] * x.rank
    stops: list[Size] = list(x.shape)
    steps = [1] * x.rank
    starts[d], stops[d], steps[d] = start, stop, step
    return slice(b, x, starts, stops, steps)


def select_index(b: GraphBuilder, x: Value, axis: int, index: Size) -> Value:
    """`x` at one index of an axis, without that axis."""
    d = normal_axis("select_index", axis, x.rank)
    at = as_index(index)
    part = slice_axis(b, x, d, at, at + 1)
    return reshape(b, part, (*x.shape[:d], *x.shape[d + 1:]))


def split(b: GraphBuilder, x: Value, sizes: Sequence[Size], axis: int) -> tuple[Value, ...]:
    """Consecutive pieces of the given sizes along an axis."""
    out, start = [], ZERO
    for n in _sizes(sizes):
        stop = simplify(start + n)
        out.append(slice_axis(b, x, axis, start, stop))
        start = stop
    return tuple(out)


def roll(b: GraphBuilder, x: Value, shifts: Sequence[int], axes: Sequence[int]) -> Value:
    """Elements moved along axes, those that fall off coming in at the other end."""
    for shift, axis in zip(shifts, axes, strict=True):
        d = normal_axis("roll", axis, x.rank)
        x = b.emit("roll", x, shift=as_index(shift), axis=d)
    return x


def _rolled(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    d = attrs["axis"]
    return tuple((a - as_index(attrs["shift"])) % a.extent if i == d else a for i, a in enumerate(axes))


define_view("roll", lambda t, attrs: t.shape, _rolled, lambda x, attrs: np.roll(x, attrs["shift"], attrs["axis"]))


def tile(b: GraphBuilder, x: Value, repeats: Sequence[Size]) -> Value:
    """The whole of `x` repeated along each axis; leading axes are added as needed."""
    times = _sizes(repeats)
    if len(times) > x.rank:
        x = reshape(b, x, ((ONE,) * (len(times) - x.rank)) + x.shape)
    times = (ONE,) * (x.rank - len(times)) + times
    wide = reshape(b, x, tuple(s for n in x.shape for s in (ONE, n)))
    wide = expand(b, wide, tuple(s for t, n in zip(times, x.shape, strict=True) for s in (t, n)))
    return reshape(b, wide, tuple(simplify(t * n) for t, n in zip(times, x.shape, strict=True)))


def _diagonal_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    k, d, e = attrs["offset"], attrs["axis1"], attrs["axis2"]
    rows, columns = (t.shape[d], t.shape[e] - k) if k >= 0 else (t.shape[d] + k, t.shape[e])
    length = rows if prove_nonneg(simplify(columns - rows)) else columns
    return (*(s for i, s in enumerate(t.shape) if i not in (d, e)), simplify(length))


def _on_diagonal(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    k, d, e = attrs["offset"], attrs["axis1"], attrs["axis2"]
    rest = iter(axes[:-1])
    place = {d: axes[-1] + builtins.max(-k, 0), e: axes[-1] + builtins.max(k, 0)}
    return tuple(place[i] if i in place else next(rest) for i in range(len(buf.shape)))


define_view("diagonal", _diagonal_shape, _on_diagonal,
            lambda x, attrs: np.diagonal(x, attrs["offset"], attrs["axis1"], attrs["axis2"]))


def diagonal(b: GraphBuilder, x: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """The diagonal of two axes as the last axis."""
    d, e = normal_axis("diagonal", axis1, x.rank), normal_axis("diagonal", axis2, x.rank)
    return b.emit("diagonal", x, offset=offset, axis1=d, axis2=e)


def _windows(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    d, n, step = attrs["axis"], attrs["size"], attrs["step"]
    count = simplify((t.shape[d] - n) // step + 1)
    return (*t.shape[:d], count, *t.shape[d + 1:], n)


def _in_window(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    d = attrs["axis"]
    return tuple(a * attrs["step"] + axes[-1] if i == d else a for i, a in enumerate(axes[:-1]))


define_view("unfold", _windows, _in_window, lambda x, attrs: np.moveaxis(
    np.lib.stride_tricks.sliding_window_view(x, attrs["size"], attrs["axis"]), attrs["axis"], attrs["axis"])[
        (builtins.slice(None),) * attrs["axis"] + (builtins.slice(None, None, attrs["step"]),)])


def unfold(b: GraphBuilder, x: Value, axis: int, size: int, step: int) -> Value:
    """Windows of `size` elements every `step` along an axis; the window is the last axis."""
    return b.emit("unfold", x, axis=normal_axis("unfold", axis, x.rank), size=size, step=step)


# ---- joining and padding --------------------------------------------------------------------------------------------------


def _concat_infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    d = attrs["axis"]
    dtype = same_dtype("concat", types)
    total = ZERO
    for t in types:
        if t.rank != types[0].rank or any(i != d and not equal(s, o) for i, (s, o) in
                                          enumerate(zip(t.shape, types[0].shape, strict=True))):
            raise CompileError(f"concat along axis {d} of {types[0]} and {t}: the other sizes differ")
        total = total + t.shape[d]
    return tensor((*types[0].shape[:d], total, *types[0].shape[d + 1:]), dtype)


def _concat_compute(ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs) -> list[Stage]:
    axes, d = ctx.axes(outs[0].shape), attrs["axis"]
    starts = [ZERO]
    for b in ins:
        starts.append(simplify(starts[-1] + b.shape[d]))
    value: Expr | None = None
    for k in range(len(ins) - 1, -1, -1):
        inner = simplify(axes[d] - starts[k])
        piece = load(ins[k], *axes[:d], ZERO if equal(ins[k].shape[d], ONE) else inner, *axes[d + 1:])
        value = piece if value is None else choose(lt(axes[d], starts[k + 1]), piece, value)
    assert value is not None
    return [stage(outs[0], axes, value)]


define("concat", _concat_infer, lambda arrays, attrs: np.concatenate(arrays, attrs["axis"]), _concat_compute)


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
    return tuple(simplify(lo + s + hi) for s, lo, hi in
                 zip(t.shape, _sizes(attrs["low"]), _sizes(attrs["high"]), strict=True))


def _pad_compute(ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs) -> list[Stage]:
    axes, mode = ctx.axes(outs[0].shape), attrs["mode"]
    guard, idx = [], []
    for a, n, lo, hi in zip(axes, ins[0].shape, _sizes(attrs["low"]), _sizes(attrs["high"]), strict=True):
        i = simplify(a - lo)
        if mode == "reflect":
            i = _reflected(i, n)
        elif mode == "replicate":
            i = simplify(_clamped(i, n))
        elif mode == "circular":
            i = simplify(i % n)
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


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    x, pairs = arrays[0], list(zip(attrs["low"], attrs["high"], strict=True))
    crop = tuple(builtins.slice(builtins.max(0, -lo), n - builtins.max(0, -hi)) for n, (lo, hi) in
                 zip(x.shape, pairs, strict=True))
    grow = [(builtins.max(0, lo), builtins.max(0, hi)) for lo, hi in pairs]
    if attrs["mode"] == "constant":
        return np.pad(x[crop], grow, constant_values=np.asarray(attrs["value"]).astype(x.dtype))
    kind: Any = _MODES[attrs["mode"]]
    return np.pad(x, grow, mode=kind)[tuple(
        builtins.slice(builtins.max(0, -lo), (-builtins.max(0, -hi)) or None) for lo, hi in pairs)]


define("pad", lambda types, attrs: tensor(_padded_shape(types[0], attrs), types[0].dtype), _pad_meaning, _pad_compute)


def pad(b: GraphBuilder, x: Value, low: Sequence[Size], high: Sequence[Size], value: float = 0.0,
        mode: str = "constant") -> Value:
    """`x` grown at both ends of each axis; negative amounts crop. Modes: constant, reflect, replicate, circular."""
    if mode not in ("constant", *_MODES):
        raise CompileError(f"pad: mode {mode!r} is none of constant, {', '.join(_MODES)}")
    return b.emit("pad", x, low=_sizes(low), high=_sizes(high), value=value, mode=mode)


# ---- triangles and rearrangements -------------------------------------------------------------------------------------------


def _triangle(name: str, keep: Callable[[Expr, Expr, int], Expr], meaning: Callable[..., Array]) -> None:
    def compute(ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        dtype = outs[0].dtype
        zero = cast(const(0, dtype.compute), dtype)
        return [stage(outs[0], axes, choose(keep(axes[-2], axes[-1], attrs["k"]), load(ins[0], *axes), zero))]

    define(name, lambda types, attrs: types[0], lambda arrays, attrs: meaning(arrays[0], attrs["k"]), compute)


_triangle("tril", lambda i, j, k: compare("le", j, i + k), np.tril)
_triangle("triu", lambda i, j, k: compare("le", i + k, j), np.triu)


def tril(b: GraphBuilder, x: Value, k: int = 0) -> Value:
    """Zero above the k-th diagonal of the last two axes."""
    return b.emit("tril", x, k=k)


def triu(b: GraphBuilder, x: Value, k: int = 0) -> Value:
    """Zero below the k-th diagonal of the last two axes."""
    return b.emit("triu", x, k=k)


def pixel_shuffle(b: GraphBuilder, x: Value, factor: int) -> Value:
    """[.., C*r*r, H, W] -> [.., C, H*r, W*r] (Shi et al., 2016)."""
    *lead, c, h, w = x.shape
    out = reshape(b, x, (*lead, c // (factor * factor), factor, factor, h, w))
    n = len(lead)
    out = transpose(b, out, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(b, out, (*lead, c // (factor * factor), h * factor, w * factor))


def pixel_unshuffle(b: GraphBuilder, x: Value, factor: int) -> Value:
    """The inverse of pixel_shuffle."""
    *lead, c, h, w = x.shape
    n = len(lead)
    out = reshape(b, x, (*lead, c, h // factor, factor, w // factor, factor))
    out = transpose(b, out, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(b, out, (*lead, c * factor * factor, h // factor, w // factor))
