"""ATen rules: views, joins, padding, indexing and scattering."""

from __future__ import annotations

from typing import Any

from ferrule import ops
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.table import Context, Scalar, aten, must_fit
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, call, lt, select
from ferrule.ir.graph import Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify

_END = (1 << 63) - 1

# ---- shapes and axes -----------------------------------------------------------------------------


@aten(
    "view.default",
    "reshape.default",
    "_unsafe_view.default",
    "view_copy.default",
    "_reshape_alias.default",
    "flatten.using_ints",
    "unflatten.int",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
    "squeeze_copy.dims",
    "unsqueeze_copy.default",
)
def _reshape(cx: Context, x: Value, *_: Any) -> Value:
    return ops.reshape(cx.b, x, cx.shape)


@aten("view.dtype")
def _view_dtype(cx: Context, x: Value, dtype: Any) -> Value:
    if x.dtype.bits != cx.dtype.bits:
        raise UnsupportedError("a view as a dtype of another width")
    return ops.bitcast(cx.b, x, cx.dtype)


@aten("permute.default", "permute_copy.default")
def _permute(cx: Context, x: Value, dims: Any) -> Value:
    return ops.transpose(cx.b, x, tuple(dims))


@aten("transpose.int", "swapaxes.default", "transpose_copy.int")
def _transpose(cx: Context, x: Value, a: int, b: int) -> Value:
    order = list(range(x.rank))
    if order:
        order[a], order[b] = order[b], order[a]
    return ops.transpose(cx.b, x, order)


@aten("t.default", "numpy_T.default", "mT.default", "t_copy.default")
def _t(cx: Context, x: Value) -> Value:
    return x if x.rank < 2 else _transpose(cx, x, -1, -2)


@aten("expand.default", "broadcast_to.default", "expand_copy.default")
def _expand(cx: Context, x: Value, *_: Any, **__: Any) -> Value:
    return ops.expand(cx.b, x, cx.shape)


@aten("repeat.default", "tile.default")
def _repeat(cx: Context, x: Value, repeats: Any) -> Value:
    return ops.tile(cx.b, x, tuple(repeats))


@aten("flip.default")
def _flip(cx: Context, x: Value, dims: Any) -> Value:
    return ops.reverse(cx.b, x, tuple(dims)) if x.rank and len(dims) else x


