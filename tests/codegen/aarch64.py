"""Runs whole programs for AArch64 on any machine: cross-compiled, linked into a static executable
that needs no libc, and run under `qemu-aarch64`.

    outputs = run_under_qemu(graph, arrays)         arrays of the graph's inputs and params
    after = calls_under_qemu(text, target, block, calls)    of one function, on places in a block

The executable holds all operands in one block of memory, each between two lines of a pattern. It
reads the block from its standard input, runs the program's `prepare` and its entry, and writes the
block to its standard output: so a write outside of a buffer shows. What runs in parallel
is here a loop over threads: the work is divided as a pool would divide it. There is no C library.

It needs `qemu-aarch64` (Debian: qemu-user) and the linker and assembler of
binutils-aarch64-linux-gnu; `missing()` says which of them are not installed.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.artifact import HOST_BYTES, SLOT_FIRST, Compiled
from ferrule.codegen.llvm.compile import compile_module
from ferrule.ir.analysis.size import evaluate
from ferrule.ir.expr import Buf
from ferrule.ir.graph import Graph
from ferrule.ir.program import Program
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.target.cpu import Target, named

Array = np.ndarray[Any, Any]

QEMU, LINKER, ASSEMBLER = "qemu-aarch64", "aarch64-linux-gnu-ld", "aarch64-linux-gnu-as"
LINE, PATTERN = 64, 0xA5
THREADS = 3
HELD = ("constants", "host")  # the slots behind
HEAP = 64 << 20


def missing() -> str:
    """The programs that are not installed, as the reason to skip a test; empty if all are."""
    absent = [p for p in (QEMU, LINKER, ASSEMBLER) if shutil.which(p) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def run_under_qemu(graph: Graph, arrays: list[Array], folder: Path) -> list[Array]:
    """The outputs of `graph` for its inputs and then its params, in storage form. Raises
    AssertionError where the program fails or writes where it should not.
    """
    target = named("neon")
    program = program_of(graph, target)
    compiled = compile_program(program, "program", target)
    layout = Layout.of(program, _dims(compiled, arrays), arrays)
    (folder / "kernels.o").write_bytes(compiled.object_code)
    main = compile_module(_main(compiled, layout), target)
    return layout.results(_linked_and_run(main, layout.block(), folder))


def _linked_and_run(main: bytes, block: bytes, folder: Path) -> bytes:
    """What the executable of `main` and the folder's kernels.o writes, which reads the block."""
    (folder / "start.s").write_text(_START)
    (folder / "main.o").write_bytes(main)
    _command(ASSEMBLER, "-o", "start.o", "start.s", folder=folder)
    _command(LINKER, "-static", "-o", "program", "start.o", "main.o", "kernels.o", folder=folder)
    return _command(QEMU, "./program", folder=folder, given=block)


def _dims(compiled: Compiled, arrays: list[Array]) -> dict[str, int]:
    read = {d.name: arrays[d.input_index] for d in compiled.dims}
    axes = {d.name: d.axis for d in compiled.dims}
    return {n: int(a) if axes[n] is None else a.shape[axes[n]] for n, a in read.items()}


def _command(*words: str, folder: Path, given: bytes = b"") -> bytes:
    done = subprocess.run(words, cwd=folder, input=given, capture_output=True, timeout=120)
    assert done.returncode == 0, f"{words[0]} gave {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def calls_under_qemu(
    text: str, target: Target, block: bytes, calls: list[list[int]], folder: Path
) -> bytes:
    """What calls of the function `f` of a module leave in a block of memory; each takes addresses
    in it, given as offsets.
    """
    (folder / "kernels.o").write_bytes(compile_module(text, target))
    return _linked_and_run(compile_module(calls_text(block, calls), target), block, folder)


def calls_text(block: bytes, calls: list[list[int]]) -> str:
    """The module of `main` that does so."""
    lines = []
    for offsets in calls:
        places = [f"ptr getelementptr (i8, ptr @memory, i64 {at})" for at in offsets]
        lines.append(f"call void @f({', '.join(places)})")
    main = (_CALLS + _WHOLE).replace("CALLS", "\n  ".join(lines))
    main = main.replace("FORM", ", ".join(["ptr"] * len(calls[0])))
    return main.replace("BLOCK", str(len(block)))


