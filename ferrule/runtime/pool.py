"""The thread pool that compiled programs call: `ferrule_parallel`, in LLVM IR.

The pool (pool.ll) is compiled once a process, when the first program is loaded, or is that of the
first artifact. It stands in the host table that the object code of every program is given. Workers
are made when a call first wants them, spin for about a third of a millisecond after a job, which is
what a loop of calls leaves between two, and then sleep without using a CPU. After a fork the child
starts with no workers and makes its own.

Where PyTorch is imported when a program is loaded, jobs of the thread that loads it go to PyTorch's
OpenMP threads (setting `shared_threads`). After an operator of its own these spin for milliseconds,
and workers beside them would get half of a CPU: a product of 256 x 256 right after an eager one
took four times as long. OpenMP waits for all of its threads, so on CPUs that others use too they
come late; then the workers run the jobs for a while.

Nobody waits for a worker that has not begun: work is claimed piece by piece (pool.ll says how), and
what a program computes does not depend on who claims what.

It needs Linux, for futexes. Elsewhere `ferrule_parallel` runs everything in the calling thread.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ferrule.base import config
from ferrule.base.artifact import HOST_BYTES, MAX_THREADS
from ferrule.base.errors import InputError
from ferrule.runtime import native
from ferrule.runtime.quota import cpu_quota

SYMBOLS = ("ferrule_parallel", "ferrule_pool_workers", "ferrule_pool_reset", "ferrule_pool_join")
IMPORTS = (
    "pthread_create",
    "pthread_detach",
    "pthread_self",
    "pthread_sigmask",
    "clock_gettime",
    "memset",
    "syscall",
)
"""What the pool calls of the C library."""

_SERIAL = """
define void @ferrule_parallel(ptr %fn, ptr %ctx, i64 %n, i64 %threads, ptr %user) {
  %empty = icmp sle i64 %n, 0
  br i1 %empty, label %end, label %run
run:
  call void %fn(ptr %ctx, i64 0, i64 %n, i64 0)
  br label %end
end:
  ret void
}
define i64 @ferrule_pool_workers() {
  ret i64 0
}
define void @ferrule_pool_reset() {
  ret void
}
define void @ferrule_pool_join(ptr %run, ptr %number, ptr %most, i64 %patience) {
  ret void
}
"""

_TEAM = ("GOMP_parallel", "omp_get_thread_num", "omp_get_max_threads")
_PATIENCE = 500_000  # ns; idle CPUs wake in a tenth of this, on busy ones a wait is milliseconds
_NEVER_EXECUTED = 0x40  # Linux's PF_FORKNOEXEC: forked, and no new program since


class _Machine(NamedTuple):
    """What pool.ll needs to know of an architecture."""

    pause: str
    declaration: str
    futex: int


_MACHINES = {
    "x86_64": _Machine(
        "call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()", futex=202
    ),
    "aarch64": _Machine(
        "call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)", futex=98
    ),
    "riscv64": _Machine("fence seq_cst", "", futex=98),
}


class Pool(NamedTuple):
    """The compiled pool: the address of `ferrule_parallel`, and the functions that Python calls."""

    address: int
    workers: Any
    reset: Any
    join: Any
    held: Any  # what the functions live in


_lock = threading.Lock()
_pool: Pool | None = None
_joined = False
_threads: int | None = None
_default: int | None = None


def install(find: Callable[[str], int] | None = None) -> Pool:
    """The pool of this process. It is made at the first call, of the functions that `find` has by
    the names of `SYMBOLS`, or compiled.
    """
    global _pool, _joined
    with _lock:
        if _pool is None:
            _pool = _pool_of(_compiled() if find is None else list(map(find, SYMBOLS)), find)
        if not _joined and "torch" in sys.modules and config.get("shared_threads"):
            team = team_of_process()
            if team is not None:
                _joined = True
                _pool.join(*team, _PATIENCE)
        return _pool


def host_table() -> Any:
    """The host table of this process's programs (`ferrule.base.artifact`), an array of i64."""
    return _host_table(install().address)


@functools.cache
def _host_table(parallel: int) -> Any:
    return (ctypes.c_int64 * (HOST_BYTES // 8))(HOST_BYTES, parallel, 0, 0)


def team_of_process() -> tuple[int, ...] | None:
    """The functions of this process's OpenMP that run a job in a team, tell a member its number,
    and how large a team may be; None where it has none that a program can call, or the process was
    forked, since OpenMP would wait for the threads of its parent for ever.
    """
    if _is_forked():
        return None
    process = ctypes.CDLL(None)
    try:
        found = [ctypes.cast(getattr(process, n), ctypes.c_void_p).value for n in _TEAM]
    except AttributeError:
        return None
    return tuple(address or 0 for address in found)


def _is_forked() -> bool:
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            after_name = file.read().rpartition(")")[2].split()
        return bool(int(after_name[6]) & _NEVER_EXECUTED)
    except (OSError, ValueError, IndexError):
        return True  # not Linux: it is not known


def _forked() -> None:
    """A child has no threads but its own."""
    if _pool is not None:
        _pool.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def set_num_threads(count: int | None) -> None:
    """Sets how many threads programs use from now on, 1 to 64; None goes back to the default.

    The default is the setting `num_threads` (FERRULE_NUM_THREADS), else OMP_NUM_THREADS, else the
    number of CPUs that this process may run on or, where that is less, that its control groups give
    it time for. The environment is read once, and again after this call.
    `config.override(num_threads=..)` goes before both.
    """
    global _threads, _default
    if count is not None and (type(count) is not int or not 1 <= count <= MAX_THREADS):
        raise InputError(f"threads must be an integer from 1 to {MAX_THREADS}, not {count!r}")
    _threads = count
    _default = None


def get_num_threads() -> int:
    """How many threads a program that is run now uses."""
    global _default
    chosen = config.overridden("num_threads")
    if chosen is not None:
        return int(chosen)
    if _threads is not None:
        return _threads
    if _default is None:
        _default = default_threads()
    return _default


def default_threads() -> int:
    """The number of threads that the environment asks for, else one for each usable CPU, but no
    more than the control groups' quota rounded up: what is beyond it, the system stops for a while.
    """
    setting = config.get("num_threads")
    if setting is not None:
        return int(setting)
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if omp.isdecimal() and int(omp) > 0:
        return min(int(omp), MAX_THREADS)
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota()
    if quota is not None:
        usable = min(usable, math.ceil(quota))
    return min(usable, MAX_THREADS)


def ir_text(triple: str) -> str:
    """The pool as LLVM IR for `triple`: threads on Linux, a plain call elsewhere."""
    machine = _MACHINES.get(triple.split("-")[0])
    if machine is None or "linux" not in triple:
        return _SERIAL
    from importlib import resources

    text = resources.files(__package__).joinpath("pool.ll").read_text(encoding="utf-8")
    text = text.replace("@PAUSE_DECLARATION@", machine.declaration)
    return text.replace("@PAUSE@", machine.pause).replace("@FUTEX@", str(machine.futex))


def _compiled() -> list[int]:
    import llvmlite.binding as llvm

    return native.addresses(ir_text(llvm.get_process_triple()), SYMBOLS, {})


def _pool_of(addresses: Sequence[int], held: Any) -> Pool:
    return Pool(
        addresses[0],
        ctypes.CFUNCTYPE(ctypes.c_int64)(addresses[1]),
        ctypes.CFUNCTYPE(None)(addresses[2]),
        ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(addresses[3]),
        held,
    )
