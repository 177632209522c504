"""Every exception that ferrule raises on purpose.

A message says what was expected, what came, where, and what to do. All of them are `FerruleError`s,
and those that Python has a natural class for are of that class too, so that code which knows
nothing of ferrule can catch them.
"""

from __future__ import annotations

FAULTS = {
    "index": "index out of range: an index tensor points outside the dimension it indexes",
    "zero_division": "ZeroDivisionError: an integer is divided by 0",
    "negative_power": "ValueError: integers to negative integer powers are not allowed",
    "unit_interval": "all elements of input and target must lie between 0 and 1",
}  # what a program may report while it runs; it tells the n-th of these by the status n


def status_of(fault: str) -> int:
    """The status, from 1, by which a program reports one of FAULTS."""
    return 1 + list(FAULTS).index(fault)


def is_index(message: str) -> bool:
    """Whether what a program reports is an IndexError: its message begins with "index"."""
    return message.lower().startswith("index")


class FerruleError(Exception):
    """The root of ferrule's exceptions."""


class CompileError(FerruleError):
    """A program could not be compiled; the message names the operator, its place in the user's
    model, and a way out.
    """


class VerifyError(CompileError):
    """An intermediate program breaks a rule of its level: a defect of ferrule, never of the user's
    model.
    """


class UnsupportedError(CompileError, NotImplementedError):
    """The program uses an operator, dtype or form that ferrule has no meaning for."""


class ParseError(FerruleError, ValueError):
    """Text in one of ferrule's notations is malformed. `line` and `column` count from 1; 0 is
    unknown.
    """

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        where = f"line {line}, column {column}: " if line else ""
        super().__init__(where + message)
        self.line = line
        self.column = column


class InputError(FerruleError, ValueError):
    """A value given to ferrule is wrong: an array of the wrong rank or size, a setting out of
    range.
    """


class InputTypeError(InputError, TypeError):
    """A value given to ferrule is of the wrong type or dtype."""


class GuardError(InputError):
    """A fact about shapes that the program was compiled under does not hold for these inputs."""


class RunError(FerruleError, RuntimeError):
    """A compiled program reported a failure while it ran."""


class RunIndexError(RunError, IndexError):
    """A compiled program met an index outside its dimension."""


class CacheError(FerruleError):
    """Stored bytes of a compiled program are damaged or of another version."""


class TuningError(FerruleError):
    """A tuning database cannot be read or written, or a schedule cannot be tuned."""
