"""What a profile costs: calls of a small model with the profile on, off, and without its hook.

    python -m benchmarks.profile_cost [--rounds 41] [--calls 200] [--threads 1] [--width 192]

The model is three products, of about 100 us together with the default width on one thread. Each
round runs the same number of calls in each way, in an order of its own:

    off         as users call it
    off again   the same, for the noise of the machine
    no hook     a program whose launches do not ask whether somebody looks: compiled without it
    on          in `with ferrule.profile(..)`; entering and leaving it is not counted

A figure is the median of its rounds' ratios to `off`, with the quarters beside it. The cost when on
is that of `on`, the cost when off what `off` is above `no hook`; both are nothing where they lie
within `off again`. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any
from unittest import mock

import numpy as np

import ferrule
from ferrule.base import config
from ferrule.codegen.host import entry

Call = Callable[[], Any]
_HOOK = "%untold = icmp eq ptr %trace, null"
WAYS = ("off", "off again", "no hook", "on")


def network(x: Any, a: Any, b: Any, c: Any) -> Any:
    """Three products with what is between them."""
    y = np.maximum(x @ a, 0)
    y = np.tanh(y @ b)
    return y @ c


def without_hook() -> Any:
    """Inside, programs are compiled whose launches never tell."""
    text = entry.support()
    assert text.count(_HOOK) == 2, "the hook in host.ll is written otherwise"
    plain = text.replace(_HOOK, "%untold = icmp eq ptr null, null")
    return mock.patch.object(entry, "support", return_value=plain)


def programs(width: int) -> tuple[Call, Call, Any]:
    """Calls of the model with the hook and without, and what a profile is made of."""
    rng = np.random.default_rng(0)
    x, a, b, c = (rng.standard_normal((width, width), np.float32) * 0.1 for _ in range(4))
    plain, bare = ferrule.jit(network), ferrule.jit(network)
    plain(x, a, b, c)
    with without_hook():
        bare(x, a, b, c)
    return lambda: plain(x, a, b, c), lambda: bare(x, a, b, c), plain


def measured(call: Call, calls: int) -> float:
    """Seconds of one call."""
    for _ in range(3):
        call()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def rounds(count: int, calls: int, width: int) -> list[dict[str, float]]:
    """The seconds of a call in each way, by round."""
    plain, bare, model = programs(width)
    order, rng, found = list(WAYS), random.Random(0), []
    for _ in range(count):
        rng.shuffle(order)
        row: dict[str, float] = {}
        for way in order:
            if way == "on":
                with ferrule.profile(model):
                    row[way] = measured(plain, calls)
            else:
                row[way] = measured(bare if way == "no hook" else plain, calls)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=192)
    options = parser.parse_args()
    with config.override(num_threads=options.threads, cache=False):
        found = rounds(options.rounds, options.calls, options.width)
    low, middle, high = quantiles([row["off"] for row in found], n=4)
    print(f"off         {middle * 1e6:8.2f} us a call ({low * 1e6:.2f} to {high * 1e6:.2f})")
    for way in WAYS[1:]:
        low, middle, high = quantiles([row[way] / row["off"] for row in found], n=4)
        print(f"{way:12}{middle:8.4f} of off ({low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
