"""NumPy's functions of shape on traced arrays: views, joins, splits, repetition, padding.

What is a view in NumPy is one here (`Traced.viewed`): it follows writes to its base.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import CompileError, InputError, UnsupportedError
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
from ferrule.ir.expr import Expr, product
from ferrule.ir.graph import Value
from ferrule.ir.simplify import simplify

Axes = int | tuple[int, ...] | None
Shape = tuple[Expr, ...]


def ints(axis: Any) -> tuple[int, ...]:
    """One axis or several as a tuple."""
    return tuple(axis) if isinstance(axis, tuple | list) else (operator.index(axis),)


def normal(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises InputError outside of the rank."""
    if not -rank <= axis < rank:
        raise InputError(f"axis {axis} is out of bounds for an array of rank {rank}")
    return axis % rank


def shape_exprs(shape: Any) -> Shape:
    """A shape as the user writes it, as Exprs."""
    given = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(expr_of(n) for n in given)


# ---- shape and order of axes ---------------------------------------------------------------------


@numpy_function("shape")
def _shape(a: Traced) -> tuple[Any, ...]:
    return a.shape


@numpy_function("ndim")
def _ndim(a: Traced) -> int:
    return a.ndim


@numpy_function("size")
def _size(a: Traced, axis: int | None = None) -> Any:
    return a.size if axis is None else a.shape[axis]


