"""Views: operators whose every result element is one element of the operand.

    out[i..] = x[map(i..)]

Below Graph there are no views, so an operator here is nothing but its index map, which fusion
substitutes into consumers. `reshape` matches dims in groups of equal size, so that [B, S, 768] ->
[B, S, 12, 64] is x[b, s, h*64 + d]: axes that a reshape leaves alone stay bare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ferrule.base.errors import CompileError
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    compare,
    load,
    product,
)
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, Shape, TensorType, Value, tensor
from ferrule.ir.simplify import equal, prove, simplify
from ferrule.ir.system import Stage
from ferrule.ops.op import (
    Array,
    at_shape,
    define,
    normal_axis,
    show_shape,
    stage,
)

Size = Expr | int
IndexMap = Callable[[Buf, tuple[Expr, ...], Attrs], tuple[Expr, ...]]


def sizes_of(values: Iterable[Size]) -> tuple[Expr, ...]:
    """Sizes as simplified i64 Exprs."""
    return tuple(simplify(as_index(v)) for v in values)


def define_view(
    name: str,
    shape: Callable[[TensorType, Attrs], Iterable[Size]],
    index: IndexMap,
    meaning: Callable[[Array, Attrs], Array],
    requires: Callable[[TensorType, Attrs], Iterable[Expr]] | None = None,
) -> None:
    """Define a view by the shape of its result, its index map, and its meaning.

    `index` gives the operand's index at a point of the result, which is within the operand where
    the conditions that `requires` gives hold.
    """

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        return tensor(shape(types[0], attrs), types[0].dtype)

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        idx = tuple(simplify(i) for i in index(ins[0], axes, attrs))
        return [stage(outs[0], axes, load(ins[0], *idx))]

    rule = None if requires is None else lambda types, attrs: requires(types[0], attrs)
    define(name, infer, lambda arrays, attrs: meaning(arrays[0], attrs), compute, requires=rule)


# ---- reshape -------------------------------------------------------------------------------------


def groups(old: Shape, new: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of dims of `old` and `new` with equal products, from left to right, short ones first.

    Dims of size one stand in none. Where no products are known to be equal, all that is left
    makes the last pair.
    """
    i, j = ([d for d, n in enumerate(s) if not equal(n, ONE)] for s in (old, new))
    out: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while i or j:
        m, n = _shortest([old[d] for d in i], [new[d] for d in j])
        out.append((tuple(i[:m]), tuple(j[:n])))
        i, j = i[m:], j[n:]
    return out


def _shortest(old: list[Expr], new: list[Expr]) -> tuple[int, int]:
    """How many leading sizes of each have the same product, as few as possible; else all."""
    for total in range(2, len(old) + len(new)):
        for m in range(max(1, total - len(new)), min(total - 1, len(old)) + 1):
            if equal(product(old[:m]), product(new[: total - m])):
                return m, total - m
    return len(old), len(new)


