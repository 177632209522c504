"""Telling whoever compiles how far it is. Passes tell their steps; nobody but an observer, which
the pipeline or what is above it sets, knows what comes of that.

    for kernel in each(kernels): ...        # in a pass
    with watched(observer): compile(..)     # observer(Step(..)), which may raise to end it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Where a compilation of the program `name` is: `done` of its `passes` are over, and in the
    next `kernels_done` of its `kernels` (0 of 0 where they are not told apart), before `kernel`.
    """

    name: str = ""
    passes: tuple[str, ...] = ()
    done: int = 0
    kernel: str = ""
    kernels_done: int = 0
    kernels: int = 0


Observer = Callable[[Step], None]
_observer: ContextVar[Observer | None] = ContextVar("ferrule_observer", default=None)
_step: ContextVar[Step] = ContextVar("ferrule_step", default=Step())  # noqa: B039


@contextmanager
def watched(observer: Observer) -> Iterator[None]:
    """Steps that are told in this thread, inside the `with`, go to `observer` alone."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def is_watched() -> bool:
    """Whether there is an observer."""
    return _observer.get() is not None


def tell(step: Step) -> None:
    """Tells the observer, if there is one."""
    observer = _observer.get()
    if observer is not None:
        _step.set(step)
        observer(step)


def each(items: Sequence[T]) -> Iterator[T]:
    """The items of a pass, each told by its name before it is worked on."""
    observer = _observer.get()
    if observer is None:
        yield from items
        return
    step = _step.get()
    for i, item in enumerate(items):
        named: Any = item
        observer(replace(step, kernel=named.name, kernels_done=i, kernels=len(items)))
        yield item
