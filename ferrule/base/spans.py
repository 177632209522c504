"""Spans: what a frontend runs outside of compiled code, told to whoever listens.

    with span("PyTorch", node.target):
        ...

Nobody listens but a profile; then the time between goes into its share of the framework.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Listener(Protocol):
    """`span(place, operator)` is entered when an operator starts in a place, such as NumPy, and
    left when it ends.
    """

    def span(self, place: str, operator: Any) -> AbstractContextManager[None]: ...


_NOTHING = nullcontext()
_listener: Listener | None = None


def span(place: str, operator: Any) -> AbstractContextManager[None]:
    """For a `with` statement around an operator that runs in `place`."""
    return _NOTHING if _listener is None else _listener.span(place, operator)


def listen(listener: Listener | None) -> None:
    """Lets `listener` be told of spans from now on; None ends it."""
    global _listener
    _listener = listener
