"""The thread pool: every index once, whoever calls, however often, after forks; idle at rest."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import llvmlite.binding as llvm
import numpy as np
import pytest

from ferrule.base import config
from ferrule.base.errors import InputError
from ferrule.runtime import pool

Task = Callable[[int, int, int, int], None]
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

# count: adds 1 to each i64 of its range. owner: writes tid to each of its range. nested: for each
# element of its range runs `count` in parallel on the row of 8 that belongs to it.
BODIES = """
declare void @ferrule_parallel(ptr, ptr, i64, i64, ptr)

define void @count(ptr %p, i64 %lo, i64 %hi, i64 %tid) {
entry:
  br label %check
check:
  %i = phi i64 [ %lo, %entry ], [ %next, %step ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %at = getelementptr i64, ptr %p, i64 %i
  %old = load i64, ptr %at
  %new = add i64 %old, 1
  store i64 %new, ptr %at
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}

define void @owner(ptr %p, i64 %lo, i64 %hi, i64 %tid) {
entry:
  br label %check
check:
  %i = phi i64 [ %lo, %entry ], [ %next, %step ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %at = getelementptr i64, ptr %p, i64 %i
  store i64 %tid, ptr %at
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}

define void @nested(ptr %p, i64 %lo, i64 %hi, i64 %tid) {
entry:
  br label %check
check:
  %i = phi i64 [ %lo, %entry ], [ %next, %step ]
  %more = icmp slt i64 %i, %hi
  br i1 %more, label %step, label %end
step:
  %at = getelementptr [8 x i64], ptr %p, i64 %i
  call void @ferrule_parallel(ptr @count, ptr %at, i64 8, i64 4, ptr null)
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}
DRIVERS
"""
DRIVER = """
define void @run_NAME(ptr %p, i64 %n, i64 %threads, i64 %times) {
entry:
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %next, %step ]
  %more = icmp slt i64 %i, %times
  br i1 %more, label %step, label %end
step:
  call void @ferrule_parallel(ptr @NAME, ptr %p, i64 %n, i64 %threads, ptr null)
  %next = add i64 %i, 1
  br label %check
end:
  ret void
}
"""

NEVER = 1 << 62  # a patience with which no team is late


@pytest.fixture(scope="module")
def team_of_8() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["workers", "team"])
def tasks(request: pytest.FixtureRequest) -> Iterator[dict[str, Task]]:
    """count, owner and nested as functions (address, n, threads, times), run by the pool's own
    workers and by a team of PyTorch's threads.
    """
    installed, team = pool.install(), None
    if request.param == "team":
        request.getfixturevalue("team_of_8")
        team = pool.team_of_process()
        if team is None:
            pytest.skip("PyTorch has no OpenMP that programs can call")
    installed.join(*(team or [None] * 3), NEVER)
    names = ("count", "owner", "nested")
    llvm.add_symbol("ferrule_parallel", installed.address)
    drivers = "".join(DRIVER.replace("NAME", n) for n in names)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(BODIES.replace("DRIVERS", drivers)), machine
    )
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
    yield {n: kind(engine.get_function_address(f"run_{n}")) for n in names}
    engine.close()
    installed.join(*(_team_here() or [None] * 3), pool._PATIENCE)


def _team_here() -> tuple[int, ...] | None:
    shared = "torch" in sys.modules and config.get("shared_threads")
    return pool.team_of_process() if shared else None


@pytest.mark.parametrize("threads", [-1, 0, 1, 2, 3, 5, 8, 64, 1000])
@pytest.mark.parametrize("n", [-3, 0, 1, 2, 3, 7, 63, 64, 65, 1000])
def test_every_index_is_run_once(tasks: dict[str, Task], n: int, threads: int) -> None:
    counts = np.zeros(max(n, 0) + 8, np.int64)
    tasks["count"](counts.ctypes.data, n, threads, 3)
    assert (counts[: max(n, 0)] == 3).all()
    assert (counts[max(n, 0) :] == 0).all()


@pytest.mark.parametrize(("n", "threads"), [(10, 3), (64, 64), (7, 8), (1000, 6), (1003, 2)])
def test_pieces_lie_within_a_range_and_tell_who_runs_them(
    tasks: dict[str, Task], n: int, threads: int
) -> None:
    """Whoever ran them: at most 16 pieces a range, none across two, of numbers below `threads`."""
    for _ in range(20):
        owners = np.full(n, -1, np.int64)
        tasks["owner"](owners.ctypes.data, n, threads, 1)
        assert owners.min() >= 0
        assert owners.max() < min(n, threads)
        for own in np.array_split(owners, min(n, threads)):
            assert np.count_nonzero(np.diff(own)) < 16


# A job of 64 points for 2 threads, many times, on one CPU, where every other thread gets it only
# when the caller sleeps or its time is over. Prints how many jobs the caller ran alone.
STARVED = """
import ctypes, os, sys, time
from ferrule.runtime import pool
if sys.argv[1] == "team":
    import torch
    torch.set_num_threads(2)
    pool._PATIENCE = int(sys.argv[2])
kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
run = ctypes.CFUNCTYPE(None, kind, ctypes.c_void_p, *[ctypes.c_int64] * 2)
run = run(pool.install().address)
jobs = []
task = kind(lambda _, lo, hi, tid: jobs[-1].append((lo, hi, tid)))
jobs.append([])
run(task, None, 64, 2)
for thread in map(int, os.listdir("/proc/self/task")):
    os.sched_setaffinity(thread, {min(os.sched_getaffinity(0))})
    if thread != os.getpid():
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
jobs.clear()
for _ in range(100):
    jobs.append([])
    run(task, None, 64, 2)
assert all(sum(hi - lo for lo, hi, _ in job) == 64 for job in jobs)
print(sum(all(tid == 0 for _, _, tid in job) for job in jobs), pool.install().workers())
"""


def starved(kind: str, patience: int = NEVER) -> tuple[int, int]:
    """How many of a hundred jobs the caller ran alone, and how many workers there are then."""
    command = [sys.executable, "-c", STARVED, kind, str(patience)]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    alone, workers = map(int, done.stdout.split())
    return alone, workers


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no workers")
@pytest.mark.parametrize("kind", ["workers", pytest.param("team", marks=pytest.mark.slow)])
def test_nobody_waits_for_a_thread_that_has_not_begun(kind: str) -> None:
    if kind == "team":
        pytest.importorskip("torch")
    alone, _ = starved(kind)
    assert alone > 50


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no workers")
def test_a_team_that_is_late_rests() -> None:
    pytest.importorskip("torch")
    if pool.team_of_process() is None:
        pytest.skip("PyTorch has no OpenMP that programs can call")
    assert starved("team", patience=NEVER)[1] == 0
    assert starved("team", patience=pool._PATIENCE)[1] == 1


@pytest.mark.parametrize("calls", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_calls(tasks: dict[str, Task], calls: int) -> None:
    counts = np.zeros(8, np.int64)
    tasks["count"](counts.ctypes.data, 8, 2, calls)
    assert (counts == calls).all()


def test_calls_of_changing_width(tasks: dict[str, Task]) -> None:
    counts = np.zeros(16, np.int64)
    for i in range(3000):
        tasks["count"](counts.ctypes.data, 16, 1 + i % 5, 1)
    assert (counts == 3000).all()


def test_concurrent_callers(tasks: dict[str, Task]) -> None:
    counts = np.zeros((4, 100), np.int64)

    def call(row: int) -> None:
        for _ in range(200):
            tasks["count"](counts[row].ctypes.data, 100, 3, 10)

    callers = [threading.Thread(target=call, args=(row,)) for row in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (counts == 2000).all()


def test_a_task_that_calls_again_runs_by_itself(tasks: dict[str, Task]) -> None:
    counts = np.zeros((20, 8), np.int64)
    tasks["nested"](counts.ctypes.data, 20, 3, 50)
    assert (counts == 50).all()


def test_sleeping_workers_wake(tasks: dict[str, Task]) -> None:
    counts = np.zeros(4, np.int64)
    for _ in range(20):
        tasks["count"](counts.ctypes.data, 4, 4, 1)
        time.sleep(0.01)
    assert (counts == 20).all()


def test_idle_workers_use_no_cpu(tasks: dict[str, Task]) -> None:
    counts = np.zeros(4, np.int64)
    tasks["count"](counts.ctypes.data, 4, 4, 100)
    time.sleep(0.3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.25  # three spinning workers would use a second and a half on free cores


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_child_of_a_fork_has_workers_of_its_own(tasks: dict[str, Task]) -> None:
    counts = np.zeros(30, np.int64)
    tasks["count"](counts.ctypes.data, 30, 3, 10)
    child = os.fork()
    if child == 0:
        empty = pool.install().workers() == 0
        tasks["count"](counts.ctypes.data, 30, 3, 1000)
        os._exit(0 if empty and (counts == 1010).all() and pool.install().workers() == 2 else 1)
    assert exit_status(child) == 0
    tasks["count"](counts.ctypes.data, 30, 3, 1)
    assert (counts == 11).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_the_pool_is_busy(tasks: dict[str, Task]) -> None:
    counts, others = np.zeros(30, np.int64), np.zeros(200_000, np.int64)
    caller = threading.Thread(target=tasks["count"], args=(others.ctypes.data, 200_000, 3, 300))
    caller.start()
    child = os.fork()
    if child == 0:
        tasks["count"](counts.ctypes.data, 30, 3, 1000)
        os._exit(0 if (counts == 1000).all() and pool.install().workers() == 2 else 1)
    assert exit_status(child) == 0
    caller.join()
    assert (others == 300).all()


def exit_status(child: int) -> int:
    """How a child process ended; one that has not ended within a minute is killed and fails."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def test_a_process_with_workers_ends() -> None:
    script = (
        "import ctypes; from ferrule.runtime import pool\n"
        "f = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_int64)\n"
        "t = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(lambda *a: None)\n"
        "f(pool.install().address)(t, None, 4, 4)\n"
        "print(pool.install().workers())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, b"3"), done.stderr


@pytest.mark.slow
def test_programs_use_the_threads_of_pytorch_where_it_is_loaded() -> None:
    pytest.importorskip("torch")
    script = (
        "import ctypes, os; from ferrule.runtime import pool\n"
        "f = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)\n"
        "t = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(lambda *a: None)\n"
        "f(pool.install().address)(t, None, 4, 3); before = pool.install().workers()\n"
        "import torch; torch.set_num_threads(8)\n"
        "f(pool.install().address)(t, None, 8, 8)\n"
        "print(before, pool.install().workers())"
    )

    def run(shared: str) -> str:
        env = {**os.environ, "FERRULE_SHARED_THREADS": shared}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, timeout=120, env=env, text=True).stdout

    assert run("0") == "2 7\n"
    assert run("1") == "2 2\n" or pool.team_of_process() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is known")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_no_team() -> None:
    assert not pool._is_forked()
    child = os.fork()
    if child == 0:
        os._exit(0 if pool._is_forked() and pool.team_of_process() is None else 1)
    assert exit_status(child) == 0


def test_a_team_stays_whole_whatever_a_job_wants(tasks: dict[str, Task]) -> None:
    counts = np.zeros(64, np.int64)
    for threads in (4, 2, 3, 64, 1, 5):
        tasks["count"](counts.ctypes.data, 64, threads, 20)
    assert (counts == 120).all()
    started = threads_of_process()
    for threads in (4, 2, 3, 64, 5):
        tasks["count"](counts.ctypes.data, 64, threads, 20)
    assert threads_of_process() == started


def threads_of_process() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def test_other_systems_get_a_plain_call() -> None:
    text = pool.ir_text("arm64-apple-darwin23")
    assert "pthread" not in text
    module = llvm.parse_assembly(text.replace("@ferrule_parallel", "@plain_parallel"))
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, TASK, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    calls: list[tuple[int, ...]] = []
    task = TASK(lambda _, lo, hi, tid: calls.append((lo, hi, tid)))
    kind(engine.get_function_address("plain_parallel"))(task, None, 10, 4)
    assert calls == [(0, 10, 0)]


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "riscv64-unknown-linux-gnu"])
def test_the_pool_is_code_for_other_linux_machines(triple: str) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(pool.ir_text(triple))
    machine = llvm.Target.from_triple(triple).create_target_machine()
    assert "futex_wait" in machine.emit_assembly(module)


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FERRULE_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pool.set_num_threads(None)
    yield
    pool.set_num_threads(None)


@pytest.mark.usefixtures("_bare")
def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cpu_quota", lambda: None)
    assert pool.default_threads() == min(64, len(os.sched_getaffinity(0)))
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert pool.default_threads() == 5
    monkeypatch.setenv("FERRULE_NUM_THREADS", "6")
    assert pool.get_num_threads() == 6
    pool.set_num_threads(7)
    assert pool.get_num_threads() == 7
    with config.override(num_threads=8):
        assert pool.get_num_threads() == 8
    assert pool.get_num_threads() == 7


@pytest.mark.parametrize("count", [0, 65, -1, True, 2.0, "2"])
def test_bad_numbers_of_threads_are_refused(count: object) -> None:
    with pytest.raises(InputError, match="from 1 to 64"):
        pool.set_num_threads(count)  # type: ignore[arg-type]
