"""PyTorch's operator database against eager: which operators agree, fall back or fail.

    python -m tests.conformance.opinfo --write docs/conformance.md --log build/conformance.jsonl
    python -m tests.conformance.opinfo --ops add,sum --dtypes f32,i64

Operators are checked in worker processes, which are restarted when one crashes or hangs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.journal import Journal, key
from tests.conformance.report import Operator, markdown, summary

MOST_CRASHES = 3  # after which the rest of an operator is left out
PATIENCE = 120  # waits of a second for a reply before a worker counts as hung


class WorkerDied(Exception):
    """A worker ended or hung; the message says which."""


class Worker:
    """A worker process; started by the first request, and again after a death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The replies to a request. Raises WorkerDied."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        while True:
            reply = self._line()
            if "done" in reply:
                return
            yield reply

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            cache = tempfile.mkdtemp(prefix="ferrule-conformance-")
            env = {**os.environ, "FERRULE_CACHE_DIR": cache, "PYTHONWARNINGS": "ignore"}
            self._process = subprocess.Popen([sys.executable, "-m", "tests.conformance.worker"],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
                                             stderr=subprocess.DEVNULL)  # fmt: skip
            self._buffer = b""
            self._line()
        return self._process

    def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not self._answers(pipe):
                self.stop()
                raise WorkerDied(f"no answer within {PATIENCE} s")
            data = os.read(pipe, 1 << 16)
            if not data:
                code = self._process.wait()
                self.stop()
                raise WorkerDied(f"the process ended with code {code}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def _answers(self, pipe: int) -> bool:
        """Whether a reply comes in time; while the worker is stopped, no time passes."""
        assert self._process is not None
        waits = 0
        while waits < PATIENCE:
            if select.select([pipe], [], [], 1)[0]:
                return True
            waits += not _stopped(self._process.pid)
        return False

    def stop(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, where the system tells."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "T"


def check_operator(worker: Worker, name: str, dtype: str, limit: int, dynamo: bool) -> Operator:
    """All samples of an operator, past those that a worker dies on."""
    out, start = Operator(name, dtype), 0
    while True:
        request = {"op": name, "dtype": dtype, "limit": limit, "start": start, "dynamo": dynamo}
        try:
            for reply in worker.ask(request):
                if "at" in reply:
                    start = reply["at"]
                elif reply["refused"]:
                    out.refused += 1
                else:
                    out.add(start, reply["error"], reply["fallbacks"])
            return out
        except WorkerDied as death:
            out.crash(start, str(death))
            start += 1
            if out.crashes >= MOST_CRASHES:
                return out


@dataclass
class Run:
    """What to check and how."""

    tasks: Iterator[tuple[str, str]]
    limit: int
    dynamo: bool
    deadline: float
    journal: Journal | None = None
    done: list[Operator] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Check tasks with one worker, until there are none or the time is over."""
        worker = Worker()
        try:
            while (task := self._next()) is not None:
                name, dtype = task
                result = check_operator(worker, name, dtype, self.limit, self.dynamo)
                self.done.append(result)
                print(f"{result.status:12s} {result.line()}", flush=True)
                if self.journal is not None:
                    self.journal.add(result)
        finally:
            worker.stop()

    def _next(self) -> tuple[str, str] | None:
        with self.lock:
            return next(self.tasks, None) if time.monotonic() < self.deadline else None


def tasks(names: Sequence[str], dtypes: Sequence[str]) -> list[tuple[str, str]]:
    """Operators (all if no names are given) with each dtype they have samples of."""
    from torch.testing._internal.common_methods_invocations import op_db

    from tests.conformance.worker import DTYPES

    return [(op.formatted_name, d) for d in dtypes for op in op_db
            if DTYPES[d] in op.dtypes
            and (not names or op.name in names or op.formatted_name in names)]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if an operator failed."""
    p = argparse.ArgumentParser(prog="python -m tests.conformance.opinfo", description=__doc__)
    p.add_argument("--ops", default="", help="names, comma separated; all by default")
    p.add_argument("--dtypes", default="f32,i64")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    p.add_argument("--budget", type=float, default=1e9, help="seconds after which to stop")
    p.add_argument("--samples", type=int, default=0, help="at most so many an operator; 0: all")
    p.add_argument("--dynamo", action="store_true", help="every sample through torch.compile")
    p.add_argument("--write", type=Path, help="the report, as Markdown")
    p.add_argument("--log", type=Path, help="journal to resume from: operators done are kept")
    a = p.parse_args(argv)
    todo = tasks([n for n in a.ops.split(",") if n], a.dtypes.split(","))
    journal = Journal(a.log, key(a.samples, a.dynamo)) if a.log is not None else None
    done = journal.read() if journal is not None else []
    known = {(o.name, o.dtype) for o in done}
    left = iter([t for t in todo if t not in known])
    run = Run(left, a.samples, a.dynamo, time.monotonic() + a.budget, journal, done)
    with ThreadPoolExecutor(a.jobs) as pool:
        for working in [pool.submit(run.work) for _ in range(a.jobs)]:
            working.result()
    print(summary(run.done))
    if a.write is not None:
        a.write.parent.mkdir(parents=True, exist_ok=True)
        a.write.write_text(markdown(run.done, a.samples))
    return int(any(o.failures for o in run.done))


if __name__ == "__main__":
    sys.exit(main())
