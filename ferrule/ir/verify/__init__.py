"""Verifiers: for each level a table of rules, run after every pass in tests and by a flag in
production.

`verify(x)` knows a level by its type and raises VerifyError for the first broken rule, with the
equations around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.ir.calls import Functions, Kernels, Scheduled
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.module import Module
from ferrule.ir.program import Program
from ferrule.ir.system import System
from ferrule.ir.text import Level
from ferrule.ir.verify.calls import verify_functions, verify_kernels, verify_scheduled
from ferrule.ir.verify.graph import verify_graph
from ferrule.ir.verify.kernel import verify_kernel
from ferrule.ir.verify.loop import verify_function
from ferrule.ir.verify.module import verify_module
from ferrule.ir.verify.program import verify_program
from ferrule.ir.verify.system import verify_system

_VERIFIERS: dict[type, Callable[[Any], None]] = {
    Graph: verify_graph,
    System: verify_system,
    Kernels: verify_kernels,
    Scheduled: verify_scheduled,
    Functions: verify_functions,
    Program: verify_program,
    Kernel: verify_kernel,
    Function: verify_function,
}


def verify(level: Level) -> None:
    """Raises VerifyError if a rule of its level is broken."""
    if isinstance(level, Module):
        for part in level.parts:
            verify(part.body)
        verify_module(level)
    else:
        _VERIFIERS[type(level)](level)


__all__ = [
    "verify", "verify_function", "verify_graph", "verify_kernel", "verify_module",
    "verify_program", "verify_system",
]  # fmt: skip
