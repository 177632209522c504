"""Structures of C by their descriptions: their size, and the kind and name of each field.

    made = structures({"Pair": "16 size:n pointer:items"})
    made["Pair"](2, address)

A pointer is an address, or None. A size of 0 is not known. `head` stands for the fields
`struct_size` and `extension_start`. A description whose name ends in "_Union" is of a union; a
field called "_" gives the structure that it is in its own fields.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

KINDS: Mapping[str, Any] = {
    "size": ctypes.c_size_t, "int64": ctypes.c_int64, "int": ctypes.c_int,
    "uint64": ctypes.c_uint64, "bool": ctypes.c_bool, "float": ctypes.c_float,
    "enum": ctypes.c_uint, "pointer": ctypes.c_void_p,
}  # fmt: skip
HEAD = " size:struct_size pointer:extension_start"


def structures(described: Mapping[str, str]) -> dict[str, type[Any]]:
    """A ctypes class for each description; one that another holds stands before it or behind.
    Raises RuntimeError where one is not as large as it should be.
    """
    made: dict[str, type[Any]] = {}

    def make(name: str) -> type[Any]:
        if name not in made:
            size, *described_fields = described[name].replace(" head", HEAD).split()
            pairs = [field.split(":") for field in described_fields]
            fields = [(f, KINDS[k] if k in KINDS else make(k)) for k, f in pairs]
            base = ctypes.Union if name.endswith("_Union") else ctypes.Structure
            body: dict[str, Any] = {"_fields_": fields}
            if any(f == "_" for f, _ in fields):
                body["_anonymous_"] = ("_",)
            made[name] = type(name, (base,), body)
            if int(size) not in (0, ctypes.sizeof(made[name])):
                raise RuntimeError(
                    f"{name} has {ctypes.sizeof(made[name])} bytes on this machine, not {size}"
                )
        return made[name]

    for name in described:
        make(name)
    return made


def needed(structure: type[Any]) -> int:
    """The bytes of a structure up to the end of its last field, which is what C's side tells in
    `struct_size`.
    """
    place = getattr(structure, structure._fields_[-1][0])
    return int(place.offset + place.size)
