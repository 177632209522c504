"""Manifest: what an artifact, a file of compiled programs, says of itself.

    artifact = zip of stored entries:  manifest.json
                                       lib/ARCHITECTURE-SYSTEM.so    code of all levels, and a pool
                                       weights.safetensors           parameters, on a page
                                       packed/LEVEL/FUNCTION.bin     constants made of them
                                       manifest.sig                  of the manifest's bytes

    manifest = format requires name made_by entries libraries files
    entry    = name (arguments) (inputs) (outputs) (params) programs packed   a function
    input    = place among the arguments, order
    output   = name, place among the program's outputs or a tensor that it always is, order
    programs = level of an architecture -> descriptor of the compiled program, without its code
    packed   = level -> file with what its program prepares; parameters which then no run reads may
               be left out of the weights, where the file requires "packed"

A reader takes formats up to `FORMAT` and refuses a file that requires what it does not know; other
keys that it does not know it passes over. `files` has the size and the SHA-256 of each entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from ferrule.base.artifact import Compiled, from_header, header_of
from ferrule.base.errors import InputError

FORMAT = 1
PACKED = "packed"
KNOWN = frozenset({PACKED})
"""What a file may require of its reader."""

_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
MANIFEST, WEIGHTS, SIGNATURE = "manifest.json", "weights.safetensors", "manifest.sig"
LEVEL = "ferrule_level"
"""The function of a library, i64(), that gives the place of the level for this CPU, or -1."""


class Input(NamedTuple):
    """An input of a program: the argument at `place`, transposed by `order` where that is given."""

    place: int
    order: tuple[int, ...] | None = None


class Result(NamedTuple):
    """A result of an entry: the program's at `place`, which lies transposed by `order` where that
    is given, or the `tensor` that it always is.
    """

    name: str
    place: int | None
    order: tuple[int, ...] | None = None
    tensor: str = ""


class Entry(NamedTuple):
    """A function of a model. `arguments` are names in order, `inputs` and `params`, which are names
    of tensors, in the program's order; `programs` are descriptors without code by
    "ARCHITECTURE/LEVEL", and so are the files of the constants `packed` ahead, "" for none.
    """

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Result, ...]
    params: tuple[str, ...]
    programs: Mapping[str, Compiled]
    packed: Mapping[str, str] = MappingProxyType({})

    def needed(self, level: str) -> tuple[str, ...]:
        """The tensors without which the program for a level cannot run."""
        compiled, own = self.programs[level], [r.tensor for r in self.outputs if r.place is None]
        reads = range(len(self.params))
        if level in self.packed:
            reads = compiled.meta.get("reads", reads)
        return (*(self.params[i] for i in reads), *own)


class Images(NamedTuple):
    """A library: its file, and the levels that it has code for, the best last, as `LEVEL` counts
    them.
    """

    file: str
    levels: tuple[str, ...]


class Stored(NamedTuple):
    """What a file of the zip must be."""

    size: int
    sha256: str


class Manifest(NamedTuple):
    """`libraries` are by "ARCHITECTURE-SYSTEM"."""

    name: str
    entries: tuple[Entry, ...]
    libraries: Mapping[str, Images]
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
            "libraries": {k: [x.file, list(x.levels)] for k, x in self.libraries.items()},
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
            {
                str(key): Images(str(file), tuple(map(str, levels)))
                for key, (file, levels) in plain["libraries"].items()
            },
            {n: Stored(int(f["size"]), str(f["sha256"])) for n, f in plain["files"].items()},
            str(plain.get("made_by", "")),
            requires,
        )
    except InputError:
        raise
    except _MALFORMED as error:
        raise InputError(f"the artifact's manifest is malformed: {error!r}") from error


def _plain(e: Entry) -> dict[str, Any]:
    return {
        "name": e.name,
        "arguments": list(e.arguments),
        "inputs": [[x.place, x.order] for x in e.inputs],
        "outputs": [[r.name, r.place, r.order, r.tensor] for r in e.outputs],
        "params": list(e.params),
        "programs": {level: header_of(c) for level, c in e.programs.items()},
        "packed": dict(e.packed),
    }


def _entry(plain: Mapping[str, Any]) -> Entry:
    entry = Entry(
        str(plain["name"]),
        tuple(map(str, plain["arguments"])),
        tuple(Input(int(place), _order(order)) for place, order in plain["inputs"]),
        tuple(
            Result(str(n), None if i is None else int(i), _order(order), str(t))
            for n, i, order, t in plain["outputs"]
        ),
        tuple(map(str, plain["params"])),
        {str(k): from_header(dict(h), b"") for k, h in plain["programs"].items()},
        {str(k): str(f) for k, f in plain.get("packed", {}).items()},
    )
    for level, c in entry.programs.items():
        if len(c.inputs) != len(entry.inputs) or len(c.params) != len(entry.params):
            raise ValueError(f"{entry.name}: the program for {level} takes other arguments")
        if any(i not in range(len(c.params)) for i in c.meta.get("reads", ())):
            raise ValueError(f"{entry.name}: a parameter that is not there")
        if any(not 0 <= x.place < len(entry.arguments) for x in entry.inputs):
            raise ValueError(f"{entry.name}: an input that is not there")
        if any(r.place is not None and not 0 <= r.place < len(c.outputs) for r in entry.outputs):
            raise ValueError(f"{entry.name}: an output that is not there")
        ranks = [(x.order, len(spec.shape)) for x, spec in zip(entry.inputs, c.inputs)]
        made = [r for r in entry.outputs if r.place is not None]
        ranks += [(r.order, len(c.outputs[r.place or 0].shape)) for r in made]
        if any(o is not None and sorted(o) != list(range(n)) for o, n in ranks):
            raise ValueError(f"{entry.name}: an order of dimensions that is none")
    return entry


def _order(given: Any) -> tuple[int, ...] | None:
    return None if given is None else tuple(map(int, given))


def bare(c: Compiled) -> Compiled:
    """A descriptor without code and without what people read."""
    meta = {k: c.meta[k] for k in ("kernels", "target", "reads") if k in c.meta}
    return replace(c, object_code=b"", meta=meta)
