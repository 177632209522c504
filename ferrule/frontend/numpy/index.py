"""Indexing of traced arrays, reading and writing, and NumPy's functions that index.

x[1, :, None, ..., ::2]       a view: integers, slices, None, Ellipsis
x[rows, :, columns]           a copy: arrays of integers, among slices
x[...] = y                    writes; `x[mask] = number` too
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    Operand,
    Size,
    Tape,
    Traced,
    as_operand,
    common_dtype,
    expr_of,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.frontend.numpy.shape import expand_dims, normal, reshape
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, maximum, minimum
from ferrule.ir.graph import GraphBuilder, Value
from ferrule.ir.simplify import equal, prove_nonneg, simplify

_SIZE_UNKNOWN = (
    "indexing by a mask: the size of the result depends on values; keep the shape and choose with "
    "numpy.where(mask, x, other), or reduce with `where=mask`"
)


def _parts(x: Traced, index: Any) -> list[Any]:
    """The index with one entry for each axis (and None): Ellipsis written out, lists as arrays."""
    given = list(index) if isinstance(index, tuple) else [index]
    given = [as_operand(i) if isinstance(i, list | np.generic) else i for i in given]
    given = [_integer(i) for i in given]
    used = sum(_axes_used(i) for i in given)
    at = [k for k, i in enumerate(given) if i is Ellipsis]
    if len(at) > 1 or used > x.ndim:
        raise InputError(f"an index of {used} axes and {len(at)} `...` into {x}")
    fill = [slice(None)] * (x.ndim - used)
    return [*given[: at[0]], *fill, *given[at[0] + 1 :]] if at else [*given, *fill]


def _integer(i: Any) -> Any:
    """NumPy integers as Python's; what cannot index raises InputError."""
    if isinstance(i, np.ndarray) and i.ndim == 0 and i.dtype.kind in "iu":
        return int(i)
    if i is None or i is Ellipsis or isinstance(i, slice | int | Traced):
        return i
    if isinstance(i, np.ndarray) and (i.dtype.kind in "iub" or not i.size):
        return i if i.size else i.astype(np.int64)
    raise InputError(f"an index of type {type(i).__name__} into a traced array: {i!r}")


def _is_mask(i: Any) -> bool:
    return isinstance(i, bool | Traced | np.ndarray) and (
        isinstance(i, bool) or i.dtype.kind == "b"
    )


def _axes_used(i: Any) -> int:
    if i is None or i is Ellipsis:
        return 0
    return i.ndim if _is_mask(i) and not isinstance(i, bool) else 1


def _is_array(i: Any) -> bool:
    return isinstance(i, Traced | np.ndarray) and not isinstance(i, Size)


# ---- basic indices -------------------------------------------------------------------------------


def _bounds(size: Expr, i: slice) -> tuple[Expr, Expr, int, bool]:
    """(start, stop, step, whether reversed) of a slice, with 0 <= start <= stop <= size."""
    step = 1 if i.step is None else operator.index(i.step)
    if step == 0:
        raise InputError("a slice with step zero")
    if size.is_const and not isinstance(i.start, Size) and not isinstance(i.stop, Size):
        places = range(*slice(i.start, i.stop, step).indices(int(size.attr)))
        first, last = (places[0], places[-1]) if len(places) else (0, -1)
        lo, hi = (first, last) if step > 0 else (last, first)
        lo, hi = (lo, hi) if len(places) else (0, -1)
        return as_index(lo), as_index(hi + 1), abs(step), step < 0
    if step < 0 and (i.start is not None or i.stop is not None):
        raise UnsupportedError(
            "a slice with a negative step and bounds along a symbolic axis cannot be traced: "
            "slice first, then numpy.flip"
        )
    start, stop = _end(size, i.start, ZERO), _end(size, i.stop, size)
    if step < 0:
        start = simplify((size - 1) % as_index(-step))
    if not prove_nonneg(simplify(stop - start)):
        start = minimum(start, stop)
    return start, stop, abs(step), step < 0


def _end(size: Expr, given: Any, default: Expr) -> Expr:
    """One end of a slice of a symbolic axis, clipped to it as in Python."""
    if given is None:
        return default
    at = expr_of(given)
    at = simplify(at + size) if at.is_const and at.attr < 0 else simplify(at)
    at = at if prove_nonneg(at) else maximum(at, ZERO)
    return at if prove_nonneg(simplify(size - at)) else minimum(at, size)


def _sliced(b: GraphBuilder, x: Value, d: int, i: slice) -> Value:
    start, stop, step, back = _bounds(x.shape[d], i)
    out = ops.slice_axis(b, x, d, start, stop, step)
    return ops.reverse(b, out, (d,)) if back else out


def _unsliced(b: GraphBuilder, x: Value, new: Value, d: int, i: slice) -> Value:
    start, stop, step, back = _bounds(x.shape[d], i)
    if equal(start, ZERO) and equal(stop, x.shape[d]) and step == 1:
        return ops.reverse(b, new, (d,)) if back else new
    new = ops.reverse(b, new, (d,)) if back else new
    return ops.slice_scatter(b, x, new, d, start, stop, step)


