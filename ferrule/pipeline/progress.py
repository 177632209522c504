"""What long work shows while it runs: one line with a bar, where the standard error is a terminal
and nothing else is told there (the setting `logs` is 0); nothing elsewhere.

    with compiling(): run(..)                        # the pass and the kernel
    with tuning() as progress: progress(Status(..))  # trials, operators, what was gained

Work of less than `AFTER` seconds shows nothing. A step that is told is only kept; a thread draws
the last one every `EVERY` seconds, also while LLVM works on a step for long. The line is gone at
the end, and messages go above it. There is one line at a time: who comes while it is taken shows
nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ferrule.base import log, watch
from ferrule.tune.progress import Progress, Status, silent

AFTER = 1.0
EVERY = 0.1
WIDTH = 24
SHARES = {"loops": 17, "emit": 35, "object": 30}
"""Of a hundred parts of a compilation's time, about; of any other pass 1."""

_taken = threading.Lock()


@contextmanager
def compiling() -> Iterator[None]:
    """Shows the passes of a compilation in this thread, unless somebody else watches them."""
    if watch.is_watched():
        yield
        return
    with _line() as line:
        if line is None:
            yield
            return
        with watch.watched(lambda step: line.show(lambda: (part_done(step), text_of(step)))):
            yield


@contextmanager
def tuning() -> Iterator[Progress]:
    """Shows how far a tuning run is, in place of the compilations in it."""
    with _line() as line:
        if line is None:
            yield silent
            return

        def update(status: Status) -> None:
            line.show(lambda: (status.trials / max(1, status.wanted), status.text()))

        with watch.watched(lambda step: None):
            yield update


def part_done(step: watch.Step) -> float:
    """From 0 to 1, by what passes take most often."""
    shares = [SHARES.get(name, 1) for name in step.passes]
    kernels = step.kernels_done / step.kernels if step.kernels else 0.0
    return (sum(shares[: step.done]) + kernels * shares[step.done]) / sum(shares)


def text_of(step: watch.Step) -> str:
    """The pass, the kernel and the program."""
    kernel = f" {step.kernel} ({step.kernels_done + 1} of {step.kernels})" if step.kernels else ""
    name = step.passes[step.done]
    return f"{name}{kernel}, pass {step.done + 1} of {len(step.passes)} of {step.name}"


@contextmanager
def _line() -> Iterator[_Line | None]:
    """The line, or None where none may be shown."""
    if not _wanted() or not _taken.acquire(blocking=False):
        yield None
        return
    line = _Line(sys.stderr)
    try:
        with log.above(line.erase):
            yield line
    finally:
        line.end()
        _taken.release()


def _wanted() -> bool:
    stream = sys.stderr
    terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return terminal and not log.enabled(1)


class _Line:
    """A line at the bottom of a terminal, and the thread that draws it until `end`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: Callable[[], tuple[float, str]] | None = None
        self._next = time.monotonic() + AFTER
        self._drawn = ""
        self._drawing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="ferrule progress", daemon=True)
        self._thread.start()

    def show(self, now: Callable[[], tuple[float, str]]) -> None:
        """The part that is done and a text, from now on."""
        self._shown = now

    def erase(self) -> None:
        """Takes the line away for as long as it takes to write a message."""
        with self._drawing:
            if self._drawn:
                self._write("\r\x1b[K")
            self._drawn, self._next = "", max(self._next, time.monotonic() + EVERY)

    def end(self) -> None:
        """Takes the line away for good."""
        self._ended.set()
        self._thread.join()
        self.erase()

    def _draw(self) -> None:
        while not self._ended.wait(EVERY):
            with self._drawing:
                if self._shown is not None and time.monotonic() >= self._next:
                    self._line(*self._shown())

    def _line(self, part: float, text: str) -> None:
        full = round(WIDTH * min(1.0, part))
        line = f"[{'#' * full}{'.' * (WIDTH - full)}] {text}"[: self._columns() - 1]
        if line != self._drawn:
            self._write("\r" + line + "\x1b[K")
            self._drawn = line

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a terminal that is gone is no reason to stop
            self._next = float("inf")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80
