"""Decisions: what a pass chose for something, what else it could have chosen, and why.

    str(Decision("v3", "inline", "kept", "5 consumers"))    "v3: kept: 5 consumers"

Passes return them as values; `explain`, reports, tests and tuning read the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """`subject` names buffers, stages or kernels; `kind` the question: "inline", "merge", "split",
    "group", "overlap" or "schedule". `bytes` moved and `flops` are what the choice comes to, and
    `ns` the time that is predicted, where the pass computes them for known sizes.
    """

    subject: str
    kind: str
    chosen: str
    reason: str = ""
    alternatives: tuple[str, ...] = ()
    bytes: int | None = None
    flops: int | None = None
    ns: int | None = None

    def __str__(self) -> str:
        amounts = ((self.flops, "flops"), (self.bytes, "B"), (self.ns, "ns"))
        known = [f"{n} {unit}" for n, unit in amounts if n is not None]
        other = f", not {' or '.join(self.alternatives)}" if self.alternatives else ""
        parts = (self.subject, self.chosen + other, self.reason, ", ".join(known))
        return ": ".join(p for p in parts if p)
