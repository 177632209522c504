"""What a tuning run tells while it works; `ferrule.pipeline.progress` shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """How far a run is: trials done and wanted, operators done and all; `speedup` is the time of
    the default schedules over that of the best so far; `seconds_left` is None where unknown.
    """

    trials: int
    wanted: int
    operators: int
    all_operators: int
    speedup: float
    operator: str
    seconds_left: float | None = None

    def text(self) -> str:
        """One line for people."""
        left = "" if self.seconds_left is None else f", {clock(self.seconds_left)} left"
        return (
            f"{self.trials} of {self.wanted} trials, {self.operators} of {self.all_operators} "
            f"operators, {self.speedup:.2f} times as fast so far{left}: {self.operator}"
        )


Progress = Callable[[Status], None]


def silent(status: Status) -> None:
    """A progress that shows nothing."""


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
