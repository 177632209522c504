"""The tables of instructions: each entry is what LLVM selects, and computes what it means."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from ferrule import ops
from ferrule.base.cpu import architecture, has, supports
from ferrule.base.dtype import DType, boolean, from_storage, i8, i32, u8
from ferrule.base.features import ARM, FEATURES, LEVELS, RISCV, WASM, X86, baseline
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.compile import assembly, compile_module
from ferrule.codegen.llvm.isa import arm, riscv, wasm, x86
from ferrule.codegen.llvm.isa.instruction import LANE, Call, Instruction, Masked
from ferrule.codegen.llvm.isa.select import apply, instruction
from ferrule.codegen.llvm.types import memory_type, ssa_type, vector_type
from ferrule.ir.expr import Expr, walk
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.interp.memory import Memory
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.target.cpu import Target, least, portable
from tests.codegen import aarch64, library
from tests.codegen.conftest import target_machine_copy

Array = np.ndarray[Any, Any]
TABLES = {x86: X86, arm: ARM, riscv: RISCV, wasm: WASM}
ENTRIES = [
    pytest.param(entry, width, id=f"{entry.name}-{show}-{width}-{'-'.join(entry.needs)}")
    for table in TABLES
    for entry in table.INSTRUCTIONS
    for width in ((0, 4, 16) if entry.lanes is None else (entry.lanes,))
    if width or not isinstance(entry.spelling, Masked)
    for show in [f"{entry.meaning.op}.{entry.meaning.dtype.name}"]
]
NAMES = {
    "vfmadd": "vfn?m(add|sub)", "round": "v?(round|rndscale)", "cvtt": "v?cvttps2dq",
    "vpmaskmov": "v(maskmovp[sd]|pmaskmov[dq])", "fmadd": "(v?fm(add|acc|la)|fmla)",
}  # fmt: skip
"""How the assembly spells what LLVM has several instructions for."""
SURE = baseline(architecture()).promised
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5]
ROUNDED = [65520.0, 1e-7, 1e-40, 3e9, -3e9]
needs_x86 = pytest.mark.skipif(architecture() not in X86, reason="instructions of x86-64")


def owner(entry: Instruction) -> tuple[str, ...]:
    """The architecture that has an entry."""
    return next(names for table, names in TABLES.items() if entry in table.INSTRUCTIONS)


def machine(entry: Instruction) -> Target:
    """The least level that has an entry, or can have what it needs beside."""
    if owner(entry) == WASM:
        return portable("wasm32")
    names = {ARM: ("neon",), RISCV: ("rvv",)}.get(owner(entry), ("generic", "avx2", "avx512"))
    longest = max(f.vector_bytes for f in FEATURES if f.name in entry.needs)
    made = next(t for t in map(least, names) if t.vector_bytes >= longest)
    for feature in entry.needs:
        made = made if feature in made.extensions else made.having(feature)
    return made


def arguments(meaning: Expr) -> list[DType]:
    found = {e.attr: e.dtype for e in walk(meaning) if e.op == "arg"}
    return [found[k] for k in range(len(found))]


def emitted(b: Builder, entry: Instruction, vals: list[Val], width: int) -> Val:
    """The value of the entry; of a store what it leaves in memory."""
    if not isinstance(entry.spelling, Masked):
        return entry.emit(b, *vals)
    result, memory = entry.meaning.dtype, Val("%m", "ptr")
    full, type = vector_type(memory_type(result), width), ssa_type(result)
    if entry.spelling.access == "load":
        nothing = Val("zeroinitializer", type, width)
        text = entry.spelling.text(b, memory, vals[0], nothing, result.size)
    else:
        b.line(entry.spelling.text(b, memory, vals[0], vals[1], result.size))
        text = f"load {full}, ptr %m, align {result.size}"
    return b.pure(text, type, width, 0)


def program(entry: Instruction, width: int, target: Target) -> str:
    """void f(ptr result, ptr memory, ptr arg0, ..): the instruction on one vector, or scalar, of
    each.
    """
    b, vals = Builder(target), []
    for k, dtype in enumerate(arguments(entry.meaning)):
        stored = memory_type(dtype)
        text = f"load {vector_type(stored, width)}, ptr %a{k}, align {dtype.size}"
        v = b.pure(text, stored, width, 0)
        vals.append(b.compare("icmp ne", v, Val("0", "i8")) if dtype == boolean else v)
    out = emitted(b, entry, vals, width)
    b.line(f"store {out.full} {out.text}, ptr %r, align {entry.meaning.dtype.size}")
    lines = [
        f'target triple = "{target.triple}"', *b.declares.values(),
        "define void @f(ptr %r, ptr %m, ptr %a0, ptr %a1, ptr %a2) {", *b.regions[0].lines,
        "  ret void", "}",
    ]  # fmt: skip
    return "\n".join(lines)


@pytest.mark.parametrize(("entry", "width"), ENTRIES)
def test_llvm_selects_the_instruction(entry: Instruction, width: int) -> None:
    if width == 0 and entry.name.startswith("fcvt"):
        return  # of scalars it is fcvt
    target = machine(entry)
    text = assembly(program(entry, width, target), target)
    name = next((other for stem, other in NAMES.items() if entry.name.startswith(stem)), entry.name)
    assert re.search(rf"\b{name}", text), text


def samples(dtype: DType, rng: np.random.Generator, count: int, alone: bool) -> Array:
    """Stored values: any bits of integers and f16, and floats that are small multiples of 1/16 or
    special. Those that are no operand alone have exact products and sums, since the interpreter
    rounds an `fma` of f32 twice.
    """
    if dtype == boolean:
        return rng.integers(0, 2, count).astype(np.bool_)
    if dtype.is_float and dtype.bits > 16:
        usual = rng.integers(-(1 << 11), 1 << 11, count) / 16
        special = SPECIAL + ROUNDED if alone else SPECIAL
        values = np.where(rng.random(count) < 0.2, rng.choice(special, count), usual)
        return values.astype(np.float32).astype(dtype.numpy)
    return rng.integers(0, 256, count * dtype.size, np.uint8).view(dtype.numpy)


def calls(text: str, target: Target, block: Array, places: list[list[int]], folder: Path) -> Array:
    """The block of memory after calls of f with these places in it."""
    if target.architecture != architecture() and target.architecture in RISCV:
        main = compile_module(aarch64.calls_text(block.tobytes(), places), target)
        objects = [compile_module(text, target), main]
        return np.frombuffer(
            library.run_emulated(objects, target, folder, block.tobytes()), np.uint8
        )
    if target.architecture != architecture():
        after = aarch64.calls_under_qemu(text, target, block.tobytes(), places, folder)
        return np.frombuffer(after, np.uint8)
    code = compile_module(text, target)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine_copy(target))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)(engine.get_function_address("f"))
    after = block.copy()
    for offsets in places:
        run(*(after.ctypes.data + at for at in offsets))
    return after


def lacking(entry: Instruction, target: Target) -> str:
    """Why an entry cannot run here; empty if it can."""
    if architecture() in owner(entry):
        runs = supports(target.name) and has(f for f in entry.needs if f not in SURE)
        return "" if runs else f"this CPU lacks {', '.join(entry.needs)}"
    if owner(entry) == RISCV:
        return "" if library.emulator("riscv64") else "no emulator of riscv64 is installed"
    if owner(entry) == WASM:
        return "tests/api/test_targets.py runs it in Node"
    return aarch64.missing() if owner(entry) == ARM else "not on this architecture"


@pytest.mark.parametrize(("entry", "width"), ENTRIES)
def test_the_instruction_computes_its_meaning(
    entry: Instruction, width: int, tmp_path: Path
) -> None:
    """Of x86-64 where this CPU has it, of AArch64 and RISC-V under the emulator elsewhere."""
    target = machine(entry)
    if reason := lacking(entry, target):
        pytest.skip(reason)
    rng, lanes, kinds = np.random.default_rng(0), max(1, width), arguments(entry.meaning)
    result, rounds = entry.meaning.dtype, 200
    block = np.zeros((rounds, 5, 64 * 8), np.uint8)  # the result, memory and three operands
    expected = []
    for places in block:
        given = [samples(dtype, rng, lanes, len(kinds) == 1) for dtype in kinds]
        memory = samples(result, rng, 64, True)
        for place, array in zip(places[1:], [memory, *given]):
            place[: array.nbytes] = array.view(np.uint8)
        env = Env(
            axes={LANE: np.arange(lanes)}, memory=Memory({"memory": memory}),
            args=tuple(from_storage(x, dtype) for x, dtype in zip(given, kinds)),
        )  # fmt: skip
        expected.append(np.broadcast_to(eval_expr(entry.meaning, env), lanes))
    offsets = np.arange(block.size, step=64 * 8).reshape(rounds, 5).tolist()
    after = calls(program(entry, width, target), target, block, offsets, tmp_path)
    found = after.reshape(block.shape)[:, 0, : lanes * result.size].copy().view(result.numpy)
    np.testing.assert_array_equal(from_storage(found, result), expected)


def test_what_entries_need_stands_in_the_table_of_features() -> None:
    known = {f.name for f in FEATURES}
    assert all(set(e.needs) <= known for t in TABLES for e in t.INSTRUCTIONS)
    assert all(set(v.needs) | set(v.least) <= known for v in LEVELS)


def test_operands_of_another_type_are_the_bits_of_the_values() -> None:
    """As those of AArch64's usdot, which takes bytes where Expr has words of four."""
    (meaning,) = {e.meaning for e in x86.INSTRUCTIONS if e.name == "vpdpbusd"}
    bytes_of = [f"<16 x i8> {{{k}}}" for k in (1, 2)]
    call = Call("llvm.aarch64.neon.usdot.v4i32.v16i8", "<4 x i32>", ("<4 x i32> {0}", *bytes_of))
    target = replace(least("neon"), features="+i8mm")
    text = program(Instruction("usdot", meaning, (), 4, call), 4, target)
    assert text.count("bitcast <4 x i32>") == 2
    assert "usdot" in assembly(text, target)


