"""Timing side by side: every call has its rounds, hopeless ones fewer. (No time is asserted.)"""

from __future__ import annotations

import time

from ferrule.tune.measure import side_by_side


def test_a_call_that_takes_far_longer_is_told_apart_and_dropped() -> None:
    counts = [0, 0]

    def quick() -> None:
        counts[0] += 1

    def slow() -> None:
        counts[1] += 1
        time.sleep(0.01)

    first, second = side_by_side([quick, slow], 8)
    assert first.ratio == 1
    assert second.ratio > 2
    assert second.wins == 0
    assert counts[1] <= 6  # two to learn its time, then two rounds of a warm and a timed one
    assert counts[0] > counts[1]
