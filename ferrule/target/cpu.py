"""The machine that code is generated for: its lanes, registers, features and caches.

    target = name: avx512 | avx2 | neon | generic

`avx512` needs AVX-512 F, BW, DQ and VL; `avx2` needs AVX2 and FMA; `neon` is AArch64, which always
has NEON with fused multiply-add; `generic` is what every CPU of the process's architecture has
(SSE2 on x86-64, NEON on AArch64, the baseline of the triple elsewhere) with 16-byte vectors. `host`
finds the best that this machine runs; `named` forces one, which may be one that this machine cannot
run: code can be generated for it all the same. On a machine of another architecture `neon` is
AArch64 Linux on a CPU of the first kind that all clouds rent, Arm's Neoverse N1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ferrule.base import config
from ferrule.base.cpu import (
    ARM,
    AVX2,
    AVX512,
    X86,
    architecture,
    feature_text,
    has,
    supports,
    triple,
)
from ferrule.base.errors import InputError
from ferrule.target.machine import CPU, Machine


@dataclass(frozen=True)
class Target:
    """A CPU. Sizes are in bytes. `features` is LLVM's attribute string.

    `registers` counts vector registers; `has_masks` says that masked loads and stores of 32- and
    64-bit elements are cheap; `has_f16c` that f16 converts in hardware; `has_roundss` that floor,
    ceil, trunc and round to even are instructions; `has_dot4` that dot products of four bytes are
    (VNNI). `machine` is what work costs there. All of it decides what code is
    generated, so that `key` may be a part of cache keys.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_masks: bool
    has_f16c: bool
    has_roundss: bool
    has_dot4: bool
    l1: int
    l2: int
    machine: Machine = CPU

    @property
    def key(self) -> str:
        """Text that differs whenever generated code may differ, for a cache key."""
        return f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}"

    @property
    def has_mask_registers(self) -> bool:
        """Whether any vector instruction takes a mask (AVX-512)."""
        return self.has_masks and self.vector_bytes == 64

    @property
    def has_embedded_broadcast(self) -> bool:
        """Whether an operand of vector arithmetic may be one element in memory, for all lanes."""
        return self.registers == 32 and self.vector_bytes == 64

    def lanes(self, size: int) -> int:
        """How many elements of `size` bytes one vector register holds, at least 1."""
        return max(1, self.vector_bytes // size)


NAMES = ("avx512", "avx2", "neon", "generic")


@cache
def host() -> Target:
    """The machine that this process runs on."""
    if architecture() in ARM:
        return named("neon")
    return named(next(name for name in ("avx512", "avx2", "generic") if supports(name)))


def current() -> Target:
    """The target of the setting `target` (FERRULE_TARGET)."""
    name = config.get("target")
    return host() if name == "host" else named(name)


@cache
def named(name: str) -> Target:
    """The target called `name`, with this machine's caches. Raises InputError for other
    names.
    """
    if name not in NAMES:
        raise InputError(f"no target is called {name!r}; expected host, {', '.join(NAMES)}")
    if name == "neon":
        return _neon()
    base = _baseline(triple(), architecture())
    if name == "generic":
        return base
    if architecture() not in X86:
        raise InputError(
            f"target {name} is an instruction set of x86-64, and this machine is {triple()}; "
            "use generic or host"
        )
    wide = name == "avx512"
    cpu, features = _cpu_with(AVX512 if wide else AVX2, "x86-64-v4" if wide else "x86-64-v3")
    # Without the first LLVM would make 256-bit code; with a feature it drops all that imply it.
    features += ",-prefer-256-bit" if wide else ",-avx512f"
    return replace(
        base, name=name, cpu=cpu, features=features.lstrip(","), vector_bytes=64 if wide else 32,
        registers=32 if wide else 16, has_fma=True, has_masks=True, has_roundss=True,
        has_f16c="-f16c" not in features, has_dot4=_has_dot4(wide, features),
    )  # fmt: skip


def _neon() -> Target:
    """This machine if it is one of AArch64, else a server of that kind: Arm's Neoverse N1."""
    if architecture() not in ARM:
        server = _baseline("aarch64-unknown-linux-gnu", "aarch64")
        return replace(server, name="neon", cpu="neoverse-n1", l1=64 << 10, l2=1 << 20)
    import llvmlite.binding as llvm

    cpu, features = llvm.get_host_cpu_name(), feature_text()
    return replace(_baseline(triple(), architecture()), name="neon", cpu=cpu, features=features)


def _baseline(triple: str, machine: str) -> Target:
    """What every CPU of this architecture has: SSE2 on x86-64, NEON on AArch64."""
    l1, l2 = _caches()
    is_arm = machine in ARM
    return Target(
        name="generic",
        triple=triple,
        cpu="x86-64" if machine in X86 else "generic" if is_arm else "",
        features="",
        vector_bytes=16,
        registers=32 if is_arm else 16,
        has_fma=is_arm,
        has_masks=False,
        has_f16c=is_arm,
        has_roundss=is_arm,
        has_dot4=False,
        l1=l1,
        l2=l2,
    )


def _cpu_with(needed: tuple[str, ...], fallback: str) -> tuple[str, str]:
    """The host's CPU name and features where it has all of `needed`, else the level of the x86-64
    ABI that has them.
    """
    if not has(needed):
        return fallback, ""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), feature_text()


def _has_dot4(wide: bool, features: str) -> bool:
    """Whether vectors of that width have VNNI, which no level of the x86-64 ABI promises."""
    return ("+avx512vnni" if wide else "+avxvnni") in features.split(",")


def _caches() -> tuple[int, int]:
    """Bytes of L1 data and of L2, from the kernel's description of CPU 0, else common ones."""
    sizes = {1: 32 << 10, 2: 512 << 10}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level = int((index / "level").read_text())
            kind = (index / "type").read_text().strip()
            size = _bytes((index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind != "Instruction" and level in sizes and size > 0:
            sizes[level] = size
    return sizes[1], sizes[2]


def _bytes(text: str) -> int:
    """Bytes of the kernel's notation: "32K", "16M"."""
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(text) if unit is None else int(text[:-1]) << unit
