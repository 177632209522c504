"""Shared libraries without a linker: programs that run from them, every kind of relocation on every
architecture, what other programs make of the files, and what is refused.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.base.errors import CompileError
from ferrule.base.numerics import difference
from ferrule.codegen.link.aarch64 import AARCH64
from ferrule.codegen.link.elf import shared_library
from ferrule.codegen.link.machine import Machine, OutOfRange
from ferrule.codegen.link.read import read_object
from ferrule.codegen.link.riscv import RISCV64
from ferrule.codegen.link.x86 import X86_64
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.graph import Graph
from ferrule.ir.interp import run_graph
from ferrule.ir.text import parse
from ferrule.target.cpu import NAMES, Target, host, least
from tests.codegen import library
from tests.codegen.library import FIRST, MAIN, NEON, RELAXED, RISCV, SECOND, TARGETS, X86
from tests.conftest import GOLDEN

Array = np.ndarray[Any, Any]
native = pytest.mark.skipif(host().architecture != "x86_64", reason="libraries of x86-64")
PROGRAMS = ("softmax", "linear", "attention", "loop", "gather", "scan")


def golden(name: str) -> Graph:
    graph: Graph = parse((GOLDEN / f"{name}.graph.txt").read_text(encoding="utf-8"))
    return graph


def arrays_of(graph: Graph) -> list[Array]:
    """Numbers for the inputs and params of a graph; its dims are 4."""
    rng, found = np.random.default_rng(3), []
    for value in (*graph.inputs, *graph.params):
        shape = tuple(4 if s.op == "dim" else int(s.attr) for s in value.shape)
        whole = value.dtype.numpy.kind in "iu"
        numbers = rng.integers(0, 5, shape) if whole else rng.standard_normal(shape)
        found.append(numbers.astype(value.dtype.numpy))
    return found


def agrees(graph: Graph, got: list[Array], arrays: list[Array]) -> None:
    for value, a, b in zip(graph.outputs, got, run_graph(graph, arrays)):
        assert difference(a, b, value.dtype) is None


@native
@pytest.mark.parametrize("target", [n for n in NAMES if n not in ("neon", "rvv")])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_from_a_library(name: str, target: str) -> None:
    if NAMES.index(target) < NAMES.index(host().name):
        pytest.skip(f"this machine does not run {target}")
    graph, made = golden(name), least(target)
    arrays = arrays_of(graph)
    agrees(graph, library.run_in_process(graph, arrays, made), arrays)


@pytest.mark.parametrize("target", [NEON, RISCV, RELAXED], ids=["neon", "riscv64", "relax"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_from_a_library_of_another_architecture(
    name: str, target: Target, tmp_path: Path
) -> None:
    needs_emulator(target)
    graph = golden(name)
    arrays = arrays_of(graph)
    agrees(graph, library.run_graph_emulated(graph, arrays, target, tmp_path), arrays)


def needs_emulator(target: Target) -> None:
    if library.emulator(target.architecture) is None:
        pytest.skip(f"no emulator of {target.architecture} is installed")


TOTAL = 130 + 12 + 3 + 300 + 70000 + 5000000000 + 9 + 3 + 7 + 1000 + 1 + 1 + 103 + 106
KINDS = {
    "x86-64": {1, 2, 4, 42},
    "aarch64": {257, 261, 275, 277, 278, 282, 283, 284, 285, 286, 299, 311, 312},
    "riscv64": {2, 19, 20, 23, 24, 25, 57},
    "riscv64-relax": {2, 19, 20, 23, 24, 25, 35, 39, 51, 57},
}
NAMES_OF = ("total", "jump", "thrice", "shared")


def both(target: Target) -> list[bytes]:
    return [compile_module(FIRST, target), compile_module(SECOND, target)]


def linked(target: Target) -> bytes:
    return shared_library(both(target), NAMES_OF, "libboth.so")


@pytest.mark.parametrize("name", TARGETS)
def test_objects_have_all_kinds_of_relocations(name: str) -> None:
    codes = [read_object(code) for code in both(TARGETS[name])]
    found = {r.kind for code in codes for some in code.relocations.values() for r in some}
    assert found >= KINDS[name]


@native
def test_objects_refer_to_one_another() -> None:
    opened = library.opened(linked(X86))
    opened.total.restype = ctypes.c_int64
    assert opened.total(1) == TOTAL
    assert opened.total(0) == TOTAL - 110
    assert opened.jump(5) == opened.thrice(5) == 115
    assert ctypes.c_int64.in_dll(opened, "shared").value == 1000


@pytest.mark.parametrize("name", ["aarch64", "riscv64", "riscv64-relax"])
def test_objects_refer_to_one_another_elsewhere(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    needs_emulator(target)
    objects = [*both(target), compile_module(MAIN, target)]
    out = library.run_emulated(objects, target, tmp_path)
    assert int.from_bytes(out, "little") == TOTAL


@native
@pytest.mark.parametrize("hidden", ["place", "chosen", "either", "twice", "no_such_name"])
def test_what_is_no_export_is_not_found(hidden: str) -> None:
    assert not hasattr(library.opened(linked(X86)), hidden)


@native
def test_many_exports_are_all_found() -> None:
    names = [f"function_{k}" for k in range(150)]
    text = "".join(f"define i32 @{n}() {{\n  ret i32 {k}\n}}\n" for k, n in enumerate(names))
    made = shared_library([compile_module(text, X86)], names[:120], "libmany.so")
    opened = library.opened(made)
    assert [opened[n]() for n in names[:120]] == [*range(120)]
    assert not any(hasattr(opened, n) for n in names[120:])
    assert set(library.dynamic_symbols(made)) == set(names[:120])


IMPORTS = """\
@function = internal global ptr @strlen

