"""What is run, and what became of it: cases, the programs they make, results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

RIGHT, WRONG, DEAD, LATE, NOTHING = "right", "wrong", "dead", "too late", "no reference"
GROUPS = ("architecture", "module", "higher order", "export", "onnx")


@dataclass(frozen=True)
class Call:
    """Arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Something to call, and the calls to make.

    `run` is the reference: a module or a function of PyTorch, which is compiled in PyTorch's ways,
    or anything else, with `ways` that make what is compared with it. `tolerance` is the largest
    difference, as a part of a result's largest value. `dynamic_shapes` are for `ferrule.compile`.
    """

    run: Callable[..., Any]
    calls: tuple[Call, ...]
    ways: Mapping[str, Callable[[], Callable[..., Any]]] = field(default_factory=dict)
    tolerance: float = 2e-4
    dynamic_shapes: Any = None


@dataclass(frozen=True)
class Case:
    """A name, and how its programs are made; that happens in the case's own process."""

    name: str
    group: str
    programs: Callable[[], Iterable[Program]]


@dataclass(frozen=True)
class Result:
    """What became of a case.

    `error` is of the first program that differs from the reference or raises, or the reason why
    there is no reference; `fallbacks` says by operator why the framework ran it. `programs` were
    compared, `exported` of them also through `ferrule.compile`; `uncaptured` tells why PyTorch's
    capture refused another. `kernels` are those that one call of all programs runs, `seconds` what
    ferrule took to compile them, the framework's capture left out.
    """

    name: str
    group: str
    status: str
    error: str = ""
    fallbacks: dict[str, str] = field(default_factory=dict)
    programs: int = 0
    exported: int = 0
    uncaptured: str = ""
    kernels: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """The result in one line."""
        out = f"{self.status:12s} {self.group} {self.name}: {self.programs} programs, "
        out += f"{self.exported} exported, {self.kernels} kernels, {self.seconds:.1f} s"
        if self.error:
            out += f" ERROR {self.error[:300]}"
        for name, why in self.fallbacks.items():
            out += f" | {name}: {why[:120]}"
        return out

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The result that `as_json` wrote."""
        return cls(**data)
