"""Building: functions of a model as an artifact that is run without the compiler.

    build(name, [Source("main", graph, params, ...)], ("x86-64-v3", "aarch64"), "m.ferrule")

Each graph is compiled for each target. The objects of an architecture and the thread pool become
one shared library, parameters one file of weights, and what programs make of them files of their
own where they are packed ahead (`packing`); `ferrule.base.manifest` tells how they lie in
the artifact, and `ferrule.runtime.load` reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ferrule.base.artifact import Compiled
from ferrule.base.config import Settings
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import InputError
from ferrule.base.files import write_whole
from ferrule.base.manifest import (
    LEVEL,
    MANIFEST,
    PACKED,
    SIGNATURE,
    WEIGHTS,
    Entry,
    Images,
    Input,
    Manifest,
    Result,
    Stored,
    bare,
)
from ferrule.base.safetensors import PAGE, header_of
from ferrule.base.signed import signed
from ferrule.base.version import VERSION
from ferrule.codegen.capi import levels as cpus
from ferrule.codegen.link.elf import shared_library
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.source import Source
from ferrule.pipeline.compile import compile_for
from ferrule.pipeline.packing import NOTHING, Packed, packings
from ferrule.runtime import pool
from ferrule.target.cpu import PORTABLE, plainest, portable

Array = NDArray[Any]

DEFAULT_TARGETS = ("x86-64-v3", "x86-64-v4")
_LARGE = 1 << 31  # bytes of an entry from which on its header is that of Zip64
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of each entry, so that equal models give equal files


def build(
    name: str,
    sources: Sequence[Source],
    targets: Sequence[str],
    path: str | os.PathLike[str],
    settings: Settings,
    *,
    packed: bool = False,
    sign: str | os.PathLike[str] | None = None,
) -> None:
    """Writes the artifact `path`, which is there whole or not at all.

    With `packed`, what programs prepare of their parameters is in it, and parameters that nothing
    else reads are not. `sign` is a file with a private key (`ferrule.base.signed`). Raises
    InputError for a target that is not in PORTABLE or cannot be packed for here, a key that is none
    or a folder that cannot be written, and CompileError where a function cannot be compiled.
    """
    chosen = {t: portable(t) for t in dict.fromkeys(targets)}
    if not chosen:
        raise InputError(f"name a target to build for, of {', '.join(PORTABLE)}")
    if any(t.is_wasm for t in chosen.values()):
        raise InputError("an artifact is for Linux: make a C bundle for wasm32")
    if len({s.name for s in sources}) != len(sources) or not sources:
        raise InputError("an artifact has one function or more, each with a name of its own")
    tensors = Tensors(sources)
    programs = {
        (s.name, t.name, t.architecture): compile_for(s.graph, t, settings)
        for s in sources
        for t in chosen.values()
    }
    ahead = packings(sources, programs, tensors.array) if packed else NOTHING
    entries = tuple(_entry(s, programs, tensors, ahead) for s in sources)
    machines = dict.fromkeys(t.architecture for t in chosen.values())
    names = {
        m: cpus.ordered([n for n, t in chosen.items() if t.architecture == m]) for m in machines
    }
    images = {
        f"{m}-linux": Images(f"lib/{m}-linux.so", tuple(f"{m}/{chosen[n].name}" for n in names[m]))
        for m in machines
    }
    files: dict[str, Sequence[bytes | memoryview]] = {
        f"lib/{m}-linux.so": [_library(m, names[m], programs)] for m in machines
    }
    needed = {n for e in entries for level in e.programs for n in e.needed(level)}
    requires = () if needed == set(tensors.held) else (PACKED,)
    if needed:
        files[WEIGHTS] = tensors.parts(needed)
    files |= {file: [data] for file, data in ahead.files.items()}
    stored = {f: _stored(p) for f, p in files.items()}
    manifest = Manifest(name, entries, images, stored, f"ferrule {VERSION}", requires)
    text = manifest.to_json().encode()
    head = {MANIFEST: [text]} | ({} if sign is None else {SIGNATURE: [signed(text, sign)]})
    write_file(Path(path), lambda stream: _zip(stream, {**head, **files}))


class Tensors:
    """The arrays of all sources, equal ones once."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.held: dict[str, tuple[str, Array]] = {}
        self.names: dict[int, str] = {}  # by the identity of the array
        by_content: dict[Any, str] = {}
        for s in sources:
            known = zip(s.graph.params, s.params, strict=True)
            given = [(n, v.dtype.name, x) for v, (n, x) in known]
            fixed = [(r.name, r.array) for r in s.results if r.array is not None]
            given += [(f"{s.name}.{n}", from_numpy(x.dtype).name, x) for n, x in fixed]
            for wanted, dtype, x in given:
                data = np.ascontiguousarray(x)
                key = dtype, x.shape, hashlib.sha256(_bytes(data)).digest()
                if key not in by_content:
                    by_content[key] = self._free(wanted)
                    self.held[by_content[key]] = dtype, data.reshape(x.shape)
                self.names[id(x)] = by_content[key]

    def _free(self, wanted: str) -> str:
        name, n = wanted, 1
        while name in self.held:
            n += 1
            name = f"{wanted}.{n}"
        return name

    def array(self, x: Array) -> Array:
        """An array of the sources as it is held."""
        return self.held[self.names[id(x)]][1]

    def parts(self, names: Set[str] | None = None) -> list[bytes | memoryview]:
        """The file of the weights with these names, or of all, in parts."""
        wanted = self.held if names is None else {n: self.held[n] for n in self.held if n in names}
        header, order = header_of(wanted)
        return [header, *(_bytes(self.held[n][1]) for n in order)]


