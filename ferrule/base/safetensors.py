"""Tensors in a file, in the format safetensors (github.com/huggingface/safetensors, "Format").

    8 bytes little-endian: the header's length | header, JSON | the tensors' bytes, without gaps

The header has for each name `dtype`, `shape` and `data_offsets`, from the end of the header on. It
is filled up with spaces so that tensors begin on a page, and those of larger elements come first,
so that each lies at a multiple of its elements' size. bf16 tensors are `uint16` arrays of their
bits, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.base.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray  # which takes long to import

    Array = NDArray[Any]

PAGE = 4096
_NAMES = {
    "f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "i64": "I64", "i32": "I32",
    "i16": "I16", "i8": "I8", "u64": "U64", "u32": "U32", "u16": "U16", "u8": "U8", "bool": "BOOL",
}  # fmt: skip
_NUMPY = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "uint16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def header_of(tensors: Mapping[str, tuple[str, Array]]) -> tuple[bytes, tuple[str, ...]]:
    """The length and header of a file of these tensors, each a dtype's name and an array, and the
    order in which their bytes follow.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name][1].dtype.itemsize, name))
    table: dict[str, Any] = {}
    at = 0
    for name in order:
        dtype, x = tensors[name]
        end = at + x.nbytes
        table[name] = {"dtype": _NAMES[dtype], "shape": x.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % PAGE)
    return len(text).to_bytes(8, "little") + text, tuple(order)


def tensors_of(data: memoryview) -> dict[str, Array]:
    """The tensors of a file as arrays over its bytes, by name. Raises InputError for anything that
    is not such a file.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        table = json.loads(bytes(data[8 : 8 + length]))
        body = data[8 + length :]
        return {
            name: _tensor(body, entry) for name, entry in table.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"these are no weights in the format safetensors: {error!r}") from error


def _tensor(body: memoryview, entry: Mapping[str, Any]) -> Array:
    dtype, shape = np.dtype(_NUMPY[entry["dtype"]]), tuple(entry["shape"])
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(body):
        raise ValueError(f"a tensor from {start} to {end} of {len(body)} bytes")
    return np.frombuffer(body[start:end], dtype).reshape(shape)
