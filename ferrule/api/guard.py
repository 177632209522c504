"""Never slower: a compiled function is measured beside the eager one on its first calls, and the
faster of them is kept.

    run = Rounds(compiled, eager, settle)     # to be called; settle(verdict) is called at the end

A *round* is a call that runs both, one after the other, on the same arguments; which goes first
alternates, so that neither always finds the arguments in the cache. The compiled one's result is
returned. `WARM` rounds are not counted: in them weights are packed, memory is touched and eager
PyTorch prepares its kernels.

The rule is the exact sign test (Dixon and Mood, "The statistical sign test", JASA 41, 1946): of n
rounds that are not ties, the number that the compiled one wins is binomial with probability 1/2 if
neither is faster. It is looked at after each number of rounds in `LOOKS`, and the test is two-sided
at `ALPHA` / len(LOOKS), by Bonferroni's inequality: a pair of equal speed is told apart with a
probability under `ALPHA` in all. So eight rounds of eight decide, else 14 of 16, else 24 of 32.
Where they do not either, the compiled one is kept, as it was not shown to be slower. A sign test
asks for nothing but the order in each round: times on a busy machine have neither a mean worth the
name nor a variance.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

from ferrule.base import log
from ferrule.runtime import counters

WARM = 3
LOOKS = (8, 16, 32)
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """Which is kept, after how many rounds, and the medians of both in milliseconds (0 where there
    was no round). `why` tells it if the rounds do not.
    """

    compiled: bool
    rounds: int = 0
    compiled_ms: float = 0.0
    eager_ms: float = 0.0
    why: str = ""


def sign_test(wins: int, losses: int) -> float:
    """The probability, if neither side is better, that one of them wins `max(wins, losses)` times
    or more of as many rounds.
    """
    n = wins + losses
    above = sum(comb(n, k) for k in range(max(wins, losses), n + 1))
    return min(1.0, 2.0 * above / 2.0**n)


class Rounds:
    """Calls that measure. Other threads that call in the meantime wait for nothing: theirs run
    compiled, and are not counted.
    """

    def __init__(
        self,
        compiled: Callable[..., Any],
        eager: Callable[..., Any],
        settle: Callable[[Verdict], None],
    ) -> None:
        self._compiled, self._eager, self._settle = compiled, eager, settle
        self._kept: Callable[..., Any] | None = None
        self._measuring = threading.Lock()
        self._begun = 0
        self._times: list[tuple[int, int]] = []  # nanoseconds: compiled, eager

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._measuring.acquire(blocking=False):
            return self._compiled(*args, **kwargs)
        try:
            if self._kept is None:
                return self._round(args, kwargs)
        finally:
            self._measuring.release()
        return self._kept(*args, **kwargs)

    def _round(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        eager_first = self._begun % 2 == 1
        theirs = self._timed_eager(args, kwargs) if eager_first else None
        began = time.perf_counter_ns()
        result = self._compiled(*args, **kwargs)
        mine = time.perf_counter_ns() - began
        if not eager_first:
            theirs = self._timed_eager(args, kwargs)
        self._begun += 1
        if theirs is not None and self._begun > WARM:
            self._times.append((mine, theirs))
            self._judge()
        return result

    def _timed_eager(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """The nanoseconds of a call in eager; None where it fails, and the rounds are over: what
        the compiled one gives or raises is what counts.
        """
        began = time.perf_counter_ns()
        try:
            self._eager(*args, **kwargs)
        except Exception as error:
            if self._kept is None:
                self._end(Verdict(True, why=f"eager raised {type(error).__name__}: {error}"))
            return None
        return time.perf_counter_ns() - began

    def _judge(self) -> None:
        n = len(self._times)
        if n not in LOOKS:
            return
        wins = sum(mine < theirs for mine, theirs in self._times)
        losses = sum(mine > theirs for mine, theirs in self._times)
        clear = sign_test(wins, losses) < ALPHA / len(LOOKS)
        if clear or n == LOOKS[-1]:
            medians = [statistics.median(times) / 1e6 for times in zip(*self._times)]
            self._end(Verdict(not clear or wins > losses, n, *medians))

    def _end(self, verdict: Verdict) -> None:
        self._kept = self._compiled if verdict.compiled else self._eager
        self._settle(verdict)


def tell(name: str, verdict: Verdict) -> None:
    """Tells of a verdict: a warning and a count where eager is kept."""
    if verdict.why:
        log.warn(f"guard_speed: {name} is not measured any more: {verdict.why}")
        return
    medians = f"{verdict.eager_ms:.3g} ms against {verdict.compiled_ms:.3g} ms compiled"
    measured = f"medians of {verdict.rounds} rounds"
    if verdict.compiled:
        log.log(1, f"guard_speed: {name} stays compiled, eager {medians}, {measured}")
        return
    counters.count("eager_kept")
    log.warn(
        f"guard_speed: {name} runs in eager from now on, which is faster: {medians}, {measured}. "
        "tune=True of ferrule.compile may find better schedules; explain() and FERRULE_LOGS=2 "
        "tell what was compiled",
        once=False,
    )
