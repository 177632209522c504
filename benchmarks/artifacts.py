"""How fast a model in an artifact is beside the same model compiled here.

    python -m benchmarks.artifacts MODEL.onnx ..
    python -m benchmarks.artifacts MODEL.onnx --threads 2 --rounds 31 --packed

Both are called on the same NumPy arrays, in turn in one process. A session has code for this CPU,
an artifact that of the best level which the CPU has. The figure is the session's median over the
artifact's: 1 and more says that the artifact is no slower.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import ferrule
from ferrule.cli.feeds import feed_of

LEVELS = ("x86-64-v3", "x86-64-v4")


def timed(calls: Sequence[Callable[[], object]], rounds: int, seconds: float) -> list[float]:
    """The median of seconds a call for each of `calls`, one after the other in each round."""
    repeat = []
    for call in calls:
        call()
        begin = time.perf_counter()
        call()
        repeat.append(max(1, int(seconds / rounds / len(calls) / (time.perf_counter() - begin))))
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, n, own in zip(calls, repeat, found):
            begin = time.perf_counter()
            for _ in range(n):
                call()
            own.append((time.perf_counter() - begin) / n)
    return [statistics.median(own) for own in found]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each model, about")
    parser.add_argument("--packed", action="store_true", help="weights packed ahead")
    o = parser.parse_args(arguments)
    ferrule.set_num_threads(o.threads)
    print("| model | session | artifact | session / artifact | equal |")
    print("| --- | --- | --- | --- | --- |")
    ratios = []
    for path in o.models:
        session = ferrule.InferenceSession(path)
        options = argparse.Namespace(input=[], shape=[], seed=0)
        feed = feed_of(tuple(session.get_inputs()), options, True).arrays
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "m.ferrule"
            session.save(file, LEVELS, packed=o.packed)
            loaded = ferrule.load(file)
            pair = session.run(None, feed), loaded.run(None, feed)
            equal = all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*pair))
            calls = [functools.partial(m.run, None, feed) for m in (session, loaded)]
            own, other = timed(calls, o.rounds, o.seconds)
        ratios.append(own / other)
        shown = f"{1e3 * own:.3f} ms | {1e3 * other:.3f} ms | {own / other:.3f}"
        print(f"| {path.stem} | {shown} | {'yes' if equal else 'no'} |", flush=True)
    print(f"geometric mean {statistics.geometric_mean(ratios):.3f}, least {min(ratios):.3f}")


if __name__ == "__main__":
    main()
