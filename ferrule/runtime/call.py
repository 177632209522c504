"""Calling compiled code from Python by one native function.

    record = Record(entry, block, count, dims)
    code = record.launch(threads, *addresses, *dims)       # None: it is busy, or for other dims
    call = prepared(record, like, address, inputs, makers, dims, params, threads, fail, held)
    outputs = call(*tensors, *params)                      # None: it is busy, or they are not alike

What Python does on each call takes ten times as long after a program whose data has driven Python
out of the caches: a foreign call by ctypes and the packing of its arguments 16 us in place of 2. A
function of CPython's own kind (call.ll) takes a fifth of it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ferrule.base.artifact import SLOT_FIRST, SLOT_THREADS
from ferrule.runtime import native

_lock = threading.Lock()
_made: tuple[_MethodDef, _MethodDef, _MethodDef] | None = None
_METH_FASTCALL, _METH_NOARGS = 0x80, 0x04
_VERSION = "_version"
_EXTERNALS = (
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyLong_AsLongLong",
    "PyLong_AsVoidPtr",
    "PyLong_FromLongLong",
    "PyErr_Occurred",
    "Py_IncRef",
    "Py_DecRef",
    "PyObject_GetAttr",
    "PyObject_GC_Track",
    "PyObject_GC_UnTrack",
    "PyObject_VectorcallDict",
    "PyTuple_New",
    "PyTuple_SetItem",
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

    __slots__ = ("_words", "address", "launch", "take")

    def __init__(self, entry: int, block: int, count: int, dims: int) -> None:
        self._words = (ctypes.c_int64 * 5)(entry, block, count, dims, 0)
        self.address = _place(self._words)
        take, launch, _ = _methods()
        self.launch: Callable[..., int | None] = _bound(launch, self.address, self._words)
        self.take: Callable[[], int] = _bound(take, self.address, self._words)

    def release(self) -> None:
        """Lets the next caller have it."""
        self._words[4] = 0


class PlainRecord:
    """A Record without native code of its own: the same by ctypes, where LLVM is not at work."""

    __slots__ = ("_block", "_busy", "_dims", "_entry", "_size", "address")

    def __init__(self, entry: int, block: int, count: int, dims: int) -> None:
        self._entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(entry)
        self._block = (ctypes.c_int64 * (SLOT_FIRST + count)).from_address(block)
        self._size, self._dims, self._busy = count, dims, threading.Lock()
        self.address = block

    def take(self) -> int:
        return int(self._busy.acquire(blocking=False))

    def release(self) -> None:
        self._busy.release()

    def launch(self, threads: int, *arguments: int) -> int | None:
        block, first = self._block, SLOT_FIRST
        if len(arguments) != self._size or not self.take():
            return None
        try:
            made_for = block[first + self._dims : first + self._size]
            if block[SLOT_THREADS] != threads or made_for != list(arguments[self._dims :]):
                return None
            block[first : first + self._size] = list(arguments)
            return int(self._entry(self.address))
        finally:
            self.release()


def record_of(entry: int, block: int, count: int, dims: int) -> Record | PlainRecord:
    """A record, native where LLVM is at work here and can make it."""
    kind = PlainRecord if sys.modules.get("llvmlite") is None else Record
    return kind(entry, block, count, dims)


Maker = tuple[Callable[..., Any], tuple[Any, ...]]  # what makes an output: a function, arguments


# What shows that a parameter was changed: where it lies, its `_version` (-1 where it has none), and
# where a few of its bytes are and what they were.
Watched = tuple[int, int, int, bytes]


def prepared(
    record: Record,
    like: Callable[..., bool],
    address: Callable[[Any], int],
    inputs: int,
    makers: Sequence[Maker],
    dims: Sequence[int],
    params: Sequence[Watched],
    threads: Callable[[], int],
    fail: Callable[[int], Any],
    held: Any,
) -> Callable[..., tuple[Any, ...] | None]:
    """A function of as many tensors as there are `inputs`, and then the parameters: a whole call on
    a record that was made for these dims.

    It gives a tuple of outputs, each made by one of `makers`; None, and nothing is run, where
    `like(*tensors)` is not True, a parameter is not what it was, or the record does not serve.
    `address(tensor)` is where its elements lie. `fail(code)` raises what a code other than 0 stands
    for. What is `held` lives as long as the function.
    """
    arguments = [(ctypes.c_void_p * len(a))(*map(id, a)) for _, a in makers]
    rows = [word for (f, a), p in zip(makers, arguments) for word in (id(f), _place(p), len(a))]
    table = (ctypes.c_int64 * len(rows))(*rows)
    sizes = (ctypes.c_int64 * len(dims))(*dims)
    seen = [(ctypes.c_char * len(old)).from_buffer_copy(old) for *_, old in params]
    rows = [w for (*was, _), b in zip(params, seen) for w in (*was, _place(b), len(b))]
    watched = (ctypes.c_int64 * len(rows))(*rows)
    objects = (like, address, threads, fail)
    words = (ctypes.c_int64 * 13)(
        record.address, *map(id, objects), inputs, len(makers), _place(table), len(dims),
        _place(sizes), len(params), _place(watched), id(_VERSION),
    )  # fmt: skip
    buffers = (words, arguments, table, sizes, seen, watched)
    owned = (buffers, record, objects, tuple(makers), _VERSION, held)
    return _bound(_methods()[2], _place(words), owned)


def _place(words: ctypes.Array[Any]) -> int:
    return ctypes.addressof(words)


def _methods() -> tuple[_MethodDef, _MethodDef, _MethodDef]:
    """The definitions of `take`, `launch` and `call`."""
    global _made
    with _lock:
        if _made is None:
            _made = _compiled()
        return _made


def _compiled() -> tuple[_MethodDef, _MethodDef, _MethodDef]:
    api: Any = ctypes.pythonapi
    symbols = {name: _address(getattr(api, name)) for name in _EXTERNALS}
    symbols |= {"_Py_NoneStruct": id(None), "_Py_TrueStruct": id(True)}
    from importlib import resources

    text = resources.files(__package__).joinpath("call.ll").read_text(encoding="utf-8")
    text = text.replace("i64 %i, FIRST", f"i64 %i, {SLOT_FIRST}")
    text = text.replace("i64 %inputs, FIRST", f"i64 %inputs, {SLOT_FIRST}")
    names = ("ferrule_take", "ferrule_launch", "ferrule_call")
    take, launch, call = native.addresses(text, names, symbols)
    made = (
        _MethodDef(b"take", take, _METH_NOARGS, None),
        _MethodDef(b"launch", launch, _METH_FASTCALL, None),
        _MethodDef(b"call", call, _METH_FASTCALL, None),
    )
    for method in made:  # functions point at them until the last is gone, after this module
        api.Py_IncRef(ctypes.py_object(method))
    return made


def _bound(method: _MethodDef, address: int, held: Any) -> Any:
    """A function of CPython's with this address as its self; its "module" is what it holds."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    return make(ctypes.addressof(method), address, held)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
