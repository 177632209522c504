"""What a tuning run shows while it works: a bar with rich where that is installed and the standard
error is a terminal, else a line now and then.

    with shown() as progress:
        progress(Status(...))
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

EVERY_SECONDS = 2.0


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


@contextmanager
def shown() -> Iterator[Progress]:
    """The progress display on the standard error."""
    bar = _bar() if sys.stderr.isatty() else None
    if bar is None:
        yield _Lines()
        return
    task = bar.add_task("", total=None, detail="")
    with bar:

        def update(status: Status) -> None:
            bar.update(task, completed=status.trials, total=status.wanted, detail=status.text())

        yield update


def _bar() -> Any:
    """rich's bar, or None where it is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        return None
    columns = (BarColumn(bar_width=24), TextColumn("{task.fields[detail]}"))
    return Progress(*columns, console=Console(stderr=True))


class _Lines:
    """Plain lines, one every few seconds."""

    def __init__(self) -> None:
        self._last = -EVERY_SECONDS
        self._ended = False

    def __call__(self, status: Status) -> None:
        now, ends = time.monotonic(), status.trials >= status.wanted > 0 and not self._ended
        if now - self._last >= EVERY_SECONDS or ends:
            self._last, self._ended = now, self._ended or ends
            print(status.text(), file=sys.stderr, flush=True)
