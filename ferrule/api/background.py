"""Work that calls do not wait for: one thread for the whole process, which ends when it has nothing
to do.

    future = start(job)

Jobs run in the order in which they came. At the end of the process those that wait are dropped and
the present one is ended: what it compiles in another process at once, else after the present pass.
A process that is forked has none of its parent's jobs.
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ferrule.base import watch
from ferrule.pipeline import apart

IDLE_SECONDS = 10.0


class _EndedError(BaseException):
    """The process ends. No Exception, so that nobody takes it for a failure to compile."""


class _Worker:
    """The thread, started with the first job; with it ends the process that it compiles in."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._ends = False

    def put(self, job: Callable[[], None], future: Future[Any]) -> None:
        with self._changed:
            if self._ends:
                future.cancel()
                return
            self._jobs.append((job, future))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ferrule", daemon=True)
                self._thread.start()

    def end(self) -> None:
        with self._changed:
            self._ends, thread = True, self._thread
            while self._jobs:
                self._jobs.popleft()[1].cancel()
            self._changed.notify()
        apart.close()
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except _EndedError:
                return

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._ends, IDLE_SECONDS)
            if self._jobs:
                return self._jobs.popleft()[0]
            self._thread = None
            apart.rest()
            return None

    def look(self, _: watch.Step) -> None:
        if self._ends:
            raise _EndedError


def start(job: Callable[[], Any]) -> Future[Any]:
    """What `job` gives, later. It runs in the present context: settings that are overridden now
    hold for it. It is cancelled where the process ends before it begins.
    """
    future: Future[Any] = Future()
    context, worker = contextvars.copy_context(), _worker

    def run() -> None:
        try:
            with watch.watched(worker.look):
                found = job()
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            future.set_result(found)

    worker.put(functools.partial(context.run, run), future)
    return future


def _after_fork() -> None:
    global _worker
    _worker = _Worker()


_worker = _Worker()
atexit.register(lambda: _worker.end())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
