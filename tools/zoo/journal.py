"""The journal of a run: a line for each case that is done, so that a run can be resumed.

The first line says what was run: ferrule's sources and this folder's. A journal of anything else is
begun anew, so that a report never mixes results of two compilers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import ferrule
from ferrule.base.digest import digest
from tools.zoo.case import Result


@dataclass(frozen=True)
class Journal:
    """The journal at `path`."""

    path: Path

    def read(self) -> list[Result]:
        """The results of earlier runs; begins the journal if there are none."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        if not lines or json.loads(lines[0]) != {"of": _sources()}:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"of": _sources()}) + "\n")
            return []
        return [Result.from_json(json.loads(line)) for line in lines[1:]]

    def add(self, result: Result) -> None:
        """Note a case as done."""
        with self.path.open("a") as file:
            file.write(json.dumps(result.as_json()) + "\n")


def _sources() -> str:
    folders = (Path(ferrule.__file__).parent, Path(__file__).parent)
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return digest(*(path.read_bytes() for path in sources))
