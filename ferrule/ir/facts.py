"""Facts: what is known of a symbolic size, and where a buffer lives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class DimFacts:
    """What is known of a symbolic size: `lo <= dim <= hi`, a multiple of `multiple`."""

    name: str
    lo: int = 0
    hi: int | None = None
    multiple: int = 1


class Space(Enum):
    """Where a buffer lives: GLOBAL for the program, SCRATCH for one thread, REG in registers.
    """

    GLOBAL = "global"
    SCRATCH = "scratch"
    REG = "reg"