# ---- AVX-VNNI: dot products of bytes on CPUs without AVX-512 -------------------------------------


def of_bytes() -> Graph:
    b = GraphBuilder("main")
    x, w = b.input(tensor((24, 64), u8)), b.param(tensor((64, 48), i8))
    return b.build([ops.matmul(b, ops.cast(b, x, i32), ops.cast(b, w, i32))])


@needs_x86
def test_products_of_bytes_take_avx_vnni() -> None:
    plain = least("avx2")
    target = plain.having("avxvnni")
    assert (plain.has_dot4, target.has_dot4) == (False, True)
    text = assembly(lowered(of_bytes(), "llvm", options_for(target)).text, target)
    found = re.findall(r"(\{vex\})?\s+vpdpbusd\s.*%ymm\d+, %ymm\d+", text)
    assert len(found) >= 4
    assert all(found)  # in the form that needs no AVX-512
    assert "zmm" not in text
    assert "vpdpbusd" not in assembly(lowered(of_bytes(), "llvm", options_for(plain)).text, plain)


@needs_x86
def test_each_width_takes_what_the_target_has() -> None:
    (meaning,) = {e.meaning for e in x86.INSTRUCTIONS if e.name == "vpdpbusd"}
    vnni, wide = least("avx2").having("avxvnni"), least("avx512").having("avx512vnni")
    assert [n for n in (0, 2, 4, 8, 16) if instruction(vnni, meaning, n)] == [4, 8]
    assert [n for n in (0, 2, 4, 8, 16) if instruction(wide, meaning, n)] == [4, 8, 16]


@needs_x86
def test_a_sum_takes_the_accumulator_into_the_instruction() -> None:
    b = Builder(least("avx2").having("avxvnni"))
    x, y, old = (Val(name, "i32", 8) for name in ("%x", "%y", "%old"))
    dot = apply(b, "dot4", i32, [x, y])
    assert dot is not None
    assert apply(b, "add", i32, [x, y]) is None
    for operands in ([old, dot], [dot, old]):
        assert apply(b, "add", i32, operands) is not None
    assert len(b.regions[0].lines) == 2  # one of zeros, which is dead, and one of the accumulator
    assert "(<8 x i32> %old, <8 x i32> %x, <8 x i32> %y)" in b.regions[0].lines[1]
    assert apply(b, "dot4", i32, [Val("%a", "i32"), Val("%b", "i32")]) is None
