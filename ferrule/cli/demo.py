"""`ferrule demo`: examples/demo.py of the source tree."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import ferrule
from ferrule.base.errors import InputError
from ferrule.cli.command import Command


def _run(options: argparse.Namespace) -> None:
    script = Path(ferrule.__file__).parent.parent / "examples" / "demo.py"
    if not script.is_file():
        raise InputError(f"there is no {script}: the demo is in ferrule's source, not its wheel")
    sys.argv = [str(script), *options.rest]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:
        raise InputError(f"the demo needs {error.name}: pip install 'ferrule[demo]'") from error


COMMAND = Command(
    "demo",
    "run examples/demo.py, with the arguments that follow; it needs ferrule[demo]",
    _run,
    passes_on=True,
)
