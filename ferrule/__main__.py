"""The command line.

    python -m ferrule settings                      every setting, its variable and its value
    python -m ferrule opt FILE --to LEVEL           a program as text, brought down to a level
    python -m ferrule explain FILE                  its kernels, and why they are what they are
    python -m ferrule demo                          sentence embeddings, compiled and timed

It ends with 0, with 1 and a message on the standard error where ferrule refuses, and with 2 for a
command line that makes no sense.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import ferrule
from ferrule.base import config, target
from ferrule.base.errors import FerruleError, InputError
from ferrule.codegen.compile_ir import assembly
from ferrule.compile import LEVELS, PASSES, Pass, State, begin, run, steps, text_of
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.text import parse_all
from ferrule.ir.verify import verify

GOALS = (*LEVELS[:-1], "asm")

_OPT = """\
Reads a program as text, runs the passes below it, and writes it at a later level.

FILE (- is the standard input) holds one graph, system or program, or one or several kernels or
functions; the keyword tells which. A kernel with `kind` or `for` lines counts as scheduled. From
kernels or functions alone no program can be made, but LLVM text can.

levels:
  graph > system > kernels > scheduled > functions > program > llvm > asm

passes:
"""
_EXAMPLE = """\

example:
  echo 'graph g { input x: f32[64, 256] y: f32[64, 256] = softmax(x) {axis = 1} return y }' |
    python -m ferrule opt - --to scheduled
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status. argparse itself exits with 2, or 0 for help."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        _run(options, rest)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (FerruleError, OSError, UnicodeDecodeError) as error:
        print(f"ferrule: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ferrule", description=(ferrule.__doc__ or "").partition(": ")[2]
    )
    parser.add_argument("--version", action="version", version=f"ferrule {ferrule.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("settings", help="every setting, its environment variable and its value")

    opt = commands.add_parser(
        "opt",
        help="bring a program from one level to another, as text",
        description=_OPT + _pass_table() + _EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    opt.add_argument("file", metavar="FILE", help="the program as text, or - for standard input")
    opt.add_argument("--to", required=True, choices=GOALS, metavar="LEVEL", help="where to stop")
    opt.add_argument(
        "--print-after",
        action="append",
        default=[],
        choices=(*(p.name for p in PASSES[:-1]), "all"),
        metavar="PASS",
        help="show the program after a pass, or after all, on the standard error",
    )
    explain = commands.add_parser(
        "explain", help="what each kernel of a program holds and costs, and what was decided"
    )
    explain.add_argument("file", metavar="FILE", help="a graph, system or program as text, or -")
    for command in (opt, explain):
        command.add_argument(
            "--target",
            choices=("host", *target.NAMES),
            metavar="NAME",
            help=f"the CPU to compile for: host, {', '.join(target.NAMES)} (default: the setting)",
        )
    commands.add_parser(
        "demo", help="run examples/demo.py, with the arguments that follow; it needs ferrule[demo]"
    )
    return parser


def _pass_table() -> str:
    rows = [(p.name, f"{p.source} -> {p.result}", p.doc) for p in PASSES[:-1]]
    return "".join(f"  {name:10} {way:23} {doc}\n" for name, way, doc in rows)


def _run(options: argparse.Namespace, rest: list[str]) -> None:
    if options.command == "settings":
        print(config.table())
    elif options.command == "demo":
        _demo(rest)
    else:
        chosen = {} if options.target is None else {"target": options.target}
        with config.override(**chosen):
            state = _read(options.file)
            if options.command == "opt":
                _opt(state, options.to, options.print_after)
            else:
                _explain(state)


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


def _opt(state: State, goal: str, shown: Sequence[str]) -> None:
    def after(p: Pass, s: State) -> None:
        if p.name in shown or "all" in shown:
            print(f"---- after {p.name}", text_of(s), sep="\n", file=sys.stderr)

    result = "llvm" if goal == "asm" else goal
    whole = state.system is not None or state.graph is not None or state.program is not None
    done, _ = run(state, steps(state.level, result, whole), after)
    print(assembly(done.llvm, done.target) if goal == "asm" else text_of(done), end="")


def _explain(state: State) -> None:
    done, _ = run(state, steps(state.level, "program"))
    if done.program is not None:
        print("\n".join(done.program.explain))


def _demo(arguments: list[str]) -> None:
    script = Path(ferrule.__file__).parent.parent / "examples" / "demo.py"
    if not script.is_file():
        raise InputError(f"there is no {script}: the demo is in ferrule's source, not its wheel")
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:
        raise InputError(f"the demo needs {error.name}: pip install 'ferrule[demo]'") from error


if __name__ == "__main__":
    sys.exit(main())