def _reshaped(x: Value, shape: Any) -> Shape:
    """The sizes of a reshape, where one may be -1."""
    given = shape_exprs(shape)
    unknown = [d for d, n in enumerate(given) if n.is_const and n.attr == -1]
    if not unknown:
        return given
    rest = product([n for d, n in enumerate(given) if d != unknown[0]])
    whole = simplify(product(x.shape))
    if whole.is_const and rest.is_const and (not rest.attr or whole.attr % rest.attr):
        raise InputError(f"an array of shape {tuple(x.shape)} cannot be reshaped to {tuple(given)}")
    free = simplify(whole // rest)
    return tuple(free if d == unknown[0] else n for d, n in enumerate(given))


@numpy_function("reshape")
def reshape(a: Traced, shape: Any, order: str = "C", *, copy: bool | None = None) -> Traced:
    if order != "C":
        raise UnsupportedError(f"numpy.reshape with order={order!r} cannot be traced: transpose")
    return a.viewed(lambda x: ops.reshape(a.b, x, _reshaped(x, shape)))


@numpy_function("ravel")
def _ravel(a: Traced) -> Traced:
    return reshape(a, -1)


@numpy_function("flatten")
def _flatten(a: Traced) -> Traced:
    return a.wrap(reshape(a, -1).value)


@numpy_function("transpose", "permute_dims")
def transpose(a: Traced, axes: Sequence[int] | None = None) -> Traced:
    order = [normal(d, a.ndim) for d in axes] if axes is not None else list(range(a.ndim))[::-1]
    back = np.argsort(order).tolist()
    return a.viewed(
        lambda x: ops.transpose(a.b, x, order), lambda _, new: ops.transpose(a.b, new, back)
    )


@numpy_function("matrix_transpose", "linalg.matrix_transpose")
def _matrix_transpose(x: Traced, /) -> Traced:
    return _swapaxes(x, -1, -2)


@numpy_function("swapaxes")
def _swapaxes(a: Traced, axis1: int, axis2: int) -> Traced:
    order = list(range(a.ndim))
    i, j = normal(axis1, a.ndim), normal(axis2, a.ndim)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


@numpy_function("moveaxis")
def _moveaxis(a: Traced, source: Any, destination: Any) -> Traced:
    sources = [normal(d, a.ndim) for d in ints(source)]
    order = [d for d in range(a.ndim) if d not in sources]
    pairs = zip((normal(d, a.ndim) for d in ints(destination)), sources, strict=True)
    for to, d in sorted(pairs):
        order.insert(to, d)
    return transpose(a, order)


@numpy_function("rollaxis")
def _rollaxis(a: Traced, axis: int, start: int = 0) -> Traced:
    d = normal(axis, a.ndim)
    to = start + a.ndim if start < 0 else start
    return _moveaxis(a, d, to - 1 if d < to else to)


@numpy_function("expand_dims")
def expand_dims(a: Traced, axis: Axes) -> Traced:
    rank = a.ndim + len(ints(axis))
    places = {normal(d, rank) for d in ints(axis)}

    def read(x: Value) -> Value:
        rest = iter(x.shape)
        return ops.reshape(a.b, x, [1 if d in places else next(rest) for d in range(rank)])

    return a.viewed(read, lambda old, new: ops.reshape(a.b, new, old.shape))


@numpy_function("squeeze")
def _squeeze(a: Traced, axis: Axes = None) -> Traced:
    ones = [d for d, n in enumerate(a.value.shape) if n.is_const and n.attr == 1]
    drop = ones if axis is None else [normal(d, a.ndim) for d in ints(axis)]
    if set(drop) - set(ones):
        raise InputError(f"squeeze of axis {axis} of {a}: its size is not one")
    return a.viewed(
        lambda x: ops.reshape(a.b, x, [n for d, n in enumerate(x.shape) if d not in drop]),
        lambda old, new: ops.reshape(a.b, new, old.shape),
    )


def _at_least(rank: int) -> Callable[..., Any]:
    """atleast_1d, 2d or 3d: NumPy puts a vector in the middle of a 3-d array."""

    def one(a: Traced) -> Traced:
        missing = rank - a.ndim
        if missing <= 0:
            return a
        if rank == 3 and a.ndim:
            return expand_dims(a, (0, 2) if a.ndim == 1 else -1)
        return expand_dims(a, tuple(range(missing)))

    def apply(*arrays: Operand) -> Any:
        out = tuple(one(traced(tape_of(*arrays), x)) for x in arrays)
        return out[0] if len(out) == 1 else out

    return apply


for _rank in (1, 2, 3):
    FUNCTIONS[f"atleast_{_rank}d"] = _at_least(_rank)


@numpy_function("broadcast_to")
def _broadcast_to(array: Traced, shape: Any) -> Traced:
    return array.viewed(lambda x: ops.expand(array.b, x, shape_exprs(shape)))


@numpy_function("broadcast_arrays")
def _broadcast_arrays(*arrays: Operand) -> tuple[Traced, ...]:
    tape = tape_of(*arrays)
    given = [traced(tape, x) for x in arrays]
    shape = ops.op.broadcast(x.value.shape for x in given)
    return tuple(x.viewed(lambda v: ops.expand(tape.builder, v, shape)) for x in given)


@numpy_function("meshgrid")
def _meshgrid(*xi: Operand, indexing: str = "xy", sparse: bool = False) -> tuple[Traced, ...]:
    tape, n = tape_of(*xi), len(xi)
    place = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    out = tuple(
        traced(tape, x).reshape(*(-1 if d == p else 1 for d in range(n))) for x, p in zip(xi, place)
    )
    return out if sparse else tuple(x.wrap(x.value) for x in _broadcast_arrays(*out))


# ---- joining and splitting -----------------------------------------------------------------------


def _joined(arrays: Any, dtype: Any = None) -> tuple[Tape, list[Value]]:
    """The builder, and arrays in their common dtype. Raises InputError for none."""
    given = [x if isinstance(x, Traced) else np.asarray(as_operand(x)) for x in arrays]
    if not given:
        raise InputError("there are no arrays to join")
    tape = tape_of(given)
    kind = np.dtype(dtype) if dtype is not None else common_dtype(*given)
    return tape, [tape.lift(x, kind) for x in given]


@numpy_function("concatenate", "concat")
def concatenate(arrays: Any, axis: int | None = 0, *, dtype: Any = None) -> Traced:
    tape, values = _joined(arrays, dtype)
    if axis is None:
        values = [ops.reshape(tape.builder, v, _reshaped(v, -1)) for v in values]
    return tape.wrap(ops.concat(tape.builder, values, axis or 0))


@numpy_function("stack")
def stack(arrays: Any, axis: int = 0, *, dtype: Any = None) -> Traced:
    tape, values = _joined(arrays, dtype)
    return tape.wrap(ops.stack(tape.builder, values, axis))


def _stacked(rank: int, axis: int) -> Callable[..., Traced]:
    def apply(tup: Any, *, dtype: Any = None) -> Traced:
        tape = tape_of(list(tup))
        given = [_at_least(rank)(traced(tape, x)) for x in tup]
        return concatenate(given, 0 if axis == 1 and given[0].ndim == 1 else axis, dtype=dtype)

    return apply


FUNCTIONS["vstack"] = _stacked(2, 0)
FUNCTIONS["hstack"] = _stacked(1, 1)
FUNCTIONS["dstack"] = _stacked(3, 2)


@numpy_function("column_stack")
def _column_stack(tup: Any) -> Traced:
    tape = tape_of(list(tup))
    given = [traced(tape, x) for x in tup]
    return concatenate([expand_dims(x, 1) if x.ndim == 1 else x for x in given], 1)


@numpy_function("append")
def _append(arr: Operand, values: Operand, axis: int | None = None) -> Traced:
    return concatenate([arr, values], axis)


@numpy_function("unstack")
def _unstack(x: Traced, /, *, axis: int = 0) -> tuple[Traced, ...]:
    return tuple(_moveaxis(x, axis, 0))


@numpy_function("array_split")
def _array_split(ary: Traced, indices_or_sections: Any, axis: int = 0) -> list[Traced]:
    d = normal(axis, ary.ndim)
    size: Any = ary.shape[d]
    cuts: list[Any]
    if isinstance(indices_or_sections, tuple | list | np.ndarray):
        cuts = list(indices_or_sections)
    else:
        count = operator.index(indices_or_sections)
        cuts = list(accumulate((size - i + count - 1) // count for i in range(count - 1)))
    ends = [0, *cuts, None]
    indices = [(*(slice(None),) * d, slice(a, o)) for a, o in pairwise(ends)]
    return [ary[i] for i in indices]


@numpy_function("split")
def _split(ary: Traced, indices_or_sections: Any, axis: int = 0) -> list[Traced]:
    n, size = indices_or_sections, ary.shape[axis]
    if isinstance(n, int) and isinstance(size, int) and size % n:
        raise InputError(f"numpy.split of {ary} along axis {axis} into {n}: no equal parts")
    if isinstance(n, int) and not isinstance(size, int):
        d = normal(axis, ary.ndim)
        parts = reshape(ary, (*ary.shape[:d], n, size // n, *ary.shape[d + 1 :]))
        before = (slice(None),) * d
        return [parts[before + (i,)] for i in range(n)]
    return _array_split(ary, n, axis)


def _split_along(axis: int) -> Callable[..., list[Traced]]:
    return lambda ary, n: _split(ary, n, 0 if axis == 1 and ary.ndim == 1 else axis)


FUNCTIONS["vsplit"] = _split_along(0)
FUNCTIONS["hsplit"] = _split_along(1)
FUNCTIONS["dsplit"] = _split_along(2)


# ---- order and repetition ------------------------------------------------------------------------


@numpy_function("flip")
def flip(m: Traced, axis: Axes = None) -> Traced:
    axes = tuple(range(m.ndim)) if axis is None else tuple(normal(d, m.ndim) for d in ints(axis))
    if not axes:
        return m
    return m.viewed(lambda x: ops.reverse(m.b, x, axes), lambda _, new: ops.reverse(m.b, new, axes))


FUNCTIONS["fliplr"] = lambda m: flip(m, 1)
FUNCTIONS["flipud"] = lambda m: flip(m, 0)


@numpy_function("rot90")
def _rot90(m: Traced, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Traced:
    a, o = axes
    if k % 4 == 0:
        return m
    if k % 4 == 2:
        return flip(m, (a, o))
    return _swapaxes(flip(m, o), a, o) if k % 4 == 1 else flip(_swapaxes(m, a, o), o)


@numpy_function("roll")
def _roll(a: Traced, shift: Any, axis: Axes = None) -> Traced:
    if axis is None:
        flat = a.value if a.ndim == 1 else reshape(a, -1).value
        by: Any = (expr_of(shift),)
        rolled = ops.roll(a.b, flat, by, (0,))
        return a.wrap(ops.reshape(a.b, rolled, a.value.shape))
    axes = ints(axis)
    shifts = tuple(shift) if isinstance(shift, tuple | list) else (shift,) * len(axes)
    axes = axes * len(shifts) if len(axes) == 1 else axes
    by = tuple(expr_of(s) for s in shifts)
    return a.wrap(ops.roll(a.b, a.value, by, axes))


@numpy_function("tile")
def _tile(A: Traced, reps: Any) -> Traced:
    return A.wrap(ops.tile(A.b, A.value, shape_exprs(reps)))


@numpy_function("repeat")
def _repeat(a: Traced, repeats: Any, axis: int | None = None) -> Traced:
    if isinstance(repeats, Traced) and not isinstance(repeats, Size):
        raise UnsupportedError("numpy.repeat by a traced array: its result's size is not known")
    x, d = (reshape(a, -1), 0) if axis is None else (a, normal(axis, a.ndim))
    if isinstance(repeats, list | tuple | np.ndarray) and np.size(repeats) != 1:
        places = np.repeat(np.arange(np.size(repeats)), repeats)
        out: Traced = FUNCTIONS["take"](x, places, d)
        return out
    times = expr_of(repeats if isinstance(repeats, Size) else int(np.asarray(repeats).item()))
    shape = list(x.value.shape)
    wide = ops.unsqueeze(x.b, x.value, d + 1)
    wide = ops.expand(x.b, wide, [*shape[: d + 1], times, *shape[d + 1 :]])
    return x.wrap(ops.reshape(x.b, wide, [*shape[:d], shape[d] * times, *shape[d + 1 :]]))


_PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@numpy_function("pad")
def _pad(array: Traced, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Traced:
    if mode not in _PAD_MODES or not np.isscalar(constant_values):
        raise UnsupportedError(
            f"numpy.pad with mode={mode!r} and constant_values={constant_values!r} cannot be "
            f"traced: expected one of {', '.join(_PAD_MODES)}, and one number"
        )
    pairs = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    low, high = ([int(p[i]) for p in pairs] for i in (0, 1))
    sizes = [n if isinstance(n, int) else 2 for n in array.shape]
    if mode == "reflect" and any(max(p) >= n for p, n in zip(pairs, sizes) if max(p)):
        raise UnsupportedError("numpy.pad by reflection of more than the array's size less one")
    fill = np.asarray(constant_values).astype(array.dtype).item() if array.dtype.kind != "V" else 0
    return array.wrap(ops.pad(array.b, array.value, low, high, fill, _PAD_MODES[mode]))


# ---- triangles and diagonals ---------------------------------------------------------------------


def _triangle(name: str) -> Callable[..., Traced]:
    cut = getattr(ops, name)

    def apply(m: Traced, k: int = 0) -> Traced:
        x = ops.expand(m.b, m.value, (m.value.shape[0],) * 2) if m.ndim == 1 else m.value
        return m.wrap(cut(m.b, x, k))

    return apply


FUNCTIONS["tril"] = _triangle("tril")
FUNCTIONS["triu"] = _triangle("triu")


@numpy_function("diagonal")
def diagonal(a: Traced, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Traced:
    return a.viewed(lambda x: ops.diagonal(a.b, x, offset, axis1, axis2))


@numpy_function("linalg.diagonal")
def _matrix_diagonal(x: Traced, /, *, offset: int = 0) -> Traced:
    return diagonal(x, offset, -2, -1)


@numpy_function("diag")
def _diag(v: Traced, k: int = 0) -> Traced:
    if v.ndim == 2:
        return diagonal(v, k)
    n = v.value.shape[0] + abs(k)
    zeros = ops.full(v.b, (n, n), 0, v.value.dtype)
    return v.wrap(ops.diagonal_scatter(v.b, zeros, v.value, k))


FUNCTIONS["diagflat"] = lambda v, k=0: _diag(reshape(v, -1), k)


@numpy_function("trace")
def _trace(a: Traced, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Traced:
    out: Traced = FUNCTIONS["sum"](diagonal(a, offset, axis1, axis2), -1, dtype)
    return out


@numpy_function("linalg.trace")
def _matrix_trace(x: Traced, /, *, offset: int = 0, dtype: Any = None) -> Traced:
    return _trace(x, offset, -2, -1, dtype)


@numpy_function("copy")
def _copy(a: Traced, order: str = "K") -> Traced:
    return a.wrap(a.value)


@numpy_function("astype")
def _astype(x: Traced, dtype: Any, /, *, copy: bool = True) -> Traced:
    return x.wrap(ops.cast(x.b, x.value, from_numpy(np.dtype(dtype))))


@numpy_function("view")
def _view(a: Traced, dtype: Any) -> Traced:
    """The bits of each element as another dtype of the same width."""
    wanted, own = from_numpy(np.dtype(dtype)), a.value.dtype
    if wanted.bits != own.bits:
        raise CompileError(f"a view of {own.name} as {wanted.name}: the widths differ")
    return a.viewed(
        lambda x: ops.bitcast(a.b, x, wanted), lambda old, new: ops.bitcast(a.b, new, old.dtype)
    )
