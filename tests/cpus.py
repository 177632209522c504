"""Other CPUs than this one: `pytest --cpu haswell` runs the tests as if on that.

A CPU hides instructions that this one may have, and has caches of its own. It can't add what is
missing here. Programs that tests start as processes of their own see the true CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import llvmlite.binding as llvm

from ferrule.base import config
from ferrule.base import cpu as cpu_of_host
from ferrule.target import cpu as target
from ferrule.target.cpu import Target

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Cpu:
    """Beginnings of the names of the features that are hidden; L1 and L2 in bytes."""

    hidden: tuple[str, ...]
    caches: tuple[int, int]


CPUS = {
    "haswell": Cpu(("avx512", "avxvnni", "amx"), (32 * KIB, 256 * KIB)),
    "sapphirerapids": Cpu((), (48 * KIB, 2 * MIB)),
}


def pretend(name: str) -> None:
    """Lets this process believe that it runs on the CPU of that name. For use before any test."""
    cpu = CPUS[name]
    features = llvm.get_host_cpu_features()
    features.update(dict.fromkeys((f for f in features if f.startswith(cpu.hidden)), False))
    llvm.get_host_cpu_features = lambda: features
    own = frozenset(f for f in cpu_of_host.features() if not f.startswith(cpu.hidden))
    cpu_of_host.features = lambda: own
    if cpu.hidden:
        llvm.get_host_cpu_name = lambda: name
    target.cache_sizes = lambda: (*cpu.caches, 0)


def server(name: str) -> Target:
    """The target called `name` on a server that has no more instructions than the name
    says: for tests of decisions and of code that must not depend on the machine they run on.
    """
    l1, l2 = CPUS["sapphirerapids"].caches
    return replace(target.least(name), l1=l1, l2=l2)


def current() -> Target:
    """The target of the setting `target`, which tests are run with (FERRULE_TARGET)."""
    return target.named(config.get("target"))
