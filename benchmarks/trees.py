"""Forests of scikit-learn through skl2onnx: ferrule against ONNX Runtime.

    python -m benchmarks.trees                      all rows with one thread
    python -m benchmarks.trees --threads 2 --budget 5

Both sessions run interleaved in this process, on the same inputs, and must agree. Microseconds a
call, medians; `ratio` is ONNX Runtime's time over ferrule's. With several threads ONNX Runtime's
keep spinning while ferrule runs, so that ferrule's wait for a CPU: there it is slower than alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import geometric_mean
from typing import Any

import numpy as np

from benchmarks.report import table
from benchmarks.rows import cpu_name
from ferrule.base import config
from ferrule.tune.interleave import interleave

FEATURES = 20
KINDS = ("forest", "boosted", "classes")


@dataclass(frozen=True)
class Trees:
    """A row: which model, of how many trees of which depth, on how many samples at once."""

    kind: str
    trees: int
    depth: int
    samples: int

    def __str__(self) -> str:
        return f"{self.kind} {self.trees} x {self.depth}, {self.samples} samples"


ROWS = tuple(
    Trees(kind, 100, depth, samples)
    for kind, depth, samples in product(KINDS, (6, 12), (1, 16, 1000))
    if kind != "boosted" or depth == 6
)


def model_of(row: Trees) -> bytes:
    """The ONNX file of a model that is fitted to noise with some sense in it."""
    from skl2onnx import to_onnx
    from sklearn import ensemble

    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, FEATURES)).astype(np.float32)
    y = np.sin(x[:, 0] * 2) + x[:, 1] * x[:, 2] + 0.3 * rng.standard_normal(len(x))
    some = {"n_estimators": row.trees, "max_depth": row.depth, "random_state": 0}
    if row.kind == "classes":
        model = ensemble.RandomForestClassifier(**some).fit(x, np.digitize(y, [-1, 1]))
        made = to_onnx(model, x[:1], options={"zipmap": False})
    else:
        kind = (
            ensemble.RandomForestRegressor
            if row.kind == "forest"
            else ensemble.GradientBoostingRegressor
        )
        made = to_onnx(kind(**some).fit(x, y), x[:1])
    return bytes(made.SerializeToString())


def measure(row: Trees, threads: int, budget: float) -> tuple[float, float]:
    """Seconds a call of ferrule and of ONNX Runtime. Raises AssertionError where they disagree."""
    import onnxruntime

    from ferrule.api.session import InferenceSession

    model = model_of(row)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    x = np.random.default_rng(1).standard_normal((row.samples, FEATURES)).astype(np.float32)
    sessions: dict[str, Any] = {
        "ferrule": InferenceSession(model),
        "onnxruntime": onnxruntime.InferenceSession(model, options),
    }
    name = sessions["onnxruntime"].get_inputs()[0].name
    ours, theirs = (s.run(None, {name: x}) for s in sessions.values())
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    calls = {k: lambda s=s: s.run(None, {name: x}) for k, s in sessions.items()}
    timings = interleave(calls, budget)
    return timings["ferrule"].median, timings["onnxruntime"].median


def main(arguments: Sequence[str]) -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(description="forests against ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of timing a row")
    o = parser.parse_args(arguments)
    body, ratios = [], list[float]()
    for row in ROWS:
        with config.override(num_threads=o.threads):
            ours, theirs = measure(row, o.threads, o.budget)
        ratios.append(theirs / ours)
        body.append([str(row), f"{ours * 1e6:.1f}", f"{theirs * 1e6:.1f}", f"{ratios[-1]:.2f}"])
    print(f"{cpu_name()}, threads: {o.threads}\n")
    print(table(["trees x depth", "ferrule", "ONNX Runtime", "ratio"], body))
    print(f"\ngeometric mean of the ratios {geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
