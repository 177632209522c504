"""The results of a conformance run: one Operator each, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PASSED, FELL_BACK, FAILED, NOTHING = "passed", "in PyTorch", "failed", "no reference"
_COLUMNS = ("operators", PASSED, FELL_BACK, FAILED, NOTHING)
_SHOWN_REASONS = 4


@dataclass
class Operator:
    """An operator with one dtype: how many samples were compared, how many of them ran wholly in
    ferrule, how many eager itself refuses; failures with their sample's number, and fallbacks with
    their reasons.
    """

    name: str
    dtype: str
    samples: int = 0
    wholly: int = 0
    refused: int = 0
    crashes: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    fallbacks: dict[str, str] = field(default_factory=dict)

    def add(self, number: int, error: str | None, fallbacks: Sequence[tuple[str, str]]) -> None:
        """Count one sample."""
        self.samples += 1
        if error is not None:
            self.failures.append((number, error))
        elif not fallbacks:
            self.wholly += 1
        self.fallbacks |= dict(fallbacks)

    def crash(self, number: int, how: str) -> None:
        """Count a sample that a worker died on."""
        self.crashes += 1
        self.add(number, f"crash: {how}", [])

    @property
    def status(self) -> str:
        """Passed: all samples agree, wholly compiled. In PyTorch: all agree, and part of some ran
        there.
        """
        if self.failures:
            return FAILED
        if not self.samples:
            return NOTHING
        return PASSED if self.wholly == self.samples else FELL_BACK

    def line(self) -> str:
        """The operator in one line."""
        out = f"{self.name} {self.dtype} {self.wholly}/{self.samples}"
        if self.failures:
            number, error = self.failures[0]
            out += f" FAILED {len(self.failures)}: sample {number}: {error[:200]}"
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


@dataclass(frozen=True)
class Counts:
    """The operators of one dtype by status, and their samples by what became of them."""

    operators: dict[str, int]
    samples: dict[str, int]

    @property
    def agreeing(self) -> float:
        """The share of operators, of those with a reference, all of whose samples agree."""
        n = self.operators
        compared = n["operators"] - n[NOTHING]
        return (n[PASSED] + n[FELL_BACK]) / compared if compared else 1.0


def counts(mine: Sequence[Operator]) -> Counts:
    """Counts of operators of one dtype."""
    operators = dict.fromkeys(_COLUMNS, 0) | {"operators": len(mine)}
    for o in mine:
        operators[o.status] += 1
    compared, wholly = sum(o.samples for o in mine), sum(o.wholly for o in mine)
    failed = sum(len(o.failures) for o in mine)
    return Counts(operators, {
        "operators": compared,
        PASSED: wholly,
        FELL_BACK: compared - wholly - failed,
        FAILED: failed,
        NOTHING: sum(o.refused for o in mine),
    })  # fmt: skip


def by_dtype(done: Sequence[Operator]) -> dict[str, list[Operator]]:
    """The operators of each dtype, by name."""
    return {
        d: sorted((o for o in done if o.dtype == d), key=lambda o: o.name)
        for d in sorted({o.dtype for o in done})
    }


def summary(done: Sequence[Operator]) -> str:
    """Counts by dtype, as text."""
    lines = []
    for dtype, mine in by_dtype(done).items():
        c = counts(mine)
        each = ", ".join(f"{name} {c.operators[name]}" for name in _COLUMNS[1:])
        lines.append(f"{dtype}: {len(mine)} operators, {c.samples['operators']} samples; {each}; "
                     f"{100 * c.agreeing:.1f} % agree on all samples")  # fmt: skip
    return "\n".join(lines)


# ---- the document --------------------------------------------------------------------------------


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
        f"- **{PASSED}**: all samples agree, and ferrule runs them whole;",
        f"- **{FELL_BACK}**: all samples agree; some operators of some samples run in PyTorch;",
        f"- **{FAILED}**: a sample disagrees, or raises where eager does not;",
        f"- **{NOTHING}**: eager itself raises, so there is nothing to compare with.",
        "",
        f"| dtype | of | all | {' | '.join(_COLUMNS[1:])} | agree |",
        "| --- " * 8 + "|",
    ]
    for dtype, mine in by_dtype(done).items():
        c = counts(mine)
        shown = [" | ".join(map(str, n.values())) for n in (c.operators, c.samples)]
        out.append(f"| {dtype} | operators | {shown[0]} | {100 * c.agreeing:.1f} % |")
        out.append(f"| {dtype} | samples | {shown[1]} | |")
    for dtype, mine in by_dtype(done).items():
        out += _lists(dtype, mine)
    return "\n".join(out) + "\n"


def _lists(dtype: str, mine: Sequence[Operator]) -> list[str]:
    def of(status: str) -> list[Operator]:
        return [o for o in mine if o.status == status]

    def named(status: str) -> str:
        return ", ".join(f"`{o.name}` {o.samples}" for o in of(status)) or "None."

    out = ["", f"## {dtype}: {FAILED}", ""]
    out += [line for o in of(FAILED) for line in _failures(o)] or ["None."]
    out += ["", f"## {dtype}: {FELL_BACK}", ""]
    out += ["| operator | samples | passed | what ran in PyTorch |", "| --- | --- | --- | --- |"]
    out += map(_row, of(FELL_BACK))
    out += ["", f"## {dtype}: {PASSED}, with the number of samples", "", named(PASSED)]
    if of(NOTHING):
        out += ["", f"## {dtype}: {NOTHING}", "", ", ".join(f"`{o.name}`" for o in of(NOTHING))]
    return out


def _failures(o: Operator) -> list[str]:
    head = f"- `{o.name}`: {len(o.failures)} of {o.samples}"
    return [head, *(f"  - sample {number}: {_code(error)}" for number, error in o.failures)]


def _row(o: Operator) -> str:
    reasons = sorted(o.fallbacks.items())
    why = "; ".join(f"`{name}`: {_cell(reason)}" for name, reason in reasons[:_SHOWN_REASONS])
    return f"| `{o.name}` | {o.samples} | {o.wholly} | {why} |"


def _code(text: str) -> str:
    return "`" + text.replace("`", "'")[:200] + "`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")[:100]
