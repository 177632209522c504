"""Which code this CPU runs: the level that `NAME_create` takes.

    level = bits of cpuid(1).ecx, cpuid(7).ebx, cpuid(0x80000001).ecx | bits of xcr0 | of HWCAP

A level of x86-64 is all that the psABI's level of that name has ("x86-64 psABI", 3.1.1), since LLVM
may use any of it; xcr0 tells whether the system saves the registers. The two instructions are in
no intrinsic of LLVM, and its assembler is not there for other machines than its own, so they
stand as bytes in front of functions that do nothing.

On RISC-V the system tells the extensions of one letter that a process may use (AT_HWCAP of
getauxval(3), where V is a bit since Linux 6.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ferrule.base.errors import CompileError
from ferrule.base.manifest import LEVEL
from ferrule.codegen.capi.body import Body, Value, Writer


class Bits(NamedTuple):
    """What a level needs: of an x86-64, and in the last field of Linux on RISC-V."""

    leaf1: int = 0
    leaf7: int = 0
    extended: int = 0
    xcr0: int = 0
    hwcap: int = 0


def _bits(*numbers: int) -> int:
    return sum(1 << n for n in numbers)


# sse3 ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt osxsave avx f16c
_V3_LEAF1 = _bits(0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29)
_V3_LEAF7 = _bits(3, 5, 8)  # bmi avx2 bmi2
_V3_EXTENDED = _bits(0, 5)  # lahf lzcnt
_V4_LEAF7 = _V3_LEAF7 | _bits(16, 17, 28, 30, 31)  # avx512 f dq cd bw vl
LEVELS: dict[str, Bits] = {
    "aarch64": Bits(),
    "riscv64": Bits(),
    "wasm32": Bits(),
    "riscv64-v": Bits(hwcap=_bits(ord("V") - ord("A"))),
    "x86-64": Bits(),
    "x86-64-v3": Bits(_V3_LEAF1, _V3_LEAF7, _V3_EXTENDED, _bits(1, 2)),
    "x86-64-v4": Bits(_V3_LEAF1, _V4_LEAF7, _V3_EXTENDED, _bits(1, 2, 5, 6, 7)),
}
"""What levels need, the best of an architecture last."""

_HWCAP = 16  # of getauxval

# push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid; mov [r8], eax; mov [r8+4], ebx;
# mov [r8+8], ecx; mov [r8+12], edx; pop rbx; ret
_CPUID = "53 49 89 d0 89 f8 89 f1 0f a2 41 89 00 41 89 58 04 41 89 48 08 41 89 50 0c 5b c3"
# xor ecx, ecx; xgetbv; shl rdx, 32; or rax, rdx; ret
_XGETBV = "31 c9 0f 01 d0 48 c1 e2 20 48 09 d0 c3"


def ordered(names: Sequence[str]) -> tuple[str, ...]:
    """These levels, the best last. Raises CompileError for one that is not in the table."""
    unknown = [n for n in names if n not in LEVELS]
    if unknown:
        raise CompileError(f"it is not known how to tell a CPU of {', '.join(unknown)}")
    return tuple(n for n in LEVELS if n in names)


def imports(names: Sequence[str]) -> tuple[str, ...]:
    """What telling these levels asks of the C library."""
    return ("getauxval",) if any(LEVELS[n].hwcap for n in names) else ()


def level_module(names: Sequence[str]) -> str:
    """A module of `define_level` alone, which others see as `ferrule_level`."""
    m = Writer()
    define_level(m, names, LEVEL)
    return m.written()


def define_level(m: Writer, names: Sequence[str], name: str = "capi.level") -> None:
    """Defines `i64 name()`: the index of the best of these levels, of which the best is last, that
    this CPU has, or -1.
    """
    f = m.define("i64", name, {}, exported=name == LEVEL)
    best = f.variable("i64", -1)
    found: dict[str, Value] = {}
    if any(LEVELS[n].leaf1 for n in names):
        m.globals += [
            f"define internal void @capi.cpuid(i32 %leaf, i32 %sub, ptr %out) {_code(_CPUID)}",
            f"define internal i64 @capi.xgetbv() {_code(_XGETBV, 'i64 0')}",
        ]
        found = dict(zip(Bits._fields, _found(f)))
    if any(LEVELS[n].hwcap for n in names):
        m.globals.append("declare i64 @getauxval(i64)")
        found["hwcap"] = f.call("i64", "@getauxval", f.value("i64", _HWCAP))
    for k, known in enumerate(names):
        has = f.value("i1", "true")
        for field, need in zip(Bits._fields, LEVELS[known]):
            if need:
                has = has & (found[field] & need).equals(need)
        with f.when(has):
            best.set(k)
    f.give(best.get())


def _code(code: str, result: str = "") -> str:
    data = code.split()
    shown = "".join(f"\\{b.upper()}" for b in data)
    end = f"ret {result}" if result else "ret void"
    return f'noinline prologue [{len(data)} x i8] c"{shown}" {{ {end} }}'


def _found(f: Body) -> tuple[Value, ...]:
    """What an x86-64 has, as the first of Bits; leaves that it lacks are 0."""
    out = f.room(16)

    def leaf(number: int, register: int) -> Value:
        base = number & 0x80000000
        f.call("void", "@capi.cpuid", f.value("i32", base), f.value("i32", 0), out)
        most = f.load("i32", out)
        f.call("void", "@capi.cpuid", f.value("i32", number), f.value("i32", 0), out)
        bits = f.load("i32", out, 4 * register).to("i64")
        return f.choose(most.below(number), f.value("i64", 0), bits)

    leaf1, leaf7, extended = leaf(1, 2), leaf(7, 1), leaf(0x80000001, 2)
    saved = f.variable("i64", 0)
    with f.when((leaf1 & 1 << 27).differs(0)):
        saved.set(f.call("i64", "@capi.xgetbv"))
    return leaf1, leaf7, extended, saved.get()
