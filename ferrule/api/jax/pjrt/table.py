"""Functions of Python as functions of C: the table PJRT_Api.

    @function("PJRT_Client_ProcessIndex")
    def _process_index(args): args.process_index = 0

A function gets its structure of arguments, reads it and writes into it. What it raises is given to
C as a PJRT_Error. Those that have no function here give the error UNIMPLEMENTED.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from ferrule.api.jax.pjrt.guards import guarded
from ferrule.api.jax.pjrt.handles import HANDLES, Failure, failure_of
from ferrule.api.jax.pjrt.layout import FUNCTIONS, STRUCTURES, VERSION
from ferrule.api.jax.pjrt.structs import HEAD, needed, structures

STRUCTS = structures(STRUCTURES)
_WITHOUT_RESULT = ("PJRT_Error_Destroy", "PJRT_Error_Message")
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_Implementation = Callable[[Any], None]
IMPLEMENTED: dict[str, _Implementation] = {}


def function(name: str) -> Callable[[_Implementation], _Implementation]:
    """Registers the function of this name."""
    assert name in FUNCTIONS, name

    def register(implementation: _Implementation) -> _Implementation:
        IMPLEMENTED[name] = implementation
        return implementation

    return register


class Api:
    """The table for C, which lives as long as the process: `address` is where it lies."""

    def __init__(self) -> None:
        api = structures({
            "PJRT_Api_Version": STRUCTURES["PJRT_Api_Version"],
            "PJRT_Api": f"0{HEAD} PJRT_Api_Version:pjrt_api_version "
            + " ".join(f"pointer:{name}" for name in FUNCTIONS),
        })["PJRT_Api"]
        self._functions = {name: _PROTOTYPE(_never_raising(name)) for name in FUNCTIONS}
        addresses = {n: ctypes.cast(f, ctypes.c_void_p).value for n, f in self._functions.items()}
        self._table = api()
        self._table.struct_size = ctypes.sizeof(api)
        version = self._table.pjrt_api_version
        version.struct_size = ctypes.sizeof(version)
        version.major_version, version.minor_version = VERSION
        for name, address in guarded({n: a or 0 for n, a in addresses.items()}).items():
            setattr(self._table, name, address)
        self.address = ctypes.addressof(self._table)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # threads of C's may outlive modules


def _never_raising(name: str) -> Callable[[int], int]:
    """A function that never raises: it gives 0, or the handle of an error."""
    structure = STRUCTS.get(f"{name}_Args")
    implementation = IMPLEMENTED.get(name)
    if structure is None or implementation is None:
        failure = Failure("UNIMPLEMENTED", f"ferrule's platform has no {name}")
        return lambda address: HANDLES.new(failure)
    known, given = implementation, structure
    least = needed(structure)

    def call(address: int) -> int:
        try:
            args = given.from_address(address)
            if args.struct_size < least:
                raise Failure("INVALID_ARGUMENT", _too_old(name, args.struct_size, least))
            known(args)
        except BaseException as error:
            return 0 if name in _WITHOUT_RESULT else HANDLES.new(failure_of(error))
        return 0

    return call


def _too_old(name: str, size: int, least: int) -> str:
    return (
        f"{name} is called with {size} bytes of arguments, and takes {least}: ferrule's platform "
        f"needs version {VERSION[0]}.{VERSION[1]} of PJRT's interface, and this jaxlib is older"
    )
