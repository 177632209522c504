"""PJRT_Client, and what it consists of: a device, its memory, a topology."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from typing import Any

from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.layout import PJRT_NamedValue_Type
from ferrule.api.jax.pjrt.table import STRUCTS, function
from ferrule.api.jax.pjrt.texts import Row, lasting, pointers
from ferrule.base.version import VERSION
from ferrule.frontend.stablehlo.vhlo import VERSION as STABLEHLO

NAME = "ferrule"
"""Of the platform."""
MEMORY_KIND = "device"
"""What JAX calls the memory that arrays lie in by default."""


class Client:
    """What PJRT_Client_Create gives; the handles of what it consists of live as long."""

    def __init__(self) -> None:
        self.description = HANDLES.new(Description(self))
        self.device = HANDLES.new(Device(self))
        self.memory = HANDLES.new(Memory(self))
        self.topology = HANDLES.new(Topology(self))
        self.devices, self.memories = pointers([self.device]), pointers([self.memory])
        self.descriptions = pointers([self.description])

    def free(self) -> None:
        """Forgets what it consists of."""
        for handle in (self.description, self.device, self.memory, self.topology):
            HANDLES.free(handle)


@dataclass(frozen=True, eq=False)
class Description:
    """PJRT_DeviceDescription: what the device is."""

    client: Client


@dataclass(frozen=True, eq=False)
class Device:
    """PJRT_Device: this machine's CPU."""

    client: Client


@dataclass(frozen=True, eq=False)
class Memory:
    """PJRT_Memory: this process's."""

    client: Client


@dataclass(frozen=True, eq=False)
class Topology:
    """PJRT_TopologyDescription: one device."""

    client: Client


@function("PJRT_Plugin_Initialize")
def _initialize(args: Any) -> None:
    pass


def _version_attributes() -> tuple[Any, list[Row]]:
    """Which StableHLO is understood."""
    numbers = [int(n) for n in STABLEHLO.split(".")]
    names = ("stablehlo_current_version", "stablehlo_minimum_version")
    rows = [Row(ctypes.c_int64, numbers), Row(ctypes.c_int64, [0, 9, 0])]
    kind = STRUCTS["PJRT_NamedValue"]
    values = (kind * len(names))()
    for value, name, row in zip(values, names, rows):
        text = lasting(name)
        value.struct_size = ctypes.sizeof(kind)
        value.name, value.name_size = text.address, text.size
        value.type = PJRT_NamedValue_Type["kInt64List"]
        value.int64_array_value, value.value_size = row.address, row.count
    return values, rows


_ATTRIBUTES = _version_attributes()


@function("PJRT_Plugin_Attributes")
def _attributes(args: Any) -> None:
    values, _ = _ATTRIBUTES
    args.attributes, args.num_attributes = ctypes.addressof(values), len(values)


@function("PJRT_Client_Create")
def _create(args: Any) -> None:
    args.client = HANDLES.new(Client())


@function("PJRT_Client_Destroy")
def _destroy(args: Any) -> None:
    if args.client is not None:
        HANDLES.get(args.client, Client).free()
        HANDLES.free(args.client)


@function("PJRT_Client_PlatformName")
@function("PJRT_TopologyDescription_PlatformName")
def _platform_name(args: Any) -> None:
    text = lasting(NAME)
    args.platform_name, args.platform_name_size = text.address, text.size


@function("PJRT_Client_PlatformVersion")
@function("PJRT_TopologyDescription_PlatformVersion")
def _platform_version(args: Any) -> None:
    text = lasting(f"ferrule {VERSION}")
    args.platform_version, args.platform_version_size = text.address, text.size


@function("PJRT_Client_ProcessIndex")
@function("PJRT_DeviceDescription_ProcessIndex")
def _process_index(args: Any) -> None:
    args.process_index = 0


@function("PJRT_Client_Devices")
def _devices(args: Any) -> None:
    row = HANDLES.get(args.client, Client).devices
    args.devices, args.num_devices = row.address, row.count


@function("PJRT_Client_AddressableDevices")
def _addressable_devices(args: Any) -> None:
    row = HANDLES.get(args.client, Client).devices
    args.addressable_devices, args.num_addressable_devices = row.address, row.count


