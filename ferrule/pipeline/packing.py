"""Packing ahead: what programs prepare from their parameters, made when an artifact is built.

    packings(sources, programs, tensors)    Packed

`prepare` writes numbers alone into the const arena, at offsets that are fixed, whatever the dims
and the number of threads. So it may lie in a file, and be mapped. Its bits are those of the level's
own code, which therefore has to run on the machine that builds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ferrule.base.artifact import Compiled
from ferrule.base.cpu import architecture, supports
from ferrule.base.errors import InputError
from ferrule.ir.source import Source
from ferrule.runtime.cpu import Executable

Array = NDArray[Any]


class Packed(NamedTuple):
    """The files of constants with their bytes, equal ones once; for each function and level the
    name of its file, "" where it has no constants.
    """

    files: Mapping[str, bytes]
    of: Mapping[tuple[str, str], str]


NOTHING = Packed({}, {})


def packings(
    sources: Sequence[Source],
    programs: Mapping[tuple[str, str, str], Compiled],
    array: Callable[[Array], Array],
) -> Packed:
    """The constants of all programs, which are by function, level and architecture. `array` gives
    a parameter as it lies in the file of weights.

    Raises InputError for a level whose code this machine cannot run.
    """
    files: dict[str, bytes] = {}
    of: dict[tuple[str, str], str] = {}
    names: dict[bytes, str] = {}
    for s in sources:
        params = [array(x) for _, x in s.params]
        for (function, level, machine), c in programs.items():
            if function != s.name:
                continue
            data = constants(c, params, machine)
            key = hashlib.sha256(data).digest()
            if not data:
                of[function, f"{machine}/{level}"] = ""
                continue
            if key not in names:
                names[key] = f"packed/{machine}-{level}/{function}.bin"
                files[names[key]] = data
            of[function, f"{machine}/{level}"] = names[key]
    return Packed(files, of)


def constants(c: Compiled, params: Sequence[Array], machine: str) -> bytes:
    """What a program prepares from these parameters."""
    level = str(c.meta["target"])
    if machine != architecture() or not supports(level):
        raise InputError(
            f"the weights for {machine}/{level} are packed by code that this machine does not run: "
            "build there, leave out that target, or build without packed weights"
        )
    if not c.const_bytes:
        return b""
    program = Executable(c)
    if c.params:
        program.bind([(x.ctypes.data, x) for x in params])
    return bytes(program.constants)
