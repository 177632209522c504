"""One process of the ONNX benchmark: models of `tools.onnx_models` with one number of threads.

Started by `benchmarks.onnx_models` as `benchmarks.worker` is by `benchmarks.run`. The peers are
those of `ferrule bench`; errors are relative to the largest value of ONNX Runtime's outputs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Result, Row
from benchmarks.worker import Job, serve
from ferrule.api.session import InferenceSession
from ferrule.base.errors import FerruleError
from ferrule.cli.peers import Results, ready
from ferrule.tune.interleave import interleave
from tools.onnx_models import MODELS, Feed, OnnxModel

PEERS = ("ferrule", "onnxruntime", "openvino")
REFERENCE = "onnxruntime"
SMALLEST = 1e-2
"""Errors are relative to no less: probabilities may all be next to 0."""


def measure_model(job: Job, name: str, _: Path) -> Row:
    """Load a model in every peer, compare the results, and time them interleaved."""
    model = next(m for m in MODELS if m.name == name)
    feed = model.feed(np.random.default_rng(job.seed), *model.sizes[0])
    calls: dict[str, Results] = {}
    seconds: dict[str, float] = {}
    failed: list[Result] = []
    for peer in job.peers:
        start = time.perf_counter()
        try:
            calls[peer] = _call(peer, model, feed, job.threads)
        except FerruleError as error:
            failed.append(Result(peer, note=str(error).splitlines()[0]))
        seconds[peer] = time.perf_counter() - start
    found = {peer: call() for peer, call in calls.items()}
    errors = {peer: _error(x, found.get(REFERENCE)) for peer, x in found.items()}
    timings = interleave(calls, job.budget)
    results = [
        Result(p, t.median, t.low, t.high, seconds[p], error=errors[p]) for p, t in timings.items()
    ]
    rounds = max((t.rounds for t in timings.values()), default=0)
    return Row(name, "onnx", job.threads, model.tolerance, rounds, (*results, *failed))


def _call(peer: str, model: OnnxModel, feed: Feed, threads: int) -> Results:
    """The model's call in a peer, after a first one."""
    if peer != "ferrule":
        return ready(peer, str(model.path), feed, threads)
    session = InferenceSession(str(model.path))
    session.run(None, feed)
    return lambda: session.run(None, feed)


def _error(found: Sequence[Any], wanted: Sequence[Any] | None) -> float | None:
    """The largest difference over the largest wanted value, of all outputs; inf for NaN."""
    if wanted is None:
        return None
    worst = 0.0
    for x, y in zip(found, wanted, strict=True):
        if x.shape != y.shape:
            return float("inf")
        scale = max(float(np.abs(y).max(initial=0.0)), SMALLEST)
        off = np.abs(x.astype(np.float64) - y.astype(np.float64)).max(initial=0.0) / scale
        worst = max(worst, float(off)) if off == off else float("inf")
    return worst


if __name__ == "__main__":
    serve(sys.argv[1], measure_model)
