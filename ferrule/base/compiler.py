"""Compiler: what a frontend is given to compile and to run with, so that it need not know how; and
Writers, by which what it compiled becomes files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ferrule.base.errors import CompileError, FerruleError


def _uncounted(operator: str) -> None:
    """Counts nothing."""


@dataclass(frozen=True)
class Compiler:
    """`program_of` makes a loaded program of a Graph (`pipeline.compile.CompiledGraph`), or raises
    CompileError or UnsupportedError. `on_arrays` makes a function of NumPy arrays of a program's
    executable. `count_fallback` is told the name of each operator that runs in the framework; a
    `strict` one allows none. Where it works `ahead` of the calls, parameters are bound, and weights
    packed, as soon as programs are there, and not by the first call.
    """

    program_of: Callable[..., Any]
    on_arrays: Callable[[Any], Callable[..., tuple[Any, ...]]]
    count_fallback: Callable[[str], None] = _uncounted
    strict: bool = False
    ahead: bool = False

    def compile(self, graph: Any) -> Any:
        """The program of a graph. Raises CompileError for whatever goes wrong in the compiler."""
        try:
            return self.program_of(graph)
        except FerruleError:
            raise
        except MemoryError:
            raise CompileError(f"{graph.name}: there is no memory left to compile it") from None
        except Exception as error:
            raise CompileError(
                f"{graph.name} could not be compiled, a defect of ferrule, please report it: "
                f"{type(error).__name__}: {error}"
            ) from error


class Writers(NamedTuple):
    """What writes a compiled model elsewhere. `save` writes an artifact, `bundle` the folder of a C
    library, each called as f(path, compiled, targets); `stablehlo(compiled, sizes, weights)` gives
    a text.
    """

    save: Callable[..., None]
    bundle: Callable[..., None]
    stablehlo: Callable[..., str]
