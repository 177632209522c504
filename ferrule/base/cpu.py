"""What the CPU of this process has: its architecture, its features, the targets that it can run.

    supports("avx512")       whether code for the target of that name runs here
    has(("avx2", "fma"))     whether features are there, by LLVM's names
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ferrule.base.features import LEVELS


def supports(name: str) -> bool:
    """Whether this machine can run code for the target called `name`."""
    level = next((v for v in LEVELS if v.name == name), None)
    if level is None:
        return name == "generic"
    return architecture() in level.architectures and has(level.needs)


def has(names: Iterable[str]) -> bool:
    """Whether the CPU has all features with these names of LLVM's."""
    return all(_features().get(name) for name in names)


@cache
def _features() -> dict[str, bool]:
    import llvmlite.binding as llvm

    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this architecture
        return {}


def feature_text() -> str:
    """The host's features as LLVM's attribute string."""
    return ",".join(("+" if on else "-") + name for name, on in sorted(_features().items()))


def triple() -> str:
    """LLVM's triple of this process: architecture, vendor, system."""
    import llvmlite.binding as llvm

    return str(llvm.get_process_triple())


def architecture() -> str:
    """The architecture of this process."""
    return triple().split("-")[0]
