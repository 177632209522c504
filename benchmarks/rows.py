"""What the benchmark finds, as data: rows, compilations and the machine, and their JSON form."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "ferrule",
    "llvmlite",
    "numpy",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
)


@dataclass(frozen=True)
class Result:
    """One peer on one model. Seconds a call, quartiles, and what the compilation took.

    `error` is relative to the largest eager value; a `note` says why there is no time.
    """

    peer: str
    median: float | None = None
    low: float | None = None
    high: float | None = None
    compile_seconds: float | None = None
    own_seconds: float | None = None
    kernels: int | None = None
    error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One model with so many threads, measured in one process."""

    model: str
    group: str
    threads: int
    tolerance: float
    rounds: int
    results: tuple[Result, ...]

    def median(self, peer: str) -> float | None:
        """The peer's median seconds, or None when it has none or its result was wrong."""
        for result in self.results:
            if result.peer == peer:
                wrong = result.error is not None and not result.error <= self.tolerance
                return None if wrong else result.median
        return None


@dataclass(frozen=True)
class Compilation:
    """Seconds of a first compilation (`cold`) or one that finds the peer's disk cache filled."""

    model: str
    peer: str
    cold: bool
    seconds: float | None
    own_seconds: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Everything of one run of the benchmark."""

    rows: tuple[Row, ...]
    compilations: tuple[Compilation, ...] = ()
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def row_from(data: dict[str, Any]) -> Row:
    """A Row from its JSON form."""
    return Row(**{**data, "results": tuple(Result(**r) for r in data["results"])})


def to_json(value: Row | Compilation | Report) -> dict[str, Any]:
    """The JSON form of what a dataclass holds."""
    return asdict(value)


def machine() -> dict[str, str]:
    """The CPU's name, the number of CPUs, the operating system and Python."""
    return {
        "cpu": cpu_name(),
        "cpus": str(os.cpu_count()),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def cpu_name() -> str:
    """The CPU's model name as the operating system gives it, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of the packages that matter, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
