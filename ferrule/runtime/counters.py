"""What has happened in this process: compilations, cache hits, kernels, the time they took, and
operators left out.

counters()  ->  {"compilations": 1, "cache_hits": 0, "kernels": 12, "eager_kept": 0,
                 "compile_seconds": 0.21, "fallbacks": {"aten.sort": 1}}

`eager_kept` counts the programs that were slower than eager, by the guard of `guard_speed`.
"""

from __future__ import annotations

import threading
from typing import Any

from ferrule.base.errors import InputError

NAMES = ("compilations", "cache_hits", "kernels", "eager_kept")

_lock = threading.Lock()
_counts = dict.fromkeys(NAMES, 0)
_fallbacks: dict[str, int] = {}
_seconds = 0.0


def count(name: str, by: int = 1) -> None:
    """Adds to a counter. Raises InputError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise InputError(f"no counter is called {name!r}; the counters are: {', '.join(NAMES)}")
    with _lock:
        _counts[name] += by


def count_fallback(operator: str, by: int = 1) -> None:
    """Counts an operator that runs in the framework, because ferrule has no meaning for it."""
    with _lock:
        _fallbacks[operator] = _fallbacks.get(operator, 0) + by


def add_seconds(seconds: float) -> None:
    """Adds to `compile_seconds`: the time until graphs could run, from the cache or not."""
    global _seconds
    with _lock:
        _seconds += seconds


def counters() -> dict[str, Any]:
    """A copy of all counters."""
    with _lock:
        return {**_counts, "compile_seconds": _seconds, "fallbacks": dict(_fallbacks)}


def reset_counters() -> None:
    """Sets every counter to zero."""
    global _seconds
    with _lock:
        _counts.update(dict.fromkeys(NAMES, 0))
        _fallbacks.clear()
        _seconds = 0.0
