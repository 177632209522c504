"""Decisions: what a pass chose for something, what else it could have chosen, and why.

    str(Decision("v3", "inline", "kept", "5 consumers"))    "v3: kept: 5 consumers"

Passes return them as values; `explain`, the cache and tests read the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """`subject` names buffers, stages or kernels; `kind` the question: "graph", "inline", "merge",
    "split", "group", "overlap", "schedule", "pack" or "loop". `key` is what the question is called
    in every program that asks it: that of a contraction's schedule is its tuning key.

    `bytes`, `flops` and `ns` are what the chosen is expected to take, where the pass weighs that:
    bytes of the program's buffers, each counted once for a kernel; operations of all points, as the
    kernel is written; time on one thread. A size that is known on a call alone counts as it is
    likely to be (`analysis.size`).
    """

    subject: str
    kind: str
    chosen: str
    reason: str = ""
    alternatives: tuple[str, ...] = ()
    key: str = ""
    bytes: int | None = None
    flops: int | None = None
    ns: int | None = None

    def __str__(self) -> str:
        other = f", not {' or '.join(self.alternatives)}" if self.alternatives else ""
        return ": ".join(p for p in (self.subject, self.chosen + other, self.reason) if p)
