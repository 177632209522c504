"""The table of C functions, called as C calls it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", minversion="0.10")

from ferrule.api.jax.pjrt import (
    buffers,
    client,
    errors,
    events,
    execution,
    layout,
    programs,
)
from ferrule.api.jax.pjrt.handles import HANDLES, Handles
from ferrule.api.jax.pjrt.structs import structures
from ferrule.api.jax.pjrt.table import IMPLEMENTED, STRUCTS, Api

PARTS = (buffers, client, errors, events, execution, programs)
UNIMPLEMENTED = layout.PJRT_Error_Code["UNIMPLEMENTED"]
INVALID = layout.PJRT_Error_Code["INVALID_ARGUMENT"]
ADD = b"""module { func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = stablehlo.add %x, %x : tensor<2x3xf32>
  return %0 : tensor<2x3xf32> } }"""


class Table:
    """The functions by their names, with fields of their arguments as keywords."""

    def __init__(self) -> None:
        self.api = Api()
        first = self.api.address + ctypes.sizeof(ctypes.c_size_t) * 2
        first += ctypes.sizeof(STRUCTS["PJRT_Api_Version"])
        self.pointers = (ctypes.c_void_p * len(layout.FUNCTIONS)).from_address(first)

    def error(self, name: str, size: int | None = None, **fields: Any) -> tuple[int, Any]:
        """The handle of the error that a function gives, or 0; and its arguments."""
        kind = STRUCTS[f"{name}_Args"]
        args = kind(struct_size=ctypes.sizeof(kind) if size is None else size, **fields)
        pointer = self.pointers[layout.FUNCTIONS.index(name)]
        made = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(pointer)
        return made(ctypes.addressof(args)) or 0, args

    def __call__(self, name: str, **fields: Any) -> Any:
        """What a function writes into its arguments; it must give no error."""
        error, args = self.error(name, **fields)
        assert not error, self.message(error)
        return args

    def message(self, error: int) -> str:
        args = self("PJRT_Error_Message", error=error)
        return ctypes.string_at(args.message, args.message_size).decode()

    def refused(self, name: str, size: int | None = None, **fields: Any) -> tuple[int, str]:
        """The code and the message of the error that a function gives."""
        error, _ = self.error(name, size, **fields)
        assert error
        found = self("PJRT_Error_GetCode", error=error).code, self.message(error)
        self("PJRT_Error_Destroy", error=error)
        return found


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


@pytest.fixture
def made(table: Table) -> Iterator[int]:
    """A client, after which nothing must be left."""
    before = len(HANDLES)
    handle = table("PJRT_Client_Create").client
    yield handle
    table("PJRT_Client_Destroy", client=handle)
    assert len(HANDLES) == before, HANDLES.kinds()


def test_the_table_says_what_it_is(table: Table) -> None:
    size, _ = (ctypes.c_size_t * 2).from_address(table.api.address)
    assert size == 16 + 24 + 8 * len(layout.FUNCTIONS)
    version = STRUCTS["PJRT_Api_Version"].from_address(table.api.address + 16)
    assert (version.major_version, version.minor_version) == layout.VERSION
    assert all(table.pointers)
    assert set(layout.FUNCTIONS) > set(IMPLEMENTED)


def test_a_structure_of_another_size_is_no_layout() -> None:
    assert ctypes.sizeof(structures({"Pair": "16 size:n pointer:items"})["Pair"]) == 16
    with pytest.raises(RuntimeError, match="Pair has 16 bytes on this machine, not 12"):
        structures({"Pair": "12 size:n pointer:items"})


def test_a_function_that_is_not_there(table: Table) -> None:
    code, message = table.refused("PJRT_Client_DmaMap")
    assert (code, "PJRT_Client_DmaMap" in message) == (UNIMPLEMENTED, True)


def test_arguments_of_an_older_jaxlib(table: Table) -> None:
    code, message = table.refused("PJRT_Client_PlatformName", size=24)
    assert code == INVALID
    assert "PJRT_Client_PlatformName is called with 24 bytes of arguments, and takes 40" in message


def test_a_handle_of_nothing(table: Table, made: int) -> None:
    for strange in (None, 7, made):
        code, message = table.refused("PJRT_Buffer_Dimensions", buffer=strange)
        assert (code, "no Buffer" in message) == (INVALID, True)


def test_a_handle_is_never_used_twice() -> None:
    handles = Handles()
    first = handles.new("a")
    handles.free(first)
    assert handles.new("b") != first
    assert not len(handles) - 1
    handles.free(None)


def test_destroying_nothing(table: Table) -> None:
    table("PJRT_Error_Destroy", error=None)
    table("PJRT_Event_Destroy", event=None)
    table("PJRT_Client_Destroy", client=None)


def from_host(table: Table, made: int, x: Any, kind: str) -> int:
    dims = (ctypes.c_int64 * x.ndim)(*x.shape)
    strides = (ctypes.c_int64 * x.ndim)(*x.strides)
    args = table(
        "PJRT_Client_BufferFromHostBuffer", client=made, data=x.ctypes.data,
        type=layout.PJRT_Buffer_Type[kind], dims=ctypes.addressof(dims), num_dims=x.ndim,
        byte_strides=ctypes.addressof(strides), num_byte_strides=x.ndim,
    )  # fmt: skip
    table("PJRT_Event_Destroy", event=args.done_with_host_buffer)
    return int(args.buffer)


def to_host(table: Table, buffer: int, like: Any) -> Any:
    out = np.zeros_like(like, order="C")
    assert table("PJRT_Buffer_ToHostBuffer", src=buffer).dst_size == out.nbytes
    args = table("PJRT_Buffer_ToHostBuffer", src=buffer, dst=out.ctypes.data, dst_size=out.nbytes)
    table("PJRT_Event_Await", event=args.event)
    table("PJRT_Event_Destroy", event=args.event)
    return out


def compiled(table: Table, made: int, code: bytes) -> dict[str, Any]:
    held, form = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"mlir")
    program = STRUCTS["PJRT_Program"](
        code=ctypes.addressof(held), code_size=len(code), format=ctypes.addressof(form),
        format_size=4,
    )  # fmt: skip
    return {"client": made, "program": ctypes.addressof(program), "held": (held, form, program)}


def test_a_program_from_end_to_end(table: Table, made: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2).T
    buffer = from_host(table, made, x, "F32")
    given = compiled(table, made, ADD)
    held = given.pop("held")
    executable = table("PJRT_Client_Compile", **given).executable
    arguments, outputs = (ctypes.c_size_t * 1)(buffer), (ctypes.c_size_t * 1)()
    lists = [(ctypes.c_size_t * 1)(ctypes.addressof(a)) for a in (arguments, outputs)]
    table(
        "PJRT_LoadedExecutable_Execute", executable=executable, num_devices=1, num_args=1,
        argument_lists=ctypes.addressof(lists[0]), output_lists=ctypes.addressof(lists[1]),
    )  # fmt: skip
    np.testing.assert_array_equal(to_host(table, outputs[0], x), x + x)
    for handle in (buffer, outputs[0]):
        table("PJRT_Buffer_Destroy", buffer=handle)
    table("PJRT_LoadedExecutable_Destroy", executable=executable)
    assert held


def test_a_program_that_cannot_be_read(table: Table, made: int) -> None:
    given = compiled(table, made, ADD.replace(b"stablehlo.add", b"stablehlo.odd"))
    held = given.pop("held")
    code, message = table.refused("PJRT_Client_Compile", **given)
    assert (code, "stablehlo.odd" in message) == (UNIMPLEMENTED, True)
    assert held


def test_a_deleted_buffer_lives_while_it_is_referred_to(table: Table, made: int) -> None:
    x = np.arange(4, dtype=np.int16)
    buffer = from_host(table, made, x, "S16")
    table("PJRT_Buffer_IncreaseExternalReferenceCount", buffer=buffer)
    place = table("PJRT_Buffer_OpaqueDeviceMemoryDataPointer", buffer=buffer).device_memory_ptr
    table("PJRT_Buffer_Delete", buffer=buffer)
    assert table("PJRT_Buffer_IsDeleted", buffer=buffer).is_deleted
    assert list((ctypes.c_int16 * 4).from_address(place)) == x.tolist()
    held = HANDLES.get(buffer, buffers.Buffer)
    assert held.memory is not None
    table("PJRT_Buffer_DecreaseExternalReferenceCount", buffer=buffer)
    assert held.memory is None
    code, message = table.refused("PJRT_Buffer_UnsafePointer", buffer=buffer)
    assert (code, message) == (
        layout.PJRT_Error_Code["FAILED_PRECONDITION"], "this buffer was deleted or donated",
    )  # fmt: skip
    table("PJRT_Buffer_Destroy", buffer=buffer)


def test_a_layout_other_than_rows(table: Table, made: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = from_host(table, made, x, "F32")
    found = table("PJRT_Buffer_GetMemoryLayout", buffer=buffer).layout.tiled
    order = (ctypes.c_int64 * 2).from_address(found.minor_to_major)
    assert list(order) == [1, 0]
    columns = (ctypes.c_int64 * 2)(0, 1)
    host = STRUCTS["PJRT_Buffer_MemoryLayout"]()
    host.tiled.minor_to_major, host.tiled.minor_to_major_size = ctypes.addressof(columns), 2
    out = np.zeros(6, np.float32)
    args = table(
        "PJRT_Buffer_ToHostBuffer", src=buffer, host_layout=ctypes.addressof(host),
        dst=out.ctypes.data, dst_size=out.nbytes,
    )  # fmt: skip
    assert out.tolist() == x.T.reshape(-1).tolist()
    table("PJRT_Event_Destroy", event=args.event)
    table("PJRT_Buffer_Destroy", buffer=buffer)
