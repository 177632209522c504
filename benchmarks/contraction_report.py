"""The contraction benchmark's report: shares of the FMA peak, ratios to the best peer, targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from benchmarks.contraction_table import find
from benchmarks.report import EMPTY, machine_text, notes, table
from benchmarks.rows import Report, Row

PEERS = ("eager", "inductor", "onnxruntime", "openvino")
OURS, TUNED, PEAK = "ferrule", "tuned", "peak"
HEAD = """\
Each peer's rate as a share of the FMA peak measured in the same rounds, that of its best layout
(`*`: channels-last); bold is the fastest. `ratio` is the best peer's time over ferrule's: above 1,
ferrule is faster. `errors` are the peers' largest differences from a float64 reference, relative to
its largest value and of all layouts; a peer that is off by more than the tolerance is marked WRONG
and counts nowhere."""


@dataclass(frozen=True)
class Target:
    """What `value` of the rows that match must reach: `each` of them, and their geometric mean."""

    name: str
    rows: str
    value: Callable[[Row], float | None]
    each: float | None = None
    mean: float | None = None


def best_of(row: Row, peer: str) -> tuple[float, str] | None:
    """The peer's median seconds and its layout, of the form in which it is fastest."""
    found = [
        (median, r.peer.removeprefix(peer).strip())
        for r in row.results
        if r.peer.split(" ")[0] == peer and (median := row.median(r.peer)) is not None
    ]
    return min(found, default=None)


def share_of_peak(row: Row, peer: str = OURS) -> float | None:
    """The rate of a peer over the peak's."""
    peak, own = best_of(row, PEAK), best_of(row, peer)
    return peak[0] / own[0] if peak and own else None


def ratio(row: Row) -> float | None:
    """The fastest other peer's time over ferrule's."""
    others = [found[0] for p in PEERS if (found := best_of(row, p))]
    own = best_of(row, OURS)
    return min(others) / own[0] if others and own else None


def default_share(row: Row) -> float | None:
    """The tuned schedule's time over the default one's."""
    tuned, own = best_of(row, TUNED), best_of(row, OURS)
    return tuned[0] / own[0] if tuned and own else None


LARGE = r"mm_(512|768|1024|1536|2048)|(bert|gpt2)_.*_t512"
TARGETS = (
    Target("large products, share of the peak", LARGE, share_of_peak, each=0.85),
    Target("every row against the best peer", ".*", ratio, each=1.0, mean=1.2),
    Target("causal attention of 1024 tokens", "attention_1024_causal", ratio, each=1.5),
    Target("LSTM 2x256 over 64 steps", "lstm_2x256_64steps", ratio, each=1.2),
    Target("default schedule against tuned", ".*", default_share, mean=0.9),
)


def markdown(report: Report) -> str:
    """The whole report."""
    parts = ["# Contractions", machine_text(report)]
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        parts += [f"## {threads} thread{'s' if threads > 1 else ''}", peak_line(rows), HEAD]
        for kind in dict.fromkeys(row.group for row in rows):
            some = [row for row in rows if row.group == kind]
            parts += [f"### {kind}", shares(some), mean_line(some)]
        parts += ["### Targets", targets(rows)]
        parts += [part for part in (notes(rows),) if part]
    return "\n\n".join(parts) + "\n"


def shares(rows: Sequence[Row]) -> str:
    """The table of rows: operations, ferrule's rate, each peer's share of the peak, the ratio, and
    the peers' errors.
    """
    present = {r.peer.split(" ")[0] for row in rows for r in row.results if r.median is not None}
    peers = [p for p in (*PEERS, OURS, TUNED) if p in present]
    body = []
    for row in rows:
        own, flops = best_of(row, OURS), find(row.model).flops
        rate = f"{flops / own[0] / 1e9:.1f}" if own else EMPTY
        cells = [f"{flops / 1e6:.3g}", rate, *(_share(row, p, peers) for p in peers)]
        errors = " ".join(_error(row, p) for p in peers)
        body.append([row.model, *cells, _number(ratio(row)), errors])
    heads = f"errors: {', '.join(peers)}"
    return table(["row", "MFLOP", "GFLOP/s", *peers, "ratio", heads], body)


def mean_line(rows: Sequence[Row]) -> str:
    """The geometric means of the ratios and of ferrule's shares of the peak."""
    ratios, own = _known(rows, ratio), _known(rows, share_of_peak)
    if not ratios or not own:
        return ""
    return (
        f"Geometric means of {len(ratios)} rows: ratio {geometric_mean(ratios.values()):.2f}, "
        f"share of the peak {geometric_mean(own.values()):.2f}; smallest ratio "
        f"{min(ratios.values()):.2f} ({min(ratios, key=ratios.__getitem__)})."
    )


def peak_line(rows: Sequence[Row]) -> str:
    """The measured peak: its median over the rows."""
    rates = sorted(
        find(row.model).flops / found[0] / 1e9 for row in rows if (found := best_of(row, PEAK))
    )
    if not rates:
        return ""
    middle = rates[len(rates) // 2]
    return f"FMA peak: {middle:.1f} GFLOP/s ({rates[0]:.1f} to {rates[-1]:.1f} by row)."


def targets(rows: Sequence[Row]) -> str:
    """The targets, what was found, and the rows that miss them."""
    body = []
    for t in TARGETS:
        found = _known([r for r in rows if re.fullmatch(t.rows, r.model)], t.value)
        if not found:
            continue
        mean, least = geometric_mean(found.values()), min(found.values())
        missed = {n: v for n, v in found.items() if t.each is not None and v < t.each}
        reached = not missed and (t.mean is None or mean >= t.mean)
        goal = _goal(t)
        cells = [str(len(found)), f"{least:.2f}", f"{mean:.2f}"]
        worst = sorted(missed.items(), key=lambda item: item[1])[:12]
        named = ", ".join(f"{n} {v:.2f}" for n, v in worst)
        more = f" and {len(missed) - len(worst)} more" if len(missed) > len(worst) else ""
        body.append([t.name, goal, *cells, "reached" if reached else "missed", named + more])
    return table(["target", "goal", "rows", "least", "mean", "", "below it"], body)


def _goal(t: Target) -> str:
    goals = (("each", t.each), ("mean", t.mean))
    return ", ".join(f"{name} ≥ {value:g}" for name, value in goals if value is not None)


def _share(row: Row, peer: str, peers: Iterable[str]) -> str:
    """A peer's share of the peak, bold for the fastest of `peers`."""
    own, share = best_of(row, peer), share_of_peak(row, peer)
    if own is None or share is None:
        return EMPTY
    fastest = min(found[0] for p in peers if (found := best_of(row, p)))
    text = f"{share:.2f}" + "*" * bool(own[1])
    return f"**{text}**" if own[0] == fastest else text


def _error(row: Row, peer: str) -> str:
    """A peer's largest error over its layouts, marked where one of them is beyond the tolerance."""
    errors = [r.error for r in row.results if r.peer.split(" ")[0] == peer and r.error is not None]
    if not errors:
        return EMPTY
    worst = max(errors)
    return f"{worst:.0e}" + " WRONG" * (not worst <= row.tolerance)


def _known(rows: Iterable[Row], value: Callable[[Row], float | None]) -> dict[str, float]:
    return {row.model: v for row in rows if (v := value(row)) is not None}


def _number(x: float | None) -> str:
    return EMPTY if x is None else f"{x:.2f}"
