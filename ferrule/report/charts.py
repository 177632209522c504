"""Charts of a report as inline SVG: the roofline, and the timeline of the last calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from ferrule.report.amount import scaled, seconds, three
from ferrule.report.data import (
    CALL,
    COMPUTE,
    ENTRY,
    FORK_JOIN,
    FRAMEWORK,
    IDLE,
    LEVELS,
    MEMORY,
    Kernel,
    Peaks,
    Report,
    Span,
)  # fmt: skip

CLASSES = {
    COMPUTE: "compute", MEMORY: "memory", FRAMEWORK: "framework", CALL: "call", ENTRY: "entry",
    FORK_JOIN: "fork", IDLE: "idle",
}  # fmt: skip
"""The style class of each share."""

# ---- roofline ------------------------------------------------------------------------------------

WIDTH, _H = 1000, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 20, 45
_LABELS = 8


def roofline(report: Report) -> str:
    """Operations a second over operations a byte, both by powers of ten: a line for each level of
    memory, a dot for each kernel, its area by its share of the time.
    """
    peaks = report.peaks
    dots = [k for k in report.kernels if k.flops and k.bytes and k.flops_rate]
    if peaks is None or not dots:
        return '<p class="soft">No kernel has a known number of operations and bytes.</p>'
    xs = [(k.flops or 0) / (k.bytes or 1) for k in dots]
    ys = [k.flops_rate or 1 for k in dots]
    n = peaks.threads
    roof = peaks.flops_on(n)
    plot = _Plot(
        (min(*xs, 0.1), max(*xs, roof / peaks.bandwidth_on("DRAM", n)) * 3),
        (min(ys) / 3, max(roof, *ys) * 2),
    )
    total = sum(k.seconds for k in report.kernels) or 1.0
    parts = [*plot.axes(), *_roofs(plot, peaks)]
    for k, x, y in sorted(zip(dots, xs, ys), key=lambda d: -d[0].seconds):
        radius = 4 + 16 * math.sqrt(k.seconds / total)
        parts.append(
            f'<circle class="dot {CLASSES[k.kind]}" cx="{plot.x(x):.1f}" cy="{plot.y(y):.1f}" '
            f'r="{radius:.1f}"><title>{escape(_told(k, x))}</title></circle>'
        )
    parts += _labels([(k.name, plot.x(x), plot.y(y)) for k, x, y in zip(dots, xs, ys)][:_LABELS])
    return figure(
        parts, _H, "Operations a second over operations a byte. A kernel on a line can't be faster "
        "with its data there; below the lines, something else takes the time. Areas are shares.",
    )  # fmt: skip


def _labels(places: Sequence[tuple[str, float, float]]) -> Iterator[str]:
    """Names above and to the right of dots, one above another where they are close."""
    taken: list[tuple[float, float]] = []
    for name, x, y in places:
        at = x + 12, y - 14
        while any(abs(at[0] - a) < 60 and abs(at[1] - b) < 12 for a, b in taken):
            at = at[0], at[1] - 12
        taken.append(at)
        yield f'<text class="name" x="{at[0]:.1f}" y="{at[1]:.1f}">{escape(name)}</text>'


def _told(k: Kernel, intensity: float) -> str:
    rate = scaled(k.flops_rate, "flop/s")
    return f"{k.name}: {rate}, {three(intensity)} flop/B, {seconds(k.mean)} a call"


class _Plot:
    """Two logarithmic axes."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = ([math.log10(v) for v in pair] for pair in (x, y))

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return _H - _BOTTOM - (math.log10(value) - low) / (high - low) * (_H - _TOP - _BOTTOM)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest x."""
        return 10 ** self._x[0], 10 ** self._x[1]

    @property
    def least(self) -> float:
        """The least y."""
        return float(10 ** self._y[0])

    def axes(self) -> Iterator[str]:
        """Lines at powers of ten, and what they are."""
        bottom = _H - _BOTTOM
        for e in _powers(*self._x):
            at = self.x(10.0**e)
            yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{10.0**e:g}</text>'
        for e in _powers(*self._y):
            at = self.y(10.0**e)
            ends = f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
            yield f'<line class="grid" {ends}/>'
            yield (
                f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
                f"{_power(10.0**e)}</text>"
            )
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        yield f'<text x="{middle:.0f}" y="{_H - 8}" text-anchor="middle">flop a byte</text>'
        yield f'<text x="8" y="{_TOP - 6}">flop/s</text>'


def _powers(low: float, high: float) -> range:
    return range(math.ceil(low), math.floor(high) + 1)


def _power(x: float) -> str:
    return scaled(x, "").replace(".00", "").replace(".0", "").strip()


def _roofs(plot: _Plot, peaks: Peaks) -> Iterator[str]:
    """The peak, and up to it a line for each level of memory."""
    n, (low, high) = peaks.threads, plot.ends
    roof = peaks.flops_on(n)
    right = WIDTH - _RIGHT
    yield from _line(plot, (min(low * 1.0001, high), roof), (high, roof))
    yield f'<text x="{right + 8}" y="{plot.y(roof) + 4:.1f}">{scaled(roof, "flop/s")}</text>'
    taken: list[float] = []
    for level in LEVELS:
        speed = peaks.bandwidth_on(level, n)
        start = max(low, plot.least / speed)
        end = roof / speed
        if not start < end:
            continue
        yield from _line(plot, (start, start * speed), (end, roof))
        at = plot.y(roof) - 6
        x = plot.x(end)
        while any(abs(x - t) < 34 for t in taken):
            x += 34
        taken.append(x)
        yield f'<text x="{x:.1f}" y="{at:.1f}" text-anchor="middle">{level}</text>'


def _line(plot: _Plot, a: tuple[float, float], b: tuple[float, float]) -> Iterator[str]:
    (x1, y1), (x2, y2) = ((plot.x(x), plot.y(y)) for x, y in (a, b))
    yield f'<line class="roof" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


# ---- timeline ------------------------------------------------------------------------------------

_LANE, _GAP, _NAMES = 30, 10, 90
_MOST_SPANS, _MOST_CALLS = 1500, 4
_HEIGHTS = {CALL: 1.0, ENTRY: 0.82}  # of a lane; what is inside is lower, so that both are seen
_INNER = 0.6


def timeline(report: Report) -> str:
    """The last calls, a lane for each thread."""
    spans = _last(report.timeline)
    if not spans:
        return '<p class="soft">Nothing was recorded.</p>'
    first, last = min(s.start for s in spans), max(s.end for s in spans)
    scale = (WIDTH - _NAMES - 10) / max(last - first, 1)
    rows = sorted(dict.fromkeys(s.row for s in spans), key=lambda r: (r.startswith("worker"), r))
    height = len(rows) * (_LANE + _GAP) + 40
    parts: list[str] = []
    for i, row in enumerate(rows):
        top = 10 + i * (_LANE + _GAP)
        parts.append(f'<text x="8" y="{top + _LANE / 2 + 4:.0f}">{escape(row)}</text>')
        size = f'width="{WIDTH - _NAMES - 10}" height="{_LANE}"'
        parts.append(f'<rect class="lane" x="{_NAMES}" y="{top}" {size}/>')
    for s in spans:
        part = _HEIGHTS.get(s.kind, _INNER)
        y = 10 + rows.index(s.row) * (_LANE + _GAP) + _LANE * (1 - part) / 2
        x, width = _NAMES + (s.start - first) * scale, max((s.end - s.start) * scale, 0.4)
        told = f"{s.name}: {seconds((s.end - s.start) * 1e-9)}"
        parts.append(
            f'<rect class="{CLASSES[s.kind]}" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" '
            f'height="{_LANE * part:.1f}"><title>{escape(told)}</title></rect>'
        )
    bottom = height - 10
    parts.append(f'<text x="{_NAMES}" y="{bottom}">0</text>')
    whole = seconds((last - first) * 1e-9)
    parts.append(f'<text x="{WIDTH - 10}" y="{bottom}" text-anchor="end">{whole}</text>')
    calls = sum(s.kind == CALL for s in spans)
    return figure(
        parts, height, f"The last {calls} of the calls that were recorded, in them compiled code, "
        "in it launches; of workers, from the first to the last that they did of a launch.",
    )  # fmt: skip


def _last(spans: Sequence[Span]) -> list[Span]:
    """The spans since one of the last calls began, as many as a page can show."""
    calls = [s for s in spans if s.kind == CALL]
    for call in calls[-_MOST_CALLS:]:
        found = [s for s in spans if s.start >= call.start]
        if len(found) <= _MOST_SPANS:
            return found
    return [s for s in spans if calls and s.start >= calls[-1].start][:_MOST_SPANS]


def figure(parts: Sequence[str], height: int, caption: str) -> str:
    """A chart of WIDTH and this height, in pixels, with what it shows below."""
    body = "\n".join(parts)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(caption)}">'
        f"{body}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )
