"""What the CPU of this process has: its architecture, its features, the targets that it can run.

    supports("avx512")       whether code for the target of that name runs here
    has(("avx2", "fma"))     whether features are there, by LLVM's names
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ferrule.base.features import FEATURES, LEVELS

_KEYS = ("flags", "features", "isa")  # lines of /proc/cpuinfo, on x86, Arm and RISC-V


def supports(name: str) -> bool:
    """Whether this machine can run code for the target called `name`."""
    level = next((v for v in LEVELS if v.name == name), None)
    if level is None:
        return name == "generic"
    return architecture() in level.architectures and has(level.needs)


def has(names: Iterable[str]) -> bool:
    """Whether the CPU has all features with these names of LLVM's, which the table has."""
    return features().issuperset(names)


@cache
def features() -> frozenset[str]:
    """The features of the table that the CPU has. Linux tells them, elsewhere LLVM if it is there.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _told_by_llvm()
    lines = (line.partition(":") for line in text.splitlines())
    words = [_words(rest) for key, _, rest in lines if key.strip().lower() in _KEYS]
    everywhere = set.intersection(*words) if words else set()
    return frozenset(f.name for f in FEATURES if (f.linux or f.name) in everywhere)


def _words(text: str) -> set[str]:
    """The names in a line of features; `rv64imafdcv_zba` has a letter for each of the first."""
    base, *more = text.strip().split("_")
    return {*base.removeprefix("rv64"), *more} if base.startswith("rv64") else set(text.split())


def _told_by_llvm() -> frozenset[str]:
    try:
        import llvmlite.binding as llvm

        found = llvm.get_host_cpu_features()
    except (ImportError, RuntimeError):  # LLVM cannot tell on this architecture
        return frozenset()
    return frozenset(f.name for f in FEATURES if found.get(f.name))


def architecture() -> str:
    """The architecture of this process, as LLVM calls it."""
    return canonical(platform.machine().lower())


def canonical(architecture: str) -> str:
    """One name for what systems call differently."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)
