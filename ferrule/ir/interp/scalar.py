"""Scalar arithmetic: operators on arrays of one dtype, and conversions between dtypes.

What an operator does stands in its record (`ferrule.ir.operators`).

Values are *real*: bf16 is held as the f32 of the same value, every other dtype as itself. f16 and
bf16 compute in f32 and round; transcendental functions of f32 are computed in f64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, bf16, f32, from_storage, to_storage
from ferrule.base.errors import UnsupportedError
from ferrule.ir.operators import OPERATORS

Array = NDArray[Any]


def held(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype that holds real values of `dtype`: f32 for bf16."""
    return np.dtype(np.float32) if dtype == bf16 else dtype.numpy


def rounded(values: Any, dtype: DType) -> Array:
    """Float values as real values of the float `dtype`."""
    if dtype == bf16:
        return from_storage(to_storage(np.asarray(values, np.float32), dtype), dtype)
    return np.asarray(values).astype(dtype.numpy, copy=False)


def convert(x: Array, source: DType, to: DType) -> Array:
    """`cast`: real values of `source` as real values of `to`."""
    if source == to:
        return x
    if to.is_bool:
        return np.asarray(x != 0)
    if to.is_float and to.bits == 16 and not (source.name == "f64" and to.name == "f16"):
        return rounded(np.asarray(x).astype(np.float32), to)
    if source.is_float and not to.is_float:
        return _truncated(np.asarray(x, np.float64), to)
    return np.asarray(x).astype(held(to))


def _truncated(x: Array, to: DType) -> Array:
    """Floats as integers, what is out of range as `ferrule.ir.expr` says."""
    bits = 64 if to.bits == 64 else 32
    half = 2.0 ** (bits - 1)
    upper = (x >= half) & (to.kind == "u" and to.bits == bits)
    x = np.trunc(np.where(upper, x - half, x))
    low = np.where(np.abs(x) < half, x, -half).astype(f"i{bits // 8}")
    return (low ^ np.where(upper, np.iinfo(low.dtype).min, low.dtype.type(0))).astype(to.numpy)


def reinterpret(x: Array, source: DType, to: DType) -> Array:
    """`bitcast`: the bits of `x` as `to`, of the same width."""
    stored = np.ascontiguousarray(to_storage(x, source)).reshape(np.shape(x))
    return from_storage(stored.view(to.numpy), to)


def supports(op: str, dtype: DType) -> bool:
    """Whether `op` has a meaning on operands of `dtype`."""
    return OPERATORS[op].meaning(dtype) is not None


def apply(op: str, dtype: DType, args: list[Array]) -> Array:
    """`op` of real values of `dtype`. Raises UnsupportedError where it has no meaning."""
    if dtype.is_float and dtype.bits == 16:
        wide = apply(op, f32, [np.asarray(a, np.float32) for a in args])
        return wide if wide.dtype == np.bool_ else rounded(wide, dtype)
    record = OPERATORS[op]
    meaning = record.meaning(dtype)
    if meaning is None:
        raise UnsupportedError(f"{op} has no meaning on {dtype.name}")
    if dtype == f32 and record.wide:
        args = [np.asarray(a, np.float64) for a in args]
    with np.errstate(all="ignore"):
        return np.asarray(meaning(*args)).astype(held(record.result or dtype), copy=False)
