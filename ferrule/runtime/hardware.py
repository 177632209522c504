"""Counters of the CPU and of Linux for this process, by perf_event_open (its man page; the
structure is that of linux/perf_event.h).

    counting = Counting()                   # each thread that is there, and those it makes
    ...
    counts, missing = counting.end()        # by the names of EVENTS: numbers; why there are none

Instructions and the like are those of programs, not of the kernel, which others may not count.
Where the CPU has fewer counters than events, each is counted for a part of the time, and numbers
are for the whole of it. Virtual machines often have no counters, and containers often forbid them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from ferrule.base.cpu import architecture


class Event(NamedTuple):
    """An event by its name, and by the kernel's type and number of it."""

    name: str
    type: int
    config: int


_HARDWARE, _SOFTWARE = 0, 1
EVENTS = (
    Event("cycles", _HARDWARE, 0),
    Event("instructions", _HARDWARE, 1),
    Event("cache misses", _HARDWARE, 3),
    Event("branch misses", _HARDWARE, 5),
    Event("page faults", _SOFTWARE, 2),
)

_CALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_ATTRIBUTES = "=IIQQQQQIIQ"  # type, size, config, period, sample, read, flags, and 3 of no use here
_TIMES = 1 | 2  # reading tells for how long an event was enabled, and for how long counted
_FLAGS = 1 << 1 | 1 << 5 | 1 << 6  # threads made later too; neither the kernel nor a hypervisor
_CLOSE_ON_EXEC = 8
_READ = "=3Q"


class Counting:
    """Counts from when it is made until its `end`. Never raises: what cannot be counted is missing
    from the result.
    """

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._open: dict[str, list[int]] = {}
        self._missing: dict[str, str] = {}
        if platform.system() != "Linux" or architecture() not in _CALLS:
            self._missing = {e.name: "only Linux tells" for e in EVENTS}
            return
        for event in EVENTS:
            try:
                self._open[event.name] = list(self._of_threads(event))
            except OSError as error:
                self._missing[event.name] = _reason(error)

    def end(self) -> tuple[Mapping[str, int], Mapping[str, str]]:
        """The counts by name, and for the other names why there is none. A second time there are
        none.
        """
        opened, self._open, found = self._open, {}, {}
        with self._ends:
            for name, files in opened.items():
                try:
                    found[name] = sum(map(_read, files))
                except OSError as error:
                    self._missing[name] = _reason(error)
        return found, self._missing

    def _of_threads(self, event: Event) -> Iterator[int]:
        for name in os.listdir("/proc/self/task"):
            try:
                yield self._opened(event, int(name))
            except ProcessLookupError:  # it has ended since
                continue

    def _opened(self, event: Event, thread: int) -> int:
        size = struct.calcsize(_ATTRIBUTES)
        values = (event.type, size, event.config, 0, 0, _TIMES, _FLAGS, 0, 0, 0)
        attributes = ctypes.create_string_buffer(struct.pack(_ATTRIBUTES, *values), size)
        call = ctypes.CDLL(None, use_errno=True).syscall
        call.restype = ctypes.c_long
        number, anywhere = ctypes.c_long(_CALLS[architecture()]), ctypes.c_long(-1)
        file = call(
            number, attributes, ctypes.c_long(thread), anywhere, anywhere,
            ctypes.c_long(_CLOSE_ON_EXEC),
        )  # fmt: skip
        if file < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._ends.callback(os.close, file)
        return int(file)


def _read(file: int) -> int:
    count, enabled, counted = struct.unpack(_READ, os.read(file, struct.calcsize(_READ)))
    return int(count * enabled / counted) if counted else int(count)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
        return "this machine shows none"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"the system forbids it (kernel.perf_event_paranoid is {_paranoid()})"
    return str(error.strerror or error)


def _paranoid() -> str:
    try:
        with open("/proc/sys/kernel/perf_event_paranoid", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
