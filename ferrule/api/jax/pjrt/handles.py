"""What C holds of ours: each object that was handed out, by its handle, until C destroys it."""

from __future__ import annotations

import itertools
from typing import Any, TypeVar

from ferrule.base.errors import (
    FerruleError,
    InputError,
    ParseError,
    RunIndexError,
    UnsupportedError,
)

T = TypeVar("T")
CODES: tuple[tuple[type[BaseException], str], ...] = (
    (UnsupportedError, "UNIMPLEMENTED"),
    (ParseError, "INVALID_ARGUMENT"),
    (InputError, "INVALID_ARGUMENT"),
    (RunIndexError, "OUT_OF_RANGE"),
    (MemoryError, "RESOURCE_EXHAUSTED"),
    (KeyboardInterrupt, "CANCELLED"),
)
"""The code of each exception; that of all others is INTERNAL."""


class Failure(Exception):
    """What a function tells C in place of a result: a code of PJRT_Error_Code and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def failure_of(error: BaseException) -> Failure:
    """An exception as C sees it."""
    if isinstance(error, Failure):
        return error
    code = next((c for kind, c in CODES if isinstance(error, kind)), "INTERNAL")
    said = str(error)
    if not isinstance(error, FerruleError):
        said = f"{type(error).__name__}: {said}"
    return Failure(code, said)


class Handles:
    """Objects by their handles, which are never used twice, so that a handle that was destroyed is
    known as such.
    """

    def __init__(self) -> None:
        self._held: dict[int, Any] = {}
        self._fresh = itertools.count(16, 16)

    def __len__(self) -> int:
        return len(self._held)

    def new(self, thing: Any) -> int:
        """A handle of a thing, which lives until the handle is freed."""
        handle = next(self._fresh)
        self._held[handle] = thing
        return handle

    def get(self, handle: int | None, kind: type[T]) -> T:
        """What a handle stands for. Raises Failure where that is nothing of this kind."""
        found = self._held.get(handle or 0)
        if not isinstance(found, kind):
            message = f"{handle} is the handle of no {kind.__name__} that lives"
            raise Failure("INVALID_ARGUMENT", message)
        return found

    def free(self, handle: int | None) -> None:
        """Forgets a handle; None is none."""
        self._held.pop(handle or 0, None)

    def kinds(self) -> dict[str, int]:
        """How many things of each kind C holds, by the names of their classes."""
        found: dict[str, int] = {}
        for thing in list(self._held.values()):
            found[type(thing).__name__] = found.get(type(thing).__name__, 0) + 1
        return found


HANDLES = Handles()
