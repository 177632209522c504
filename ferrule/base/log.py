"""Messages to standard error, by level: the ladder of FERRULE_LOGS.

0 warnings alone, 1 timings of passes, 2 decisions (fusion, schedule), 3 programs between passes, 4
generated code, 5 cache and runtime, 6 proofs, 7 every rewrite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferrule.base import config

_warned: set[str] = set()
_above: list[Callable[[], None]] = []


@contextmanager
def above(erase: Callable[[], None]) -> Iterator[None]:
    """Inside the `with`, `erase` takes away what stands on the present line of the terminal before
    a message is shown.
    """
    _above.append(erase)
    try:
        yield
    finally:
        _above.remove(erase)


def enabled(level: int) -> bool:
    """Whether messages of `level` are shown."""
    return int(config.get("logs")) >= level


def log(level: int, message: str | Callable[[], str]) -> None:
    """Shows a message of `level`; pass a function where the text is costly to make."""
    if enabled(level):
        _show(f"ferrule[{level}] {message() if callable(message) else message}")


def warn(message: str, once: bool = True) -> None:
    """Shows a warning at any level, and by default the same one only once a process."""
    if once and message in _warned:
        return
    _warned.add(message)
    _show(f"ferrule: {message}")


def _show(line: str) -> None:
    for erase in tuple(_above):
        erase()
    print(line, file=sys.stderr, flush=True)
