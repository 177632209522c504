"""What programs do while somebody looks: when each launch began and ended, and on which threads.

    tracer = Tracer()
    cpu.trace(tracer)           # from here on every program of this process tells it of its calls
    ...
    cpu.trace(None)
    for t in tracer.traces: t.rows, t.events

Each argument block gets a host table of its own for as long, whose `trace` (trace.ll) writes into
memory of this block: threads that call at the same time share nothing. Sums are kept for each call
of a kernel, however long it takes; single launches until `EVENTS` of them fill a block's memory.

Times are counted by the CPU: `Clock` turns them into those of `time.perf_counter_ns`.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.base.artifact import HOST_BYTES, Compiled
from ferrule.base.cpu import canonical
from ferrule.base.errors import UnsupportedError
from ferrule.runtime import native, pool

if TYPE_CHECKING:
    from numpy.typing import NDArray  # which takes long to import

    Words = NDArray[np.int64]

EVENTS = 1 << 15
ENTRY = -1
"""The number of an event that is a whole entry; its thread is the caller's `threading.get_ident`.
"""
LAUNCH = -1
"""The thread of an event that is a whole launch on several threads."""

_HEAD = HOST_BYTES // 8
_ROW, _CELL, _EVENT = 8, 8, 5  # words
_LEAST = np.iinfo(np.int64).max
# How the counter is read, and what that has to have declared. It goes at one rate on x86 CPUs since
# about 2008; LLVM's own way on AArch64 is a counter that programs may not read.
_COUNTERS = {
    "x86_64": (
        "call i64 @llvm.readcyclecounter()", "declare i64 @llvm.readcyclecounter()"
    ),
    "aarch64": ('call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()', ""),
    "riscv64": (
        "call i64 @llvm.readsteadycounter()", "declare i64 @llvm.readsteadycounter()"
    ),
}  # fmt: skip
_SETTLED_NS = 20_000_000  # over which the counter's rate is known to a part in 10^4 and better


@dataclass(frozen=True)
class Native:
    """The functions of trace.ll: the address of `trace`, and the counter as a function."""

    trace: int
    cycles: Any


@cache
def compiled() -> Native:
    """trace.ll, compiled once a process. Raises UnsupportedError as `ir_text` does."""
    import llvmlite.binding as llvm

    text = ir_text(llvm.get_process_triple())
    trace, cycles = native.addresses(text, ("ferrule_trace", "ferrule_cycles"), {})
    return Native(trace, ctypes.CFUNCTYPE(ctypes.c_int64)(cycles))


def ir_text(triple: str) -> str:
    """trace.ll for `triple`. Raises UnsupportedError for a CPU without a counter that programs may
    read.
    """
    from importlib import resources

    architecture = canonical(triple.split("-")[0])
    if architecture not in _COUNTERS:
        raise UnsupportedError(f"a profile needs a counter of cycles; {architecture} has none")
    read, declaration = _COUNTERS[architecture]
    thread = "GetCurrentThreadId" if "windows" in triple else "pthread_self"
    text = resources.files(__package__).joinpath("trace.ll").read_text(encoding="utf-8")
    text = text.replace("@CYCLES@", read).replace("@DECLARATION@", declaration)
    return text.replace("@THREAD@", f"@{thread}")


class Clock:
    """The CPU's counter against `time.perf_counter_ns`, from two moments: when this was made, and
    when it is settled.
    """

    def __init__(self) -> None:
        self._cycles, self._ns = _moment()
        self._rate = 0.0  # nanoseconds a count

    def settle(self) -> None:
        """Takes the second moment, after waiting for it to be far enough from the first."""
        waits = self._ns + _SETTLED_NS - time.perf_counter_ns()
        if waits > 0:
            time.sleep(waits * 1e-9)
        cycles, ns = _moment()
        self._rate = (ns - self._ns) / (cycles - self._cycles)

    def seconds(self, cycles: float) -> float:
        """How long so many counts take."""
        return float(cycles) * self._rate * 1e-9

    def at(self, cycles: int) -> int:
        """The nanosecond of `time.perf_counter_ns` at which the counter stood there."""
        return self._ns + round((int(cycles) - self._cycles) * self._rate)


def _moment() -> tuple[int, int]:
    """The counter and the nanosecond at the same time: the closest of a few tries."""
    counter, best = compiled().cycles, None
    for _ in range(16):
        before = time.perf_counter_ns()
        cycles = counter()
        after = time.perf_counter_ns()
        if best is None or after - before < best[0]:
            best = after - before, cycles, (before + after) // 2
    assert best is not None
    return best[1], best[2]


@dataclass(frozen=True)
class Sums:
    """What was measured of one call of a program's list, in counts: how often it `ran`, `working`
    so long on each of its threads on average. Of the launch that it is the first call of:
    how many `launches`, their time `whole`, of which `fork` until a thread began and `join` after
    the last had ended, `threads` of them together, `least` the shortest.
    """

    ran: int
    working: int
    launches: int
    whole: int
    fork: int
    join: int
    threads: int
    least: int


class Trace:
    """What one argument block tells of calls with the same dims and number of threads."""

    def __init__(self, program: Compiled, dims: tuple[int, ...], threads: int) -> None:
        launches: Sequence[Mapping[str, Any]] = program.meta["launches"]
        self.program, self.dims, self.threads = program, dims, threads
        phases = [call["phase"] for call in launches]
        parts = max((phases.count(p) for p in set(phases)), default=1)
        self._rows = np.zeros((1 + len(launches), _ROW), np.int64)
        self._rows[:, -1] = _LEAST
        self._events = np.empty((EVENTS, _EVENT), np.int64)
        self._cells = np.zeros((parts * max(threads, 1) * _CELL,), np.int64)
        self._table = np.zeros(_HEAD + 5, np.int64)
        host = pool.host_table()
        self._table[:3] = host[:3]
        self._table[3] = compiled().trace
        first = self._events.ctypes.data
        self._table[_HEAD:] = (
            first, first + self._events.nbytes, self._rows.ctypes.data, self._cells.ctypes.data, 0
        )  # fmt: skip

    @property
    def address(self) -> int:
        """Where the host table lies."""
        return int(self._table.ctypes.data)

    @property
    def entry(self) -> Sums:
        """The whole entry."""
        return Sums(*map(int, self._rows[0]))

    @property
    def calls(self) -> list[Sums]:
        """Each call of the program's list."""
        return [Sums(*map(int, row)) for row in self._rows[1:]]

    @property
    def events(self) -> Words:
        """Number, thread, from, to and busy of launches and of entries, in the order in which they
        ended. A launch on several threads has a row as a whole (thread LAUNCH, busy the number of
        threads), and one for each thread.
        """
        count = (int(self._table[_HEAD]) - self._events.ctypes.data) // (8 * _EVENT)
        return self._events[:count]

    @property
    def lost(self) -> int:
        """How many events found no room."""
        return int(self._table[_HEAD + 4])


class Tracer:
    """Makes and keeps the traces of blocks, which it is asked for by `ferrule.runtime.cpu`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._lock = threading.Lock()
        self._traces: dict[Any, tuple[Any, Trace]] = {}

    def trace(
        self, block: Any, program: Compiled, dims: tuple[int, ...], threads: int
    ) -> Trace | None:
        """The trace of a block for calls with these dims and threads; None for a program that does
        not tell what its launches are.
        """
        if "launches" not in program.meta:
            return None
        key = id(block), dims, threads  # the block is kept, so that its id is nobody else's
        with self._lock:
            found = self._traces.get(key)
            if found is None:
                found = self._traces[key] = block, Trace(program, dims, threads)
            return found[1]

    @property
    def traces(self) -> list[Trace]:
        """All that were made."""
        with self._lock:
            return [trace for _, trace in self._traces.values()]
