"""Runs shared libraries that `ferrule.codegen.link` makes, in this process and under emulators.

    library = opened(data)                              by dlopen, from memory
    outputs = run_in_process(graph, arrays, target)     a graph's program, as a library
    text = run_emulated(data, "main", "riscv64")        a library's function as a process

A process is the library itself, moved to a fixed address by `executable`, which knows the format
from its specification alone. So the loader and the C library of the other architecture, which few
machines have, aren't needed.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from ferrule.base.artifact import ALIGNMENT, HOST_BYTES, SLOT_FIRST, Compiled
from ferrule.codegen.link.elf import shared_library
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.target.cpu import Target, named
from tests.codegen import aarch64
from tests.codegen.aarch64 import Layout

Array = np.ndarray[Any, Any]

RISCV = replace(
    named("generic"), triple="riscv64-unknown-linux-gnu", cpu="generic-rv64",
    features="+m,+a,+f,+d,+c", extensions=(),
)  # fmt: skip
RELAXED = replace(RISCV, features=RISCV.features + ",+relax")
X86 = replace(
    named("generic"), triple="x86_64-unknown-linux-gnu", cpu="x86-64", features="", extensions=()
)
NEON = named("neon")
TARGETS = {"x86-64": X86, "aarch64": NEON, "riscv64": RISCV, "riscv64-relax": RELAXED}

HOST = """\
define void @parallel(ptr %kernel, ptr %ctx, i64 %n, i64 %threads, ptr %user) {
  call void %kernel(ptr %ctx, i64 0, i64 %n, i64 0)
  ret void
}
"""
_OPENED = itertools.count()

# The first function of a process, and its calls of Linux, as numbers of the architecture.
_START = """\
declare i32 @main()

define void @_start() {
  %code = call i32 @main()
  call void @exit(i32 %code)
  unreachable
}

define void @exit(i32 %code) prologue [2 x i32] [EXIT] {
  unreachable
}

define i64 @transfer(i64 %number, i64 %file, ptr %at, i64 %bytes) prologue [6 x i32] [TRANSFER] {
  unreachable
}
"""
_CODE = {
    "aarch64": (
        (0xD2800BC8, 0xD4000001),
        (0xAA0003E8, 0xAA0103E0, 0xAA0203E1, 0xAA0303E2, 0xD4000001, 0xD65F03C0),
    ),
    "riscv64": (
        (0x05E00893, 0x00000073),
        (0x00050893, 0x00058513, 0x00060593, 0x00068613, 0x00000073, 0x00008067),
    ),
}
# Two objects that refer to one another in all ways, and a process that writes what they give.
FIRST = """\
@shared = external global i64
@byte = internal global i8 3
@half = internal global i16 300
@word = internal global i32 70000
@long = internal global i64 5000000000
@quad = internal global <4 x i32> <i32 1, i32 2, i32 3, i32 4>
@pair = internal global [2 x i64] [i64 11, i64 12]
@same = internal global i64 7
@table = internal constant [3 x ptr] [ptr @twice, ptr @thrice,
                                      ptr getelementptr (i8, ptr @pair, i64 8)]
$either = comdat any

declare i64 @thrice(i64)

define internal i64 @twice(i64 %x) {
  %y = mul i64 %x, 2
  ret i64 %y
}

define i64 @chosen() {
  ret i64 1
}

define linkonce_odr i64 @either() comdat {
  ret i64 1
}

define i64 @jump(i64 %x) {
  %y = tail call i64 @thrice(i64 %x)
  ret i64 %y
}

define ptr @place() {
  ret ptr @thrice
}

define void @keep(i64 %x) {
  store i64 %x, ptr @long
  ret void
}

