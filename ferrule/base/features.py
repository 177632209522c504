"""CPU features and levels: one table, from which detection, targets and instructions follow.

    feature = LLVM's name | bytes of the longest vectors it works on | what it gives | Linux's name
    level   = name | architectures | features that it needs | those that its least CPU has beside ..

A feature `gives` what passes ask a target for, under a name of ours: `fma` (a multiplication and an
addition as one operation, rounded once), `masks` (loads and stores of the lanes that a mask names,
of 32 and 64 bits), `mask registers` (any vector instruction takes a mask), `embedded broadcast` (an
operand of arithmetic may be one element in memory, for all lanes), `dot4` (dot products of four
unsigned and four signed bytes). A target can do what one of its features gives for vectors as long
as its own. Single instructions ask for features by LLVM's names (`codegen/llvm/isa`).

A level is what targets are named after. LLVM is told `cpu`, or the host's name where the host has
what the level needs, and `switches` beside. The table stands on this floor because `runtime`, which
must tell whether code runs here, sees no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

X86 = ("x86_64", "amd64")
ARM = ("aarch64", "arm64")
RISCV = ("riscv64",)
WASM = ("wasm32",)


class Feature(NamedTuple):
    """A row of the table of features. `linux` is its name in /proc/cpuinfo, where that differs; on
    RISC-V both are letters of the name of the instruction set.
    """

    name: str
    vector_bytes: int
    gives: tuple[str, ...] = ()
    linux: str = ""


class Level(NamedTuple):
    """A row of the table of levels. Every CPU of it has `needs`, the least one `least` beside."""

    name: str
    architectures: tuple[str, ...]
    needs: tuple[str, ...]
    least: tuple[str, ...]
    cpu: str
    switches: str
    vector_bytes: int
    registers: int

    @property
    def promised(self) -> tuple[str, ...]:
        """The features of the level's least CPU."""
        return kept((*self.needs, *self.least), self.vector_bytes)


FEATURES = (
    # x86-64
    Feature("sse2", 16),
    Feature("sse4.1", 16, linux="sse4_1"),
    Feature("avx", 32),
    Feature("f16c", 32),
    Feature("fma", 32, ("fma",)),
    Feature("avx2", 32, ("masks",)),
    Feature("avxvnni", 32, ("dot4",), linux="avx_vnni"),
    Feature("avx512f", 64, ("fma", "masks", "mask registers", "embedded broadcast")),
    Feature("avx512bw", 64),
    Feature("avx512dq", 64),
    Feature("avx512vl", 64),
    Feature("avx512vnni", 64, ("dot4",), linux="avx512_vnni"),
    # AArch64
    Feature("neon", 16, ("fma",), linux="asimd"),
    # RISC-V
    Feature("d", 16, ("fma",)),
    Feature("v", 16, ("masks", "mask registers")),
    # WebAssembly
    Feature("simd128", 16),
)

_WASM = "+simd128,+sign-ext,+nontrapping-fptoint,+bulk-memory,+bulk-memory-opt,+mutable-globals"
_V2 = ("sse2", "sse4.1", "avx", "f16c")
LEVELS = (
    # Without the switch LLVM would make 256-bit code.
    Level(
        "avx512", X86, ("avx512f", "avx512bw", "avx512dq", "avx512vl"), (*_V2, "fma", "avx2"),
        "x86-64-v4", "-prefer-256-bit", vector_bytes=64, registers=32,
    ),
    # With a feature turned off LLVM drops all that imply it.
    Level(
        "avx2", X86, ("avx2", "fma"), _V2,
        "x86-64-v3", "-avx512f", vector_bytes=32, registers=16,
    ),
    Level("neon", ARM, (), ("neon",), "neoverse-n1", "", vector_bytes=16, registers=32),
    # All CPUs with V have vectors of 16 bytes or more; of longer ones a part is used.
    Level(
        "rvv", RISCV, ("v",), ("d",), "generic-rv64", "+m,+a,+f,+d,+c,+v",
        vector_bytes=16, registers=32,
    ),
)  # fmt: skip


def level(name: str) -> Level:
    """The level called `name`. Raises KeyError for another name."""
    return _LEVELS[name]


def baseline(architecture: str) -> Level:
    """The level `generic`: what every CPU of an architecture has."""
    if architecture in X86:
        return Level("generic", X86, (), ("sse2",), "x86-64", "", 16, 16)
    if architecture in ARM:
        return Level("generic", ARM, (), ("neon",), "generic", "", 16, 32)
    if architecture in RISCV:  # a vector is four of the 32 scalar registers
        return Level("generic", RISCV, (), ("d",), "generic-rv64", "+m,+a,+f,+d,+c", 16, 8)
    if architecture in WASM:  # fused products are not in all engines
        return Level("generic", WASM, (), ("simd128",), "mvp", _WASM, 16, 16)
    return Level("generic", (architecture,), (), (), "", "", 16, 16)


def kept(names: Iterable[str], vector_bytes: int) -> tuple[str, ...]:
    """Those of the named features that a target of such vectors uses, in the table's order. What is
    for longer ones is turned off there.
    """
    wanted = frozenset(names)
    return tuple(f.name for f in FEATURES if f.name in wanted and f.vector_bytes <= vector_bytes)


@cache
def abilities(features: tuple[str, ...], vector_bytes: int) -> frozenset[str]:
    """What features give for vectors of so many bytes."""
    found = (_FEATURES[name] for name in features)
    return frozenset(a for f in found if f.vector_bytes >= vector_bytes for a in f.gives)


_FEATURES = {f.name: f for f in FEATURES}
_LEVELS = {known.name: known for known in LEVELS}
