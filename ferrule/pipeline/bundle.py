"""Bundling: functions of a model as a C library, which needs neither Python nor a framework.

    bundle("mlp", [Source("main", graph, ..)], ("x86-64", "x86-64-v3"), "out", settings)

    out = mlp.h libmlp.so libmlp.a mlp.safetensors main.c CMakeLists.txt
        | mlp.h mlp.wasm mlp.mjs main.mjs mlp.safetensors             for wasm32

Each graph is compiled for each target, and all of it with the C API (`ferrule.codegen.capi`) and a
thread pool is one shared library, by our own linker. No C compiler is asked. WebAssembly modules
are linked by wasm-ld; without it the objects are written, and the command that links them.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ferrule.base import log
from ferrule.base.artifact import Compiled, DimSource, TensorSpec
from ferrule.base.config import Settings
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import CompileError, InputError
from ferrule.codegen.capi import files
from ferrule.codegen.capi import levels as cpus
from ferrule.codegen.capi.api import IMPORTS, api_text, exports
from ferrule.codegen.capi.layout import NARROW, WIDE
from ferrule.codegen.capi.model import digest
from ferrule.codegen.capi.spec import Bundle, Dim, Function, Tensor
from ferrule.codegen.link import wasm
from ferrule.codegen.link.archive import archive
from ferrule.codegen.link.elf import shared_library
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.source import Made, Source
from ferrule.pipeline.build import Tensors, write_file
from ferrule.pipeline.compile import compile_for
from ferrule.runtime import pool
from ferrule.target.cpu import PORTABLE, Target, plainest, portable

_Files = dict[str, Sequence[bytes | memoryview]]  # the contents of files by name, in parts


def bundle(
    name: str,
    sources: Sequence[Source],
    targets: Sequence[str],
    folder: str | os.PathLike[str],
    settings: Settings,
) -> None:
    """Writes the bundle into `folder`, which is made where it is not there.

    Raises InputError for a target that is not in PORTABLE, targets of several architectures, or a
    folder that cannot be written, and CompileError where a function cannot be compiled.
    """
    by_name = {n: portable(n) for n in dict.fromkeys(targets)}
    levels = cpus.ordered(list(by_name))
    chosen = [by_name[n] for n in levels]
    if len({t.architecture for t in chosen}) != 1:
        raise InputError(
            "a bundle is for one architecture: name its targets, of "
            + ", ".join(f"{n} ({m})" for n, (m, _) in PORTABLE.items())
        )
    if len({s.name for s in sources}) != len(sources) or not sources:
        raise InputError("a bundle has one function or more, each with a name of its own")
    sources = [_wanted(s) for s in sources]
    weights = _Weights(sources)
    plain = files.identifier(name)
    prefixes = [_prefix(plain, s, sources) for s in sources]
    if len(set(prefixes)) != len(prefixes):
        raise InputError(f"two functions have one name in C: {', '.join(prefixes)}; rename one")
    functions = tuple(
        _function(s, prefix, _compiled(s, chosen, settings), weights)
        for s, prefix in zip(sources, prefixes)
    )
    made = Bundle(
        plain, functions, levels, weights.size, len(weights.header), digest(weights.header)
    )
    objects = _objects(made, chosen)
    found = (_module if chosen[0].is_wasm else _libraries)(made, objects)
    if weights.parts:
        found[files.weights_name(made)] = weights.parts
    _write(Path(folder), found)


def _prefix(name: str, s: Source, sources: Sequence[Source]) -> str:
    return name if len(sources) == 1 else f"{name}_{files.identifier(s.name)}"


def _wanted(s: Source) -> Source:
    """The same with those outputs of the graph that are results, each once."""
    used = sorted({r.index for r in s.results if r.index is not None})
    if used == list(range(len(s.graph.outputs))):
        return s
    graph = replace(s.graph, outputs=tuple(s.graph.outputs[i] for i in used))
    results = (r if r.index is None else replace(r, index=used.index(r.index)) for r in s.results)
    return replace(s, graph=graph, results=tuple(results))


class _Weights:
    """The file of weights, and where in it each array lies."""

    def __init__(self, sources: Sequence[Source]) -> None:
        tensors = Tensors(sources)
        self.names = tensors.names
        self.parts = tensors.parts() if tensors.held else []
        self.header = bytes(self.parts[0]) if self.parts else b""
        self.size = sum(len(p) for p in self.parts)
        table = json.loads(self.header[8:]) if self.parts else {}
        self.offsets = {n: len(self.header) + e["data_offsets"][0] for n, e in table.items()}

    def offset(self, array: object) -> int:
        return self.offsets[self.names[id(array)]]


def _compiled(s: Source, targets: Sequence[Target], settings: Settings) -> tuple[Compiled, ...]:
    """The programs for the targets, which take and give the same."""
    found = tuple(compile_for(s.graph, t, settings) for t in targets)
    for c in found:
        same = [getattr(x, n) for n in ("inputs", "outputs", "params", "dims", "errors")
                for x in (c, found[0])]  # fmt: skip
        if same[::2] != same[1::2]:
            raise CompileError(f"{s.name} takes other tensors when it is compiled for other CPUs")
    return found


def _function(
    s: Source, prefix: str, programs: tuple[Compiled, ...], weights: _Weights
) -> Function:
    first = programs[0]
    places = sorted({x.place for x in s.inputs})
    inputs = []
    for p in places:
        given = {(first.inputs[i].dtype, first.inputs[i].shape, x.order)
                 for i, x in enumerate(s.inputs) if x.place == p}  # fmt: skip
        if len(given) > 1:
            raise CompileError(f"{s.name} reads its argument {s.arguments[p]} in several layouts")
        ((dtype, shape, order),) = given
        inputs.append(_tensor(s.arguments[p], TensorSpec("", dtype, shape), order))
    at = {p: k for k, p in enumerate(places)}
    indices = [r.index for r in s.results]
    made = tuple(indices.index(i) for i in range(len(first.outputs)))
    results = tuple(_result(r, first) for r in s.results)
    dims = tuple(_dim(d, at, s) for d in first.dims)
    guards = tuple(dict.fromkeys(g for c in programs for g in c.guards))
    return Function(
        s.name, prefix, tuple(inputs), results, dims, guards,
        tuple(at[x.place] for x in s.inputs), made,
        tuple(None if r.array is None else weights.offset(r.array) for r in s.results),
        tuple(_copied(k, r, made) for k, r in enumerate(s.results)),
        tuple(weights.offset(x) for _, x in s.params), programs, first.errors,
    )  # fmt: skip


def _copied(k: int, r: Made, made: Sequence[int]) -> int | None:
    return None if r.index is None or made[r.index] == k else made[r.index]


def _result(r: Made, c: Compiled) -> Tensor:
    if r.array is not None:
        return Tensor(r.name, from_numpy(r.array.dtype).name, r.array.shape)
    assert r.index is not None
    return _tensor(r.name, c.outputs[r.index], r.order)


def _tensor(name: str, spec: TensorSpec, order: tuple[int, ...] | None) -> Tensor:
    """A tensor that lies in memory as the program's, whose axes are the tensor's in `order`."""
    if order is None or order == tuple(range(len(order))):
        return Tensor(name, spec.dtype, spec.shape)
    shape = tuple(spec.shape[order.index(axis)] for axis in range(len(order)))
    return Tensor(name, spec.dtype, shape, order)


def _dim(d: DimSource, at: Mapping[int, int], s: Source) -> Dim:
    given = s.inputs[d.input_index]
    axis = d.axis if d.axis is None or given.order is None else given.order[d.axis]
    return Dim(d.name, at[given.place], axis, d.lo, d.hi, d.multiple, d.expected)


def _objects(made: Bundle, targets: Sequence[Target]) -> dict[str, bytes]:
    """The objects by name: the API, which runs on every CPU of the architecture, the pool, and the
    programs.
    """
    machine = targets[0].architecture
    plain = plainest(machine)
    programs = {c.key: c.object_code for f in made.functions for c in f.programs}
    return {
        "api.o": compile_module(api_text(made, NARROW if plain.is_wasm else WIDE), plain),
        "pool.o": compile_module(pool.ir_text(plain.triple), plain),
        **{f"program{k}.o": code for k, code in enumerate(programs.values())},
    }


def _libraries(made: Bundle, objects: Mapping[str, bytes]) -> _Files:
    """The files of a library for Linux, but for the weights."""
    library = f"lib{made.name}"
    imports = (*IMPORTS, *cpus.imports(made.levels), *pool.IMPORTS)
    code = list(objects.values())
    shared = shared_library(code, exports(made), f"{library}.so", imports, resident=True)
    return {
        f"{made.name}.h": [files.header_text(made).encode()],
        f"{library}.so": [shared],
        f"{library}.a": [archive(objects)],
        "main.c": [files.example_text(made).encode()],
        "CMakeLists.txt": [files.cmake_text(made).encode()],
    }


def _module(made: Bundle, objects: Mapping[str, bytes]) -> _Files:
    """The files of a WebAssembly module, but for the weights."""
    names = exports(made, NARROW)
    found: _Files = {
        f"{made.name}.h": [files.header_text(made).encode()],
        f"{made.name}.mjs": [files.script_text(made).encode()],
        "main.mjs": [files.script_example_text(made).encode()],
    }
    if wasm.is_installed():
        return {**found, f"{made.name}.wasm": [wasm.linked(objects, names)]}
    command = shlex.join(wasm.command(list(objects), names, f"{made.name}.wasm"))
    log.warn(f"{wasm.LINKER} is not installed, so there are objects and no module: sh link.sh")
    objects_of: _Files = {name: [code] for name, code in objects.items()}
    return {**found, **objects_of, "link.sh": [f"{command}\n".encode()]}


def _write(folder: Path, found: _Files) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error}") from error
    for name, parts in found.items():
        write_file(folder / name, functools.partial(_fill, parts))


def _fill(parts: Sequence[bytes | memoryview], stream: BinaryIO) -> None:
    stream.writelines(parts)
