"""The element types that are read, what NumPy holds them as, and how large a tensor may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.frontend.stablehlo.module import TensorType

STORAGE: dict[str, np.dtype[Any]] = {
    name: np.dtype(storage)
    for name, storage in {
        "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
        "ui8": "uint8", "ui16": "uint16", "ui32": "uint32", "ui64": "uint64",
        "f16": "float16", "bf16": "uint16", "f32": "float32", "f64": "float64",
        "complex<f32>": "complex64", "complex<f64>": "complex128", "index": "int64",
    }.items()
}  # fmt: skip

FLOATS = ("f16", "bf16", "f32", "f64")
COMPLEX = ("complex<f32>", "complex<f64>")

MAX_RANK = 64  # as NumPy has it
MAX_BYTES = 1 << 62


def complaint(shape: tuple[int | None, ...], element: str) -> str | None:
    """What is wrong with the size of a tensor, or None."""
    if len(shape) > MAX_RANK:
        return f"a tensor of rank {len(shape)}; at most {MAX_RANK} is supported"
    sizes = [max(size, 1) for size in shape if size is not None]
    if any(size >= MAX_BYTES for size in sizes):
        return "a tensor with a size of 2^62 or more"
    if math.prod(sizes) * STORAGE[element].itemsize >= MAX_BYTES:
        return "a tensor of 2^62 bytes or more"
    return None


def count(type: TensorType) -> int | None:
    """The number of elements, or None where it is not known."""
    if type.shape is None or None in type.shape:
        return None
    return math.prod(size or 0 for size in type.shape)


def spread(one: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """One element in all places of a shape, as a view that takes no memory."""
    return np.broadcast_to(one, shape)


def bfloat16(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """The bf16 nearest to each f64 (ties to even), rounded once.

    f32 in between is rounded to odd: where it is inexact its last bit is set, which keeps the
    second rounding from a false tie (Boldo and Melquiond, "Emulation of FMA and correctly rounded
    sums: proved algorithms using rounding to odd", 2008).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        back = single.astype(np.float64)
        bits = single.view(np.uint32).astype(np.int64)
        inexact = (back != values) & ~np.isnan(values)
        away = np.abs(back) > np.abs(values)
    bits = np.where(inexact, (bits - away) | 1, bits)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def from_floats(values: list[float], element: str) -> NDArray[Any]:
    """Numbers as an array of a float element type, each rounded once, infinite where too large."""
    wide = np.array(values, dtype=np.float64)
    if element == "bf16":
        return bfloat16(wide)
    with np.errstate(over="ignore", under="ignore"):
        return wide.astype(STORAGE[element])


def rounded(value: float, element: str) -> float:
    """The number of a float element type that is nearest to this one."""
    stored = from_floats([value], element)
    if element == "bf16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return float(stored[0])


def from_ints(values: list[int], element: str) -> NDArray[Any]:
    """Numbers as an array of an integer type; one that is signed also takes the bits of unsigned
    numbers, as MLIR does. Raises OverflowError for others.
    """
    storage = STORAGE[element]
    bits = 8 * storage.itemsize
    if not values:
        return np.empty(0, storage)
    least = 0 if storage.kind == "u" else -(1 << (bits - 1))
    if min(values) < least or max(values) >= 1 << bits:
        raise OverflowError
    try:
        return np.array(values, dtype=np.int64).astype(storage)
    except OverflowError:
        unsigned = np.array([v % (1 << 64) for v in values], dtype=np.uint64)
        return unsigned.astype(storage)


def from_bytes(data: bytes, type: TensorType, packed: bool) -> NDArray[Any] | None:
    """Little-endian elements in the shape of `type`, where one stands for all; None where the
    number of bytes is another. Elements of i1 are bytes or bits, the lowest first: one byte for up
    to 8 elements is bits if `packed`, as bytecode has it, unless it is 0xFF.
    """
    shape = tuple(size or 0 for size in type.shape or ())
    number, storage = count(type), STORAGE[type.element]
    assert number is not None, type
    if type.element == "i1":
        if len(data) == 1 and (number > 8 or number < 2 or not packed or data == b"\xff"):
            return spread(np.array(data != b"\x00"), shape)
        if len(data) == number:
            return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
        if len(data) == (number + 7) // 8:
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            return bits[:number].astype(bool).reshape(shape)
        return None
    if len(data) == number * storage.itemsize:
        values = np.frombuffer(data, storage.newbyteorder("<"))
        return values.astype(storage, copy=False).reshape(shape)
    if len(data) == storage.itemsize:
        one = np.frombuffer(data, storage.newbyteorder("<")).astype(storage, copy=False)
        return spread(one.reshape(()), shape)
    return None
