"""`ferrule settings`: every setting, its environment variable and its value."""

from __future__ import annotations

import argparse

from ferrule.base import config
from ferrule.cli.command import Command


def _run(options: argparse.Namespace) -> None:
    print(config.table())


COMMAND = Command("settings", "every setting, its environment variable and its value", _run)
