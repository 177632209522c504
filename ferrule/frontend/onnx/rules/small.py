"""Host rules for quantisation to element types that compiled code lacks: 2 and 4 bits, float8."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import InputError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.cast import converted
from ferrule.frontend.onnx.table import Attributes, element_type, host

Maybe = Array | None


def _spread(a: Attributes, p: Array, x: Array) -> Array:
    """Scales or zero points in the shape of x: one for all, a slice or a block."""
    if p.size == 1:
        return p.reshape(())
    axis = a.int("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    block = a.int("block_size", 0)
    if block:
        return np.take(np.repeat(p, block, axis), np.arange(x.shape[axis]), axis)
    if p.ndim != 1 or p.size != x.shape[axis]:
        raise InputError(f"{list(p.shape)} are no scales for axis {axis} of {list(x.shape)}")
    return p.reshape([-1 if d == axis else 1 for d in range(x.ndim)])


@host("QuantizeLinear")
def _quantize(a: Attributes, x: Array, scale: Array, zero: Maybe = None) -> Array:
    dtype: np.dtype[Any] = np.dtype(np.uint8) if zero is None else zero.dtype
    if zero is None and a.int("output_dtype", 0):
        dtype = element_type(a.int("output_dtype"))
    y = x.astype(np.float32) / _spread(a, scale, x).astype(np.float32)
    if "float" in dtype.name:
        return converted(y, dtype, bool(a.int("saturate", 1)))
    y = np.rint(y)
    if zero is not None:
        y = y + _spread(a, zero, x).astype(np.float32)
    low, high = _range(dtype)
    return converted(np.clip(y, low, high).astype(np.int32), dtype)


def _range(dtype: np.dtype[Any]) -> tuple[int, int]:
    bits = int("".join(c for c in dtype.name if c.isdigit()))
    signed = not dtype.name.startswith("u")
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


@host("DequantizeLinear")
def _dequantize(a: Attributes, x: Array, scale: Array, zero: Maybe = None) -> Array:
    wide = x.astype(np.float32)
    if zero is not None:
        wide = wide - _spread(a, zero, x).astype(np.float32)
    out = wide * _spread(a, scale, x).astype(np.float32)
    given = a.int("output_dtype", 0)
    return out.astype(element_type(given) if given else scale.dtype)
