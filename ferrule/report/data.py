"""What a profile has measured, as plain values.

    report = shares wall kernel.. framework.. span.. [peaks]

Times are seconds, sizes bytes, rates a second. The shares sum to `wall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMPUTE, MEMORY = "compute-intensive", "memory-intensive"
FRAMEWORK, CALL, ENTRY = "framework", "call", "entry"
FORK_JOIN, IDLE = "fork and join", "idle threads"
SHARES = (COMPUTE, MEMORY, FRAMEWORK, CALL, ENTRY, FORK_JOIN, IDLE)
OVERHEAD = SHARES[2:]

LEVELS = ("L1", "L2", "L3", "DRAM")
PRODUCTS = "multiply-adds"
"""What bounds a kernel that is not bounded by one of LEVELS."""

MEANING = {
    COMPUTE: "kernels with products, convolutions or attention, while their threads run",
    MEMORY: "all other kernels, while their threads run",
    FRAMEWORK: "operators that ran in PyTorch or NumPy",
    CALL: "Python before and after compiled code: checks, outputs, what calls what",
    ENTRY: "compiled code outside of kernels: arguments and sizes of launches",
    FORK_JOIN: "until threads begin, and until the caller knows that they have ended",
    IDLE: "threads that wait in a launch for others",
}


@dataclass(frozen=True)
class Peaks:
    """What a machine can do, measured on one thread and on `threads`: `flops` (f32 multiply-adds
    count two) and `bandwidth` of each of LEVELS, reading. `sizes` are of the caches, a core's own
    or, of L3, the one that cores share. `date` is when, as ISO 8601.
    """

    cpu: str
    date: str
    threads: int
    flops: tuple[float, float]
    bandwidth: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, int]

    def flops_on(self, threads: float) -> float:
        """The peak on so many threads."""
        return self._on(self.flops, threads)

    def bandwidth_on(self, level: str, threads: float) -> float:
        """The bandwidth of a level on so many threads."""
        return self._on(self.bandwidth[level], threads)

    def level(self, size: float, threads: float) -> str:
        """Where data of this size, which the threads share, fit in."""
        for level in LEVELS[:2]:
            if size <= self.sizes[level] * max(threads, 1):
                return level
        return "L3" if size <= self.sizes.get("L3", 0) else "DRAM"

    def _on(self, pair: tuple[float, float], threads: float) -> float:
        if self.threads <= 1:
            return pair[0]
        part = min(max(threads - 1, 0) / (self.threads - 1), 1)
        return pair[0] + (pair[1] - pair[0]) * part


@dataclass(frozen=True)
class Kernel:
    """A kernel in all of its launches.

    `seconds` is their time, threads that idle included; `working` that of its threads divided by
    their number; `least` the shortest launch, None where it shares launches with others. `bytes`,
    `flops`, `predicted` (seconds on one thread, as the compiler guessed) and `floor` are of all
    calls together, None where they are not known. `bound` is what the floor is by. `module` is the
    path of the innermost module around all of its operators, "" for the whole model.
    """

    name: str
    program: str
    kind: str  # COMPUTE or MEMORY
    calls: int
    seconds: float
    working: float
    least: float | None
    threads: float
    bytes: float | None
    flops: float | None
    predicted: float | None
    floor: float | None = None
    bound: str = ""
    packs: bool = False
    operators: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    module: str = ""
    why: tuple[str, ...] = ()
    equations: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Seconds of one call."""
        return self.seconds / max(self.calls, 1)

    @property
    def flops_rate(self) -> float | None:
        """Operations a second."""
        return None if self.flops is None or not self.seconds else self.flops / self.seconds

    @property
    def bytes_rate(self) -> float | None:
        """Bytes of inputs and outputs a second."""
        return None if self.bytes is None or not self.seconds else self.bytes / self.seconds

    @property
    def share_of_floor(self) -> float | None:
        """The floor over the time: 1 where it can't be faster."""
        return None if self.floor is None or not self.seconds else self.floor / self.seconds

    @property
    def lost(self) -> float:
        """Seconds above the floor; all of them where that is not known."""
        return self.seconds - (self.floor or 0.0)


@dataclass(frozen=True)
class Outside:
    """An operator that ran in a framework, at `place`: PyTorch or NumPy."""

    place: str
    operator: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Span:
    """Something that ran from `start` to `end` (nanoseconds) in a row of the timeline. `kind` is
    "call", "entry", "framework", or a kernel's COMPUTE or MEMORY, which is of `program`.
    """

    row: str
    name: str
    kind: str
    start: int
    end: int
    program: str = ""


@dataclass(frozen=True)
class Report:
    """`wall` is the time of all `calls` together, those of several threads added; `elapsed` that of
    the whole block of the profile. `lost` counts launches that the timeline has no room for.
    `counters` are of the CPU and the system, of all threads in the whole block
    (`ferrule.runtime.hardware`), and `uncounted` tells why others are not there.
    """

    name: str
    date: str
    calls: int
    wall: float
    elapsed: float
    threads: int
    shares: Mapping[str, float]
    kernels: tuple[Kernel, ...] = ()
    framework: tuple[Outside, ...] = ()
    timeline: tuple[Span, ...] = field(default=(), repr=False)
    lost: int = 0
    peaks: Peaks | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)

    @property
    def overhead(self) -> float:
        """Seconds in neither kind of kernel."""
        return sum(self.shares[s] for s in OVERHEAD)
