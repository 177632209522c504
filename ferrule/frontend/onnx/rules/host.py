"""Host rules that move elements, on arrays of any dtype: strings, 4- and 8-bit floats, sizes.

They fold what is known while a model is built, and run where compiled code lacks a dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array, constant_of
from ferrule.frontend.onnx.table import Attributes, element_type, host

Axes = Array | None

_LARGEST = 1 << 28  # elements of a result that does not follow from what is in memory already


def _limited(count: float) -> None:
    """UnsupportedError for results that are too large to be computed here."""
    if count > _LARGEST:
        raise UnsupportedError(f"a result of {count:.3g} elements is too large for NumPy")


@host("Constant")
def _constant(a: Attributes) -> Array:
    value = constant_of(a.op)
    if value is None:
        raise UnsupportedError("a Constant has no value")
    return value


@host("ConstantOfShape")
def _constant_of_shape(a: Attributes, shape: Array) -> Array:
    value = np.asarray(a.get("value")) if a.has("value") else np.zeros(1, np.float32)
    sizes = tuple(int(s) for s in shape)
    if any(s < 0 for s in sizes):
        raise InputError(f"a shape has a negative size: {list(sizes)}")
    one = value.reshape(-1)[:1]
    if np.prod([float(s) for s in sizes]) > 1 << 20:
        return np.broadcast_to(one.reshape((1,) * len(sizes)), sizes)
    return np.full(sizes, one[0], value.dtype)


@host("Identity")
def _identity(a: Attributes, x: Any) -> Any:
    return x


@host("Shape")
def _shape(a: Attributes, x: Array) -> Array:
    start, end = a.int("start", 0), a.int("end", x.ndim)
    return np.array(x.shape[slice(*slice(start, end).indices(x.ndim))], np.int64)


@host("Size")
def _size(a: Attributes, x: Array) -> Array:
    return np.array(x.size, np.int64)


@host("Reshape")
def _reshape(a: Attributes, x: Array, shape: Axes = None) -> Array:
    given = a.ints("shape") if shape is None else tuple(int(s) for s in shape)
    keep_zero = bool(a.int("allowzero", 0))
    sizes = [x.shape[d] if s == 0 and not keep_zero else s for d, s in enumerate(given)]
    return x.reshape(sizes)


@host("Flatten")
def _flatten(a: Attributes, x: Array) -> Array:
    axis = a.int("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


@host("Transpose")
def _transpose(a: Attributes, x: Array) -> Array:
    return np.transpose(x, a.ints("perm", tuple(range(x.ndim))[::-1]))


@host("Squeeze")
def _squeeze(a: Attributes, x: Array, axes: Axes = None) -> Array:
    given = _axes(a, axes)
    return np.squeeze(x, given)


@host("Unsqueeze")
def _unsqueeze(a: Attributes, x: Array, axes: Axes = None) -> Array:
    return np.expand_dims(x, _axes(a, axes) or ())


def _axes(a: Attributes, axes: Axes) -> tuple[int, ...] | None:
    if axes is not None:
        return tuple(int(d) for d in axes.reshape(-1))
    return a.ints("axes") if a.has("axes") else None


@host("Concat")
def _concat(a: Attributes, *xs: Array) -> Array:
    return np.concatenate(xs, a.int("axis", 1))


@host("Split")
def _split(a: Attributes, x: Array, sizes: Axes = None) -> tuple[Array, ...]:
    axis = a.int("axis", 0)
    n = x.shape[axis]
    if sizes is not None:
        parts = [int(s) for s in sizes]
    elif a.has("split"):
        parts = list(a.ints("split"))
    else:
        count = a.int("num_outputs", len(a.op.outputs))
        step = -(-n // count)
        parts = [min(step, n - i * step) for i in range(count)]
    if sum(parts) != n:
        raise InputError(f"Split of an axis of size {n} into {parts}: these do not add up")
    return tuple(np.split(x, np.cumsum(parts)[:-1], axis))


@host("Expand")
def _expand(a: Attributes, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(s) for s in shape)))


@host("Tile")
def _tile(a: Attributes, x: Array, repeats: Array) -> Array:
    times = tuple(int(r) for r in repeats)
    _limited(x.size * float(np.prod(times, dtype=np.float64)))
    return np.tile(x, times)


@host("Slice")
def _slice(
    a: Attributes, x: Array, starts: Axes = None, ends: Axes = None, axes: Axes = None,
    steps: Axes = None,
) -> Array:  # fmt: skip
    begin = a.ints("starts") if starts is None else tuple(int(s) for s in starts)
    stop = a.ints("ends") if ends is None else tuple(int(s) for s in ends)
    dims = _axes(a, axes) or tuple(range(len(begin)))
    by = (1,) * len(begin) if steps is None else tuple(int(s) for s in steps)
    cut = [slice(None)] * x.ndim
    for d, i, j, s in zip(dims, begin, stop, by):
        low = -x.shape[d] - 1
        cut[d] = slice(i, None if s < 0 and j <= low else j, s)
    return x[tuple(cut)]


@host("Gather")
def _gather(a: Attributes, x: Array, indices: Array) -> Array:
    return np.asarray(np.take(x, indices.astype(np.int64), a.int("axis", 0)))


@host("GatherElements")
def _gather_elements(a: Attributes, x: Array, indices: Array) -> Array:
    axis = a.int("axis", 0)
    own: list[Any] = list(np.indices(indices.shape, sparse=True))
    own[axis] = indices
    return np.asarray(x[tuple(own)])


@host("GatherND")
def _gather_nd(a: Attributes, x: Array, indices: Array) -> Array:
    batch = a.int("batch_dims", 0)
    lead = np.indices((*indices.shape[:batch],), sparse=True)
    spread = indices.ndim - 1 - batch
    own = [i.reshape(i.shape + (1,) * spread) for i in lead]
    place = (*own, *np.moveaxis(indices, -1, 0))
    return np.asarray(x[place])


@host("Where")
def _where(a: Attributes, c: Array, x: Array, y: Array) -> Array:
    return np.where(c, x, y)


@host("Range")
def _range(a: Attributes, start: Array, limit: Array, delta: Array) -> Array:
    first, last, step = (v.reshape(()).item() for v in (start, limit, delta))
    if step == 0:
        raise InputError("Range takes a delta other than 0")
    n = max(math.ceil((last - first) / step), 0)
    _limited(n)
    return (first + np.arange(n) * step).astype(start.dtype)


@host("EyeLike")
def _eye_like(a: Attributes, x: Array) -> Array:
    dtype = element_type(a.int("dtype")) if a.has("dtype") else x.dtype
    return np.eye(x.shape[0], x.shape[1], k=a.int("k", 0)).astype(dtype)


@host("OneHot")
def _one_hot(a: Attributes, indices: Array, depth: Array, values: Array) -> Array:
    n, axis = int(depth.reshape(-1)[0]), a.int("axis", -1)
    _limited(float(n) * indices.size)
    place = np.expand_dims(indices.astype(np.int64), axis)
    wrapped = np.where(place < 0, place + n, place)
    shape = [1] * place.ndim
    shape[axis] = n
    return np.where(wrapped == np.arange(n).reshape(shape), values[1], values[0])


@host("Compress")
def _compress(a: Attributes, x: Array, condition: Array) -> Array:
    if not a.has("axis"):
        return np.compress(condition, x.reshape(-1))
    return np.compress(condition, x, a.int("axis"))


@host("Trilu")
def _trilu(a: Attributes, x: Array, k: Axes = None) -> Array:
    offset = 0 if k is None else int(k.reshape(-1)[0])
    return np.triu(x, offset) if a.int("upper", 1) else np.tril(x, offset)


@host("ReverseSequence")
def _reverse_sequence(a: Attributes, x: Array, lengths: Array) -> Array:
    time, batch = a.int("time_axis", 0), a.int("batch_axis", 1)
    y = np.moveaxis(x, (batch, time), (0, 1))
    out = y.copy()
    for i, n in enumerate(lengths.tolist()):
        out[i, :n] = y[i, :n][::-1]
    return np.moveaxis(out, (0, 1), (batch, time))


@host("Equal")
def _equal(a: Attributes, x: Array, y: Array) -> Array:
    return np.asarray(x == y, bool)


@host("ScatterElements", "Scatter")
def _scatter_elements(a: Attributes, x: Array, indices: Array, updates: Array) -> Array:
    axis, out = a.int("axis", 0), x.copy()
    own: list[Any] = list(np.indices(indices.shape, sparse=True))
    own[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
    return _scattered(out, tuple(own), updates, a.text("reduction", "none"))


@host("ScatterND")
def _scatter_nd(a: Attributes, x: Array, indices: Array, updates: Array) -> Array:
    place = tuple(np.moveaxis(indices, -1, 0))
    return _scattered(x.copy(), place, updates, a.text("reduction", "none"))


def _scattered(out: Array, place: tuple[Any, ...], updates: Array, how: str) -> Array:
    folds: dict[str, Any] = {
        "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    if how == "none":
        out[place] = updates
    else:
        folds[how].at(out, place, updates)
    return out
