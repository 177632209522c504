"""How LLVM spells ferrule's types and constants.

In registers bool is `i1`; f16 and bf16 are `i16`, their bits; signed and unsigned integers share
`iN`. In memory bool is `i8`. A vector of lanes is `<W x T>`; a width of 0 means a scalar.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, bf16, f16, to_storage

_SSA = {"f32": "float", "f64": "double", "f16": "i16", "bf16": "i16", "bool": "i1"}
_SUFFIX = {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}
BITS = {"float": 32, "double": 64, "half": 16, "ptr": 64}


def ssa_type(dtype: DType) -> str:
    """The scalar type of a value of `dtype` in registers."""
    return _SSA.get(dtype.name) or f"i{dtype.bits}"


def memory_type(dtype: DType) -> str:
    """The scalar type of an element of `dtype` in memory."""
    return "i8" if dtype.is_bool else ssa_type(dtype)


def vector_type(scalar: str, width: int) -> str:
    """`<width x scalar>`, or the scalar itself for width 0."""
    return f"<{width} x {scalar}>" if width else scalar


def suffix(scalar: str, width: int) -> str:
    """The type as an intrinsic's name ends in it: `v8f32`."""
    name = _SUFFIX.get(scalar, scalar)
    return f"v{width}{name}" if width else name


def bits_of(scalar: str) -> int:
    """The width in bits of a scalar type."""
    return BITS.get(scalar) or int(scalar[1:])


def constant(value: Any, dtype: DType) -> str:
    """A literal of `dtype`'s register type."""
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype in (f16, bf16):
        with np.errstate(over="ignore"):
            return str(int(to_storage(np.float32(value), dtype).view(np.uint16)))
    if dtype.is_float:
        return float_literal(value, dtype.bits)
    return str(int(value))


def float_literal(value: float, bits: int = 32) -> str:
    """A float or double literal, exact for all values: LLVM writes both as the bits of a double."""
    if bits == 32:
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def vector_literal(scalar: str, values: list[str]) -> str:
    """A constant vector of literals."""
    if all(v == values[0] for v in values):
        return f"splat ({scalar} {values[0]})"
    return "<" + ", ".join(f"{scalar} {v}" for v in values) + ">"
