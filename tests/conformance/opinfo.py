"""PyTorch's operator database against eager: which operators agree, fall back or fail.

    python -m tests.conformance.opinfo --write docs/conformance.md
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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.report import Operator, markdown, summary

PATIENCE = 90.0  # seconds without a reply before a worker counts as hung


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
            if not select.select([pipe], [], [], PATIENCE)[0]:
                self.stop()
                raise WorkerDied(f"no answer within {PATIENCE:.0f} s")
            data = os.read(pipe, 1 << 16)
            if not data:
                code = self._process.wait()
                self.stop()
                raise WorkerDied(f"the process ended with code {code}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def stop(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def check_operator(worker: Worker, name: str, dtype: str, limit: int, dynamo: bool) -> Operator:
    """All samples of an operator, past those that a worker dies on."""
    out, start = Operator(name, dtype), 0
    while True:
        request = {"op": name, "dtype": dtype, "limit": limit, "start": start, "dynamo": dynamo}
        try:
            for reply in worker.ask(request):
                if "at" in reply:
                    start = reply["at"]
                else:
                    out.add(reply["error"], reply["fallbacks"])
            return out
        except WorkerDied as death:
            out.add(f"crash: {death}", [])
            start += 1
            if out.crashes >= 3:
                return out


@dataclass
class Run:
    """What to check and how."""

    tasks: Sequence[tuple[str, str]]
    limit: int
    dynamo: bool
    deadline: float
    log: Path | None = None
    done: list[Operator] = field(default_factory=list)

    def work(self, share: Sequence[tuple[str, str]]) -> None:
        """Check a share of the tasks with one worker until the deadline."""
        worker = Worker()
        try:
            for name, dtype in share:
                if time.monotonic() > self.deadline:
                    return
                result = check_operator(worker, name, dtype, self.limit, self.dynamo)
                self.done.append(result)
                print(f"{result.status:9s} {result.line()}", flush=True)
                if self.log is not None:
                    with self.log.open("a") as f:
                        f.write(json.dumps(result.as_json()) + "\n")
        finally:
            worker.stop()


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
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--budget", type=float, default=1e9, help="seconds after which to stop")
    p.add_argument("--samples", type=int, default=0, help="at most so many an operator; 0: all")
    p.add_argument("--dynamo", action="store_true", help="every sample through torch.compile")
    p.add_argument("--write", type=Path, help="the report, as Markdown")
    p.add_argument("--log", type=Path, help="a JSON line for each operator; those there are kept")
    a = p.parse_args(argv)
    todo = tasks([n for n in a.ops.split(",") if n], a.dtypes.split(","))
    run = Run(todo, a.samples, a.dynamo, time.monotonic() + a.budget, a.log)
    if a.log is not None and a.log.exists():
        run.done = [Operator.from_json(json.loads(x)) for x in a.log.read_text().splitlines()]
        known = {(o.name, o.dtype) for o in run.done}
        todo = [t for t in todo if t not in known]
    with ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(run.work, [todo[i :: a.jobs] for i in range(a.jobs)]))
    print(summary(run.done))
    if a.write is not None:
        a.write.parent.mkdir(parents=True, exist_ok=True)
        a.write.write_text(markdown(run.done, a.samples))
    return int(any(o.status == "failed" for o in run.done))


if __name__ == "__main__":
    sys.exit(main())