def _place(size: Expr, i: Any) -> Expr:
    """An integer index into an axis. Raises InputError out of bounds."""
    at = expr_of(i)
    if size.is_const and at.is_const and not -size.attr <= at.attr < size.attr:
        raise InputError(f"index {at.attr} is out of bounds for an axis of size {size.attr}")
    return simplify(at + size) if at.is_const and at.attr < 0 else at


def _basic(b: GraphBuilder, x: Value, parts: list[Any]) -> Value:
    d = 0
    for i in parts:
        if i is None:
            x = ops.unsqueeze(b, x, d)
        elif isinstance(i, slice):
            x = _sliced(b, x, d, i)
        else:
            x = ops.select_index(b, x, d, _place(x.shape[d], i))
            d -= 1
        d += 1
    return x


def _written(b: GraphBuilder, x: Value, new: Value, parts: list[Any]) -> Value:
    """`x` after `new`, of the shape of x[parts], was written there."""
    rest = [i for i in parts if i is not None]
    new = ops.reshape(b, new, _basic(b, x, rest).shape)
    stages, d = [], 0
    for i in rest:
        stages.append((x, d, i))
        x = _basic(b, x, [*[slice(None)] * d, i])
        d += isinstance(i, slice)
    for before, d, i in reversed(stages):
        if isinstance(i, slice):
            new = _unsliced(b, before, new, d, i)
        else:
            new = ops.select_scatter(b, before, new, d, _place(before.shape[d], i))
    return new


# ---- reading -------------------------------------------------------------------------------------


@numpy_function("__getitem__")
def _getitem(x: Traced, index: Any) -> Traced:
    parts = _parts(x, index)
    if any(map(_is_mask, parts)):
        raise UnsupportedError(_SIZE_UNKNOWN)
    if not any(map(_is_array, parts)):
        if x.ndim and not any(i is None or isinstance(i, slice) for i in parts):
            return x.wrap(_basic(x.b, x.value, parts))
        return x.viewed(
            lambda v: _basic(x.b, v, parts), lambda old, new: _written(x.b, old, new, parts)
        )
    return _advanced(x, parts, _apart(index))


def _advanced(x: Traced, parts: list[Any], apart: bool) -> Traced:
    """Arrays of indices, with slices and None around them; integers are arrays of rank 0. `apart`:
    the dims of the indices come first.
    """
    basic = [slice(None) if _is_array(i) or _is_int(i) else i for i in parts]
    value = _basic(x.b, x.value, basic)
    indices: list[Value | None] = [_indices(x.tape, i) for i in parts]
    places = [d for d, i in enumerate(indices) if i is not None]
    out = ops.index(x.b, value, indices)
    first, common = places[0], out.rank - (value.rank - len(places))
    if apart and places == list(range(first, places[-1] + 1)):
        mine = list(range(first, first + common))
        rest = [d for d in range(out.rank) if d not in mine]
        out = ops.transpose(x.b, out, [*mine, *rest])
    return x.wrap(out)


def _apart(index: Any) -> bool:
    """Whether `...` stands between the integers and arrays of an index, even for no axis at all:
    then NumPy puts the dims of the indices in front.
    """
    given = index if isinstance(index, tuple) else (index,)
    if not any(i is Ellipsis for i in given):
        return False
    at = next(k for k, i in enumerate(given) if i is Ellipsis)
    chosen = [not (i is None or i is Ellipsis or isinstance(i, slice)) for i in given]
    return any(chosen[:at]) and any(chosen[at:])


def _is_int(i: Any) -> bool:
    return isinstance(i, int | Size) and not isinstance(i, bool)


def _indices(tape: Tape, i: Any) -> Value | None:
    return tape.lift(i) if _is_array(i) or _is_int(i) else None


# ---- writing -------------------------------------------------------------------------------------


@numpy_function("__setitem__")
def _setitem(x: Traced, index: Any, new: Operand) -> None:
    source = x.tape.lift(new, x.dtype)
    if _is_mask(index):
        mask = x.tape.lift(index)
        if not isinstance(new, bool | int | float) and source.rank:
            raise UnsupportedError(f"x[mask] = array: {_SIZE_UNKNOWN}")
        lead = ops.reshape(x.b, mask, (*mask.shape, *(ONE,) * (x.ndim - mask.rank)))
        x.assign(ops.select(x.b, lead, source, x.value))
        return
    parts = _parts(x, index)
    if any(map(_is_mask, parts)):
        raise UnsupportedError(_SIZE_UNKNOWN)
    if any(map(_is_array, parts)):
        if _apart(index):
            raise UnsupportedError("writing at x[rows, ..., columns] cannot be traced: write `:`")
        x.assign(_put(x, parts, source, False))
        return
    target = _basic(x.b, x.value, parts)
    lead = _fitted(x.b, source, target.rank)
    x.assign(_written(x.b, x.value, ops.expand(x.b, lead, target.shape), parts))


