"""What a command is: a name, the arguments that it takes, and the function that runs it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ferrule.base import config
from ferrule.target import cpu as target


@dataclass(frozen=True)
class Command:
    """One command of `ferrule`.

    `summary` is its line in `ferrule --help`, `about` the text of its own help. `arguments` adds
    what it takes to its parser; `run` does the work, prints to the standard output, and raises
    FerruleError or OSError for what the command ends with 1. With `passes_on`, arguments that
    its parser does not know are left to it, in `options.rest`.
    """

    name: str
    summary: str
    run: Callable[[argparse.Namespace], None]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    about: str = ""
    passes_on: bool = False


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add `--target`."""
    parser.add_argument(
        "--target",
        choices=("host", *target.NAMES),
        metavar="NAME",
        help=f"the CPU to compile for: host, {', '.join(target.NAMES)} (default: the setting)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`."""
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to run with, 1 to 64 (default: the setting num_threads)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model's file."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX model (a file)")


def chosen(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The settings that `--target` and `--threads` give, for a `with` statement."""
    values = {
        "target": getattr(options, "target", None),
        "num_threads": getattr(options, "threads", None),
    }
    return config.override(**{name: x for name, x in values.items() if x is not None})


def seconds(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")
    return number


def positive(text: str) -> int:
    """A number from 1 on, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return number
