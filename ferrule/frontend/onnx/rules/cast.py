"""Conversion between all element types of ONNX, in NumPy.

8-bit and smaller floats come from `ml_dtypes`. A cast to one of the float8 types saturates to the
greatest finite value unless it is told not to; a cast of strings parses and prints numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.frontend.onnx.model import Array

_TEXT = np.dtype(object)


def converted(
    x: Array, dtype: np.dtype[Any], saturate: bool = True, round_mode: str = "up"
) -> Array:
    """`x` with its elements converted to `dtype`, as ONNX's Cast says."""
    if x.dtype == dtype:
        return x
    if dtype == _TEXT:
        return _printed(x)
    if x.dtype == _TEXT:
        return _parsed(x, dtype)
    if dtype.name == "float8_e8m0fnu":
        return _power_of_two(x.astype(np.float32), dtype, saturate, round_mode)
    if _is_small_float(dtype):
        return _small_float(x.astype(np.float32), dtype, saturate)
    if dtype.kind == "V" and "int" in dtype.name:
        return _narrow(x, dtype)
    if dtype.kind in "iu" and x.dtype.kind not in "iub":
        return _truncated(x, dtype)
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _is_small_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("float8", "float4"))


def _printed(x: Array) -> Array:
    flat = [_text(v) for v in x.ravel()]
    return np.array(flat, object).reshape(x.shape)


def _text(v: Any) -> str:
    if isinstance(v, np.floating) or np.asarray(v).dtype.kind == "V":
        number = float(v)
        if number != number:
            return "NaN"
        if number in (float("inf"), float("-inf")):
            return "INF" if number > 0 else "-INF"
        return str(v)
    return str(v)


def _parsed(x: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "b":
        return np.array([v not in ("", "0", "False") for v in x.ravel()], bool).reshape(x.shape)
    if dtype.kind in "iu":
        return np.array([int(float(v)) for v in x.ravel()]).astype(dtype).reshape(x.shape)
    wide = np.array([float(v) for v in x.ravel()], np.float64).reshape(x.shape)
    return wide.astype(np.float32).astype(dtype) if dtype.kind == "V" else wide.astype(dtype)


def _truncated(x: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64) if x.dtype.kind != "f" else x
        return (
            np.trunc(wide).astype(np.int64).astype(dtype)
            if dtype != np.uint64
            else (np.trunc(wide).astype(dtype))
        )


def _narrow(x: Array, dtype: np.dtype[Any]) -> Array:
    """To an integer of 2 or 4 bits: the low bits of the integer."""
    bits = int("".join(c for c in dtype.name if c.isdigit()))
    if x.dtype.kind not in "iub":
        with np.errstate(all="ignore"):
            x = np.trunc(x.astype(np.float32)).astype(np.int64)
    low = x.astype(np.int64) & ((1 << bits) - 1)
    if dtype.name.startswith("int"):
        low = np.where(low >= 1 << (bits - 1), low - (1 << bits), low)
    return low.astype(np.int8).astype(dtype)


def _small_float(x: Array, dtype: np.dtype[Any], saturate: bool) -> Array:
    import ml_dtypes

    with np.errstate(all="ignore"):
        out = x.astype(dtype)
    if not saturate or dtype.name.startswith("float4"):
        return out
    wide, top = out.astype(np.float32), np.float32(ml_dtypes.finfo(dtype).max)
    over = ~np.isfinite(wide) & ~np.isnan(x)
    return np.where(over, np.copysign(top, x), wide).astype(dtype)


def _power_of_two(x: Array, dtype: np.dtype[Any], saturate: bool, mode: str) -> Array:
    """To E8M0: the exponent alone, rounded up, down or to the nearest."""
    bits = np.abs(x).view(np.uint32)
    exponent, rest = (bits >> 23).astype(np.int64), bits & 0x7FFFFF
    if mode == "up":
        grow = rest > 0
    elif mode == "nearest":
        grow = (rest > 0x400000) | ((rest == 0x400000) & (exponent > 0))
    else:
        grow = np.zeros(x.shape, bool)
    exponent = exponent + (grow & (exponent < 255))
    limit = 254 if saturate else 255
    exponent = np.clip(exponent, 0, limit)
    return np.where(np.isnan(x), 255, exponent).astype(np.uint8).view(dtype)
