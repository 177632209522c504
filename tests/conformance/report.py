"""The results of a conformance run: one Operator each, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Operator:
    """An operator with one dtype: its samples, the fallbacks with reasons, the failures."""

    name: str
    dtype: str
    samples: int = 0
    wholly: int = 0
    crashes: int = 0
    failures: list[str] = field(default_factory=list)
    fallbacks: dict[str, str] = field(default_factory=dict)

    def add(self, error: str | None, fallbacks: Sequence[tuple[str, str]]) -> None:
        """Count one sample."""
        self.samples += 1
        if error is not None:
            self.failures.append(error)
            self.crashes += error.startswith("crash")
        elif not fallbacks:
            self.wholly += 1
        self.fallbacks |= dict(fallbacks)

    @property
    def status(self) -> str:
        """Passed (all samples agree, compiled whole), fell back (all agree) or failed."""
        if self.failures:
            return "failed"
        return "passed" if self.wholly == self.samples else "fell back"

    def line(self) -> str:
        """The operator in one line."""
        out = f"{self.name} {self.dtype} {self.wholly}/{self.samples}"
        if self.failures:
            out += f" FAILED {len(self.failures)}: {self.failures[0][:200]}"
        for name, why in self.fallbacks.items():
            out += f" | {name}: {why[:120]}"
        return out

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Operator:
        """The operator that `as_json` wrote."""
        return cls(**data)


def summary(done: Sequence[Operator]) -> str:
    """Counts by dtype, as text."""
    lines = []
    for dtype in dict.fromkeys(o.dtype for o in done):
        mine = [o for o in done if o.dtype == dtype]
        n = Counter(o.status for o in mine)
        agree = 100 * (n["passed"] + n["fell back"]) / len(mine)
        lines.append(f"{dtype}: {len(mine)} operators, {sum(o.samples for o in mine)} samples; "
                     f"passed {n['passed']}, fell back {n['fell back']}, failed {n['failed']}; "
                     f"{agree:.1f} % agree on all samples")  # fmt: skip
    return "\n".join(lines)


def markdown(done: Sequence[Operator], limit: int) -> str:
    """The report for docs/conformance.md."""
    import torch

    some = f"at most {limit} samples an operator, evenly spread" if limit else "every sample"
    out = [
        "# Conformance with PyTorch",
        "",
        f"The operators of `torch.testing._internal.common_methods_invocations.op_db` "
        f"(PyTorch {torch.__version__.split('+')[0]}), {some}: the forward "
        "result of the compiled operator against eager's. Written by `make conformance`.",
        "",
        "- **passed**: all samples agree, and ferrule runs them whole;",
        "- **fell back**: all samples agree; some operators of some samples run in PyTorch;",
        "- **failed**: a sample disagrees, or raises where eager does not.",
        "",
        "| dtype | operators | samples | passed | fell back | failed | agree |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_dtype = {d: [o for o in done if o.dtype == d] for d in dict.fromkeys(o.dtype for o in done)}
    for dtype, mine in by_dtype.items():
        n = Counter(o.status for o in mine)
        agree = 100 * (n["passed"] + n["fell back"]) / len(mine)
        out.append(f"| {dtype} | {len(mine)} | {sum(o.samples for o in mine)} | {n['passed']} | "
                   f"{n['fell back']} | {n['failed']} | {agree:.1f} % |")  # fmt: skip
    for dtype, mine in by_dtype.items():
        out += _lists(dtype, sorted(mine, key=lambda o: o.name))
    return "\n".join(out) + "\n"


def _lists(dtype: str, mine: Sequence[Operator]) -> list[str]:
    def of(status: str) -> list[Operator]:
        return [o for o in mine if o.status == status]

    out = ["", f"## {dtype}: failed", ""]
    out += [
        f"- `{o.name}`: {len(o.failures)} of {o.samples}: {_code(o.failures[0])}"
        for o in of("failed")
    ] or ["None."]
    out += [
        "",
        f"## {dtype}: fell back",
        "",
        "| operator | whole | what ran in PyTorch |",
        "| --- | --- | --- |",
    ]
    for o in of("fell back"):
        why = "; ".join(
            f"`{name}`: {_cell(reason)}" for name, reason in sorted(o.fallbacks.items())[:4]
        )
        out.append(f"| `{o.name}` | {o.wholly}/{o.samples} | {why} |")
    out += [
        "",
        f"## {dtype}: passed",
        "",
        ", ".join(f"`{o.name}`" for o in of("passed")) or "None.",
    ]
    return out


def _code(text: str) -> str:
    return "`" + text.replace("`", "'")[:200] + "`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")[:100]
