"""Processes that try programs, so that a crash or a hang costs one program and is reported with it.

    for result in crew(seeds, jobs, trial): ..      a Result for each seed, as they come
    apart(lambda: check(program, setup))            one trial in a process of its own

Workers are forks of this process and go on until they die or have done their share. Each says which
seed it begins before it does, so that the seed of a dead worker is known.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.check import Fault

Trial = Callable[[int], Fault | None]

SECONDS = 60.0
BROKEN = "the fuzzer failed"
_SHARE = 100  # trials of one worker: what they leak goes with it


@dataclass(frozen=True)
class Result:
    """How the trial of a seed ended."""

    seed: int
    fault: Fault | None


@dataclass
class _Worker:
    """A forked process, what it still has to do, and what it has said."""

    pid: int
    pipe: int
    share: list[int]
    seed: int | None = None
    since: float = field(default_factory=time.monotonic)
    rest: bytes = b""
    killed: bool = False


def crew(
    seeds: Iterator[int], jobs: int, trial: Trial, seconds: float = SECONDS
) -> Iterator[Result]:
    """Tries seeds, `seconds` at most for each, until there are no more or the caller stops."""
    with selectors.DefaultSelector() as waiting:
        workers: dict[int, _Worker] = {}
        ended = False
        try:
            while workers or not ended:
                while len(workers) < jobs and not ended:
                    share = list(itertools.islice(seeds, _SHARE))
                    ended = len(share) < _SHARE
                    if share:
                        worker = _start(share, trial)
                        workers[worker.pipe] = worker
                        waiting.register(worker.pipe, selectors.EVENT_READ)
                for key, _ in waiting.select(timeout=1.0):
                    worker = workers[key.fd]
                    yield from _heard(worker)
                    if not worker.pid:
                        seeds, ended = itertools.chain(worker.share, seeds), False
                        waiting.unregister(key.fd)
                        del workers[key.fd]
                        os.close(key.fd)
                _end_late(workers, seconds)
        finally:
            for worker in workers.values():
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)


def _start(share: list[int], trial: Trial) -> _Worker:
    """A worker for the seeds of `share`."""
    out, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return _Worker(pid, out, list(share))
    os.close(out)
    faulthandler.disable()
    try:
        for seed in share:
            _say(into, {"at": seed})
            fault = _guarded(trial, seed)
            _say(into, {"seed": seed, "fault": fault and [fault.kind, fault.detail]})
    finally:
        os._exit(0)


def _say(pipe: int, message: Any) -> None:
    os.write(pipe, json.dumps(message).encode() + b"\n")


def _guarded(trial: Trial, seed: int) -> Fault | None:
    try:
        return trial(seed)
    except Exception:
        return Fault(BROKEN, traceback.format_exc()[-1500:])


def _heard(worker: _Worker) -> Iterator[Result]:
    """What a worker says now; one that has ended loses its pid."""
    data = os.read(worker.pipe, 1 << 16)
    *lines, worker.rest = (worker.rest + data).split(b"\n")
    for line in lines:
        message = json.loads(line)
        worker.seed, worker.since = message.get("at"), time.monotonic()
        if worker.seed is not None:
            worker.share.remove(worker.seed)
        else:
            fault = message["fault"]
            yield Result(message["seed"], Fault(*fault) if fault else None)
    if not data:
        _, status = os.waitpid(worker.pid, 0)
        worker.pid = 0
        if worker.seed is not None:
            yield Result(worker.seed, _ending(status, worker.killed))


def _ending(status: int, late: bool) -> Fault:
    if late:
        return Fault("no end", "it takes too long")
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    name = signal.Signals(number).name if number else f"status {os.WEXITSTATUS(status)}"
    return Fault(f"a crash: {name}", "the process that ran it has died")


def _end_late(workers: dict[int, _Worker], seconds: float) -> None:
    for worker in workers.values():
        if time.monotonic() - worker.since > seconds and not worker.killed:
            worker.killed = True
            os.kill(worker.pid, signal.SIGKILL)


def apart(trial: Callable[[], Fault | None]) -> Fault | None:
    """The fault of one trial, in a process of its own."""
    (result,) = crew(iter([0]), 1, lambda seed: trial())
    return result.fault
