"""Calling compiled code from Python by one native function.

    record = Record(entry, block, count, dims)
    code = record.launch(threads, *addresses, *dims)       # None: it is busy, or for other dims

A foreign call by ctypes and the packing of its arguments take 2 us, and ten times as long after a
program whose data has driven Python out of the caches. A function of CPython's own kind (call.ll)
takes a fifth of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from ferrule.runtime import native

_METH_FASTCALL, _METH_NOARGS = 0x80, 0x04
_EXTERNALS = (
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyLong_AsLongLong",
    "PyLong_AsVoidPtr",
    "PyLong_FromLongLong",
    "PyErr_Occurred",
    "Py_IncRef",
)


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    )


class Record:
    """An argument block that one caller at a time may use; `count` arguments follow the number of
    threads, of which those from index `dims` on are dims.

    `launch(threads, *arguments)` writes the arguments and gives what the entry returns, or None if
    it did not run: another call has the record, or the block was made for other dims or another
    number of threads. `take()` is true if nobody has it, and then it is the caller's, who changes
    the block and ends with `release()`.
    """

    __slots__ = ("_words", "launch", "take")

    def __init__(self, entry: int, block: int, count: int, dims: int) -> None:
        self._words = (ctypes.c_int64 * 5)(entry, block, count, dims, 0)
        address = ctypes.addressof(self._words)
        take, launch = _methods()
        self.launch: Callable[..., int | None] = _bound(launch, address)
        self.take: Callable[[], int] = _bound(take, address)

    def release(self) -> None:
        """Lets the next caller have it."""
        self._words[4] = 0


@cache
def _methods() -> tuple[_MethodDef, _MethodDef]:
    """The definitions of `take` and `launch`, which stay."""
    api: Any = ctypes.pythonapi
    symbols = {name: _address(getattr(api, name)) for name in _EXTERNALS}
    symbols["_Py_NoneStruct"] = id(None)
    text = resources.files(__package__).joinpath("call.ll").read_text(encoding="utf-8")
    take, launch = native.addresses(text, ("ferrule_take", "ferrule_launch"), symbols)
    return (
        _MethodDef(b"take", take, _METH_NOARGS, None),
        _MethodDef(b"launch", launch, _METH_FASTCALL, None),
    )


def _bound(method: _MethodDef, address: int) -> Any:
    """A function of CPython's with this address as its self."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.addressof(method), address, None)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