@function("PJRT_Client_AddressableMemories")
def _addressable_memories(args: Any) -> None:
    row = HANDLES.get(args.client, Client).memories
    args.addressable_memories, args.num_addressable_memories = row.address, row.count


@function("PJRT_Client_LookupDevice")
def _lookup_device(args: Any) -> None:
    args.device = _only(args.client, args.id)


@function("PJRT_Client_LookupAddressableDevice")
def _lookup_addressable_device(args: Any) -> None:
    args.addressable_device = _only(args.client, args.local_hardware_id)


def _only(client: int, number: int) -> int:
    if number != 0:
        raise Failure("INVALID_ARGUMENT", f"there is no device {number}, only device 0")
    return HANDLES.get(client, Client).device


@function("PJRT_Client_DefaultDeviceAssignment")
def _default_assignment(args: Any) -> None:
    if args.num_replicas * args.num_partitions != 1:
        raise Failure("INVALID_ARGUMENT", "ferrule's platform has one device")
    (ctypes.c_int * args.default_assignment_size).from_address(args.default_assignment)[0] = 0


@function("PJRT_Client_TopologyDescription")
def _topology(args: Any) -> None:
    args.topology = HANDLES.get(args.client, Client).topology


@function("PJRT_TopologyDescription_GetDeviceDescriptions")
def _descriptions(args: Any) -> None:
    row = HANDLES.get(args.topology, Topology).client.descriptions
    args.descriptions, args.num_descriptions = row.address, row.count


@function("PJRT_TopologyDescription_Destroy")
def _destroy_topology(args: Any) -> None:
    """A topology is its client's, and goes with it."""


@function("PJRT_TopologyDescription_Attributes")
@function("PJRT_DeviceDescription_Attributes")
def _no_attributes(args: Any) -> None:
    args.attributes, args.num_attributes = None, 0


@function("PJRT_DeviceDescription_Id")
def _id(args: Any) -> None:
    args.id = 0


@function("PJRT_DeviceDescription_Kind")
def _kind(args: Any) -> None:
    text = lasting(platform.machine() or "cpu")
    args.device_kind, args.device_kind_size = text.address, text.size


@function("PJRT_DeviceDescription_DebugString")
@function("PJRT_Memory_DebugString")
def _debug_string(args: Any) -> None:
    text = lasting(f"{NAME}:0")
    args.debug_string, args.debug_string_size = text.address, text.size


@function("PJRT_DeviceDescription_ToString")
@function("PJRT_Memory_ToString")
def _to_string(args: Any) -> None:
    text = lasting(f"{NAME}:0")
    args.to_string, args.to_string_size = text.address, text.size


@function("PJRT_Device_GetDescription")
def _description(args: Any) -> None:
    args.device_description = HANDLES.get(args.device, Device).client.description


@function("PJRT_Device_IsAddressable")
def _is_addressable(args: Any) -> None:
    args.is_addressable = True


@function("PJRT_Device_LocalHardwareId")
def _local_hardware_id(args: Any) -> None:
    args.local_hardware_id = 0


@function("PJRT_Device_AddressableMemories")
def _memories(args: Any) -> None:
    row = HANDLES.get(args.device, Device).client.memories
    args.memories, args.num_memories = row.address, row.count


@function("PJRT_Device_DefaultMemory")
def _default_memory(args: Any) -> None:
    args.memory = HANDLES.get(args.device, Device).client.memory


@function("PJRT_Memory_Id")
def _memory_id(args: Any) -> None:
    args.id = 0


@function("PJRT_Memory_Kind")
def _memory_kind(args: Any) -> None:
    text = lasting(MEMORY_KIND)
    args.kind, args.kind_size = text.address, text.size


@function("PJRT_Memory_Kind_Id")
def _memory_kind_id(args: Any) -> None:
    args.kind_id = 0


@function("PJRT_Memory_AddressableByDevices")
def _addressable_by(args: Any) -> None:
    row = HANDLES.get(args.memory, Memory).client.devices
    args.devices, args.num_devices = row.address, row.count
