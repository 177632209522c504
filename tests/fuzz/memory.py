"""Memory for runs: filled with a pattern, and between pages that must not be touched.

A block ends exactly where a protected page begins, or begins where one ends, so a read or a write
out of bounds ends the process. Blocks are used again: making one takes a dozen system calls.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.artifact import ALIGNMENT

Array = NDArray[Any]
PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Memory:
    """Hands out blocks of memory; `at_end` says at which side of them the protected page lies."""

    def __init__(self) -> None:
        self.pattern, self.at_end = 0xFF, True
        self._free: dict[int, list[int]] = {}
        self._taken: list[tuple[int, int]] = []
        self._maps: list[mmap.mmap] = []

    def begin(self, pattern: int, at_end: bool) -> None:
        """All blocks are free again; new ones are filled with the byte `pattern`."""
        for room, base in self._taken:
            self._free.setdefault(room, []).append(base)
        self._taken.clear()
        self.pattern, self.at_end = pattern, at_end

    def take(self, size: int) -> int:
        """The address of a block of `size` bytes."""
        room = max(1, -(-size // PAGE)) * PAGE
        free = self._free.get(room)
        base = free.pop() if free else self._map(room)
        self._taken.append((room, base))
        ctypes.memset(base, self.pattern, room)
        return base + (room - size if self.at_end else 0)

    def put(self, array: Array) -> int:
        """The address of a copy of a contiguous array."""
        address = self.take(array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        return address

    def arena(self, size: int) -> Arena:
        """What stands for `ferrule.runtime.cpu.Arena` meanwhile."""
        return Arena(self, size)

    def _map(self, room: int) -> int:
        self._maps.append(mmap.mmap(-1, room + 2 * PAGE))
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._maps[-1]))
        for page in (base, base + PAGE + room):
            if _libc.mprotect(ctypes.c_void_p(page), PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        return base + PAGE


class Arena:
    """A program's arena, aligned as it must be, of which a page's worth of bytes may be unused."""

    def __init__(self, memory: Memory, size: int) -> None:
        self.size = -(-max(size, ALIGNMENT) // ALIGNMENT) * ALIGNMENT
        self.address = memory.take(self.size)


def array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A copy of the array that lies at `address`."""
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(ctypes.string_at(address, size), dtype).reshape(shape)