@dataclass(frozen=True)
class Layout:
    """Where the operands lie in the block: buffer, offset, shape, and its array if it is given."""

    places: tuple[tuple[Buf, int, tuple[int, ...], Array | None], ...]
    dims: tuple[int, ...]
    size: int

    @staticmethod
    def of(program: Program, dims: dict[str, int], arrays: list[Array]) -> Layout:
        places, offset, given = [], LINE, iter(arrays)
        for buf in (*program.inputs, *program.outputs, *program.params):
            shape = tuple(evaluate(s, lambda d: dims[d.name]) for s in buf.shape)
            array = None if buf in program.outputs else next(given)
            places.append((buf, offset, shape, array))
            size = int(np.prod(shape)) * buf.dtype.size
            offset += -(-size // LINE) * LINE + LINE
        return Layout(tuple(places), tuple(dims[d.name] for d in program.dims), offset)

    def block(self) -> bytes:
        """The memory before the run."""
        memory = np.full(self.size, PATTERN, np.uint8)
        for _, offset, _, array in self.places:
            if array is not None:
                data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
                memory[offset : offset + data.size] = data
        return memory.tobytes()

    def results(self, after: bytes) -> list[Array]:
        """The outputs from the memory after the run; all else must be what it was."""
        memory, expected = np.frombuffer(after, np.uint8), np.frombuffer(self.block(), np.uint8)
        assert memory.size == expected.size
        expected, found = expected.copy(), []
        for buf, offset, shape, array in self.places:
            if array is None:
                end = offset + int(np.prod(shape)) * buf.dtype.size
                expected[offset:end] = memory[offset:end]
                found.append(memory[offset:end].view(buf.dtype.numpy).reshape(shape))
        np.testing.assert_array_equal(memory, expected, err_msg="bytes outside of the outputs")
        return found


def _main(compiled: Compiled, layout: Layout) -> str:
    slots = ["i64 0", f"i64 {THREADS}", *(f"i64 ptrtoint (ptr @{x} to i64)" for x in HELD)]
    for _, offset, _, _ in layout.places:
        at = f"ptr getelementptr (i8, ptr @memory, i64 {offset})"
        slots.append(f"i64 ptrtoint ({at} to i64)")
    params = len(slots) - len(compiled.params)
    slots[params:params] = [f"i64 {n}" for n in layout.dims]
    assert len(slots) == compiled.slots
    assert len(slots) >= SLOT_FIRST
    text = (_MAIN + _WHOLE).replace("SLOTS", str(len(slots))).replace("VALUES", ", ".join(slots))
    text = text.replace("CONSTANTS", str(compiled.const_bytes + LINE))
    text = text.replace("HOST_BYTES", str(HOST_BYTES))
    text = text.replace("HEAP", str(HEAP)).replace("BLOCK", str(layout.size))
    for name in ("entry", "prepare", "arena_bytes"):
        text = text.replace(f"@{name.upper()}@", getattr(compiled, name))
    return text


_START = """\
.global _start, exit, transfer
_start:
    mov x29, #0
    bl main
exit:
    mov x8, #94
    svc #0
// transfer(number of read or write, file, address, bytes)
transfer:
    mov x8, x0
    mov x0, x1
    mov x1, x2
    mov x2, x3
    svc #0
    ret
"""

_WHOLE = """\
; Reads or writes the whole block.
define internal void @all(i64 %call, i64 %file) {
entry:
  br label %more
more:
  %done = phi i64 [ 0, %entry ], [ %sum, %some ]
  %at = getelementptr i8, ptr @memory, i64 %done
  %left = sub i64 BLOCK, %done
  %count = call i64 @transfer(i64 %call, i64 %file, ptr %at, i64 %left)
  %bad = icmp sle i64 %count, 0
  br i1 %bad, label %fail, label %some
fail:
  call void @exit(i32 99)
  unreachable
some:
  %sum = add i64 %done, %count
  %whole = icmp eq i64 %sum, BLOCK
  br i1 %whole, label %end, label %more
end:
  ret void
}
"""

_CALLS = """\
@memory = internal global [BLOCK x i8] zeroinitializer, align 64

declare void @f(FORM)
declare i64 @transfer(i64, i64, ptr, i64)
declare void @exit(i32)

define i32 @main() {
  call void @all(i64 63, i64 0)
  CALLS
  call void @all(i64 64, i64 1)
  ret i32 0
}

"""

_MAIN = """\
@memory = internal global [BLOCK x i8] zeroinitializer, align 64
@constants = internal global [CONSTANTS x i8] zeroinitializer, align 64
@heap = internal global [HEAP x i8] zeroinitializer, align 64
@host = internal global [4 x i64] [i64 HOST_BYTES, i64 ptrtoint (ptr @parallel to i64),
                                  i64 0, i64 0]
@args = internal global [SLOTS x i64] [VALUES]

declare i32 @@ENTRY@(ptr)
declare i32 @@PREPARE@(ptr)
declare i64 @@ARENA_BYTES@(ptr)
declare i64 @transfer(i64, i64, ptr, i64)
declare void @exit(i32)

define i32 @main() {
  call void @all(i64 63, i64 0)
  %bytes = call i64 @@ARENA_BYTES@(ptr @args)
  %full = icmp ugt i64 %bytes, HEAP
  br i1 %full, label %end, label %fits
fits:
  store ptr @heap, ptr @args
  %ready = call i32 @@PREPARE@(ptr @args)
  %failed = icmp ne i32 %ready, 0
  br i1 %failed, label %end, label %run
run:
  %status = call i32 @@ENTRY@(ptr @args)
  call void @all(i64 64, i64 1)
  br label %end
end:
  %code = phi i32 [ 98, %0 ], [ %ready, %fits ], [ %status, %run ]
  ret i32 %code
}

; One thread after another.
define internal void @parallel(ptr %kernel, ptr %ctx, i64 %n, i64 %threads, ptr %user) {
entry:
  br label %next
next:
  %t = phi i64 [ 0, %entry ], [ %t1, %next ]
  %t1 = add i64 %t, 1
  %lo0 = mul i64 %n, %t
  %hi0 = mul i64 %n, %t1
  %lo = udiv i64 %lo0, %threads
  %hi = udiv i64 %hi0, %threads
  call void %kernel(ptr %ctx, i64 %lo, i64 %hi, i64 %t)
  %over = icmp eq i64 %t1, %threads
  br i1 %over, label %end, label %next
end:
  ret void
}
"""
