"""Artifacts: compiled models as files that run without the compiler, and without the framework.

    compiled.save("m.ferrule", targets=["x86-64-v3", "aarch64"])
    ferrule.save("m.ferrule", {"prefill": first, "decode": second})
    model = ferrule.load("m.ferrule")              # needs numpy alone
    compiled.bundle("folder", targets=["x86-64-v3"])     # a C library
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.base import config
from ferrule.base.errors import InputError
from ferrule.ir.source import Source
from ferrule.pipeline.build import DEFAULT_TARGETS, build, plain_name
from ferrule.pipeline.bundle import bundle as make_bundle


def save(
    path: str | os.PathLike[str],
    compiled: Any,
    targets: Sequence[str] = (),
    *,
    packed: bool = False,
    sign: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Builds what `ferrule.compile` gave, or several by name, into the artifact `path`.

    `targets` are of `x86-64`, `x86-64-v3` (AVX2), `x86-64-v4` (AVX-512), `aarch64`, `riscv64` and
    `riscv64-v` (with vectors); by default the second and third. The best that a CPU has is taken
    when the artifact is loaded. Equal weights are held once.

    With `packed`, the file has the weights as each level's code wants them: loading is faster, and
    they are in memory once. This machine must run all levels. `sign` is a file with a private key
    of Ed25519, in PEM, and needs the library cryptography.

    Raises UnsupportedError for a model of which a part runs in a framework, and InputError for
    other targets, what was not compiled, and a key that is none.
    """
    file = Path(path)
    chosen = tuple(targets) or DEFAULT_TARGETS
    settings = config.settings(**(options or {}))
    name = plain_name(file.stem)
    build(name, _sources(compiled), chosen, file, settings, packed=packed, sign=sign)


def bundle(
    folder: str | os.PathLike[str],
    compiled: Any,
    targets: Sequence[str] = (),
    *,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Writes what `ferrule.compile` gave, or several by name, as a C library into `folder`: the
    header NAME.h, libNAME.so, libNAME.a, the weights NAME.safetensors, an example main.c and a
    CMakeLists.txt. NAME is the folder's.

    `targets` are as for `save`, of one architecture, or `wasm32`, whose folder has NAME.wasm and
    the scripts NAME.mjs and main.mjs in place of libraries and the example in C. Raises what `save`
    raises.
    """
    name = Path(folder).absolute().name
    settings = config.settings(**(options or {}))
    make_bundle(name, _sources(compiled), tuple(targets) or DEFAULT_TARGETS, folder, settings)


def _sources(compiled: Any) -> list[Source]:
    """The functions to build, by the names that they are given."""
    several = dict(compiled) if isinstance(compiled, Mapping) else {"main": compiled}
    for name, model in several.items():
        if not hasattr(model, "source"):
            raise InputError(
                f"{name} is a {type(model).__name__}: expected what ferrule.compile gives for a "
                "module or an ONNX model"
            )
    return [model.source(plain_name(name)) for name, model in several.items()]
