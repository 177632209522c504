"""A report as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferrule.report import advice
from ferrule.report.amount import percent, scaled, seconds, three
from ferrule.report.data import Kernel, Report

_KERNELS, _OUTSIDE, _WIDTH = 20, 10, 44


def text(report: Report) -> str:
    """The shares, the kernels that take longest, and what ran in a framework."""
    return "\n".join(_lines(report))


def _lines(r: Report) -> Iterator[str]:
    yield heading(r)
    yield ""
    calls, wall = max(r.calls, 1), r.wall or 1.0
    for name, t in r.shares.items():
        yield f"  {name:<18} {percent(t / wall):>7}  {seconds(t / calls):>9} a call"
    yield f"  {advice.of_report(r)}"
    yield ""
    rows = [_HEAD, *(_row(k, wall) for k in r.kernels[:_KERNELS])]
    yield from table(rows)
    if len(r.kernels) > _KERNELS:
        rest = sum(k.seconds for k in r.kernels[_KERNELS:])
        yield f"  and {len(r.kernels) - _KERNELS} more kernels: {percent(rest / wall)}"
    for o in r.framework[:_OUTSIDE]:
        yield f"  in {o.place}: {o.operator}, {o.calls} times, {percent(o.seconds / wall)}"
    if r.peaks is not None or r.counters or r.uncounted:
        yield ""
    if r.peaks is not None:
        yield peaks_line(r)
    yield from counted(r)


def heading(r: Report) -> str:
    """What was measured, in a sentence."""
    each = seconds(r.wall / max(r.calls, 1))
    threads = f"{r.threads} thread{'s' if r.threads > 1 else ''}"
    return f"{r.name}: {r.calls} calls, {each} each, {seconds(r.wall)} in all; {threads}"


def peaks_line(r: Report) -> str:
    """What the floors are by."""
    p = r.peaks
    if p is None:
        return ""
    n = p.threads
    read = ", ".join(
        f"{level} {scaled(p.bandwidth_on(level, n), 'B/s')}" for level in p.bandwidth
    )
    flops = scaled(p.flops_on(n), "flop/s")
    return f"peaks of {p.cpu}, {n} thread{'s' if n > 1 else ''}, on {p.date}: {flops}; {read}"


def counted(r: Report) -> Iterator[str]:
    """What was counted in all threads, and what was not, in a line each."""
    calls, c = max(r.calls, 1), r.counters
    if c:
        each = [f"{scaled(n / calls, '').strip()} {name}" for name, n in c.items()]
        if c.get("cycles") and "instructions" in c:
            each.append(f"{three(c['instructions'] / c['cycles'])} instructions a cycle")
        yield f"counted a call, on all threads: {', '.join(each)}"
    reasons: dict[str, list[str]] = {}
    for name, why in r.uncounted.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        yield f"not counted: {', '.join(names)}: {why}"


_HEAD = (
    "kernel", "share", "a call", "flop/s", "B/s", "floor", "of floor", "bound", "threads", "holds",
)  # fmt: skip


def _row(k: Kernel, wall: float) -> tuple[str, ...]:
    calls = max(k.calls, 1)
    return (
        k.name,
        percent(k.seconds / wall),
        seconds(k.mean),
        scaled(k.flops_rate, ""),
        scaled(k.bytes_rate, ""),
        "-" if k.floor is None else seconds(k.floor / calls),
        percent(k.share_of_floor),
        k.bound or "-",
        three(k.threads).removesuffix(".00"),
        holds(k),
    )


def holds(k: Kernel) -> str:
    """The operators of a kernel and their places, cut where it is long."""
    found = ", ".join(k.operators) or "-"
    if k.places:
        found += f" ({'; '.join(k.places)})"
    return found if len(found) <= _WIDTH else found[: _WIDTH - 2] + ".."


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns side by side, the first and the last to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            x.ljust(w) if i in (0, len(row) - 1) else x.rjust(w)
            for i, (x, w) in enumerate(zip(row, widths))
        ]
        yield f"  {'  '.join(cells)}".rstrip()
