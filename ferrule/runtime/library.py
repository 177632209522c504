"""A shared library from bytes: opened from memory, never written to disk."""

from __future__ import annotations

import ctypes
import os
import tempfile
from typing import Any

from ferrule.base.errors import InputError


class Library:
    """The functions of a shared library, which stays in this process."""

    def __init__(self, code: bytes, name: str) -> None:
        try:
            self._library = _opened(code, name)
        except OSError as error:
            raise InputError(f"the code of {name} cannot be loaded here: {error}") from error

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


def _opened(code: bytes, name: str) -> ctypes.CDLL:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as stream:
                stream.write(code)
            return ctypes.CDLL(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
    with tempfile.NamedTemporaryFile(suffix=".so") as stream:  # not Linux
        stream.write(code)
        stream.flush()
        return ctypes.CDLL(stream.name)
