"""What ferrule is to reach, as a table, and how far a report is from it.

A target compares the medians of one peer with those of a baseline on a set of rows, with one number
of threads. Its ratios are baseline / peer: above 1, the peer is faster. `best` as the baseline is
the fastest of all other peers on each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from benchmarks.rows import Row

BEST = "best"
OTHERS = ("eager", "inductor", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Target:
    """`each` and `geomean` are the smallest ratios that reach the target."""

    name: str
    models: tuple[str, ...]
    baseline: str
    each: float | None = None
    geomean: float | None = None
    peer: str = "ferrule"


@dataclass(frozen=True)
class Outcome:
    """The ratios that a report has for a target; a model without both medians is in `missing`."""

    target: Target
    threads: int
    ratios: dict[str, float]
    missing: tuple[str, ...]

    @property
    def smallest(self) -> float:
        """The ratio of the row that is worst for the peer."""
        return min(self.ratios.values())

    @property
    def mean(self) -> float:
        """The geometric mean of the ratios."""
        return geometric_mean(self.ratios.values())

    @property
    def reached(self) -> bool:
        """Whether all rows are there and reach the target."""
        if self.missing or not self.ratios:
            return False
        each = self.target.each is None or self.smallest >= self.target.each
        return each and (self.target.geomean is None or self.mean >= self.target.geomean)


MEMORY = ("softmax", "ln_gelu", "rms_rot", "bn_relu_add")
DENSE = ("minilm", "bert", "gpt2", "mlp", "dlrm")
CONVOLUTION = ("resnet18", "resnet50", "mobilenet_v2")
DYNAMIC = ("softmax", "ln_gelu", "minilm")

TARGETS: tuple[Target, ...] = (
    Target("memory-intensive against Inductor", MEMORY, "inductor", each=1.3, geomean=1.7),
    Target("memory-intensive against the best peer", MEMORY, BEST, each=1.1),
    Target("attention against eager", ("mha",), "eager", each=1.2),
    Target("transformers, MLP and DLRM against eager", DENSE, "eager", each=1.0, geomean=1.3),
    Target("convolution networks against eager", CONVOLUTION, "eager", each=1.0),
    Target(
        "symbolic against static sizes",
        DYNAMIC,
        "ferrule-direct",
        each=0.95,
        peer="ferrule-direct-dynamic",
    ),
    Target(
        "the same through torch.compile", DYNAMIC, "ferrule", each=0.95, peer="ferrule-dynamic"
    ),
)


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """What `rows` say about each target, for each number of threads."""
    threads = sorted({row.threads for row in rows})
    return [_outcome(target, rows, count) for count in threads for target in TARGETS]


def baseline_median(row: Row, baseline: str) -> float | None:
    """The median of a baseline on a row, of the fastest other peer for `best`."""
    if baseline != BEST:
        return row.median(baseline)
    return min((m for m in map(row.median, OTHERS) if m is not None), default=None)


def _outcome(target: Target, rows: Sequence[Row], threads: int) -> Outcome:
    by_name = {row.model: row for row in rows if row.threads == threads}
    ratios: dict[str, float] = {}
    for model in target.models:
        row = by_name.get(model)
        baseline = row and baseline_median(row, target.baseline)
        median = row and row.median(target.peer)
        if baseline and median:
            ratios[model] = baseline / median
    missing = tuple(model for model in target.models if model not in ratios)
    return Outcome(target, threads, ratios, missing)
