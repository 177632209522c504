"""The journal of a run: a line for each operator that is done, so that a run can be resumed.

The first line says what is checked: ferrule's sources, PyTorch's version, the run's options. A
journal of anything else is begun anew, so that a report never mixes results of two compilers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import ferrule
from ferrule.base.digest import digest
from tests.conformance.report import Operator


@dataclass(frozen=True)
class Journal:
    """The journal at `path`; `key` says what is checked."""

    path: Path
    key: str

    def read(self) -> list[Operator]:
        """The operators that earlier runs have checked; begins the journal if there are none."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        if not lines or json.loads(lines[0]) != {"of": self.key}:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"of": self.key}) + "\n")
            return []
        return [Operator.from_json(json.loads(line)) for line in lines[1:]]

    def add(self, operator: Operator) -> None:
        """Note an operator as done."""
        with self.path.open("a") as file:
            file.write(json.dumps(operator.as_json()) + "\n")


def key(*options: object) -> str:
    """What a run with these options checks: the package's sources, this folder's and PyTorch's
    version.
    """
    import torch

    folders = (Path(ferrule.__file__).parent, Path(__file__).parent)
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return digest(torch.__version__, repr(options), *(path.read_bytes() for path in sources))
