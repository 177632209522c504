"""Interleaved timing: A B C, B C A, ..., many rounds, medians.

Machines are noisy, so callables are never timed one after the other: each round gives every
callable one slot, in an order shuffled for each round, and what is compared is the median of the
slots. A slot first makes its call in a loop for `WARM_SECONDS` untimed, so that what is timed is a
loop of its own: its data is in the caches, its threads are awake, and the workers of the previous
callable have ended their busy waiting (for libgomp's that is some milliseconds). Then it makes the
call until it has run for `SLOT_SECONDS`; its figure is the mean of these calls.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles

Call = Callable[[], object]

WARM_SECONDS = 0.015
SLOT_SECONDS = 0.005
ROUNDS = (5, 400)
"""Fewest and most rounds, whatever the budget."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median of the slots and the quartiles."""

    median: float
    low: float
    high: float
    rounds: int


def interleave(calls: Mapping[str, Call], budget: float) -> dict[str, Timing]:
    """Time each of `calls` for about `budget` seconds in all. Raises what a call raises."""
    if not calls:
        return {}
    counts = {name: _calls_a_slot(call) for name, call in calls.items()}
    seconds = sum(_slot(call, counts[name])[0] for name, call in calls.items())
    rounds = min(max(round(budget / seconds), ROUNDS[0]), ROUNDS[1])
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                samples[name].append(_slot(calls[name], counts[name])[1])
    finally:
        if collecting:
            gc.enable()
    return {name: _timing(values) for name, values in samples.items()}


def _calls_a_slot(call: Call) -> int:
    call()
    seconds = min(_seconds(call, 1), _seconds(call, 1))
    return max(1, round(SLOT_SECONDS / max(seconds, 1e-7)))


def _slot(call: Call, count: int) -> tuple[float, float]:
    """The seconds that a slot takes in all, and those of one of its `count` timed calls."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_SECONDS:
        call()
    one = _seconds(call, count)
    return time.perf_counter() - start, one


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
