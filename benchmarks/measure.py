"""Interleaved timing: A B C, B C A, ..., many rounds, medians.

Machines are noisy, so callables are never timed one after the other: each round gives every
callable one slot, in an order shuffled for each round, and what is compared is the median of the
slots. A slot repeats a fast callable until it has run for `SLOT_SECONDS`; its figure is the mean of
its calls. Before it, a fast callable runs once untimed, so that its data is in the caches and its
threads are awake, as in a loop of its own; with several threads a short pause comes first, in which
the workers of the previous callable end their busy waiting.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles

Call = Callable[[], object]

SLOT_SECONDS = 0.004
LONG_CALL_SECONDS = 0.03
"""A call as long as this fills a slot alone, without the untimed call before it."""
PAUSE_SECONDS = 0.002
ROUNDS = (5, 400)
"""Fewest and most rounds, whatever the budget."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median of the slots and the quartiles."""

    median: float
    low: float
    high: float
    rounds: int


def interleave(calls: Mapping[str, Call], budget: float, threads: int = 1) -> dict[str, Timing]:
    """Time each of `calls` for about `budget` seconds in all. Raises what a call raises."""
    if not calls:
        return {}
    pause = PAUSE_SECONDS if threads > 1 else 0.0
    plans = {name: _plan(call) for name, call in calls.items()}
    cost = sum(calls_a_slot * seconds for calls_a_slot, seconds in plans.values())
    cost += len(calls) * pause
    rounds = min(max(round(budget / cost), ROUNDS[0]), ROUNDS[1])
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                time.sleep(pause)
                samples[name].append(_slot(calls[name], *plans[name]))
    finally:
        if collecting:
            gc.enable()
    return {name: _timing(values) for name, values in samples.items()}


def _plan(call: Call) -> tuple[int, float]:
    """How often a slot makes the call, and the seconds of one call, roughly."""
    call()
    seconds = min(_seconds(call, 1), _seconds(call, 1))
    return max(1, round(SLOT_SECONDS / max(seconds, 1e-7))), seconds


def _slot(call: Call, calls_a_slot: int, estimate: float) -> float:
    if estimate < LONG_CALL_SECONDS:
        call()
    return _seconds(call, calls_a_slot)


def _seconds(call: Call, times: int) -> float:
    """Seconds of one call, the mean of `times` calls."""
    repeat = range(times)
    start = time.perf_counter()
    for _ in repeat:
        call()
    return (time.perf_counter() - start) / times


def _timing(samples: list[float]) -> Timing:
    low, median, high = quantiles(samples, n=4, method="inclusive")
    return Timing(median, low, high, len(samples))
