"""Running passes on a program, and what one may see of it.

    done = lowered(graph, "kernels", options_for(target))
    outcome = run(graph, passes(options), options)

After each pass the options look in: `verify` checks the level against its rules, `dump_dir` keeps
it as a file; the setting `logs` tells timings and texts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.base import log, watch
from ferrule.base.errors import VerifyError
from ferrule.ir.analysis.cost import kernel_ns
from ferrule.ir.calls import alone, alone_functions, alone_scheduled
from ferrule.ir.kernel import Branch, Kernel, SerialLoop
from ferrule.ir.loop import Function
from ferrule.ir.module import Module
from ferrule.ir.text import to_text
from ferrule.ir.verify import verify
from ferrule.pipeline.passes import LLVM, Decisions, Object, Options, Pass, level_of, steps
from ferrule.target.machine import Machine

After = Callable[[Pass, Any], None]


@dataclass(frozen=True)
class Outcome:
    """A program after some passes: what it is now, what they decided, the seconds that each took,
    and what it was at the end of each level.
    """

    program: Any
    decisions: Decisions
    seconds: Mapping[str, float]
    levels: Mapping[str, Any]


def run(
    program: Any, passes: Sequence[Pass], options: Options, after: After | None = None
) -> Outcome:
    """`program` after `passes`; `after` sees it after each. Raises CompileError and
    UnsupportedError, and VerifyError if the options say `verify`.
    """
    seconds: dict[str, float] = {}
    decisions: list[Any] = []
    levels = {level_of(program): program}
    _look(None, program, options)
    names = tuple(p.name for p in passes)
    for i, p in enumerate(passes):
        watch.tell(watch.Step(name_of(program), names, i))
        started = time.perf_counter()
        program, decided = _apply(p, program)
        seconds[p.name] = time.perf_counter() - started
        decisions += decided
        levels[p.result] = program
        _look(p, program, options)
        if after is not None:
            after(p, program)
    log.log(1, lambda: f"{name_of(program)}: {_timings(seconds)}")
    return Outcome(program, tuple(decisions), seconds, levels)


def lowered(program: Any, level: str, options: Options) -> Any:
    """`program` brought down to one of LEVELS."""
    return run(program, steps(level_of(program), level, options), options).program


def _apply(p: Pass, program: Any) -> tuple[Any, Decisions]:
    if p.whole or not isinstance(program, Module):
        return p.run(program)
    decisions: list[Any] = []

    def one(body: Any) -> Any:
        done, decided = _apply(p, body)
        decisions.extend(decided)
        return done

    return program.map(one), tuple(decisions)


def whole(levels: Sequence[Any], machine: Machine) -> Any:
    """What was read from a text as a program: kernels or functions by themselves are made one.
    Kernels with loops, with branches or with kinds of axes count as scheduled.
    """
    kernels = [x for x in levels if isinstance(x, Kernel)]
    functions = [x for x in levels if isinstance(x, Function)]
    if functions:
        return alone_functions(functions)
    if not kernels:
        return levels[0]
    if any(k.kinds or any(isinstance(i, (SerialLoop, Branch)) for i in k.body) for k in kernels):
        return alone_scheduled(kernels, [kernel_ns(k, machine) for k in kernels])
    return alone(kernels)


def name_of(program: Any) -> str:
    """What a program is called, at any level."""
    return str(program.name if hasattr(program, "name") else program.interface.name)


def text_of(program: Any) -> str:
    """A program as text at its level; machine code has none."""
    if isinstance(program, Object):
        return ""
    return program.text if isinstance(program, LLVM) else to_text(program)


def _timings(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in seconds.items())


def _look(p: Pass | None, program: Any, options: Options) -> None:
    """What the options and the setting `logs` want after a pass, or before the first."""
    level = level_of(program)
    if options.verify and level not in ("llvm", "object"):
        _verify(p, program)
    if options.dump_dir is not None and level != "object":
        _dump(Path(options.dump_dir), program, level, options.key)
    if p is not None and level != "object":
        name, threshold = p.name, 4 if level == "llvm" else 3
        log.log(threshold, lambda: f"{name_of(program)} after {name}:\n{text_of(program)}")


def _verify(p: Pass | None, program: Any) -> None:
    try:
        verify(program)
    except VerifyError as error:
        where = "as given" if p is None else f"after the pass {p.name}"
        raise VerifyError(f"{name_of(program)}, {where}: {error}") from error


def _dump(folder: Path, program: Any, level: str, key: str) -> None:
    """Writes NAME.KEY.LEVEL.txt (.ll for LLVM text); the last pass of a level wins."""
    ending = "ll" if level == "llvm" else f"{level}.txt"
    folder = folder.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", name_of(program))
        (folder / f"{name}.{key}.{ending}").write_text(text_of(program), encoding="utf-8")
    except OSError as error:
        log.warn(f"programs are not dumped: {error}; see FERRULE_DUMP_DIR")
