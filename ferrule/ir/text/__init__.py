"""Text of every level: prints, and parses back to an equal value.

`to_text(x)` and `parse(text)` know a level by its type or by the keyword it opens with;
`parse_all` reads several, one after another; `print_LEVEL` and `parse_LEVEL` are for one level.
Errors are ParseErrors with line, column and the line itself.
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
from ferrule.ir.text.calls import (
    functions,
    kernels,
    print_functions,
    print_kernels,
    print_scheduled,
    scheduled,
)
from ferrule.ir.text.expr import parse_expr
from ferrule.ir.text.graph import graph as read_graph
from ferrule.ir.text.graph import parse_graph, print_graph, print_node
from ferrule.ir.text.kernel import kernel as read_kernel
from ferrule.ir.text.kernel import parse_kernel, print_kernel
from ferrule.ir.text.loop import function as read_function
from ferrule.ir.text.loop import parse_function, print_function, print_stmt
from ferrule.ir.text.module import module, module_text
from ferrule.ir.text.parser import Parser
from ferrule.ir.text.program import parse_program, print_program
from ferrule.ir.text.program import program as read_program
from ferrule.ir.text.system import parse_system, print_stage, print_system
from ferrule.ir.text.system import system as read_system

Level = (
    Graph | System | Kernels | Scheduled | Functions | Program | Module[Any] | Kernel | Function
)

_LEVELS: dict[str, tuple[type, Callable[[Any], str], Callable[[Parser], Any]]] = {
    "graph": (Graph, print_graph, read_graph),
    "system": (System, print_system, read_system),
    "kernels": (Kernels, print_kernels, kernels),
    "scheduled": (Scheduled, print_scheduled, scheduled),
    "functions": (Functions, print_functions, functions),
    "program": (Program, print_program, read_program),
    "module": (Module, lambda m: module_text(m, to_text), lambda p: module(p, _level)),
    "kernel": (Kernel, print_kernel, read_kernel),
    "function": (Function, print_function, read_function),
}


def to_text(level: Level) -> str:
    """A program at one of the levels, a module, a kernel or a function as text."""
    for kind, show, _ in _LEVELS.values():
        if isinstance(level, kind):
            return show(level)
    raise TypeError(f"{type(level).__name__} is no level of the program")


def parse(source: str) -> Level:
    """What `source` writes, by the keyword it opens with. Raises ParseError."""
    p = Parser(source)
    level = _level(p)
    p.end()
    return level


def parse_all(source: str) -> tuple[Level, ...]:
    """All that `source` writes, one level after another, at least one. Raises ParseError."""
    p = Parser(source)
    levels = [_level(p)]
    while p.token.kind != "end":
        levels.append(_level(p))
    return tuple(levels)


def _level(p: Parser) -> Level:
    if not p.sees(*_LEVELS):
        raise p.error(f"expected one of {', '.join(_LEVELS)}; found {p.token.text or 'nothing'!r}")
    level: Level = _LEVELS[p.token.text][2](p)
    return level


__all__ = [
    "Level", "to_text", "parse", "parse_all", "parse_expr", "parse_function",
    "parse_graph", "parse_kernel", "parse_program", "parse_system", "print_function",
    "print_graph", "print_kernel", "print_node", "print_program", "print_stage",
    "print_stmt", "print_system",
]  # fmt: skip