declare i64 @strlen(ptr)
declare i64 @atol(ptr)

define i64 @direct(ptr %text) {
  %n = call i64 @strlen(ptr %text)
  %m = call i64 @atol(ptr %text)
  %p = mul i64 %m, %n
  ret i64 %p
}

define i64 @indirect(ptr %text) {
  %f = load volatile ptr, ptr @function
  %n = call i64 %f(ptr %text)
  ret i64 %n
}

define i1 @equal() {
  %f = load volatile ptr, ptr @function
  %same = icmp eq ptr %f, @strlen
  ret i1 %same
}
"""


@native
def test_imports_are_found_by_the_loader() -> None:
    code = compile_module(IMPORTS, X86)
    made = shared_library([code], ["direct", "indirect", "equal"], "libi.so", ["strlen", "atol"])
    opened = library.opened(made)
    assert opened.direct(b"12 bytes") == 12 * opened.indirect(b"12 bytes") == 96
    assert opened.equal() & 1
    with pytest.raises(CompileError, match="no object defines atol, strlen"):
        shared_library([code], ["direct"], "libi.so")
    with pytest.raises(CompileError, match=r"no object defines strlen$"):
        shared_library([code], ["direct"], "libi.so", ["atol"])


@pytest.mark.parametrize("name", TARGETS)
def test_imports_of_every_architecture_are_read_by_others(name: str, tmp_path: Path) -> None:
    code = compile_module(IMPORTS, TARGETS[name])
    made = shared_library([code], ["direct"], "libi.so", ["strlen", "atol"], ["libc.so.6"])
    assert "NEEDED" in read_by("readelf", made, tmp_path)
    assert library.dynamic_symbols(made) == {
        "atol": 0, "strlen": 0, "direct": library.dynamic_symbols(made)["direct"],
    }  # fmt: skip


def read_by(program: str, made: bytes, folder: Path, options: str = "-aW") -> str:
    """What a program prints of a library; it must not complain."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    file = folder / "library.so"
    file.write_bytes(made)
    done = subprocess.run([program, options, str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Warning" not in done.stdout
    assert "Error" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_readelf_reads_the_file_without_complaint(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    graph = library.compiled_for(golden("linear"), target)
    for made in (linked(target), library.library_of(graph, target)):
        text = read_by("readelf", made, tmp_path)
        assert "Library soname: [lib" in text
        assert "GNU_RELRO" in text
        assert text.count("FUNC") > 4
        read_by("readelf", made, tmp_path, "--debug-dump=frames")


@pytest.mark.parametrize("name", TARGETS)
def test_segments_are_as_loaders_want_them(name: str) -> None:
    made = linked(TARGETS[name])
    headers = library.program_headers(made)
    loads = [h for h in headers if h.kind == 1]
    assert [h.flags for h in loads] == [4, 5, 6, 6]  # r, rx, rw, rw: never both w and x
    page = 65536 if name == "aarch64" else 4096
    for h in loads:
        assert h.alignment == page
        assert (h.address - h.offset) % page == 0
        assert h.offset + h.file_size <= len(made)
    for before, after in pairwise(loads):
        assert (before.address + before.memory_size - 1) // page < after.address // page
    (stack,) = (h for h in headers if h.kind == 0x6474E551)
    assert stack.flags & 1 == 0
    (relro,) = (h for h in headers if h.kind == 0x6474E552)
    assert (relro.address, relro.memory_size) == (loads[2].address, loads[2].memory_size)
    assert (relro.address + relro.memory_size) % page == 0


@native
def test_tables_of_addresses_are_sealed() -> None:
    """The loader writes them, and nobody after it; variables stay as they are."""
    opened = library.opened(linked(X86))
    lines = Path("/proc/self/maps").read_text().splitlines()
    address = ctypes.addressof(ctypes.c_int64.in_dll(opened, "shared"))
    spans = [(*(int(x, 16) for x in line.split()[0].split("-")), line.split()[1]) for line in lines]
    (own,) = (k for k, (a, b, _) in enumerate(spans) if a <= address < b)
    assert [s[2] for s in spans[own - 3 : own + 1]] == ["r--p", "r-xp", "r--p", "rw-p"]


C_PROGRAM = """\
#include <execinfo.h>
#include <stdint.h>
#include <stdio.h>
int64_t total(int64_t), jump(int64_t);
int64_t around(int64_t (*)(int64_t), int64_t);
extern int64_t shared;
int main(void);
static int64_t back(int64_t k) {
  void *at[32];
  int n = backtrace(at, 32);
  for (int i = 0; i < n; ++i)
    if ((char *)at[i] > (char *)main && (char *)at[i] < (char *)main + 400) return k + 1;
  return -1;
}
int main(void) {
  printf("%ld %ld %ld %ld\\n", total(1), jump(5), shared, around(back, 40));
  return 0;
}
"""
RUST_PROGRAM = """\
#[link(name = "both")]
extern "C" { fn total(k: i64) -> i64; fn jump(x: i64) -> i64; static shared: i64; }
fn main() { unsafe { println!("{} {} {} 42", total(1), jump(5), shared); } }
"""
AROUND = """\
define i64 @around(ptr %f, i64 %k) uwtable {
  %x = call i64 %f(i64 %k)
  %y = add i64 %x, 1
  ret i64 %y
}
"""


@native
@pytest.mark.parametrize("compiler", ["gcc", "rustc"])
def test_compilers_link_against_the_file(compiler: str, tmp_path: Path) -> None:
    """Also, who unwinds the stack gets through the library's functions."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    objects = [*both(X86), compile_module(AROUND, X86)]
    made = shared_library(objects, [*NAMES_OF, "around"], "libboth.so")
    (tmp_path / "libboth.so").write_bytes(made)
    if compiler == "gcc":
        (tmp_path / "main.c").write_text(C_PROGRAM)
        words = ["gcc", "-Wall", "-Werror", "main.c", "-o", "main", "-L.", "-lboth"]
    else:
        (tmp_path / "main.rs").write_text(RUST_PROGRAM)
        words = ["rustc", "main.rs", "-L", "native=."]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = subprocess.run(
        ["./main"], cwd=tmp_path, capture_output=True, text=True,
        env={"LD_LIBRARY_PATH": str(tmp_path), "LD_BIND_NOW": "1"},
    )  # fmt: skip
    assert run.stdout.split() == [str(TOTAL), "115", "1000", "42"], run.stderr


@native
def test_a_file_is_opened_as_memory_is(tmp_path: Path) -> None:
    file = tmp_path / "libboth.so"
    file.write_bytes(linked(X86))
    opened = ctypes.CDLL(str(file))
    assert opened.jump(5) == 115


@pytest.mark.parametrize("name", TARGETS)
def test_equal_objects_give_equal_bytes(name: str) -> None:
    target = TARGETS[name]
    assert linked(target) == linked(target)
    one = library.compiled_for(golden("softmax"), target)
    again = library.compiled_for(golden("softmax"), target)
    assert library.library_of(one, target) == library.library_of(again, target)


# What instructions hold, by the psABIs: type, field, value, place, result.
ENCODED = (
    (RISCV64, 16, 0x00000063, 8, 0, 0x00000463),  # beq zero, zero, .+8
    (RISCV64, 16, 0x00000063, 0, 4096, 0x80000063),
    (RISCV64, 16, 0x00000063, 2048, 0, 0x000000E3),
    (RISCV64, 17, 0x0000006F, 8, 0, 0x0080006F),  # jal zero, .+8
    (RISCV64, 17, 0x0000006F, 2048, 0, 0x0010006F),
    (RISCV64, 17, 0x0000006F, 0, 1 << 20, 0x8000006F),
    (RISCV64, 44, 0xC101, 8, 0, 0xC501),  # c.beqz a0, .+8
    (RISCV64, 44, 0xC101, 0, 256, 0xD101),
    (RISCV64, 45, 0xA001, 8, 0, 0xA021),  # c.j .+8
    (RISCV64, 45, 0xA001, 0, 2048, 0xB001),
    (RISCV64, 52, 0b11000101, 6, 0, 0b11111111),
    (RISCV64, 53, 0b11000101, 6, 0, 0b11000110),
    (RISCV64, 33, 250, 10, 0, 260),
    (RISCV64, 23, 0x00000517, 0x1800, 0, 0x00002517),  # auipc a0, 2: the lower 12 bits are negative
    (RISCV64, 24, 0x00050513, 0x1800, 0, 0x80050513),
    (RISCV64, 25, 0x00B53023, 0x1808, 0, 0x80B53423),
    (AARCH64, 283, 0x94000000, 0, 8, 0x97FFFFFE),  # bl .-8
    (AARCH64, 275, 0x90000000, 0x5004, 0x1FFC, 0x90000020),  # adrp x0, .+4 pages
    (AARCH64, 286, 0xF9400000, 0x1238, 0, 0xF9411C00),  # ldr x0, [x0, #0x238]
    (X86_64, 2, 0, 100, 104, -4),
)


@pytest.mark.parametrize(("machine", "kind", "field", "value", "place", "want"), ENCODED)
def test_instructions_hold_what_the_specifications_say(
    machine: Machine, kind: int, field: int, value: int, place: int, want: int
) -> None:
    assert machine.rules[kind].put(field, value, place) == want


@pytest.mark.parametrize(
    ("machine", "kind", "value"),
    [
        (RISCV64, 16, 4096), (RISCV64, 16, 3), (RISCV64, 17, 1 << 20), (RISCV64, 44, 256),
        (RISCV64, 45, 2048), (RISCV64, 23, 1 << 31), (RISCV64, 19, -(1 << 32)),
        (AARCH64, 283, 1 << 27), (AARCH64, 282, 2), (AARCH64, 275, 1 << 32), (AARCH64, 286, 4),
        (AARCH64, 299, 8), (AARCH64, 261, 1 << 31), (X86_64, 2, 1 << 31), (X86_64, 4, -(1 << 32)),
    ],
)  # fmt: skip
def test_what_an_instruction_cannot_hold_is_refused(
    machine: Machine, kind: int, value: int
) -> None:
    with pytest.raises(OutOfRange):
        machine.rules[kind].put(0, value, 0)


SIMPLE = """\
@x = internal global i32 5

define i32 @f() {
  %v = load volatile i32, ptr @x
  ret i32 %v
}
"""
REFUSED = {
    "is defined by two objects": (SIMPLE, SIMPLE),
    "no object defines f, to be exported": ("@x = global i32 1\n",),
    "no place in this library": (SIMPLE + "@t = thread_local global i32 1\n",),
    "has no place": (
        SIMPLE + "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] "
        "[{ i32, ptr, ptr } { i32 1, ptr @f, ptr null }]\n",
    ),
    "aligned to 8192": (SIMPLE + "@a = global i32 1, align 8192\n",),
    "lies in no section, but in 0xfff2": (SIMPLE + "@c = common global i32 0\n",),
    "no object defines absent": (
        SIMPLE + "declare i32 @absent()\ndefine void @g() {\n"
        "  call i32 @absent()\n  ret void\n}\n",
    ),
    "f is of type 10": (
        "define ptr @r() {\n  ret ptr null\n}\n@f = ifunc i32 (), ptr @r\n"
        "define i32 @g() {\n  %v = call i32 @f()\n  ret i32 %v\n}\n",
    ),
    "what cannot be written": (SIMPLE + '@p = constant ptr @f, section "read_only"\n',),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_no_library_has_is_refused(message: str) -> None:
    objects = [library.object_of(text, X86) for text in REFUSED[message]]
    if "written" in message:  # as a section's flags say; LLVM's own sections never have it so
        objects = [read_only(objects[0], b"read_only")]
    with pytest.raises(CompileError, match=message):
        shared_library(objects, ["g" if "type 10" in message else "f"], "libf.so")


def read_only(code: bytes, name: bytes) -> bytes:
    """The object with a section of that name that may not be written."""
    sections, count, names = struct.unpack_from("<40xQ12xHH", code)
    table = struct.unpack_from("<24xQ", code, sections + 64 * names)[0]
    image = bytearray(code)
    for k in range(count):
        at = table + struct.unpack_from("<I", code, sections + 64 * k)[0]
        if code[at:].startswith(name + b"\0"):
            struct.pack_into("<Q", image, sections + 64 * k + 8, 2)
    return bytes(image)


def test_code_at_a_fixed_address_is_refused() -> None:
    text = "@x = dso_local global [4 x i32] zeroinitializer\n\ndefine ptr @f() {\n  ret ptr @x\n}\n"
    for target in (X86, RISCV):
        with pytest.raises(CompileError, match="needs position-independent code"):
            shared_library([library.object_of(text, target, "static")], ["f"], "libf.so")


def test_unknown_relocations_are_refused_by_number() -> None:
    code = compile_module(SIMPLE, X86)
    found = next(r for some in read_object(code).relocations.values() for r in some)
    entry = struct.pack("<QII", found.offset, found.kind, found.symbol)
    for kind, message in ((77, "relocation type 77 of x86-64"), (11, r"type 11 \(32S\)")):
        other = code.replace(entry, struct.pack("<QII", found.offset, kind, found.symbol))
        with pytest.raises(CompileError, match=message):
            shared_library([other], ["f"], "libf.so")
    far = entry + struct.pack("<q", found.addend), entry + struct.pack("<q", 1 << 40)
    with pytest.raises(CompileError, match=r"\.text\+0x.*PC32: .* is no number of 32 bits"):
        shared_library([code.replace(*far)], ["f"], "libf.so")


def test_objects_must_go_together() -> None:
    one, other = compile_module(SIMPLE, X86), compile_module(SECOND, NEON)
    with pytest.raises(CompileError, match=r"machines \[62, 183\]"):
        shared_library([one, other], ["f"], "libf.so")
    with pytest.raises(CompileError, match="a library of no objects"):
        shared_library([], [], "libf.so")
    with pytest.raises(CompileError, match="not a relocatable object"):
        shared_library([linked(X86)], [], "libf.so")
    for name in ("", "lib\0f"):
        with pytest.raises(CompileError, match="is no name"):
            shared_library([one], ["f"], name)
    with pytest.raises(CompileError, match="named twice"):
        shared_library([one], ["f", "f"], "libf.so")


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_objects_are_refused_or_linked(name: str) -> None:
    """A library that comes out of it all the same can be read."""
    rng, target = np.random.default_rng(11), TARGETS[name]
    objects, refused = both(target), 0
    tables = [*range(64), *range(len(objects[0]) // 2, len(objects[0]))]
    for k in range(300):
        image = bytearray(objects[0])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.choice(tables)) if k % 3 else int(rng.integers(len(image)))
            image[at] = int(rng.integers(256))
        code = bytes(image[: rng.integers(len(image))] if k % 10 == 0 else image)
        try:
            made = shared_library([code, objects[1]], NAMES_OF, "libboth.so")
        except CompileError:
            refused += 1
            continue
        assert set(library.dynamic_symbols(made)) == set(NAMES_OF)
        assert len(made) < 3 * sum(map(len, objects))
    assert 30 < refused < 300
