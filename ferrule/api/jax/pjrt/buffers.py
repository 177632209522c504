"""PJRT_Buffer: an array in memory, as ferrule's programs take and give it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.api.jax.pjrt.client import Client
from ferrule.api.jax.pjrt.events import ready
from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.layout import PJRT_Buffer_MemoryLayout_Type, PJRT_Buffer_Type
from ferrule.api.jax.pjrt.table import STRUCTS, function
from ferrule.api.jax.pjrt.texts import Row, numbers_at

Array = np.ndarray[Any, Any]

ELEMENTS: Mapping[str, tuple[str, str]] = {
    "i1": ("PRED", "bool"), "i8": ("S8", "int8"), "i16": ("S16", "int16"),
    "i32": ("S32", "int32"), "i64": ("S64", "int64"), "ui8": ("U8", "uint8"),
    "ui16": ("U16", "uint16"), "ui32": ("U32", "uint32"), "ui64": ("U64", "uint64"),
    "f16": ("F16", "float16"), "bf16": ("BF16", "uint16"), "f32": ("F32", "float32"),
    "f64": ("F64", "float64"), "complex<f32>": ("C64", "complex64"),
    "complex<f64>": ("C128", "complex128"),
}  # fmt: skip
"""What PJRT calls the element types of StableHLO, and what NumPy stores them as."""

TYPES = {element: PJRT_Buffer_Type[name] for element, (name, _) in ELEMENTS.items()}
TOKEN = PJRT_Buffer_Type["TOKEN"]
_STORAGE = {PJRT_Buffer_Type[name]: np.dtype(dtype) for name, dtype in ELEMENTS.values()}
_STORAGE[TOKEN] = np.dtype("bool")  # of which there is nothing
_NAMES = {number: name for name, number in PJRT_Buffer_Type.items()}
_TILED = PJRT_Buffer_MemoryLayout_Type["Tiled"]
_LAYOUT = STRUCTS["PJRT_Buffer_MemoryLayout"]


class Buffer:
    """An array of a client's, C-contiguous, and the number of its element type in PJRT.

    A deleted buffer has no array for programs; its memory lives for as long as C refers to it.
    """

    def __init__(self, client: Client, array: Array, kind: int) -> None:
        self.client, self.kind = client, kind
        self.memory: Array | None = array
        self.deleted = False
        self.references = 0
        self.bytes = array.nbytes
        self.dims = Row(ctypes.c_int64, array.shape)
        self.minor_to_major = Row(ctypes.c_int64, range(array.ndim - 1, -1, -1))

    @property
    def array(self) -> Array:
        """The array. Raises Failure for a buffer that was deleted or donated."""
        if self.deleted or self.memory is None:
            raise Failure("FAILED_PRECONDITION", "this buffer was deleted or donated")
        return self.memory

    def delete(self) -> None:
        """Gives the memory up, at the latest when C refers to it no more."""
        self.deleted = True
        if not self.references:
            self.memory = None


def _buffer(args: Any) -> Buffer:
    return HANDLES.get(args.buffer, Buffer)


def storage_of(kind: int) -> np.dtype[Any]:
    """What an element type is stored as. Raises Failure for one that ferrule lacks."""
    found = _STORAGE.get(kind)
    if found is None:
        name = _NAMES.get(kind, str(kind))
        raise Failure("UNIMPLEMENTED", f"ferrule has no arrays of the element type {name}")
    return found


def array_at(
    address: int | None, dtype: np.dtype[Any], shape: Sequence[int], strides: Sequence[int] | None
) -> Array:
    """A copy, C-contiguous, of the array at an address; its strides in bytes may be negative."""
    out = np.empty(shape, dtype)
    if not address or not out.size:
        return out
    steps = out.strides if strides is None else strides
    reach = [(n - 1) * s for n, s in zip(shape, steps)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    memory: Any = (ctypes.c_char * (high - low + dtype.itemsize)).from_address(address + low)
    out[...] = np.ndarray(shape, dtype, memory, -low, steps)
    return out


def _order(place: int | None, rank: int) -> tuple[int, ...]:
    """The dims of a layout from the slowest to the fastest; those of a row-major one if there is
    none. Raises Failure for tiles and strides.
    """
    if not place:
        return tuple(range(rank))
    layout = _LAYOUT.from_address(place)
    if layout.type != _TILED or layout.tiled.num_tiles:
        raise Failure("UNIMPLEMENTED", "ferrule's arrays have no tiles, and strides of their own")
    found = numbers_at(layout.tiled.minor_to_major, layout.tiled.minor_to_major_size)
    return tuple(reversed(found))


def _row_major(place: int | None, rank: int) -> None:
    if _order(place, rank) != tuple(range(rank)):
        raise Failure("UNIMPLEMENTED", "ferrule's arrays are row-major, and in no other layout")


def _client_of(args: Any) -> Client:
    return HANDLES.get(args.client, Client)


@function("PJRT_Client_BufferFromHostBuffer")
def _from_host(args: Any) -> None:
    """Copies always, so that the caller may do what it likes with its memory at once."""
    dtype = storage_of(args.type)
    shape = numbers_at(args.dims, args.num_dims)
    strides = numbers_at(args.byte_strides, args.num_byte_strides) if args.byte_strides else None
    _row_major(args.device_layout, len(shape))
    array = array_at(args.data, dtype, shape, strides)
    args.buffer = HANDLES.new(Buffer(_client_of(args), array, args.type))
    args.done_with_host_buffer = ready()


@function("PJRT_Client_CreateUninitializedBuffer")
def _uninitialized(args: Any) -> None:
    dtype = storage_of(args.shape_element_type)
    shape = numbers_at(args.shape_dims, args.shape_num_dims)
    _row_major(args.shape_layout, len(shape))
    made = Buffer(_client_of(args), np.zeros(shape, dtype), args.shape_element_type)
    args.buffer = HANDLES.new(made)


@function("PJRT_Buffer_ToHostBuffer")
def _to_host(args: Any) -> None:
    array = HANDLES.get(args.src, Buffer).array
    if not args.dst:
        args.dst_size = array.nbytes
        return
    if args.dst_size < array.nbytes:
        message = f"{args.dst_size} bytes are too few for an array of {array.nbytes}"
        raise Failure("INVALID_ARGUMENT", message)
    moved = np.ascontiguousarray(array.transpose(_order(args.host_layout, array.ndim)))
    ctypes.memmove(args.dst, moved.ctypes.data, array.nbytes)
    args.event = ready()


@function("PJRT_Buffer_CopyRawToHost")
def _raw_to_host(args: Any) -> None:
    array = _buffer(args).array
    if args.offset < 0 or args.offset + args.transfer_size > array.nbytes:
        raise Failure("INVALID_ARGUMENT", f"these bytes are not all of the {array.nbytes}")
    ctypes.memmove(args.dst, array.ctypes.data + args.offset, args.transfer_size)
    args.event = ready()


@function("PJRT_Buffer_Destroy")
def _destroy(args: Any) -> None:
    HANDLES.free(args.buffer)


@function("PJRT_Buffer_Delete")
def _delete(args: Any) -> None:
    _buffer(args).delete()


@function("PJRT_Buffer_IsDeleted")
def _is_deleted(args: Any) -> None:
    args.is_deleted = _buffer(args).deleted


@function("PJRT_Buffer_ElementType")
def _element_type(args: Any) -> None:
    args.type = _buffer(args).kind


@function("PJRT_Buffer_Dimensions")
def _dimensions(args: Any) -> None:
    row = _buffer(args).dims
    args.dims, args.num_dims = row.address, row.count


@function("PJRT_Buffer_UnpaddedDimensions")
def _unpadded_dimensions(args: Any) -> None:
    row = _buffer(args).dims
    args.unpadded_dims, args.num_dims = row.address, row.count


@function("PJRT_Buffer_DynamicDimensionIndices")
def _dynamic_dimensions(args: Any) -> None:
    args.dynamic_dim_indices, args.num_dynamic_dims = None, 0


@function("PJRT_Buffer_GetMemoryLayout")
def _memory_layout(args: Any) -> None:
    row = _buffer(args).minor_to_major
    args.layout.struct_size = ctypes.sizeof(_LAYOUT)
    args.layout.type = _TILED
    tiled = args.layout.tiled
    tiled.minor_to_major, tiled.minor_to_major_size = row.address, row.count
    tiled.tile_dims, tiled.tile_dim_sizes, tiled.num_tiles = None, None, 0


@function("PJRT_Buffer_OnDeviceSizeInBytes")
def _size(args: Any) -> None:
    args.on_device_size_in_bytes = _buffer(args).bytes


@function("PJRT_Buffer_Device")
def _device(args: Any) -> None:
    args.device = _buffer(args).client.device


@function("PJRT_Buffer_Memory")
def _memory(args: Any) -> None:
    args.memory = _buffer(args).client.memory


@function("PJRT_Buffer_IsOnCpu")
def _is_on_cpu(args: Any) -> None:
    args.is_on_cpu = True


@function("PJRT_Buffer_ReadyEvent")
def _ready_event(args: Any) -> None:
    _buffer(args)
    args.event = ready()


@function("PJRT_Buffer_UnsafePointer")
def _unsafe_pointer(args: Any) -> None:
    args.buffer_pointer = _buffer(args).array.ctypes.data


@function("PJRT_Buffer_OpaqueDeviceMemoryDataPointer")
def _data_pointer(args: Any) -> None:
    args.device_memory_ptr = _buffer(args).array.ctypes.data


@function("PJRT_Buffer_IncreaseExternalReferenceCount")
def _refer(args: Any) -> None:
    buffer = _buffer(args)
    buffer.array  # noqa: B018  raises for one that was deleted
    buffer.references += 1


@function("PJRT_Buffer_DecreaseExternalReferenceCount")
def _refer_no_more(args: Any) -> None:
    buffer = _buffer(args)
    buffer.references -= 1
    if buffer.deleted:
        buffer.delete()


@function("PJRT_Buffer_CopyToDevice")
@function("PJRT_Buffer_CopyToMemory")
def _copy(args: Any) -> None:
    buffer = _buffer(args)
    args.dst_buffer = HANDLES.new(Buffer(buffer.client, buffer.array.copy(), buffer.kind))