def _bytes(x: Array) -> memoryview:
    """The memory of a dense array."""
    return x.reshape(-1).view(np.uint8).data


def _entry(
    s: Source,
    programs: Mapping[tuple[str, str, str], Compiled],
    tensors: Tensors,
    ahead: Packed,
) -> Entry:
    outputs = tuple(
        Result(r.name, r.index, r.order, "" if r.array is None else tensors.names[id(r.array)])
        for r in s.results
    )
    own = {
        f"{machine}/{level}": bare(c)
        for (name, level, machine), c in programs.items()
        if name == s.name
    }
    params = tuple(tensors.names[id(x)] for _, x in s.params)
    inputs = tuple(Input(x.place, x.order) for x in s.inputs)
    packed = {level: file for (name, level), file in ahead.of.items() if name == s.name}
    return Entry(s.name, s.arguments, inputs, outputs, params, own, packed)


def _library(
    machine: str, levels: Sequence[str], programs: Mapping[tuple[str, str, str], Compiled]
) -> bytes:
    """The code of all programs for an architecture, what tells the level of a CPU, and a thread
    pool, which run on any of the architecture.
    """
    own = {c.key: c for (*_, m), c in programs.items() if m == machine}.values()
    plain = plainest(machine)
    texts = (cpus.level_module(levels), pool.ir_text(plain.triple))
    exports = [f for c in own for f in (c.entry, c.prepare, c.arena_bytes)]
    return shared_library(
        [*(c.object_code for c in own), *(compile_module(text, plain) for text in texts)],
        [*dict.fromkeys(exports), LEVEL, *pool.SYMBOLS],
        "model.so",
        imports=(*cpus.imports(levels), *pool.IMPORTS),
    )


def _stored(parts: Sequence[bytes | memoryview]) -> Stored:
    sums = hashlib.sha256()
    for p in parts:
        sums.update(p)
    return Stored(sum(len(p) for p in parts), sums.hexdigest())


def _zip(stream: BinaryIO, files: Mapping[str, Sequence[bytes | memoryview]]) -> None:
    """Stored entries, each on a page: the extra field of its header fills up what lies before."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, parts in files.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            large = sum(len(p) for p in parts) >= _LARGE
            # A private field (APPNOTE 4.5), as zipalign writes it; behind it comes that of Zip64.
            at = stream.tell() + 30 + len(name.encode()) + 4 + (20 if large else 0)
            gap = -at % PAGE
            info.extra = b"\x35\xd9" + gap.to_bytes(2, "little") + bytes(gap)
            with archive.open(info, "w", force_zip64=large) as entry:
                for p in parts:
                    entry.write(p)


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file, which is there whole or not at all. Raises InputError where it cannot be."""
    try:
        write_whole(path, write)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error


def plain_name(text: str) -> str:
    """A name of a function or tensor from any text."""
    return re.sub(r"[^\w.]+", "_", text) or "main"
