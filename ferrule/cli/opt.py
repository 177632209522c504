"""`ferrule opt` and `ferrule explain`: programs as text, brought down to a level or explained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ferrule.base import config
from ferrule.base.errors import InputError
from ferrule.cli.command import Command, add_target, chosen
from ferrule.codegen.llvm.compile import assembly
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.text import parse_all
from ferrule.ir.verify import verify
from ferrule.pipeline.explain import explain
from ferrule.pipeline.passes import LEVELS, Options, Pass, level_of, options_for, passes, steps
from ferrule.pipeline.run import run, text_of, whole
from ferrule.target import cpu as target

GOALS = (*LEVELS[:-1], "asm")
_PASSES = passes(Options(target.named("generic")))[:-1]

_ABOUT = """\
Reads a program as text, runs the passes below it, and writes it at a later level.

FILE (- is the standard input) holds a program at one of the levels; the keyword tells which. It may
also hold kernels alone or functions alone: what these read is given, and all that they write is a
result. A kernel with `kind` or `for` lines counts as scheduled; one with a `schedule` line gets
that schedule.

levels:
  graph > system > kernels > scheduled > functions > program > llvm > asm

passes:
{passes}
example:
  echo 'graph g {{ input x: f32[64, 256] y: f32[64, 256] = softmax(x) {{axis = 1}} return y }}' |
    python -m ferrule opt - --to scheduled
"""


def _pass_table() -> str:
    rows = [(p.name, f"{p.source} -> {p.result}", p.doc) for p in _PASSES]
    return "".join(f"  {name:16} {way:23} {doc}\n" for name, way, doc in rows)


def _opt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the program as text, or - for standard input")
    parser.add_argument("--to", required=True, choices=GOALS, metavar="LEVEL", help="where to stop")
    parser.add_argument(
        "--print-after",
        action="append",
        default=[],
        choices=(*(p.name for p in _PASSES), "all"),
        metavar="PASS",
        help="show the program after a pass, or after all, on the standard error",
    )
    add_target(parser)


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a graph, system or kernels as text, or -")
    add_target(parser)


def _opt(options: argparse.Namespace) -> None:
    def after(p: Pass, program: Any) -> None:
        if p.name in options.print_after or "all" in options.print_after:
            print(f"---- after {p.name}", text_of(program), sep="\n", file=sys.stderr)

    with chosen(options):
        given = options_for(target.named(config.get("target")))
        program = _read(options.file, given)
        goal = "llvm" if options.to == "asm" else options.to
        done = run(program, steps(level_of(program), goal, given), given, after).program
        text = text_of(done)
        print(assembly(text, given.target) if options.to == "asm" else text, end="")


def _explain(options: argparse.Namespace) -> None:
    with chosen(options):
        given = options_for(target.named(config.get("target")))
        program = _read(options.file, given)
        level = level_of(program)
        if LEVELS.index(level) > LEVELS.index("kernels"):
            raise InputError(f"{options.file} is at the level {level}: there is nothing to decide")
        print("\n".join(explain(run(program, steps(level, "program", given), given))))


def _read(file: str, options: Options) -> Any:
    """The program in `file`, verified."""
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    levels = parse_all(text)
    for level in levels:
        verify(level)
    kinds = {type(level) for level in levels}
    if len(levels) > 1 and kinds not in ({Kernel}, {Function}):
        found = ", ".join(type(x).__name__.lower() for x in levels)
        raise InputError(
            f"{file} holds {found}; it must hold one program, or kernels alone, or functions alone"
        )
    return whole(levels, options.target.machine)


OPT = Command(
    "opt",
    "bring a program from one level to another, as text",
    _opt,
    _opt_arguments,
    _ABOUT.format(passes=_pass_table()),
)
EXPLAIN = Command(
    "explain",
    "what each kernel of a program holds and costs, and what was decided",
    _explain,
    _explain_arguments,
)