define i64 @total(i64 %k) {
  %at = getelementptr ptr, ptr @table, i64 %k
  %f = load ptr, ptr %at
  %v0 = call i64 %f(i64 10)
  %last = load volatile ptr, ptr getelementptr (i8, ptr @table, i64 16)
  %v1 = load i64, ptr %last
  %b = load volatile i8, ptr @byte
  %v2 = sext i8 %b to i64
  %h = load volatile i16, ptr @half
  %v3 = sext i16 %h to i64
  %w = load volatile i32, ptr @word
  %v4 = sext i32 %w to i64
  %v5 = load volatile i64, ptr @long
  call void @keep(i64 9)
  %v6 = load volatile i64, ptr @long
  %q = load volatile <4 x i32>, ptr @quad
  %q2 = extractelement <4 x i32> %q, i32 2
  %v7 = sext i32 %q2 to i64
  %v8 = load volatile i64, ptr @same
  %v9 = load i64, ptr @shared
  %v10 = call i64 @chosen()
  %v11 = call i64 @either()
  %v12 = call i64 @jump(i64 1)
  %g = call ptr @place()
  %v13 = call i64 %g(i64 2)
  %s1 = add i64 %v0, %v1
  %s2 = add i64 %s1, %v2
  %s3 = add i64 %s2, %v3
  %s4 = add i64 %s3, %v4
  %s5 = add i64 %s4, %v5
  %s6 = add i64 %s5, %v6
  %s7 = add i64 %s6, %v7
  %s8 = add i64 %s7, %v8
  %s9 = add i64 %s8, %v9
  %s10 = add i64 %s9, %v10
  %s11 = add i64 %s10, %v11
  %s12 = add i64 %s11, %v12
  %s13 = add i64 %s12, %v13
  store volatile i64 5000000000, ptr @long
  ret i64 %s13
}
"""
SECOND = """\
@shared = global i64 1000
@same = internal global i64 100
$either = comdat any

define i64 @thrice(i64 %x) {
  %s = load volatile i64, ptr @same
  %y = mul i64 %x, 3
  %z = add i64 %y, %s
  ret i64 %z
}

define weak i64 @chosen() {
  ret i64 2
}

define linkonce_odr i64 @either() comdat {
  ret i64 2
}
"""
MAIN = """\
@out = internal global i64 0

declare i64 @total(i64)
declare i64 @transfer(i64, i64, ptr, i64)

define i32 @main() {
  %value = call i64 @total(i64 1)
  store i64 %value, ptr @out
  %done = call i64 @transfer(i64 64, i64 1, ptr @out, i64 8)
  ret i32 0
}
"""


def emulator(architecture: str) -> str | None:
    """The program that runs another architecture's processes, where it is installed."""
    return shutil.which(f"qemu-{architecture}")


def cpu_options(target: Target, bits: int) -> list[str]:
    """Which CPU an emulator is: one of RISC-V with vectors of so many bits, or without any."""
    if target.architecture != "riscv64":
        return []
    vectors = f"v=true,vlen={bits},vext_spec=v1.0" if "v" in target.extensions else "v=false"
    return ["-cpu", f"rv64,{vectors}"]


def compiled_for(graph: Graph, target: Target) -> Compiled:
    """A graph's program, not loaded."""
    return compile_program(program_of(graph, target), "program", target)


def exports(compiled: Compiled) -> tuple[str, ...]:
    return compiled.entry, compiled.prepare, compiled.arena_bytes


def library_of(compiled: Compiled, target: Target) -> bytes:
    """A program as a library, with what it expects of its host."""
    host = compile_module(HOST, target)
    return shared_library([compiled.object_code, host], [*exports(compiled), "parallel"], "libp.so")


def opened(data: bytes) -> ctypes.CDLL:
    """A library by dlopen, of a file that lies in memory. Each has a path of its own: glibc opens
    none twice.
    """
    path = f"/proc/self/{'./' * next(_OPENED)}fd"
    file = os.memfd_create("library")
    try:
        with open(file, "wb", closefd=False) as written:
            written.write(data)
        return ctypes.CDLL(f"{path}/{file}")
    finally:
        os.close(file)


def run_in_process(graph: Graph, arrays: Sequence[Array], target: Target) -> list[Array]:
    """The outputs of a graph for its inputs and then its params, by code in a library."""
    program = program_of(graph, target)
    compiled = compile_program(program, "program", target)
    library = opened(library_of(compiled, target))
    layout = Layout.of(program, aarch64._dims(compiled, [*arrays]), [*arrays])
    memory = np.frombuffer(bytearray(layout.block()), np.uint8)
    places = [memory.ctypes.data + offset for _, offset, _, _ in layout.places]
    count = len(places) - len(compiled.params)
    const = _aligned(compiled.const_bytes)
    parallel = ctypes.cast(library.parallel, ctypes.c_void_p).value
    host = np.array([HOST_BYTES, parallel, 0, 0], np.int64)
    head = [0, 2, const.ctypes.data, host.ctypes.data]
    block = [*head, *places[:count], *layout.dims, *places[count:]]
    assert len(block) == compiled.slots > SLOT_FIRST
    slots = (ctypes.c_int64 * len(block))(*block)
    at = ctypes.byref(slots)
    size = library[compiled.arena_bytes]
    size.restype = ctypes.c_int64
    arena = _aligned(size(at))
    slots[0] = arena.ctypes.data
    assert library[compiled.prepare](at) == 0
    assert library[compiled.entry](at) == 0
    return layout.results(memory.tobytes())


