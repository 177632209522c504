"""Element types, what NumPy stores them as, and how they promote.

    dtype = f16 | bf16 | f32 | f64 | i8 | i16 | i32 | i64 | u8 | u16 | u32 | u64 | bool

NumPy has no bfloat16: its storage is `uint16`, the upper half of the f32 with the same value, and
`to_storage` and `from_storage` convert. f16 and bf16 are storage types: `compute` is the type that
arithmetic on them happens in.

Promotion is PyTorch's: the wider kind wins (bool < integer < float), within a kind the wider type,
unsigned with signed gives the next wider signed type, and f16 with bf16 gives f32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.base.errors import InputTypeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray  # which takes long to import


@dataclass(frozen=True)
class DType:
    """An element type: `kind` is "f", "i", "u" or "b", `bits` its width, `size` its bytes in
    memory.
    """

    name: str
    kind: str
    bits: int
    size: int

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return from_name, (self.name,)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        """Whether this is an integer type, signed or not; bool is none."""
        return self.kind in "iu"

    @property
    def is_signed(self) -> bool:
        return self.kind in "fi"

    @property
    def is_bool(self) -> bool:
        return self.kind == "b"

    @property
    def compute(self) -> DType:
        """The type that arithmetic on this one happens in: f32 for f16 and bf16, else itself."""
        return f32 if self.kind == "f" and self.bits == 16 else self

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the storage (`uint16` for bf16)."""
        return _STORAGE[self.name]

    @property
    def min(self) -> int | float:
        """The least value: minus infinity for floats, False for bool."""
        if self.is_float:
            return float("-inf")
        return -(1 << (self.bits - 1)) if self.kind == "i" else 0

    @property
    def max(self) -> int | float:
        """The greatest value: infinity for floats, True for bool."""
        if self.is_float:
            return float("inf")
        return (1 << (self.bits - (self.kind == "i"))) - 1


f16 = DType("f16", "f", 16, 2)
bf16 = DType("bf16", "f", 16, 2)
f32 = DType("f32", "f", 32, 4)
f64 = DType("f64", "f", 64, 8)
i8 = DType("i8", "i", 8, 1)
i16 = DType("i16", "i", 16, 2)
i32 = DType("i32", "i", 32, 4)
i64 = DType("i64", "i", 64, 8)
u8 = DType("u8", "u", 8, 1)
u16 = DType("u16", "u", 16, 2)
u32 = DType("u32", "u", 32, 4)
u64 = DType("u64", "u", 64, 8)
boolean = DType("bool", "b", 1, 1)

ALL = (f16, bf16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, boolean)
FLOATS = (f16, bf16, f32, f64)
INTEGERS = (i8, i16, i32, i64, u8, u16, u32, u64)

_NUMPY_NAMES = {
    f16: "float16", f32: "float32", f64: "float64", boolean: "bool",
    i8: "int8", i16: "int16", i32: "int32", i64: "int64",
    u8: "uint8", u16: "uint16", u32: "uint32", u64: "uint64",
}  # fmt: skip
_BY_NAME = {d.name: d for d in ALL}
_ALIASES = {
    **_BY_NAME,
    **{n: d for d, n in _NUMPY_NAMES.items()},
    "bfloat16": bf16,
    "boolean": boolean,
}
_BY_NUMPY = {np.dtype(n): d for d, n in _NUMPY_NAMES.items()}
_STORAGE = {d.name: np.dtype(_NUMPY_NAMES.get(d, "uint16")) for d in ALL}


_SIGNIFICANT = {bf16: 8, f16: 11, f32: 24, f64: 53}
"""Bits of a float's significand, the implied one included."""


def holds(a: DType, b: DType) -> bool:
    """Whether every value of `b` is a value of `a`, so that a cast to `a` loses nothing.

    No pair of a 16-bit float and another one does.
    """
    if a == b or b.is_bool:
        return True
    if a.is_float:
        digits = _SIGNIFICANT[b] if b.is_float else b.bits - b.is_signed
        return digits <= _SIGNIFICANT[a] and (b.is_int or a.bits > b.bits)
    return a.is_int and b.is_int and a.min <= b.min and b.max <= a.max


def from_name(name: str) -> DType:
    """The dtype called `name`: ferrule's name ("f32") or NumPy's ("float32"). Raises InputTypeError
    for others.
    """
    try:
        return _ALIASES[name]
    except KeyError:
        known = " ".join(_BY_NAME)
        raise InputTypeError(f"no dtype is called {name!r}; expected one of: {known}") from None


def from_numpy(dtype: np.dtype[Any] | type | str) -> DType:
    """The dtype whose storage is this NumPy dtype. `uint16` gives u16: that it holds bf16 bits,
    only its owner knows.
    """
    given = np.dtype(dtype)
    found = _BY_NUMPY.get(given)
    if found is None and given.name == "bfloat16":
        found = bf16
    if found is None:
        raise InputTypeError(
            f"NumPy dtype {given} has no ferrule dtype; convert the array to one of: "
            + " ".join(_BY_NAME)
        )
    return found


def to_storage(values: ArrayLike, dtype: DType) -> NDArray[Any]:
    """Real values as the array that holds them in memory.

    For bf16 that is a `uint16` array, rounded to nearest even from f32 (values of f64 round twice);
    NaN stays NaN.
    """
    if dtype is not bf16:
        return np.asarray(values).astype(dtype.numpy, copy=False)
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(
        16
    )
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.where(is_nan, quiet, rounded).astype(np.uint16)


def from_storage(stored: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """The real values of an array as it lies in memory: f32 for bf16, unchanged for every other
    dtype.
    """
    if dtype is not bf16:
        return stored
    return (np.asarray(stored).astype(np.uint32) << np.uint32(16)).view(np.float32)


def promote(a: DType, b: DType) -> DType:
    """The dtype of an operation on tensors of `a` and `b`, by PyTorch's rules for tensors (not for
    Python scalars).

    u16, u32 and u64, for which PyTorch defines little, follow NumPy; u64 with a signed integer
    gives i64.
    """
    if a == b:
        return a
    order = "buif"
    if a.is_float or b.is_float:
        if not (a.is_float and b.is_float):
            return a if a.is_float else b
        return (a if a.bits > b.bits else b) if a.bits != b.bits else f32
    if a.is_bool or b.is_bool:
        return b if a.is_bool else a
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    unsigned, signed = sorted((a, b), key=lambda d: order.index(d.kind))
    return _BY_NAME[f"i{min(64, max(signed.bits, unsigned.bits * 2))}"]
