"""Unit: what one unscheduled kernel became: functions over formal buffers, to be instantiated once for each equal kernel."""
from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.loop import Function


@dataclass(frozen=True)
class Part:
    """One function of a unit and its estimated time (ns, over dims). `packs` is the formal buffer that only this unit
    uses and that the part fills, if it is a packing; `constant` packings run once."""

    function: Function
    cost: Expr
    packs: Buf | None = None
    constant: bool = False


@dataclass(frozen=True)
class Unit:
    """The parts of a kernel, packings first; `formals` are the kernel's own buffers by position."""

    parts: tuple[Part, ...]
    formals: tuple[Buf, ...]
