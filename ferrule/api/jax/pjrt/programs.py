"""PJRT_Executable and PJRT_LoadedExecutable: a StableHLO program compiled by ferrule."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ferrule.api.jax.pjrt.buffers import TOKEN, TYPES
from ferrule.api.jax.pjrt.client import MEMORY_KIND, Client
from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.table import STRUCTS, function
from ferrule.api.jax.pjrt.texts import Row, Text, bytes_at, lasting, pointers
from ferrule.api.programs import ProgramSession
from ferrule.frontend.onnx.model import Port
from ferrule.frontend.stablehlo.module import TensorType, Type
from ferrule.frontend.tensorflow.wire import Message

_DONATED = frozenset({"jax.buffer_donor", "tf.aliasing_output"})
"""Attributes of arguments that the caller gives up."""

_OVERRIDES = 7
"""The field of CompileOptionsProto with what the caller has set, by name."""


class Program:
    """A compiled program, and its outputs as C reads of them."""

    def __init__(self, code: bytes) -> None:
        self.session = ProgramSession(code)
        self.name = Text("main")
        main = self.session.module.functions["main"]
        self.inputs = _names([v.type for v in main.body.arguments], self.session.get_inputs())
        self.outputs = _names(main.results, self.session.get_outputs())
        self.donated = tuple(
            k for k, known in enumerate(main.argument_attributes) if not _DONATED.isdisjoint(known)
        )
        types = [t if isinstance(t, TensorType) else None for t in main.results]
        self.kinds = [TOKEN if t is None else TYPES[t.element] for t in types]
        shapes = [(0,) if t is None else _sizes(t) for t in types]
        self.output_types = Row(ctypes.c_uint, self.kinds)
        self.output_ranks = Row(ctypes.c_size_t, list(map(len, shapes)))
        self.output_dims = Row(ctypes.c_int64, [n for s in shapes for n in s])
        kind = lasting(MEMORY_KIND)
        self.memory_kinds = pointers([kind.address] * len(shapes))
        self.memory_kind_sizes = Row(ctypes.c_size_t, [kind.size] * len(shapes))


def _names(types: Sequence[Type], ports: Sequence[Port]) -> tuple[str | None, ...]:
    """The name of each argument or result, None for a token, which is nothing."""
    rest = iter(ports)
    return tuple(next(rest).name if isinstance(t, TensorType) else None for t in types)


def _sizes(t: TensorType) -> list[int]:
    """The sizes of a result. Raises Failure where they are known in a run alone."""
    sizes = [n for n in t.shape or () if n is not None]
    if t.shape is None or len(sizes) < len(t.shape):
        raise Failure("UNIMPLEMENTED", f"the program gives {t}, whose sizes are not known")
    return sizes


class Loaded:
    """A program that can be run until it is deleted."""

    def __init__(self, client: Client, program: Program) -> None:
        self.client = client
        self.program: Program | None = program

    @property
    def live(self) -> Program:
        """The program. Raises Failure for one that was deleted."""
        if self.program is None:
            raise Failure("FAILED_PRECONDITION", "this program was deleted")
        return self.program


def _program(args: Any) -> Program:
    return HANDLES.get(args.executable, Program)


@function("PJRT_Client_Compile")
def _compile(args: Any) -> None:
    client = HANDLES.get(args.client, Client)
    given = STRUCTS["PJRT_Program"].from_address(args.program)
    form = bytes_at(given.format, given.format_size)
    if form != b"mlir":
        raise Failure("UNIMPLEMENTED", f"programs of the format {form.decode()} are not read")
    options = Message(bytes_at(args.compile_options, args.compile_options_size))
    names = [bytes(Message(entry).data(1)).decode() for entry in options.all(_OVERRIDES)]
    if names:
        message = f"ferrule has no compiler options of XLA's: {', '.join(names)}"
        raise Failure("UNIMPLEMENTED", message)
    program = Program(bytes_at(given.code, given.code_size))
    args.executable = HANDLES.new(Loaded(client, program))


@function("PJRT_LoadedExecutable_GetExecutable")
def _executable(args: Any) -> None:
    args.executable = HANDLES.new(HANDLES.get(args.loaded_executable, Loaded).live)


@function("PJRT_LoadedExecutable_Destroy")
@function("PJRT_Executable_Destroy")
def _destroy(args: Any) -> None:
    HANDLES.free(args.executable)


@function("PJRT_LoadedExecutable_AddressableDevices")
def _devices(args: Any) -> None:
    row = HANDLES.get(args.executable, Loaded).client.devices
    args.addressable_devices, args.num_addressable_devices = row.address, row.count


@function("PJRT_LoadedExecutable_Delete")
def _delete(args: Any) -> None:
    HANDLES.get(args.executable, Loaded).program = None


@function("PJRT_LoadedExecutable_IsDeleted")
def _is_deleted(args: Any) -> None:
    args.is_deleted = HANDLES.get(args.executable, Loaded).program is None


@function("PJRT_Executable_Name")
def _name(args: Any) -> None:
    text = _program(args).name
    args.executable_name, args.executable_name_size = text.address, text.size


@function("PJRT_Executable_NumReplicas")
def _replicas(args: Any) -> None:
    args.num_replicas = 1


@function("PJRT_Executable_NumPartitions")
def _partitions(args: Any) -> None:
    args.num_partitions = 1


@function("PJRT_Executable_NumOutputs")
def _outputs(args: Any) -> None:
    args.num_outputs = _program(args).output_types.count


@function("PJRT_Executable_OutputElementTypes")
def _output_types(args: Any) -> None:
    row = _program(args).output_types
    args.output_types, args.num_output_types = row.address, row.count


@function("PJRT_Executable_OutputDimensions")
def _output_dimensions(args: Any) -> None:
    program = _program(args)
    args.num_outputs = program.output_types.count
    args.dims, args.dim_sizes = program.output_dims.address, program.output_ranks.address


@function("PJRT_Executable_OutputMemoryKinds")
def _output_memory_kinds(args: Any) -> None:
    program = _program(args)
    args.num_outputs = program.output_types.count
    args.memory_kinds = program.memory_kinds.address
    args.memory_kind_sizes = program.memory_kind_sizes.address


@function("PJRT_Executable_SizeOfGeneratedCodeInBytes")
def _code_size(args: Any) -> None:
    args.size_in_bytes = 0


_ASSIGNMENT = b"\x08\x01\x10\x01\x1a\x03\x0a\x01\x00"
"""A DeviceAssignmentProto: one replica of one computation, on device 0."""
_HELD = ctypes.create_string_buffer(_ASSIGNMENT)
_KEEP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda place: None)


@function("PJRT_LoadedExecutable_GetDeviceAssignment")
def _device_assignment(args: Any) -> None:
    args.serialized_bytes, args.serialized_bytes_size = ctypes.addressof(_HELD), len(_ASSIGNMENT)
    args.serialized_device_assignment = ctypes.addressof(_HELD)
    args.serialized_device_assignment_deleter = ctypes.cast(_KEEP, ctypes.c_void_p)
