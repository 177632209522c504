"""One process of the contraction benchmark: rows of `contraction_table` with one number of threads.

Started by `benchmarks.contractions` as `benchmarks.worker` is by `benchmarks.run`. Each peer runs
each form of an operator that it can; its name is followed by the form's layout. Beside them, in the
same rounds, runs the FMA peak: its result, called `peak`, is the time in which the row's operations
would be done at that rate.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.contraction_check import Checked, ExactCase, compiled_alone
from benchmarks.contraction_table import find
from benchmarks.peers import PEERS, Case, Ready, Unavailable
from benchmarks.rows import Result, Row
from benchmarks.worker import Job, result_of, serve, try_peer
from ferrule.api.peaks import Peak
from ferrule.tune.interleave import Timing, interleave

PEAK = "peak"
MOST_TRIALS = 1000  # of a row that is tuned: the seconds end it before


def eager(case: Case) -> Ready:
    """The module's own function, without the hooks around a module's call."""
    forward, inputs = case.module.forward, case.inputs

    def call() -> torch.Tensor:
        return forward(*inputs)

    return Ready(call, call, 0.0)


def ferrule(case: Case, seconds: float = 0.0) -> Ready:
    """ferrule without Dynamo: its default schedules, or those measured in so many seconds. Raises
    Unavailable where PyTorch would run a part of it.
    """
    package, start = importlib.import_module("ferrule"), time.perf_counter()
    tune = {"seconds": seconds, "trials": MOST_TRIALS} if seconds else None
    options = {"tuning": bool(seconds)}
    compiled = compiled_alone(
        package, lambda: package.compile(case.module, case.inputs, options=options, tune=tune)
    )

    def call() -> torch.Tensor:
        return compiled(*case.inputs)

    call()
    return Ready(call, call, time.perf_counter() - start, kernels=compiled.kernels)


CONTRACTION_PEERS: dict[str, Callable[[Case], Ready]] = {
    "eager": eager,
    "inductor": PEERS["inductor"],
    "onnxruntime": PEERS["onnxruntime"],
    "openvino": PEERS["openvino"],
    "ferrule": ferrule,
}
ROW_MAJOR_ONLY = ("onnxruntime",)
"""Peers that have a layout of their own, and for which another one of the tensors is a detour."""


def measure_contraction(job: Job, name: str, folder: Path) -> Row:
    """Make every form of a row ready by each peer, check the results, and time them interleaved."""
    torch._dynamo.reset()
    row = find(name)
    ready: dict[str, Ready] = {}
    failed: dict[str, str] = {}
    errors: dict[str, float] = {}
    for layout, model in row.forms:
        place = folder / (layout or "row-major")
        place.mkdir()
        case = ExactCase(model, job.seed, job.threads, place)
        checked = Checked(case)
        for peer in job.peers:
            if layout and peer in ROW_MAJOR_ONLY:
                continue
            label = f"{peer.partition(':')[0]} {layout}".strip()
            try_peer(label, _peer(peer), case, ready, failed)
            if label in ready:
                _check(label, checked, ready, failed, errors)
    peak = Peak(job.threads)
    calls: dict[str, Callable[[], object]] = {PEAK: peak, **{p: r.call for p, r in ready.items()}}
    timings = interleave(calls, job.budget)
    results = [_peak(timings.pop(PEAK), row.flops / peak.flops)]
    results += [result_of(p, ready[p], errors[p], timings[p]) for p in ready]
    results += [Result(peer, note=note) for peer, note in failed.items()]
    rounds = max((t.rounds for t in timings.values()), default=0)
    tolerance = row.forms[0][1].tolerance
    return Row(name, row.kind, job.threads, tolerance, rounds, tuple(results))


def _check(
    label: str,
    checked: Checked,
    ready: dict[str, Ready],
    failed: dict[str, str],
    errors: dict[str, float],
) -> None:
    """Keep the peer's largest error, or say in `failed` why its result cannot be compared."""
    try:
        errors[label] = checked.error(label, ready[label])
    except Unavailable as error:
        failed[label] = str(error)
        del ready[label]


def _peer(name: str) -> Callable[[Case], Ready]:
    """The peer of that name; `tuned:SECONDS` is ferrule after tuning for so long."""
    own, _, seconds = name.partition(":")
    return partial(ferrule, seconds=float(seconds)) if seconds else CONTRACTION_PEERS[own]


def _peak(found: Timing, share: float) -> Result:
    """The time of the row's operations, `share` of those of one call of the peak's loop."""
    return Result(PEAK, found.median * share, found.low * share, found.high * share)


if __name__ == "__main__":
    serve(sys.argv[1], measure_contraction)
