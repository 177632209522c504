"""The dispatcher: reads the command line, runs one command, turns errors into messages.

    ferrule run MODEL --random              a model, on inputs from files or at random
    ferrule opt FILE --to LEVEL             a program as text, brought down to a level

It ends with 0, with 1 and a message on the standard error where ferrule refuses, and with 2 for a
command line that makes no sense. To add a command, write a file with a Command and name it in
COMMANDS.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import ferrule
from ferrule.base.errors import FerruleError
from ferrule.cli import bench, build, demo, export, inspect, opt, profile, run, settings, tune
from ferrule.cli.command import Command

COMMANDS: tuple[Command, ...] = (
    run.COMMAND,
    build.COMMAND,
    export.COMMAND,
    bench.COMMAND,
    profile.COMMAND,
    inspect.COMMAND,
    tune.COMMAND,
    opt.OPT,
    opt.EXPLAIN,
    settings.COMMAND,
    demo.COMMAND,
)

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status. argparse itself exits with 2, or 0 for help."""
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    command = next(c for c in COMMANDS if c.name == options.command)
    if rest and not command.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        command.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        print("ferrule: there is no memory left for this", file=sys.stderr)
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
    for command in COMMANDS:
        command.arguments(
            commands.add_parser(
                command.name,
                help=command.summary,
                description=command.about or f"{command.summary}.".capitalize(),
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return parser
