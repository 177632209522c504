"""Verifiers: for each level a table of rules, run after every pass in tests and by a flag in
production.

`verify(x)` knows a level by its type and raises VerifyError for the first broken rule, with the
equations around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.ir.compute import System
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.program import Program
from ferrule.ir.verify.compute import verify_system
from ferrule.ir.verify.graph import verify_graph
from ferrule.ir.verify.kernel import verify_kernel
from ferrule.ir.verify.loop import verify_function
from ferrule.ir.verify.program import verify_program

_VERIFIERS: dict[type, Callable[[Any], None]] = {
    Graph: verify_graph,
    System: verify_system,
    Kernel: verify_kernel,
    Function: verify_function,
    Program: verify_program,
}


def verify(level: Graph | System | Kernel | Function | Program) -> None:
    """Raises VerifyError if a rule of its level is broken."""
    _VERIFIERS[type(level)](level)


__all__ = [
    "verify", "verify_function", "verify_graph", "verify_kernel",
    "verify_program", "verify_system",
]  # fmt: skip
