"""A shared library from bytes: opened from memory, or through a file where the system has no other
way.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
import weakref
from typing import Any

from ferrule.base.errors import InputError

_lock = threading.RLock()  # closing may happen wherever memory is collected
_paths: set[str] = set()  # of the libraries that are open


class Library:
    """The functions of a shared library, which is closed with this. Raises InputError for what
    cannot be opened here.
    """

    def __init__(self, code: bytes, name: str) -> None:
        try:
            self._library, path = _opened(code, name)
        except OSError as error:
            raise InputError(f"the code of {name} cannot be loaded here: {error}") from error
        weakref.finalize(self, _close, self._library._handle, path).atexit = False

    def address(self, symbol: str) -> int:
        """Where the function `symbol` lies. Raises InputError if there is none."""
        try:
            found = getattr(self._library, symbol)
        except AttributeError:
            raise InputError(f"the code lacks the function {symbol}: build it again") from None
        return ctypes.cast(found, ctypes.c_void_p).value or 0

    def function(self, symbol: str, result: Any) -> Any:
        """The function `symbol` of one pointer."""
        return ctypes.CFUNCTYPE(result, ctypes.c_void_p)(self.address(symbol))


def _close(handle: int, path: str) -> None:
    with _lock:
        _ctypes.dlclose(handle)
        _paths.discard(path)


def _opened(code: bytes, name: str) -> tuple[ctypes.CDLL, str]:
    """The library and the path that it is known by, which no other open one has: a loader gives the
    first again for a path that it knows, whatever lies there now.
    """
    if not hasattr(os, "memfd_create"):
        import tempfile

        with tempfile.NamedTemporaryFile(suffix=".so") as stream:
            stream.write(code)
            stream.flush()
            return ctypes.CDLL(stream.name), stream.name
    file = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(file), "wb") as stream:
            stream.write(code)
        with _lock:
            path = f"/proc/self/fd/{file}"
            while path in _paths:
                path = path.replace("fd/", "fd/./", 1)
            library = ctypes.CDLL(path)
            _paths.add(path)
            return library, path
    finally:
        os.close(file)
