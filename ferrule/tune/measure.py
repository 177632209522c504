"""Times side by side: rounds in which each call has one slot, in an order shuffled each time.

Machines are noisy, and slow down and speed up by the second: only times of the same round are
compared. A slot begins with calls that are not timed, until its data is in the caches.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Call = Callable[[], None]

WARM_SECONDS = 0.001
SLOT_SECONDS = 0.003
HOPELESS = 1.5
"""How many times as long as the first call another may take, before it has no more slots."""


@dataclass(frozen=True)
class Measured:
    """One call against the first: `seconds` is its median, `ratio` the median over rounds of its
    time over the first's, `wins` the part of the rounds in which it was the faster.
    """

    seconds: float
    ratio: float
    wins: float


def side_by_side(
    calls: Sequence[Call], rounds: int, between: Call = lambda: None
) -> list[Measured]:
    """Times each of `calls` in `rounds` rounds; after two of them, those that are hopeless have no
    more. `between` is called before each slot. Raises what a call raises.
    """
    counts = [_calls_a_slot(call) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    shuffle = random.Random(0).shuffle
    for done in range(rounds):
        if done == 2:
            order = [i for i in order if min(times[i]) <= HOPELESS * min(times[0])]
        shuffle(order)
        for i in order:
            between()
            times[i].append(_slot(calls[i], counts[i]))
    return [_measured(own, times[0]) for own in times]


def _measured(own: Sequence[float], first: Sequence[float]) -> Measured:
    ratios = [t / f for t, f in zip(own, first)]
    wins = sum(r < 1 for r in ratios) / len(ratios)
    return Measured(median(own), median(ratios), wins)


def _calls_a_slot(call: Call) -> int:
    call()
    start = time.perf_counter()
    call()
    return max(1, round(SLOT_SECONDS / max(time.perf_counter() - start, 1e-7)))


def _slot(call: Call, count: int) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_SECONDS:
        call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count