def _reshape_index(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    idx: list[Expr] = [ZERO] * len(buf.shape)
    for old, new in groups(buf.shape, tuple(a.extent for a in axes)):
        flat = ZERO
        for j in new:
            flat = flat * axes[j].extent + axes[j]
        for k, d in enumerate(old):
            i = flat // product([buf.shape[e] for e in old[k + 1 :]])
            idx[d] = i if k == 0 else i % buf.shape[d]
    return tuple(idx)


def _reshape_shape(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    new = sizes_of(attrs["shape"])
    before, after = simplify(product(t.shape)), simplify(product(new))
    if prove(compare("ne", before, after)):
        raise CompileError(
            f"reshape of {t} to {show_shape(new)}: {before} elements are not {after}"
        )
    return new


define_view(
    "reshape",
    _reshape_shape,
    _reshape_index,
    lambda x, attrs: x.reshape(attrs["shape"]),
    lambda t, attrs: (compare("eq", product(t.shape), product(sizes_of(attrs["shape"]))),),
)


def reshape(b: GraphBuilder, x: Value, shape: Sequence[Size]) -> Value:
    """The elements of `x` in order, in another shape."""
    new = sizes_of(shape)
    return x if new == x.shape else b.emit("reshape", x, shape=new)


def unsqueeze(b: GraphBuilder, x: Value, axis: int) -> Value:
    """`x` with a new axis of size one, which is `axis` of the result."""
    at = axis if axis >= 0 else axis + x.rank + 1
    return reshape(b, x, (*x.shape[:at], ONE, *x.shape[at:]))


def squeeze(b: GraphBuilder, x: Value, axes: Iterable[int] | None = None) -> Value:
    """`x` without the given axes of size one (all of them by default)."""
    drop = {a % x.rank for a in axes} if axes is not None and x.rank else set(range(x.rank))
    return reshape(
        b, x, tuple(s for d, s in enumerate(x.shape) if d not in drop or not equal(s, ONE))
    )


# ---- axes ----------------------------------------------------------------------------------------


def _transposed(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    idx: list[Expr] = [ZERO] * len(axes)
    for a, d in zip(axes, attrs["perm"], strict=True):
        idx[d] = a
    return tuple(idx)


define_view(
    "transpose",
    lambda t, attrs: (t.shape[d] for d in attrs["perm"]),
    _transposed,
    lambda x, attrs: x.transpose(attrs["perm"]),
)


def transpose(b: GraphBuilder, x: Value, perm: Sequence[int]) -> Value:
    """Axis i of the result is axis perm[i] of `x`."""
    order = tuple(normal_axis("transpose", d, x.rank) for d in perm)
    if sorted(order) != list(range(x.rank)):
        raise CompileError(
            f"transpose of {x.type} by {tuple(perm)}: expected each of {x.rank} axes once"
        )
    return x if order == tuple(range(x.rank)) else b.emit("transpose", x, perm=order)


def _expanded(t: TensorType, attrs: Attrs) -> Iterable[Size]:
    new = sizes_of(attrs["shape"])
    lead = len(new) - t.rank
    if lead < 0 or any(
        not equal(s, ONE) and not equal(s, n) for s, n in zip(t.shape, new[lead:], strict=True)
    ):
        raise CompileError(f"{t} does not expand to {show_shape(new)}")
    return new


define_view(
    "expand",
    _expanded,
    lambda buf, axes, attrs: at_shape(buf.shape, axes),
    lambda x, attrs: np.broadcast_to(x, attrs["shape"]),
)


def expand(b: GraphBuilder, x: Value, shape: Sequence[Size]) -> Value:
    """`x` broadcast to `shape`, as in NumPy."""
    new = sizes_of(shape)
    return x if new == x.shape else b.emit("expand", x, shape=new)


def broadcast_in_dim(
    b: GraphBuilder, x: Value, shape: Sequence[Size], dims: Sequence[int]
) -> Value:
    """StableHLO's broadcast_in_dim: `x` broadcast to `shape`, its dim d lying along `dims[d]`."""
    order = sorted(range(x.rank), key=lambda d: dims[d])
    places = {dims[d]: x.shape[d] for d in order}
    lined_up = [places.get(d, ONE) for d in range(len(shape))]
    if len(places) != x.rank or any(not 0 <= d < len(shape) for d in places):
        raise CompileError(f"broadcast_in_dim of {x.type}: its dims cannot lie along {dims}")
    return expand(b, reshape(b, transpose(b, x, order), lined_up), shape)


def _reversed(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    return tuple(a.extent - 1 - a if d in attrs["axes"] else a for d, a in enumerate(axes))


define_view(
    "reverse", lambda t, attrs: t.shape, _reversed, lambda x, attrs: np.flip(x, attrs["axes"])
)


def reverse(b: GraphBuilder, x: Value, axes: Iterable[int]) -> Value:
    """`x` with the order of the elements along `axes` turned round."""
    return b.emit(
        "reverse", x, axes=tuple(sorted({normal_axis("reverse", a, x.rank) for a in axes}))
    )


def roll(b: GraphBuilder, x: Value, shifts: Sequence[int], axes: Sequence[int]) -> Value:
    """Elements moved along axes, those that fall off coming in at the other end."""
    for shift, axis in zip(shifts, axes, strict=True):
        d = normal_axis("roll", axis, x.rank)
        x = b.emit("roll", x, shift=as_index(shift), axis=d)
    return x


def _rolled(buf: Buf, axes: tuple[Expr, ...], attrs: Attrs) -> tuple[Expr, ...]:
    d = attrs["axis"]
    return tuple(
        (a - as_index(attrs["shift"])) % a.extent if i == d else a for i, a in enumerate(axes)
    )


define_view(
    "roll",
    lambda t, attrs: t.shape,
    _rolled,
    lambda x, attrs: np.roll(x, attrs["shift"], attrs["axis"]),
)


# ---- compositions --------------------------------------------------------------------------------


def tile(b: GraphBuilder, x: Value, repeats: Sequence[Size]) -> Value:
    """The whole of `x` repeated along each axis; leading axes are added as needed."""
    times = sizes_of(repeats)
    if len(times) > x.rank:
        x = reshape(b, x, ((ONE,) * (len(times) - x.rank)) + x.shape)
    times = (ONE,) * (x.rank - len(times)) + times
    wide = reshape(b, x, tuple(s for n in x.shape for s in (ONE, n)))
    wide = expand(b, wide, tuple(s for t, n in zip(times, x.shape, strict=True) for s in (t, n)))
    return reshape(b, wide, tuple(simplify(t * n) for t, n in zip(times, x.shape, strict=True)))


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
