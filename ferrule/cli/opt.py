"""`ferrule opt` and `ferrule explain`: programs as text, brought down to a level or explained."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ferrule.base.errors import InputError
from ferrule.cli.command import Command, add_target, chosen
from ferrule.codegen.llvm.compile import assembly
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.text import parse_all
from ferrule.ir.verify import verify
from ferrule.pipeline.passes import LEVELS, PASSES, Pass, State, begin, run, steps, text_of
from ferrule.target import cpu as target

GOALS = (*LEVELS[:-1], "asm")

_ABOUT = """\
Reads a program as text, runs the passes below it, and writes it at a later level.

FILE (- is the standard input) holds one graph, system or program, or one or several kernels or
functions; the keyword tells which. A kernel with `kind` or `for` lines counts as scheduled. From
kernels or functions alone no program can be made, but LLVM text can.

levels:
  graph > system > kernels > scheduled > functions > program > llvm > asm

passes:
{passes}
example:
  echo 'graph g {{ input x: f32[64, 256] y: f32[64, 256] = softmax(x) {{axis = 1}} return y }}' |
    python -m ferrule opt - --to scheduled
"""


def _pass_table() -> str:
    rows = [(p.name, f"{p.source} -> {p.result}", p.doc) for p in PASSES[:-1]]
    return "".join(f"  {name:10} {way:23} {doc}\n" for name, way, doc in rows)


def _opt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the program as text, or - for standard input")
    parser.add_argument("--to", required=True, choices=GOALS, metavar="LEVEL", help="where to stop")
    parser.add_argument(
        "--print-after",
        action="append",
        default=[],
        choices=(*(p.name for p in PASSES[:-1]), "all"),
        metavar="PASS",
        help="show the program after a pass, or after all, on the standard error",
    )
    add_target(parser)


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a graph, system or program as text, or -")
    add_target(parser)


def _opt(options: argparse.Namespace) -> None:
    with chosen(options):
        _lower(_read(options.file), options.to, options.print_after)


def _explain(options: argparse.Namespace) -> None:
    with chosen(options):
        state = _read(options.file)
        done, _ = run(state, steps(state.level, "program"))
    if done.program is not None:
        print("\n".join(done.program.explain))


def _read(file: str) -> State:
    """The verified program in `file`, as the state that passes start from."""
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    levels = parse_all(text)
    for level in levels:
        verify(level)
    kernels = tuple(x for x in levels if isinstance(x, Kernel))
    functions = tuple(x for x in levels if isinstance(x, Function))
    if len(levels) == 1:
        return begin(levels[0], target.current())
    if len(levels) not in (len(kernels), len(functions)):
        found = ", ".join(type(x).__name__.lower() for x in levels)
        raise InputError(
            f"{file} holds {found}; it must hold one graph, system or program, or kernels alone, "
            "or functions alone"
        )
    return begin(kernels or functions, target.current())


def _lower(state: State, goal: str, shown: Sequence[str]) -> None:
    def after(p: Pass, s: State) -> None:
        if p.name in shown or "all" in shown:
            print(f"---- after {p.name}", text_of(s), sep="\n", file=sys.stderr)

    result = "llvm" if goal == "asm" else goal
    whole = state.system is not None or state.graph is not None or state.program is not None
    done, _ = run(state, steps(state.level, result, whole), after)
    print(assembly(done.llvm, done.target) if goal == "asm" else text_of(done), end="")


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
