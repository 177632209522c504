"""The machine that code is generated for: its lanes, registers, features and caches.

    target = name: avx512 | avx2 | neon | rvv | generic

`avx512` needs AVX-512 F, BW, DQ and VL; `avx2` needs AVX2 and FMA; `neon` is AArch64, which always
has NEON with fused multiply-add; `rvv` is 64-bit RISC-V with the extension V; `generic` is what
every CPU of the process's architecture has (SSE2 on x86-64, NEON on AArch64, rv64gc on RISC-V, the
baseline of the triple elsewhere) with 16-byte vectors. The table of these levels and of what CPUs
may have beside is `base/features.py`. `host` finds the best that this machine runs; `named` forces
one, which may be one that this machine cannot run: code can be generated for it all the same. On a
machine of another architecture `neon` and `rvv` are Linux; `neon` is then for a CPU of the first
kind that all clouds rent, Arm's Neoverse N1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ferrule.base.cpu import architecture, has, supports
from ferrule.base.errors import InputError
from ferrule.base.features import (
    ARM,
    FEATURES,
    LEVELS,
    RISCV,
    WASM,
    Level,
    abilities,
    baseline,
    kept,
    level,
)
from ferrule.target.machine import CPU, Machine


@dataclass(frozen=True)
class Target:
    """A CPU. Sizes are in bytes. `features` is LLVM's attribute string.

    `registers` counts vector registers; `extensions` are the features of the table in
    `base/features.py` that it has, and say what it can do; `machine` is what work costs there. All
    of it decides what code is generated, so that `key` may be a part of cache keys.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    extensions: tuple[str, ...]
    l1: int
    l2: int
    machine: Machine = CPU

    @property
    def key(self) -> str:
        """Text that differs whenever generated code may differ, for a cache key."""
        return f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}"

    @property
    def architecture(self) -> str:
        """The first part of the triple."""
        return self.triple.partition("-")[0]

    def can(self, ability: str) -> bool:
        """Whether a feature gives that for vectors of this length."""
        return ability in abilities(self.extensions, self.vector_bytes)

    @property
    def has_fma(self) -> bool:
        """Whether a multiplication and an addition may be one operation."""
        return self.can("fma")

    @property
    def has_masks(self) -> bool:
        """Whether masked loads and stores of 32- and 64-bit elements are cheap."""
        return self.can("masks")

    @property
    def has_mask_registers(self) -> bool:
        """Whether any vector instruction takes a mask (AVX-512)."""
        return self.can("mask registers")

    @property
    def has_embedded_broadcast(self) -> bool:
        """Whether an operand of vector arithmetic may be one element in memory, for all lanes."""
        return self.can("embedded broadcast")

    @property
    def has_dot4(self) -> bool:
        """Whether dot products of four bytes are instructions."""
        return self.can("dot4")

    @property
    def is_wasm(self) -> bool:
        """Whether it is WebAssembly: pointers of 4 bytes, one thread, no C library."""
        return self.architecture in WASM

    def lanes(self, size: int) -> int:
        """How many elements of `size` bytes one vector register holds, at least 1."""
        return max(1, self.vector_bytes // size)

    def having(self, feature: str) -> Target:
        """The same on a CPU that has a feature beside, by LLVM's name. Raises InputError for one
        that is not in the table, or that is for longer vectors.
        """
        if not kept((feature,), self.vector_bytes):
            raise InputError(f"{feature} is no feature for vectors of {self.vector_bytes} bytes")
        text = f"{self.features},+{feature}".lstrip(",")
        extensions = kept((*self.extensions, feature), self.vector_bytes)
        return replace(self, features=text, extensions=extensions)


NAMES = (*(known.name for known in LEVELS), "generic")


@cache
def host() -> Target:
    """The machine that this process runs on."""
    return named(next(name for name in NAMES if supports(name)))


@cache
def named(name: str) -> Target:
    """The target called `name`, with this machine's caches, and with all that this CPU has where it
    runs such code; "host" is the machine that this process runs on. Raises InputError for other
    names.
    """
    if name == "host":
        return host()
    made = least(name)
    if name == "generic" or not supports(name):
        return made
    import llvmlite.binding as llvm

    own, sure = level(name), baseline(architecture()).promised
    found = (f.name for f in FEATURES if has((f.name,)))
    return replace(
        made, cpu=llvm.get_host_cpu_name(),
        features=f"{_feature_text()},{own.switches}".strip(","),
        extensions=kept((*sure, *own.needs, *found), own.vector_bytes),
    )  # fmt: skip


def least(name: str) -> Target:
    """The target called `name` on the least CPU of its level, with this machine's caches (a CPU of
    another architecture has its own). Raises InputError for other names.
    """
    if name not in NAMES:
        raise InputError(f"no target is called {name!r}; expected host, {', '.join(NAMES)}")
    own = baseline(architecture()) if name == "generic" else level(name)
    if architecture() in own.architectures:
        return _of_level(own, triple(), *cache_sizes()[:2])
    if own.architectures not in (ARM, RISCV):
        raise InputError(
            f"target {name} is an instruction set of x86-64, and this machine is {triple()}; "
            "use generic or host"
        )
    l1 = 64 << 10 if own.architectures == ARM else 32 << 10
    return _of_level(own, f"{own.architectures[0]}-unknown-linux-gnu", l1, 1 << 20)


PORTABLE: dict[str, tuple[str, str]] = {
    "x86-64": ("x86_64", "generic"),
    "x86-64-v3": ("x86_64", "avx2"),
    "x86-64-v4": ("x86_64", "avx512"),
    "aarch64": ("aarch64", "neon"),
    "riscv64": ("riscv64", "generic"),
    "riscv64-v": ("riscv64", "rvv"),
    "wasm32": ("wasm32", "generic"),
}
"""What artifacts and bundles are built for, by the names that people know: an architecture and a
level."""


def portable(name: str) -> Target:
    """The target of PORTABLE called `name`: the least CPU of its level on Linux, with common
    caches, whatever this machine is. Raises InputError for another name.
    """
    if name not in PORTABLE:
        raise InputError(f"no artifact can be built for {name!r}; expected {', '.join(PORTABLE)}")
    machine, known = PORTABLE[name]
    own = baseline(machine) if known == "generic" else level(known)
    system = "unknown" if machine in WASM else "linux-gnu"
    return _of_level(own, f"{machine}-unknown-{system}", 32 << 10, 1 << 20)


def plainest(machine: str) -> Target:
    """The target that every CPU of an architecture of PORTABLE has."""
    return portable(next(name for name, (m, _) in PORTABLE.items() if m == machine))


def triple() -> str:
    """LLVM's triple of this process: architecture, vendor, system."""
    import llvmlite.binding as llvm

    return str(llvm.get_process_triple())


def _feature_text() -> str:
    """The host's features as LLVM's attribute string."""
    import llvmlite.binding as llvm

    found = dict(llvm.get_host_cpu_features())
    return ",".join(("+" if on else "-") + name for name, on in sorted(found.items()))


def _of_level(own: Level, triple: str, l1: int, l2: int) -> Target:
    return Target(
        own.name, triple, own.cpu, own.switches, own.vector_bytes, own.registers, own.promised,
        l1, l2,
    )  # fmt: skip


def cache_sizes() -> tuple[int, int, int]:
    """Bytes of L1 data, of L2 and of L3, from the kernel's description of CPU 0, else common ones;
    an L3 that it does not tell of has none.
    """
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 0}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = _bytes((index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and level in sizes and size > 0:
            sizes[level] = size
    return sizes[1], sizes[2], sizes[3]


def _bytes(text: str) -> int:
    """Bytes of the kernel's notation: "32K", "16M"."""
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(text) if unit is None else int(text[:-1]) << unit
