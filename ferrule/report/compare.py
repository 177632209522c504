"""Two reports of one model side by side: what got slower, by time lost.

    comparison = before.compare(after)
    comparison.kernels[0]                # the kernel that lost most

Times are those of one call of the model. Kernels are told by their program, their name and the
place among kernels of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ferrule.report.amount import percent, seconds
from ferrule.report.data import Kernel, Report
from ferrule.report.text import heading, holds, table

_ROWS = 20


@dataclass(frozen=True)
class Change:
    """A kernel's or a share's seconds a call before and after; 0 where there is none."""

    name: str
    before: float
    after: float
    holds: str = ""

    @property
    def lost(self) -> float:
        """How much longer it takes."""
        return self.after - self.before

    @property
    def times(self) -> float:
        """How many times as long."""
        return self.after / self.before if self.before else float("inf")


@dataclass(frozen=True)
class Comparison:
    """`wall`, each share and each kernel, before and after; kernels by time lost, most first."""

    before: Report
    after: Report
    wall: Change
    shares: tuple[Change, ...]
    kernels: tuple[Change, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def compare(before: Report, after: Report) -> Comparison:
    """What `after` takes beside `before`."""
    calls = max(before.calls, 1), max(after.calls, 1)
    shares = (
        Change(name, t / calls[0], after.shares[name] / calls[1])
        for name, t in before.shares.items()
    )
    first, second = _by_key(before), _by_key(after)
    kernels = []
    for key in dict.fromkeys((*first, *second)):
        a, b = first.get(key), second.get(key)
        known = b or a
        assert known is not None
        was, now = (0.0 if k is None else k.seconds / n for k, n in zip((a, b), calls))
        kernels.append(Change(known.name, was, now, holds(known)))
    return Comparison(
        before,
        after,
        Change("wall", before.wall / calls[0], after.wall / calls[1]),
        tuple(sorted(shares, key=lambda c: -c.lost)),
        tuple(sorted(kernels, key=lambda c: -c.lost)),
    )


def _by_key(report: Report) -> dict[tuple[str, str, int], Kernel]:
    found: dict[tuple[str, str, int], Kernel] = {}
    for k in sorted(report.kernels, key=lambda k: (k.program, k.name)):
        n = 0
        while (k.program, k.name, n) in found:
            n += 1
        found[k.program, k.name, n] = k
    return found


def _lines(c: Comparison) -> Iterator[str]:
    yield f"before: {heading(c.before)}"
    yield f"after:  {heading(c.after)}"
    yield ""
    head = ("", "before", "after", "lost", "times", "")
    rows = [head, *(_row(x) for x in (c.wall, *c.shares))]
    yield from table(rows)
    yield ""
    yield from table([("kernel", *head[1:-1], "holds"), *map(_row, c.kernels[:_ROWS])])
    if len(c.kernels) > _ROWS:
        yield f"  and {len(c.kernels) - _ROWS} more kernels"
    part = c.kernels[0] if c.kernels else None
    if part is not None and c.wall.lost > 0 and part.lost > 0:
        share = percent(min(part.lost / c.wall.lost, 1))
        yield f"  {part.name} takes {seconds(part.lost)} a call more: {share} of what is lost"


def _row(c: Change) -> tuple[str, ...]:
    times = f"{c.times:.2f}" if c.before else "-"
    lost = f"{'+' if c.lost >= 0 else ''}{seconds(c.lost)}"
    return c.name, seconds(c.before), seconds(c.after), lost, times, c.holds
