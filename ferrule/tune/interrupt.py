"""Ctrl-C as a question that a run asks where it can stop.

    with interrupts() as stop:
        ...; stop()                     raises KeyboardInterrupt after a Ctrl-C

Python raises KeyboardInterrupt between any two instructions, and loses it where these are a
destructor's: a run that drops compiled programs all the time would go on. The second Ctrl-C is
Python's own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt once Ctrl-C was pressed. Outside of the main thread,
    which alone gets signals, it never does.
    """
    asked = threading.Event()

    def stop() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: Any = signal.getsignal(signal.SIGINT)

    def handle(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
