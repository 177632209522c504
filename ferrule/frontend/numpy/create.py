"""NumPy's functions that make arrays, of a traced array's shape (`zeros_like`) or on its graph
(`zeros(shape, like=x)`, NEP 35), which arrays to fill in need. NumPy itself reads the sizes that
`zeros` and `empty` are given: with symbolic ones, call `zeros_like(x, shape=..)` or `full`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import from_numpy, i64
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.numpy.array import (
    FUNCTIONS,
    MAKERS,
    Operand,
    Size,
    Tape,
    Traced,
    common_dtype,
    expr_of,
    numpy_function,
    tape_of,
    traced,
)
from ferrule.frontend.numpy.shape import shape_exprs
from ferrule.ir.expr import ZERO, maximum
from ferrule.ir.simplify import prove_nonneg, simplify


@numpy_function("full_like")
def full_like(a: Traced, fill_value: Operand, dtype: Any = None, shape: Any = None) -> Traced:
    kind = a.dtype if dtype is None else np.dtype(dtype)
    sizes = a.value.shape if shape is None else shape_exprs(shape)
    if isinstance(fill_value, bool | int | float) and not isinstance(fill_value, np.generic):
        value = np.asarray(fill_value).astype(kind if kind.kind != "V" else np.float32).item()
        return a.wrap(ops.full(a.b, sizes, value, from_numpy(kind)))
    return a.wrap(ops.expand(a.b, a.tape.lift(fill_value, kind), sizes))


@numpy_function("zeros_like", "empty_like")
def _zeros_like(a: Traced, dtype: Any = None, shape: Any = None) -> Traced:
    return full_like(a, 0, dtype, shape)


@numpy_function("ones_like")
def _ones_like(a: Traced, dtype: Any = None, shape: Any = None) -> Traced:
    return full_like(a, 1, dtype, shape)


# ---- like= ---------------------------------------------------------------------------------------


def _full(tape: Tape, shape: Any, fill_value: Operand, dtype: Any = None) -> Traced:
    kind = common_dtype(fill_value) if dtype is None else np.dtype(dtype)
    value = tape.lift(fill_value, kind)
    return tape.wrap(ops.expand(tape.builder, value, shape_exprs(shape)))


def _zeros(tape: Tape, shape: Any, dtype: Any = float) -> Traced:
    return tape.wrap(ops.full(tape.builder, shape_exprs(shape), 0, from_numpy(np.dtype(dtype))))


def _ones(tape: Tape, shape: Any, dtype: Any = float) -> Traced:
    return tape.wrap(ops.full(tape.builder, shape_exprs(shape), 1, from_numpy(np.dtype(dtype))))


def _arange(tape: Tape, start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Traced:
    if stop is None:
        start, stop = 0, start
    if any(isinstance(v, Traced) and not isinstance(v, Size) for v in (start, stop, step)):
        raise UnsupportedError("numpy.arange to a traced value: its size is not known")
    kind = common_dtype(start, stop, step) if dtype is None else np.dtype(dtype)
    if any(isinstance(v, float) for v in (start, stop, step)):
        if any(isinstance(v, Size) for v in (start, stop, step)):
            raise UnsupportedError("numpy.arange to a symbolic size takes whole numbers")
        length: Any = max(0, math.ceil((stop - start) / step))
        first: Any = start
    else:
        first, by = expr_of(start), expr_of(step)
        if not by.is_const or not by.attr:
            raise InputError(f"numpy.arange takes a step other than 0, got {step}")
        apart = (expr_of(stop) - first) if by.attr > 0 else (first - expr_of(stop))
        length = simplify((apart + (abs(by.attr) - 1)) // abs(by.attr))
        length = length if prove_nonneg(length) else simplify(maximum(length, ZERO))
        first = int(first.attr) if first.is_const else first
        step = int(by.attr)
    wide = from_numpy(kind) if kind.kind == "f" else i64
    out = ops.arange(tape.builder, first, step, length, wide)
    return tape.wrap(ops.cast(tape.builder, out, from_numpy(kind)))


def _eye(tape: Tape, N: Any, M: Any = None, k: int = 0, dtype: Any = float) -> Traced:
    shape = (expr_of(N), expr_of(N if M is None else M))
    b = tape.builder
    rows, columns = (ops.iota(b, shape, d) for d in (0, 1))
    hit = ops.eq(b, ops.add(b, rows, k), columns)
    return tape.wrap(ops.cast(b, hit, from_numpy(np.dtype(dtype))))


def _tri(tape: Tape, N: Any, M: Any = None, k: int = 0, dtype: Any = float) -> Traced:
    shape = (expr_of(N), expr_of(N if M is None else M))
    return tape.wrap(
        ops.tril(tape.builder, ops.full(tape.builder, shape, 1, from_numpy(np.dtype(dtype))), k)
    )


def _asarray(tape: Tape, a: Operand, dtype: Any = None, copy: bool | None = None) -> Traced:
    out = traced(tape, a)
    if dtype is not None and np.dtype(dtype) != out.dtype:
        return out.astype(dtype)
    return tape.wrap(out.value) if copy else out


MAKERS.update({
    "full": _full, "zeros": _zeros, "empty": _zeros, "ones": _ones, "arange": _arange,
    "eye": _eye, "identity": _eye, "tri": _tri, "asarray": _asarray, "array": _asarray,
    "asanyarray": _asarray, "ascontiguousarray": _asarray,
})  # fmt: skip


@numpy_function("linspace")
def _linspace(
    start: Operand, stop: Operand, num: Any = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    tape = tape_of(start, stop, num)
    wanted = common_dtype(start, stop, 1.0) if dtype is None else np.dtype(dtype)
    kind = common_dtype(start, stop, 1.0)
    first, last = (tape.wrap(tape.lift(v, kind)) for v in (start, stop))
    parts: Any = num - 1 if endpoint else num
    step: Any = (last - first) / (parts if isinstance(num, Size) else max(parts, 1))  # type: ignore[operator]
    place = _arange(tape, num, dtype=np.int64).astype(kind)
    rank = max(first.ndim, last.ndim)
    out: Any = place.reshape(-1, *(1,) * rank) * step + first
    if endpoint and (isinstance(num, Size) or num > 1):
        out[-1] = last
    if wanted.kind in "iu":
        out = np.floor(out)
    out = FUNCTIONS["moveaxis"](out.astype(wanted), 0, axis)
    return (out, step) if retstep else out
