"""Unit: what one unscheduled kernel became: scheduled kernels over formal buffers, which each equal
kernel of a program uses with buffers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.ir.analysis.decision import Decision
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import Kernel


@dataclass(frozen=True)
class Part:
    """One scheduled kernel of a unit and its estimated time (ns, over dims). `packs` is the formal
    buffer that only this unit uses and that the part fills, if it is a packing; `constant` packings
    run once. `what` a packing does, in words.
    """

    kernel: Kernel
    cost: Expr
    packs: Buf | None = None
    constant: bool = False
    what: str = ""


@dataclass(frozen=True)
class Unit:
    """The parts of a kernel, packings first; `formals` are the kernel's own buffers by position.
    `choice` is the schedule it has, without a subject.
    """

    parts: tuple[Part, ...]
    formals: tuple[Buf, ...]
    choice: Decision


@dataclass(frozen=True)
class Use:
    """A kernel of the program, the unit it became, and the buffers for the unit's formals."""

    kernel: Kernel
    unit: Unit
    actual: tuple[Buf, ...]