def _aligned(size: int) -> Array:
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :]


def run_graph_emulated(
    graph: Graph, arrays: list[Array], target: Target, folder: Path, bits: int = 128
) -> Any:
    """As `run_in_process`, on another architecture; its vectors have so many bits where a CPU may
    choose that.
    """
    program = program_of(graph, target)
    compiled = compile_program(program, "program", target)
    layout = Layout.of(program, aarch64._dims(compiled, arrays), arrays)
    main = compile_module(aarch64._main(compiled, layout), target)
    after = run_emulated([compiled.object_code, main], target, folder, layout.block(), bits)
    return layout.results(after)


def run_emulated(
    objects: Sequence[bytes], target: Target, folder: Path, given: bytes = b"", bits: int = 128
) -> bytes:
    """What `main` of these objects writes, as a process of another architecture. It has
    `transfer(number of read or write, file, address, bytes)` and `exit(code)`.
    """
    text = _START
    for name, words in zip(("EXIT", "TRANSFER"), _CODE[target.architecture]):
        text = text.replace(name, ", ".join(f"i32 {w}" for w in words))
    library = shared_library([*objects, compile_module(text, target)], ["_start"], "libmain.so")
    file = folder / "process"
    file.write_bytes(executable(library, "_start"))
    file.chmod(0o755)
    program = emulator(target.architecture)
    assert program is not None
    command = [program, *cpu_options(target, bits), str(file)]
    done = subprocess.run(command, input=given, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr.decode()}"
    return done.stdout


def executable(library: bytes, entry: str, base: int = 0x400000) -> bytes:
    """A library without imports as an executable at a fixed address, which begins at `entry`: its
    dynamic relocations are applied here.
    """
    image = bytearray(library)
    headers = program_headers(library)
    where = {name: value for name, value in dynamic_symbols(library).items() if value}

    def offset_of(address: int) -> int:
        return next(
            h.offset + address - h.address for h in headers
            if h.kind == 1 and h.address <= address < h.address + h.file_size
        )  # fmt: skip

    tags = dynamic_tags(library)
    start = offset_of(tags[7]) if 7 in tags else 0
    relative = {62: 8, 183: 1027, 243: 3}[struct.unpack_from("<H", image, 18)[0]]
    for at in range(start, start + tags.get(8, 0), 24):
        place, info, addend = struct.unpack_from("<QQq", image, at)
        assert info == relative, "an import"
        struct.pack_into("<Q", image, offset_of(place), addend + base)
    for k, h in enumerate(headers):
        struct.pack_into("<QQ", image, 64 + 56 * k + 16, *(2 * [h.address + base]))
    struct.pack_into("<H", image, 16, 2)
    struct.pack_into("<Q", image, 24, where[entry] + base)
    return bytes(image)


class Header:
    """A program header."""

    def __init__(self, words: tuple[int, ...]) -> None:
        self.kind, self.flags, self.offset, self.address, _, *rest = words
        self.file_size, self.memory_size, self.alignment = rest


def program_headers(library: bytes) -> list[Header]:
    at, count = struct.unpack_from("<32xQ16xH", library)
    return [Header(struct.unpack_from("<IIQQQQQQ", library, at + 56 * k)) for k in range(count)]


def dynamic_tags(library: bytes) -> dict[int, int]:
    found = next(h for h in program_headers(library) if h.kind == 2)
    pairs = struct.iter_unpack("<QQ", library[found.offset : found.offset + found.file_size])
    return dict(pairs)


def dynamic_symbols(library: bytes) -> dict[str, int]:
    """Names and values, as a loader sees them. They all lie in the first segment."""
    tags = dynamic_tags(library)
    count = struct.unpack_from("<4xI", library, tags[4])[0]
    found = {}
    for k in range(1, count):
        name, value = struct.unpack_from("<I4xQ", library, tags[6] + 24 * k)
        at = tags[5] + name
        found[library[at : library.index(b"\0", at)].decode()] = value
    return found


def object_of(text: str, target: Target, reloc: str = "pic") -> bytes:
    """A module as an object, by another relocation model than programs have."""
    found = llvm.Target.from_triple(target.triple)
    machine = found.create_target_machine(
        cpu=target.cpu, features=target.features, reloc=reloc, codemodel="default"
    )
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = target.triple
    return bytes(machine.emit_object(module))
