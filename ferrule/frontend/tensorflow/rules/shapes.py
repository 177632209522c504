"""Sizes, and operators that make, move, join and cut tensors at places that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, i32
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.tensorflow.known import plain
from ferrule.frontend.tensorflow.table import Context, as_known, rule, tensor_of
from ferrule.ir.agree import agree
from ferrule.ir.expr import ONE, Expr, as_index, call, ceildiv, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify


def sizes_as_tensor(cx: Context, sizes: Sequence[Any], dtype: DType) -> Value:
    """Sizes as a tensor of rank 1, whose numbers are known."""
    if not sizes:
        return cx.tell(ops.full(cx.b, (0,), 0, dtype), as_known([]))
    each = [size_as_tensor(cx, n, dtype) for n in sizes]
    return cx.tell(ops.stack(cx.b, each, 0), as_known([plain(n) for n in sizes]))


def size_as_tensor(cx: Context, n: Any, dtype: DType) -> Value:
    """A size as a tensor of rank 0, whose number is known."""
    n = plain(n)
    v = ops.cast(cx.b, ops.scalar(cx.b, n), dtype) if isinstance(n, Expr) else None
    return cx.tell(ops.full(cx.b, (), n, dtype) if v is None else v, as_known(n))


@rule("Shape", "ShapeN")
def _shape(cx: Context, *xs: Any) -> Any:
    dtype = cx.dtype("out_type", i32)
    return tuple(sizes_as_tensor(cx, tensor_of(x).shape, dtype) for x in xs)


@rule("Size")
def _size(cx: Context, x: Any) -> Value:
    return size_as_tensor(cx, product(tensor_of(x).shape), cx.dtype("out_type", i32))


@rule("Rank")
def _rank(cx: Context, x: Any) -> Value:
    return size_as_tensor(cx, tensor_of(x).rank, i32)


@rule("BroadcastArgs")
def _broadcast_args(cx: Context, x: Value, y: Value) -> Value:
    one, other = cx.numbers(x), cx.numbers(y)
    rank = max(len(one), len(other))
    one, other = ([1] * (rank - len(s)) + s for s in (one, other))
    out = []
    for n, m in zip(map(as_index, one), map(as_index, other)):
        if not equal(n, ONE) and not equal(m, ONE):
            agree((n,), (m,))
        out.append(m if equal(n, ONE) else n)
    return sizes_as_tensor(cx, out, x.dtype)


# ---- what only gives elements another shape ------------------------------------------------------


@rule("Reshape")
def _reshape(cx: Context, x: Value, shape: Value) -> Value:
    return reshaped(cx, x, cx.numbers(shape))


def reshaped(cx: Context, x: Value, sizes: Sequence[Any]) -> Value:
    """`x` in a shape in which one size may be -1: what is left over."""
    open_ = [d for d, n in enumerate(sizes) if isinstance(n, int) and n == -1]
    new = [as_index(n) for n in sizes]
    if len(open_) > 1:
        raise CompileError(f"a shape with {len(open_)} sizes that are left open")
    total = product(x.shape)
    rest = simplify(product([n for d, n in enumerate(new) if d not in open_]))
    if open_:
        if equal(total, rest):
            new[open_[0]] = ONE
        else:
            agree((simplify(total % rest),), (as_index(0),))
            new[open_[0]] = simplify(call("floordiv", total, rest))
    else:
        agree((total,), (rest,))
    return ops.reshape(cx.b, x, new)


@rule("ExpandDims")
def _expand_dims(cx: Context, x: Value, axis: Value) -> Value:
    return ops.unsqueeze(cx.b, x, cx.ints(axis)[0])


@rule("Squeeze")
def _squeeze(cx: Context, x: Value) -> Value:
    axes = cx.attr("squeeze_dims", None) or cx.attr("axis", None)
    if not axes:
        axes = [d for d, n in enumerate(x.shape) if equal(n, ONE)]
    for d in axes:
        agree((x.shape[d],), (ONE,))
    return ops.squeeze(cx.b, x, axes) if len(tuple(axes)) else x


@rule("Transpose")
def _transpose(cx: Context, x: Value, perm: Value) -> Value:
    return ops.transpose(cx.b, x, cx.ints(perm))


@rule("BroadcastTo")
def _broadcast_to(cx: Context, x: Value, shape: Value) -> Value:
    sizes = [as_index(n) for n in cx.numbers(shape)]
    for n, m in zip(reversed(x.shape), reversed(sizes)):
        if not equal(n, ONE):
            agree((n,), (m,))
    return ops.expand(cx.b, x, sizes)


@rule("Tile")
def _tile(cx: Context, x: Value, times: Value) -> Value:
    return ops.tile(cx.b, x, cx.numbers(times, "a number of copies"))


@rule("ReverseV2")
def _reverse(cx: Context, x: Value, axes: Value) -> Value:
    over = [d % x.rank for d in cx.ints(axes)]
    return ops.reverse(cx.b, x, over) if over else x


@rule("Roll")
def _roll(cx: Context, x: Value, shifts: Value, axes: Value) -> Value:
    return ops.roll(cx.b, x, cx.ints(shifts, "shifts"), [d % x.rank for d in cx.ints(axes)])


# ---- tensors that are made -----------------------------------------------------------------------


@rule("Fill")
def _fill(cx: Context, shape: Value, x: Value) -> Value:
    return ops.expand(cx.b, x, cx.numbers(shape))


@rule("Range")
def _range(cx: Context, start: Value, limit: Value, step: Value) -> Value:
    (first,), (last,), (by,) = (cx.numbers(v, "a range") for v in (start, limit, step))
    if isinstance(by, Expr) or not by:
        raise UnsupportedError("a range whose step is no constant")
    if isinstance(first, Expr) or isinstance(last, Expr):
        first, last = as_index(first), as_index(last)
        by = int(by)
        span = simplify(last - first if by > 0 else first - last)
        count = simplify(ceildiv(span, abs(by)))
        count = count if prove_nonneg(count) else simplify(call("max", count, as_index(0)))
    else:
        count = as_index(len(np.arange(first, last, by)))
    return ops.arange(cx.b, first, by, count, start.dtype)


@rule("LinSpace")
def _lin_space(cx: Context, start: Value, stop: Value, count: Value) -> Value:
    (n,) = cx.numbers(count, "a number of steps")
    steps = ops.cast(cx.b, ops.iota(cx.b, (n,), 0), start.dtype)
    last = ops.cast(cx.b, size_as_tensor(cx, call("max", as_index(n) - 1, ONE), i32), start.dtype)
    by = ops.div(cx.b, ops.sub(cx.b, stop, start), last)
    return ops.add(cx.b, ops.mul(cx.b, steps, by), start)


# ---- joined and cut ------------------------------------------------------------------------------


@rule("Pack")
def _pack(cx: Context, *xs: Any) -> Value:
    for x in xs[1:]:
        agree(tensor_of(xs[0]).shape, tensor_of(x).shape)
    return ops.stack(cx.b, [tensor_of(x) for x in xs], cx.attr("axis", 0))


@rule("Unpack")
def _unpack(cx: Context, x: Value) -> Any:
    axis = cx.attr("axis", 0)
    return tuple(ops.select_index(cx.b, x, axis, i) for i in range(cx.attr("num")))


@rule("ConcatV2")
def _concat(cx: Context, *operands: Any) -> Value:
    return _joined(cx, operands[:-1], cx.ints(operands[-1])[0])


@rule("Concat")
def _old_concat(cx: Context, axis: Value, *xs: Any) -> Value:
    return _joined(cx, xs, cx.ints(axis)[0])


def _joined(cx: Context, xs: Sequence[Any], axis: int) -> Value:
    first, d = tensor_of(xs[0]), axis % max(1, tensor_of(xs[0]).rank)
    for x in xs[1:]:
        agree([n for k, n in enumerate(first.shape) if k != d],
              [n for k, n in enumerate(x.shape) if k != d])  # fmt: skip
    return ops.concat(cx.b, xs, axis)


@rule("Split")
def _split(cx: Context, axis: Value, x: Value) -> Any:
    d, count = cx.ints(axis)[0] % x.rank, cx.attr("num_split")
    agree((simplify(x.shape[d] % count),), (as_index(0),))
    each = simplify(call("floordiv", x.shape[d], as_index(count)))
    return tuple(ops.split(cx.b, x, [each] * count, d))


@rule("SplitV")
def _split_v(cx: Context, x: Value, sizes: Value, axis: Value) -> Any:
    d, parts = cx.ints(axis)[0] % x.rank, [as_index(n) for n in cx.numbers(sizes, "sizes")]
    rest = [i for i, n in enumerate(parts) if n.is_const and n.value == -1]
    if rest:
        others = sum((n for i, n in enumerate(parts) if i not in rest), as_index(0))
        parts[rest[0]] = simplify(x.shape[d] - others)
    return tuple(ops.split(cx.b, x, parts, d))


# ---- padding -------------------------------------------------------------------------------------


def pairs_of(cx: Context, paddings: Value) -> tuple[list[Any], list[Any]]:
    """What a tensor [rank, 2] of paddings says: what comes before and behind."""
    numbers = cx.numbers(paddings, "padding")
    return numbers[::2], numbers[1::2]


@rule("Pad")
def _pad(cx: Context, x: Value, paddings: Value) -> Value:
    low, high = pairs_of(cx, paddings)
    return ops.pad(cx.b, x, low, high, 0)


@rule("PadV2")
def _pad_v2(cx: Context, x: Value, paddings: Value, value: Value) -> Value:
    low, high = pairs_of(cx, paddings)
    return ops.pad(cx.b, x, low, high, value)


@rule("MirrorPad")
def _mirror_pad(cx: Context, x: Value, paddings: Value) -> Value:
    low, high = pairs_of(cx, paddings)
    if cx.text("mode") == "REFLECT":
        return ops.pad(cx.b, x, low, high, mode="reflect")
    for d, (lo, hi) in enumerate(zip(low, high)):  # the outermost elements are repeated too
        n = x.shape[d]
        first = ops.slice_axis(cx.b, x, d, 0, lo)
        last = ops.slice_axis(cx.b, x, d, simplify(n - hi), n)
        turned = [ops.reverse(cx.b, v, (d,)) for v in (first, last)]
        x = ops.concat(cx.b, [turned[0], x, turned[1]], d)
    return x


# ---- blocks of space -----------------------------------------------------------------------------


@rule("DepthToSpace")
def _depth_to_space(cx: Context, x: Value) -> Value:
    _check_last(cx)
    n, h, w, c = x.shape
    k = cx.attr("block_size")
    inner = simplify(call("floordiv", c, as_index(k * k)))
    x = ops.reshape(cx.b, x, (n, h, w, k, k, inner))
    x = ops.transpose(cx.b, x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cx.b, x, (n, h * k, w * k, inner))


@rule("SpaceToDepth")
def _space_to_depth(cx: Context, x: Value) -> Value:
    _check_last(cx)
    n, h, w, c = x.shape
    k = cx.attr("block_size")
    rows, columns = (simplify(call("floordiv", s, as_index(k))) for s in (h, w))
    x = ops.reshape(cx.b, x, (n, rows, k, columns, k, c))
    x = ops.transpose(cx.b, x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cx.b, x, (n, rows, columns, c * k * k))


def _check_last(cx: Context) -> None:
    if cx.text("data_format", "NHWC") != "NHWC":
        raise UnsupportedError("channels that are not the last dimension")


@rule("SpaceToBatchND")
def _space_to_batch(cx: Context, x: Value, block: Value, paddings: Value) -> Value:
    sizes = cx.ints(block, "blocks")
    low, high = pairs_of(cx, paddings)
    m, rest = len(sizes), x.rank - 1 - len(sizes)
    x = ops.pad(cx.b, x, [0, *low, *[0] * rest], [0, *high, *[0] * rest], 0)
    parts = [simplify(call("floordiv", n, as_index(k))) for n, k in zip(x.shape[1:], sizes)]
    last = x.shape[1 + m :]
    split = [s for p, k in zip(parts, sizes) for s in (p, k)]
    v = ops.reshape(cx.b, x, (x.shape[0], *split, *last))
    order = [*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, v.rank)]
    v = ops.transpose(cx.b, v, order)
    return ops.reshape(cx.b, v, (x.shape[0] * int(np.prod(sizes)), *parts, *last))


@rule("BatchToSpaceND")
def _batch_to_space(cx: Context, x: Value, block: Value, crops: Value) -> Value:
    sizes = cx.ints(block, "blocks")
    low, high = pairs_of(cx, crops)
    m, count = len(sizes), int(np.prod(sizes))
    batch = simplify(call("floordiv", x.shape[0], as_index(count)))
    last = x.shape[1 + m :]
    v = ops.reshape(cx.b, x, (*sizes, batch, *x.shape[1:]))
    order = [m, *(d for i in range(m) for d in (m + 1 + i, i)), *range(2 * m + 1, v.rank)]
    v = ops.transpose(cx.b, v, order)
    wide = [n * k for n, k in zip(x.shape[1:], sizes)]
    v = ops.reshape(cx.b, v, (batch, *wide, *last))
    stops = [simplify(n - hi) for n, hi in zip(wide, high)]
    rest = len(last)
    return ops.slice(cx.b, v, [0, *low, *[0] * rest], [batch, *stops, *last])


@rule("MatrixBandPart")
def _band(cx: Context, x: Value, lower: Value, upper: Value) -> Value:
    (lo,), (hi,) = cx.ints(lower, "bands"), cx.ints(upper, "bands")
    x = ops.tril(cx.b, x, hi) if hi >= 0 else x
    return ops.triu(cx.b, x, -lo) if lo >= 0 else x


def _main_diagonal(cx: Context, place: Any) -> None:
    if place is not None and set(cx.ints(place, "diagonals")) != {0}:
        raise UnsupportedError("a diagonal that is not the main one")


@rule("MatrixDiag", "MatrixDiagV3")
def _diag(cx: Context, x: Value, place: Any = None, *shape: Any) -> Value:
    _main_diagonal(cx, place)
    n = x.shape[-1]
    own = ops.eq(cx.b, ops.iota(cx.b, (n, n), 0), ops.iota(cx.b, (n, n), 1))
    return ops.select(cx.b, own, ops.unsqueeze(cx.b, x, -1), 0)


@rule("MatrixSetDiag", "MatrixSetDiagV3")
def _set_diag(cx: Context, x: Value, diagonal: Value, place: Any = None) -> Value:
    _main_diagonal(cx, place)
    agree(x.shape[:-2], diagonal.shape[:-1])
    if not equal(x.shape[-1], x.shape[-2]):
        agree(x.shape[-1:], x.shape[-2:-1])
    agree(x.shape[-1:], diagonal.shape[-1:])
    return ops.diagonal_scatter(cx.b, x, diagonal, 0, x.rank - 2, x.rank - 1)


@rule("MatrixDiagPart", "MatrixDiagPartV3")
def _diag_part(cx: Context, x: Value, place: Any = None, *padding: Any) -> Value:
    _main_diagonal(cx, place)
    return ops.diagonal(cx.b, x, 0, x.rank - 2, x.rank - 1)
