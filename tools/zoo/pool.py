"""Cases in processes of their own, forked from one that has imported the frameworks already."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tools.zoo.case import DEAD, LATE, Case, Result

_FORK = multiprocessing.get_context("fork")


@dataclass
class _Running:
    case: Case
    process: Any
    result: Connection
    deadline: float


def run_all(
    cases: Sequence[Case], check: Callable[[Case], Result], jobs: int, limit: float
) -> Iterator[Result]:
    """The results of cases as they come, `jobs` at a time, each within `limit` seconds."""
    waiting, running = list(reversed(cases)), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(), check, limit))
            left = max(0.0, min(r.deadline for r in running) - time.monotonic())
            wait([r.result for r in running], timeout=left)
            for r in list(running):
                result = _result(r, limit)
                if result is not None:
                    running.remove(r)
                    yield result
    finally:
        for r in running:
            _stop(r)


def _start(case: Case, check: Callable[[Case], Result], limit: float) -> _Running:
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_work, args=(case, check, sender), daemon=True)
    process.start()
    sender.close()
    return _Running(case, process, receiver, time.monotonic() + limit)


def _work(case: Case, check: Callable[[Case], Result], sender: Connection) -> None:
    """In the child: what libraries print goes nowhere."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, sys.stdout.fileno())
    os.dup2(quiet, sys.stderr.fileno())
    sender.send(check(case))


def _result(r: _Running, limit: float) -> Result | None:
    """What a process has sent, or what it died of; None while it runs."""
    out: Result | None = None
    if r.result.poll():
        try:
            out = r.result.recv()
        except EOFError:
            r.process.join()
            out = Result(r.case.name, r.case.group, DEAD,
                         f"the process ended with code {r.process.exitcode}")  # fmt: skip
    elif time.monotonic() >= r.deadline:
        out = Result(r.case.name, r.case.group, LATE, f"not done within {limit:.0f} s")
    if out is not None:
        _stop(r)
    return out


def _stop(r: _Running) -> None:
    r.process.kill()
    r.process.join()
    r.result.close()
