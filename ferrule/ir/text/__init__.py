"""Text of every level: prints, and parses back to an equal value.

`to_text(x)` and `parse(text)` know a level by its type or by the keyword it opens with;
`print_LEVEL` and `parse_LEVEL` are for one level. Errors are ParseErrors with line, column and the
line itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.ir.compute import System
from ferrule.ir.graph import Graph
from ferrule.ir.kernel import Kernel, Launch
from ferrule.ir.loop import Function
from ferrule.ir.program import Program
from ferrule.ir.text.compute import parse_system, print_stage, print_system
from ferrule.ir.text.expr import parse_expr
from ferrule.ir.text.graph import parse_graph, print_graph, print_node
from ferrule.ir.text.kernel import parse_kernel, parse_launch, print_kernel, print_launch
from ferrule.ir.text.loop import parse_function, print_function, print_stmt
from ferrule.ir.text.parser import Parser
from ferrule.ir.text.program import parse_program, print_program

Level = Graph | System | Kernel | Launch | Function | Program

_LEVELS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "graph": (Graph, print_graph, parse_graph),
    "system": (System, print_system, parse_system),
    "kernel": (Kernel, print_kernel, parse_kernel),
    "launch": (Launch, print_launch, parse_launch),
    "function": (Function, print_function, parse_function),
    "program": (Program, print_program, parse_program),
}


def to_text(level: Level) -> str:
    """A graph, system, kernel, launch, function or program as text."""
    for kind, show, _ in _LEVELS.values():
        if isinstance(level, kind):
            return show(level)
    raise TypeError(f"{type(level).__name__} is no level of the program")


def parse(source: str) -> Level:
    """What `source` writes, by the keyword it opens with. Raises ParseError."""
    p = Parser(source)
    if not p.sees(*_LEVELS):
        raise p.error(f"expected one of {', '.join(_LEVELS)}; found {p.token.text or 'nothing'!r}")
    level: Level = _LEVELS[p.token.text][2](source)
    return level


__all__ = [
    "Level", "to_text", "parse", "parse_expr", "parse_function", "parse_graph", "parse_kernel",
    "parse_launch", "parse_program", "parse_system", "print_function", "print_graph",
    "print_kernel", "print_launch", "print_node", "print_program", "print_stage", "print_stmt",
    "print_system",
]  # fmt: skip
