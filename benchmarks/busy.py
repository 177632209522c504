"""How long a call takes beside processes that use all cores: medians and 99th percentiles.

    python -m benchmarks.busy                           the model mlp, 0 and 4 busy processes
    python -m benchmarks.busy --model mobilenet_v2 --busy 0,2,8 --rounds 20
    python -m benchmarks.busy --threads 1,2,4 --pools workers

One process measures one pool: ferrule's own workers (`workers`), or the team of PyTorch's OpenMP
threads (`team`, the default of programs where PyTorch is loaded). In each round it makes so many
calls in a row with each number of threads, and does so for each number of busy processes, so that
all see the same machine. The percentiles are over the calls of all rounds.

What to look for: beside busy processes the 99th percentile of several threads should be at most
twice that of one. On an idle machine, percentiles tell of wake-ups.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.processes import lines_of
from benchmarks.report import table
from benchmarks.run import counts

POOLS = ("workers", "team")
_SPIN = "while True: pass"
_SETTLE = 0.3  # seconds until the scheduler has spread new processes over the cores


@dataclass(frozen=True)
class Job:
    """What one process measures: `calls` a round with each number of threads beside each number of
    busy processes.
    """

    model: str
    pool: str
    threads: tuple[int, ...]
    busy: tuple[int, ...]
    calls: int
    rounds: int


@dataclass(frozen=True)
class Found:
    """Milliseconds of a call: the median and the 99th percentile of `calls` calls."""

    pool: str
    busy: int
    threads: int
    calls: int
    median: float
    p99: float


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that do nothing but use a core each, while inside."""
    running = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(count)]
    try:
        time.sleep(_SETTLE)
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least so many percent of them do not exceed."""
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(int(rank), 1) - 1]


def measure(job: Job, call: Callable[[int], object]) -> list[Found]:
    """The times of `call(threads)`, in rounds."""
    times: dict[tuple[int, int], list[float]] = {}
    for _ in range(job.rounds):
        for busy in job.busy:
            with busy_processes(busy):
                for threads in job.threads:
                    call(threads)
                    for _ in range(job.calls):
                        start = time.perf_counter()
                        call(threads)
                        took = (time.perf_counter() - start) * 1e3
                        times.setdefault((busy, threads), []).append(took)
    return [
        Found(job.pool, *key, len(took), percentile(took, 50), percentile(took, 99))
        for key, took in times.items()
    ]


def work(job: Job) -> list[Found]:
    """Compiles the model and measures it in this process."""
    import torch

    import ferrule
    from benchmarks.models import find
    from ferrule.base import config
    from ferrule.runtime import pool

    module, inputs = find(job.model)()
    torch.set_num_threads(max(job.threads))
    with torch.no_grad(), config.override(shared_threads=job.pool == "team"):
        compiled = ferrule.compile(module, inputs)

        def call(threads: int) -> object:
            pool.set_num_threads(threads)
            return compiled(*inputs)

        for threads in (*job.threads, *job.threads):
            call(threads)
        return measure(job, call)


def report(found: Sequence[Found]) -> str:
    """A table with a row for each pool, load and number of threads; ratios are to the first."""
    base = {(f.pool, f.busy): f for f in reversed(found)}
    head = ["pool", "busy", "threads", "calls", "median ms", "p99 ms", "median ratio", "p99 ratio"]
    body = []
    for f in found:
        first = base[f.pool, f.busy]
        ratios = f.median / first.median, f.p99 / first.p99
        cells = [f.pool, *map(str, (f.busy, f.threads, f.calls))]
        body.append([*cells, *(f"{v:.2f}" for v in (f.median, f.p99, *ratios))])
    return table(head, body)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.busy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="mlp", help="a model of benchmarks/models.py")
    parser.add_argument("--busy", type=counts, default=(0, 4), help="busy processes, such as 0,4")
    parser.add_argument("--threads", type=counts, default=(1, 2), help="such as 1,2")
    parser.add_argument("--pools", default=",".join(POOLS), help="of workers,team")
    parser.add_argument("--calls", type=int, default=300, help="calls in a row")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    if unknown := set(options.pools.split(",")) - set(POOLS):
        parser.error(f"no pool {', '.join(sorted(unknown))}; there are {', '.join(POOLS)}")
    return options


def main(arguments: Sequence[str]) -> None:
    """Measures each pool in a process of its own and prints the table."""
    if len(arguments) == 1 and arguments[0].startswith("{"):
        values = json.loads(arguments[0])
        job = Job(**{**values, "threads": tuple(values["threads"]), "busy": tuple(values["busy"])})
        for found in work(job):
            print(json.dumps(asdict(found)), flush=True)
        return
    o = parse(arguments)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for pool in o.pools.split(","):
            job = Job(o.model, pool, o.threads, o.busy, o.calls, o.rounds)
            text = json.dumps(asdict(job))
            for line in lines_of("benchmarks.busy", text, max(o.threads), Path(folder)):
                found.append(Found(**json.loads(line)))
    print(report(found))


if __name__ == "__main__":
    main(sys.argv[1:])