@aten("channel_shuffle.default")
def _channel_shuffle(cx: Context, x: Value, groups: int) -> Value:
    """Channel j of group i goes to place i of group j."""
    n, channels, *image = x.shape
    apart = ops.reshape(cx.b, x, (n, as_index(groups), channels // groups, *image))
    order = (0, 2, 1, *range(3, apart.rank))
    return ops.reshape(cx.b, ops.transpose(cx.b, apart, order), x.shape)


@aten("roll.default")
def _roll(cx: Context, x: Value, shifts: Any, dims: Any = ()) -> Value:
    shifts = (shifts,) if isinstance(shifts, int | Expr) else tuple(shifts)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if not x.rank or any(equal(s, ZERO) for s in x.shape):
        return x
    if not dims:
        total = ONE
        for s in x.shape:
            total = total * s
        flat = ops.roll(cx.b, ops.reshape(cx.b, x, (total,)), shifts, (0,))
        return ops.reshape(cx.b, flat, x.shape)
    return ops.roll(cx.b, x, shifts, dims)


@aten("diagonal.default", "diagonal_copy.default")
def _diagonal(cx: Context, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    return ops.diagonal(cx.b, x, offset, dim1, dim2)


@aten("unfold.default", "unfold_copy.default")
def _unfold(cx: Context, x: Value, dim: int, size: int, step: int) -> Value:
    if not x.rank:
        return ops.reshape(cx.b, x, cx.shape)
    return ops.unfold(cx.b, x, dim, size, step)


@aten("pixel_shuffle.default")
def _pixel_shuffle(cx: Context, x: Value, factor: int) -> Value:
    return ops.pixel_shuffle(cx.b, x, factor)


@aten("pixel_unshuffle.default")
def _pixel_unshuffle(cx: Context, x: Value, factor: int) -> Value:
    return ops.pixel_unshuffle(cx.b, x, factor)


@aten("tril.default")
def _tril(cx: Context, x: Value, k: int = 0) -> Value:
    return ops.tril(cx.b, x, k)


@aten("triu.default")
def _triu(cx: Context, x: Value, k: int = 0) -> Value:
    return ops.triu(cx.b, x, k)


# ---- slices --------------------------------------------------------------------------------------


def _bound(at: Scalar | None, size: Expr, default: Expr) -> Expr:
    """A slice's end as Python clamps it."""
    if at is None:
        return default
    if isinstance(at, int):
        if at >= _END:
            return size
        if at < 0:
            return _not_below(simplify(size + at))
        return as_index(at) if prove_nonneg(size - at) else _least(as_index(at), size)
    assert isinstance(at, Expr)
    return _least(_not_below(_from_start(at, size)), size)


def _from_start(at: Expr, size: Expr) -> Expr:
    """An index that counts from the end where it is negative, as one from the start."""
    if prove_nonneg(at):
        return at
    if prove_nonneg(simplify(-1 - at)):
        return simplify(at + size)
    return simplify(select(lt(at, ZERO), at + size, at))


def _not_below(e: Expr) -> Expr:
    return e if prove_nonneg(e) else simplify(call("max", e, ZERO))


def _least(e: Expr, size: Expr) -> Expr:
    return e if prove_nonneg(simplify(size - e)) else simplify(call("min", e, size))


@aten("slice.Tensor", "slice_copy.Tensor")
def _slice(
    cx: Context, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    begin = _bound(start, x.shape[dim], ZERO)
    length = cx.shape[dim]  # what PyTorch found, under guards of its own
    stop = begin if equal(length, ZERO) else simplify(begin + (length - 1) * step + 1)
    return ops.slice_axis(cx.b, x, dim, begin, stop, step)


def _index_of(x: Value, dim: int, index: Scalar) -> Expr:
    return _from_start(as_index(index if isinstance(index, Expr) else int(index)), x.shape[dim])


@aten("select.int", "select_copy.int")
def _select(cx: Context, x: Value, dim: int, index: Scalar) -> Value:
    return ops.select_index(cx.b, x, dim, _index_of(x, dim, index))


@aten(
    "split.Tensor",
    "split_with_sizes.default",
    "split_with_sizes_copy.default",
    "chunk.default",
    "split.sizes",
    "tensor_split.indices",
    "tensor_split.sections",
    "split_copy.Tensor",
)
def _split(cx: Context, x: Value, _: Any = None, dim: int = 0, **__: Any) -> tuple[Value, ...]:
    return tuple(ops.split(cx.b, x, [t.shape[dim] for t in cx.results], dim))


@aten("unbind.int", "unbind_copy.int")
def _unbind(cx: Context, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(ops.select_index(cx.b, x, dim, i) for i in range(len(cx.results)))


@aten("narrow.default")
def _narrow(cx: Context, x: Value, dim: int, start: Scalar, length: Scalar) -> Value:
    begin = _index_of(x, dim, start)
    end = simplify(begin + as_index(length))  # type: ignore[arg-type]
    return ops.slice_axis(cx.b, x, dim, begin, end, 1)


@aten("slice_scatter.default")
def _slice_scatter(
    cx: Context,
    x: Value,
    src: Value,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
) -> Value:
    size = x.shape[dim]
    return ops.slice_scatter(
        cx.b,
        x,
        ops.cast(cx.b, src, x.dtype),
        dim,
        _bound(start, size, ZERO),
        _bound(end, size, size),
        step,
    )


@aten("select_scatter.default")
def _select_scatter(cx: Context, x: Value, src: Value, dim: int, index: Scalar) -> Value:
    return ops.select_scatter(cx.b, x, ops.cast(cx.b, src, x.dtype), dim, _index_of(x, dim, index))


@aten("diagonal_scatter.default")
def _diagonal_scatter(
    cx: Context, x: Value, src: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    return ops.diagonal_scatter(cx.b, x, ops.cast(cx.b, src, x.dtype), offset, dim1, dim2)


# ---- joining and padding -------------------------------------------------------------------------


@aten("cat.default", "concat.default", "concatenate.default")
def _cat(cx: Context, xs: list[Value], dim: int = 0) -> Value:
    rank = len(cx.shape)
    parts = [ops.cast(cx.b, x, cx.dtype) for x in xs if x.rank == rank]
    return ops.concat(cx.b, parts, dim)


@aten("stack.default")
def _stack(cx: Context, xs: list[Value], dim: int = 0) -> Value:
    return ops.stack(cx.b, [ops.cast(cx.b, x, cx.dtype) for x in xs], dim)


def _pairs(x: Value, padding: Any) -> tuple[list[Any], list[Any]]:
    """ATen's padding (last axis first, low and high in turn) as amounts before and after each."""
    low: list[Any] = [0] * x.rank
    high: list[Any] = [0] * x.rank
    for i in range(len(padding) // 2):
        low[x.rank - 1 - i], high[x.rank - 1 - i] = padding[2 * i], padding[2 * i + 1]
    return low, high


@aten("constant_pad_nd.default")
def _constant_pad(cx: Context, x: Value, padding: Any, value: Any = 0) -> Value:
    must_fit(value, x.dtype)
    return ops.pad(cx.b, x, *_pairs(x, padding), value=value)


@aten("pad.default")
def _pad(cx: Context, x: Value, padding: Any, mode: str = "constant", value: Any = None) -> Value:
    must_fit(value, x.dtype)
    return ops.pad(cx.b, x, *_pairs(x, padding), value=0 if value is None else value, mode=mode)


@aten("reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default")
def _reflection(cx: Context, x: Value, padding: Any) -> Value:
    return ops.pad(cx.b, x, *_pairs(x, padding), mode="reflect")


@aten("replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default")
def _replication(cx: Context, x: Value, padding: Any) -> Value:
    return ops.pad(cx.b, x, *_pairs(x, padding), mode="replicate")