def _fitted(b: GraphBuilder, x: Value, rank: int) -> Value:
    """`x` without leading axes of size one beyond `rank`, which NumPy ignores in assignments."""
    while x.rank > rank and equal(x.shape[0], ONE):
        x = ops.squeeze(b, x, (0,))
    return x


def _put(x: Traced, parts: list[Any], source: Value, accumulate: bool) -> Value:
    """`x` after writing, or adding, at arrays of indices; other axes must be whole."""
    if any(i is None or (isinstance(i, slice) and i != slice(None)) for i in parts):
        raise UnsupportedError(
            "writing at arrays of indices together with slices or None cannot be traced: write "
            "into the slice, y = x[1:]; y[rows] = z"
        )
    indices = [_indices(x.tape, i) for i in parts]
    while indices and indices[-1] is None:
        indices.pop()
    target = ops.index(x.b, x.value, indices)
    wide = ops.expand(x.b, _fitted(x.b, source, target.rank), target.shape)
    return ops.index_put(x.b, x.value, indices, wide, accumulate)


@numpy_function("__add_at__")
def _add_at(x: Operand, index: Any, new: Operand) -> None:
    if not isinstance(x, Traced):
        raise UnsupportedError("numpy.add.at on an array from outside: use zeros(.., like=x)")
    parts = _parts(x, index)
    if any(map(_is_mask, parts)):
        raise UnsupportedError(_SIZE_UNKNOWN)
    if any(map(_is_array, parts)):
        x.assign(_put(x, parts, x.tape.lift(new, x.dtype), True))
    else:
        view: Any = x[index]
        x[index] = view + new


# ---- functions -----------------------------------------------------------------------------------


@numpy_function("where")
def where(condition: Operand, x: Operand = None, y: Operand = None, /) -> Traced:
    if x is None or y is None:
        raise UnsupportedError(
            "numpy.where of a condition alone: the size of its result depends on values; give "
            "both numpy.where(condition, a, b)"
        )
    tape = tape_of(condition, x, y)
    kind, b = common_dtype(x, y), tape.builder
    chosen = traced(tape, condition).astype(bool).value
    return tape.wrap(ops.select(b, chosen, tape.lift(x, kind), tape.lift(y, kind)))


@numpy_function("select")
def _select(condlist: Any, choicelist: Any, default: Operand = 0) -> Traced:
    tape = tape_of(list(condlist), list(choicelist), default)
    kind = common_dtype(*choicelist, default)
    out = tape.wrap(tape.lift(default, kind))
    for c, x in reversed(list(zip(condlist, choicelist, strict=True))):
        out = where(c, tape.wrap(tape.lift(x, kind)), out)
    return out


@numpy_function("take")
def _take(a: Operand, indices: Operand, axis: int | None = None, mode: str = "raise") -> Traced:
    tape = tape_of(a, indices)
    x = traced(tape, a)
    i: Any = traced(tape, indices)
    x, d = (reshape(x, -1), 0) if axis is None else (x, normal(axis, x.ndim))
    if mode == "wrap":
        i = i % x.shape[d]
    elif mode == "clip":
        i = FUNCTIONS["clip"](i, 0, x.shape[d] - 1)
    return x.wrap(ops.take(x.b, x.value, i.value, d, wrap=True))


@numpy_function("take_along_axis")
def _take_along_axis(arr: Operand, indices: Operand, axis: int | None = -1) -> Traced:
    tape = tape_of(arr, indices)
    x, i = traced(tape, arr), traced(tape, indices)
    if axis is None:
        x, axis = reshape(x, -1), 0
    d = normal(axis, x.ndim)
    places = _broadcast_but(x, i, d)
    return x.wrap(ops.take_along_axis(x.b, x.value, places, d, wrap=True))


def _broadcast_but(x: Traced, i: Traced, d: int) -> Value:
    """Indices with axes of size one broadcast to those of `x`, except for axis `d`."""
    sizes = [
        n if k == d or not equal(n, ONE) else s
        for k, (n, s) in enumerate(zip(i.value.shape, x.value.shape, strict=True))
    ]
    return ops.expand(x.b, i.value, sizes)


@numpy_function("put_along_axis")
def _put_along_axis(arr: Traced, indices: Operand, values: Operand, axis: int) -> None:
    d = normal(axis, arr.ndim)
    places = _broadcast_but(arr, traced(arr.tape, indices), d)
    source = ops.expand(arr.b, arr.tape.lift(values, arr.dtype), places.shape)
    arr.assign(ops.scatter(arr.b, arr.value, d, places, source))


@numpy_function("choose")
def _choose(a: Operand, choices: Any) -> Traced:
    stacked = FUNCTIONS["stack"](list(FUNCTIONS["broadcast_arrays"](a, *choices))[1:])
    places = expand_dims(FUNCTIONS["broadcast_to"](traced(stacked.tape, a), stacked.shape[1:]), 0)
    return _take_along_axis(stacked, places, 0)[0]
