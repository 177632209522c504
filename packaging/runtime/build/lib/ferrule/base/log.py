"""Messages to standard error, by level: the ladder of FERRULE_LOGS.

0 warnings alone, 1 timings of passes, 2 decisions (fusion, schedule), 3 programs between passes, 4
generated code, 5 cache and runtime, 6 proofs, 7 every rewrite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from ferrule.base import config

_warned: set[str] = set()


def enabled(level: int) -> bool:
    """Whether messages of `level` are shown."""
    return int(config.get("logs")) >= level


def log(level: int, message: str | Callable[[], str]) -> None:
    """Shows a message of `level`; pass a function where the text is costly to make."""
    if enabled(level):
        print(
            f"ferrule[{level}] {message() if callable(message) else message}",
            file=sys.stderr,
            flush=True,
        )


def warn(message: str, once: bool = True) -> None:
    """Shows a warning at any level, and by default the same one only once a process."""
    if once and message in _warned:
        return
    _warned.add(message)
    print(f"ferrule: {message}", file=sys.stderr, flush=True)
