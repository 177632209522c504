"""One process of the benchmark: all rows with one number of threads.

    python -m benchmarks.worker '{"models": ["softmax"], "peers": ["eager"], "threads": 1, ...}'

prints each row as one line of JSON on its standard output as soon as it is measured, so that rows
survive a crash in a later one. `benchmarks.run` starts it, with thread pools and cache folders set
by environment variables, because most pools take their size once, at import.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.models import find
from benchmarks.peers import PEERS, Case, Ready, Unavailable
from benchmarks.rows import Result, Row, to_json
from ferrule.tune.interleave import Timing, interleave


@dataclass(frozen=True)
class Job:
    """What a worker does: `budget` is seconds of timing a row."""

    models: tuple[str, ...]
    peers: tuple[str, ...]
    threads: int
    seed: int
    budget: float

    def to_json(self) -> str:
        """The argument of a worker's command line."""
        return json.dumps(asdict(self))


def measure_row(job: Job, name: str, folder: Path) -> Row:
    """Compile the model by each peer, check the results, and time them interleaved."""
    torch._dynamo.reset()
    case = Case(find(name), job.seed, job.threads, folder)
    ready: dict[str, Ready] = {}
    failed: dict[str, str] = {}
    for peer in peers_of(case, job.peers):
        try_peer(peer, PEERS[peer], case, ready, failed)
    errors = {peer: case.relative_error(r.result()) for peer, r in ready.items()}
    timings = interleave({p: r.call for p, r in ready.items()}, job.budget)
    results = [result_of(p, ready[p], errors[p], timings[p]) for p in ready]
    results += [Result(peer, note=note) for peer, note in failed.items()]
    rounds = max((t.rounds for t in timings.values()), default=0)
    model = case.model
    return Row(model.name, model.group, job.threads, model.tolerance, rounds, tuple(results))


def try_peer(
    name: str,
    peer: Callable[[Case], Ready],
    case: Case,
    ready: dict[str, Ready],
    failed: dict[str, str],
) -> None:
    """Make the case ready by a peer, under `name`, or say in `failed` why it is not."""
    try:
        ready[name] = peer(case)
    except Unavailable as error:
        failed[name] = str(error)
    except Exception as error:  # a peer's failure is a finding, and must not end the run
        failed[name] = f"{type(error).__name__}: {_first_line(error)}"


def peers_of(case: Case, chosen: Sequence[str]) -> list[str]:
    """The chosen peers, and with ferrule its other forms where the model is made for them."""
    peers = list(chosen)
    if "ferrule" in peers and case.model.dynamic is not None:
        peers += ["ferrule-dynamic", "ferrule-direct", "ferrule-direct-dynamic"]
    if "ferrule" in peers and case.model.group == "overhead":
        peers.append("ferrule-direct")
    return peers


def result_of(peer: str, ready: Ready, error: float, timing: Timing) -> Result:
    """What was found of one peer."""
    return Result(
        peer,
        timing.median,
        timing.low,
        timing.high,
        ready.compile_seconds,
        ready.own_seconds,
        ready.kernels,
        error,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""


def quiet() -> None:
    """Keep the frameworks' progress bars and warnings out of the output."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def serve(argument: str, measure: Callable[[Job, str, Path], Row]) -> None:
    """Do the job that `argument` describes, rows that `measure` finds to standard output."""
    fields = json.loads(argument)
    job = Job(**{**fields, "models": tuple(fields["models"]), "peers": tuple(fields["peers"])})
    torch.set_num_threads(job.threads)
    torch.set_grad_enabled(False)
    quiet()
    for name in job.models:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(job, name, Path(folder))
        print(json.dumps(to_json(row)), flush=True)
        gc.collect()


if __name__ == "__main__":
    serve(sys.argv[1], measure_row)
