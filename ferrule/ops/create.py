"""Create: operators without operands, whose elements follow from their place alone.

    full      every element one value, a number or a symbolic size
    iota      out[i..] = i_axis
    arange    out[i] = start + i*step
    constant  out[i..] = a literal, of at most 64 elements

Sizes and values may be symbolic: i64 Exprs over dims.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, f32, f64, from_numpy, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Buf, Expr, as_index, cast, const, lt, select
from ferrule.ir.graph import Attrs, ComputeContext, GraphBuilder, TensorType, Value, tensor
from ferrule.ir.interp.scalar import convert
from ferrule.ir.system import Stage
from ferrule.ops.op import Array, define, normal_axis, stage

Number = int | float | bool
Size = Expr | int
_MOST_ELEMENTS = 64


def _sizes(shape: Iterable[Size]) -> tuple[Expr, ...]:
    return tuple(as_index(s) for s in shape)


def _literal(value: Number | Expr, dtype: DType) -> Expr:
    """A number, or an i64 Expr, in the dtype that `dtype` is computed in."""
    if isinstance(value, Expr):
        return cast(value, dtype.compute)
    return const(value, dtype.compute)


# ---- full ----------------------------------------------------------------------------------------


def full(b: GraphBuilder, shape: Iterable[Size], value: Number | Expr, dtype: DType) -> Value:
    """A tensor of `shape` and `dtype` whose every element is `value` (an i64 Expr: a size)."""
    if not isinstance(value, Expr):
        value = float(value) if dtype.is_float else bool(value) if dtype.is_bool else int(value)
    return b.emit("full", shape=_sizes(shape), value=value, dtype=dtype)


def scalar(b: GraphBuilder, value: Expr | Number, dtype: DType = i64) -> Value:
    """A symbolic size (an i64 Expr over dims) or a number as a tensor of rank 0."""
    return full(b, (), value, dtype)


def number_of(b: GraphBuilder, x: Value) -> Number | None:
    """The number that `x` is in every element, where the graph has it from `full`, by way of views
    perhaps; else None.
    """
    for n in reversed(b.nodes):
        if x in n.outputs and n.op in ("expand", "reshape", "transpose"):
            (x,) = n.inputs
        elif x in n.outputs:
            value = n.attributes.get("value") if n.op == "full" else None
            return None if isinstance(value, Expr) else value
    return None


def _full_type(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    return tensor(attrs["shape"], attrs["dtype"])


def _full_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    dtype = attrs["dtype"].compute.numpy
    return np.full(attrs["shape"], np.asarray(attrs["value"]).astype(dtype), dtype)


def _full_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (out,) = outs
    return [stage(out, ctx.axes(out.shape), _literal(attrs["value"], out.dtype))]


define("full", _full_type, _full_meaning, _full_compute)


# ---- iota and arange -----------------------------------------------------------------------------


def iota(b: GraphBuilder, shape: Iterable[Size], axis: int, dtype: DType = i64) -> Value:
    """Each element its own index along `axis`."""
    sizes = _sizes(shape)
    return b.emit("iota", shape=sizes, axis=normal_axis("iota", axis, len(sizes)), dtype=dtype)


def _iota_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    return convert(np.indices(attrs["shape"])[attrs["axis"]], i64, attrs["dtype"].compute)


def _iota_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (out,) = outs
    axes = ctx.axes(out.shape)
    return [stage(out, axes, cast(axes[attrs["axis"]], out.dtype.compute))]


define("iota", _full_type, _iota_meaning, _iota_compute)


def arange(
    b: GraphBuilder,
    start: Number | Expr,
    step: Number | Expr,
    length: Size,
    dtype: DType = i64,
) -> Value:
    """start, start + step, ..: `length` elements, computed in f64 (integers in i64) and rounded."""
    return b.emit("arange", shape=(as_index(length),), start=start, step=step, dtype=dtype)


def _arange_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    wide = np.float64 if attrs["dtype"].is_float else np.int64
    start, step = wide(attrs["start"]), wide(attrs["step"])
    return np.asarray(start + step * np.arange(*attrs["shape"], dtype=wide))


def _arange_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    (out,) = outs
    (i,) = axes = ctx.axes(out.shape)
    wide = f64 if out.dtype.is_float else i64
    start, step = _literal(attrs["start"], wide), _literal(attrs["step"], wide)
    return [stage(out, axes, start + step * cast(i, wide))]


define("arange", _full_type, _arange_meaning, _arange_compute)


# ---- constant ------------------------------------------------------------------------------------


def constant(b: GraphBuilder, value: Any, dtype: DType | None = None) -> Value:
    """A literal of at most 64 elements: a number, nested sequences of numbers, or an array.

    `dtype` is that of the array; by default f32 for Python floats and NumPy's for anything else.
    Raises CompileError for a larger array (larger data are params).
    """
    array = np.asarray(value)
    if dtype is None:
        typed = isinstance(value, (np.ndarray, np.generic))
        dtype = f32 if array.dtype == np.float64 and not typed else from_numpy(array.dtype)
    if array.size > _MOST_ELEMENTS:
        raise CompileError(
            f"a constant has at most {_MOST_ELEMENTS} elements, got shape {array.shape}; "
            "pass larger data as a param"
        )
    values = tuple(array.reshape(-1).tolist())
    if values and len(set(map(repr, values))) == 1:
        return full(b, array.shape, values[0], dtype)
    return b.emit("constant", shape=_sizes(array.shape), values=values, dtype=dtype)


def _constant_meaning(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
    dtype = attrs["dtype"].compute.numpy
    return np.array(attrs["values"], dtype).reshape(attrs["shape"])


def _constant_compute(
    ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
) -> list[Stage]:
    """A search of the literal along each axis in turn: selects on comparisons of single axes."""
    (out,) = outs
    axes = ctx.axes(out.shape)
    values = [_literal(v, out.dtype) for v in attrs["values"]]

    def pick(d: int, lo: int, hi: int, first: int, size: int) -> Expr:
        """The element at axes[d:], axes[d] in [lo, hi), of the `size` values from `first`."""
        if d == len(axes):
            return values[first]
        each = size // int(axes[d].extent.value)
        if hi - lo == 1:
            return pick(d + 1, 0, _extent(axes, d + 1), first + lo * each, each)
        mid = (lo + hi) // 2
        low, high = pick(d, lo, mid, first, size), pick(d, mid, hi, first, size)
        return select(lt(axes[d], mid), low, high)

    if not values:
        return [stage(out, axes, _literal(0, out.dtype))]
    return [stage(out, axes, pick(0, 0, _extent(axes, 0), 0, len(values)))]


def _extent(axes: tuple[Expr, ...], d: int) -> int:
    return int(axes[d].extent.value) if d < len(axes) else 1


define("constant", _full_type, _constant_meaning, _constant_compute)
