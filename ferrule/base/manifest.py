"""Manifest: what an artifact, a file of compiled programs, says of itself.

    artifact = zip of stored entries:  manifest.json
                                       lib/ARCHITECTURE-SYSTEM.so    code of all levels, and a pool
                                       weights.safetensors           parameters, on a page

    manifest = format requires name made_by entries libraries files
    entry    = name (inputs) (outputs) (params) programs      one function of the model
    output   = name, and the place of the program's output or the name of a tensor that it always is
    programs = level of an architecture -> descriptor of the compiled program, without its code

A reader takes formats up to `FORMAT` and refuses a file that requires what it does not know; other
keys that it does not know it passes over. `files` has the size and the SHA-256 of each entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ferrule.base.artifact import Compiled, from_header, header_of
from ferrule.base.errors import InputError

FORMAT = 1
KNOWN: frozenset[str] = frozenset()
"""What a file may require of its reader."""

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"


@dataclass(frozen=True)
class Result:
    """An output of an entry: the program's at `index`, or the `tensor` that it always is."""

    name: str
    index: int | None
    tensor: str = ""


@dataclass(frozen=True)
class Entry:
    """A function of a model. `inputs` are its arguments' names in order, `places` which of them
    each of the program's inputs is, `params` tensors' names, in the program's order; `programs`
    are descriptors without code by "ARCHITECTURE/LEVEL".
    """

    name: str
    inputs: tuple[str, ...]
    places: tuple[int, ...]
    outputs: tuple[Result, ...]
    params: tuple[str, ...]
    programs: Mapping[str, Compiled]


@dataclass(frozen=True)
class Stored:
    """What a file of the zip must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`libraries` are files by "ARCHITECTURE-SYSTEM"."""

    name: str
    entries: tuple[Entry, ...]
    libraries: Mapping[str, str]
    files: Mapping[str, Stored]
    made_by: str = ""
    requires: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As text, keys in order."""
        plain = {
            "format": FORMAT,
            "requires": list(self.requires),
            "name": self.name,
            "made_by": self.made_by,
            "entries": [_plain(e) for e in self.entries],
            "libraries": dict(self.libraries),
            "files": {n: {"size": f.size, "sha256": f.sha256} for n, f in self.files.items()},
        }
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def manifest_of(text: bytes) -> Manifest:
    """The manifest that `to_json` wrote. Raises InputError for one that is damaged, of a later
    format, or that requires what this version does not know.
    """
    try:
        plain = json.loads(text)
        version, requires = int(plain["format"]), tuple(plain["requires"])
        if version > FORMAT:
            raise InputError(
                f"the artifact has format {version}, and this version of ferrule reads {FORMAT}: "
                "install a later one, or build the artifact again"
            )
        unknown = [r for r in requires if r not in KNOWN]
        if unknown:
            raise InputError(
                f"the artifact requires {', '.join(map(str, unknown))}, which this version of "
                "ferrule does not know: install a later one"
            )
        return Manifest(
            str(plain["name"]),
            tuple(_entry(e) for e in plain["entries"]),
            {str(k): str(v) for k, v in plain["libraries"].items()},
            {n: Stored(int(f["size"]), str(f["sha256"])) for n, f in plain["files"].items()},
            str(plain.get("made_by", "")),
            requires,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the artifact's manifest is malformed: {error!r}") from error


def _plain(e: Entry) -> dict[str, Any]:
    return {
        "name": e.name,
        "inputs": list(e.inputs),
        "places": list(e.places),
        "outputs": [[r.name, r.index, r.tensor] for r in e.outputs],
        "params": list(e.params),
        "programs": {level: header_of(c) for level, c in e.programs.items()},
    }


def _entry(plain: Mapping[str, Any]) -> Entry:
    inputs, places = tuple(plain["inputs"]), tuple(int(i) for i in plain["places"])
    outputs = tuple(Result(n, None if i is None else int(i), t) for n, i, t in plain["outputs"])
    programs = {k: from_header(dict(h), b"") for k, h in plain["programs"].items()}
    entry = Entry(plain["name"], inputs, places, outputs, tuple(plain["params"]), programs)
    for level, c in programs.items():
        if len(c.inputs) != len(places) or len(c.params) != len(entry.params):
            raise ValueError(f"{entry.name}: the program for {level} takes other arguments")
        if any(not 0 <= p < len(inputs) for p in places):
            raise ValueError(f"{entry.name}: an input that is not there")
        if any(r.index is not None and not 0 <= r.index < len(c.outputs) for r in outputs):
            raise ValueError(f"{entry.name}: an output that is not there")
    return entry


def bare(c: Compiled) -> Compiled:
    """A descriptor without code and without what people read."""
    meta = {k: c.meta[k] for k in ("kernels", "target") if k in c.meta}
    return replace(c, object_code=b"", meta=meta)
