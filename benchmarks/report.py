"""A report as Markdown: the table of times, compile times, the targets, and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.rows import Compilation, Report, Result, Row
from benchmarks.targets import BEST, Outcome, baseline_median, outcomes

DIRECT = ("ferrule-direct", "ferrule-direct-dynamic")
PEER_ORDER = (
    "eager",
    "inductor",
    "onnxruntime",
    "openvino",
    "ferrule",
    "ferrule-dynamic",
    *DIRECT,
)
EMPTY = "–"
TIMES = """\
Milliseconds a call, medians of interleaved rounds. The last columns are a peer's median over
ferrule's: above 1, ferrule is faster."""
COMPILATION = """\
Compile time in seconds until the first result (in brackets the compiler's own share, apart from
capture or export), ferrule's kernels, and its largest error relative to eager's largest value."""


def markdown(report: Report) -> str:
    """The whole report."""
    parts = ["# Benchmark", machine_text(report)]
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        parts += [
            f"## {threads} thread{'s' if threads > 1 else ''}",
            TIMES,
            times(rows),
            COMPILATION,
            compilation(rows),
        ]
        parts += [part for part in (overhead(rows), notes(rows)) if part]
    if report.compilations:
        parts += [
            "## Compile time, each in a process of its own",
            compilations(report.compilations),
        ]
    parts += ["## Targets", targets(outcomes(report.rows))]
    return "\n\n".join(parts) + "\n"


def times(rows: Sequence[Row]) -> str:
    """Medians by peer, and the ratios to ferrule."""
    peers = [p for p in _peers(rows) if p not in DIRECT]
    baselines = [*(p for p in peers if p in ("eager", "inductor")), BEST]
    body = []
    for row in rows:
        cells = [_milliseconds(row, peer) for peer in peers]
        ratios = [_ratio(baseline_median(row, b), row.median("ferrule")) for b in baselines]
        body.append([row.model, *cells, *ratios])
    return table(["model", *peers, *(f"{b} / ferrule" for b in baselines)], body)


def compilation(rows: Sequence[Row]) -> str:
    """Compile seconds by peer, kernels and errors."""
    peers = [p for p in _peers(rows) if p not in ("eager", *DIRECT)]
    body = []
    for row in rows:
        found = {result.peer: result for result in row.results}
        cells = [_compile_cell(found.get(peer)) for peer in peers]
        ours = found.get("ferrule")
        kernels = str(ours.kernels) if ours and ours.kernels is not None else EMPTY
        error = f"{ours.error:.1e}" if ours and ours.error is not None else EMPTY
        body.append([row.model, *cells, kernels, error])
    return table(["model", *peers, "kernels", "error"], body)


def overhead(rows: Sequence[Row]) -> str:
    """A call of a tiny model in microseconds, by peer."""
    for row in rows:
        if row.group == "overhead":
            found = [(p, row.median(p)) for p in _peers([row])]
            text = ", ".join(f"{p} {m * 1e6:.1f}" for p, m in found if m is not None)
            return f"A call of three pointwise operators on 16 elements, µs: {text}."
    return ""


def notes(rows: Sequence[Row]) -> str:
    """What could not be measured and why, and results that were wrong."""
    lines = []
    for row in rows:
        for result in row.results:
            if result.note:
                lines.append(f"- {row.model}, {result.peer}: {result.note}")
            if result.error is not None and not result.error <= row.tolerance:
                lines.append(f"- {row.model}, {result.peer}: wrong by {result.error:.1e}")
    return "\n".join(lines)


def compilations(found: Iterable[Compilation]) -> str:
    """Cold and warm compile seconds."""
    body = [
        [
            c.model,
            c.peer,
            "first" if c.cold else "with its cache filled",
            _seconds(c.seconds),
            _seconds(c.own_seconds),
            c.note,
        ]
        for c in found
    ]
    return table(["model", "peer", "compilation", "seconds", "own share", ""], body)


def targets(found: Iterable[Outcome]) -> str:
    """The targets and whether they are reached."""
    body = []
    for o in found:
        goal = [
            f"each ≥ {o.target.each:g}" if o.target.each else "",
            f"geomean ≥ {o.target.geomean:g}" if o.target.geomean else "",
        ]
        cells = [f"{model} {ratio:.2f}" for model, ratio in o.ratios.items()]
        ratios = ", ".join([*cells, *(f"{model} {EMPTY}" for model in o.missing)])
        mean = f"{o.mean:.2f}" if o.ratios else EMPTY
        verdict = "reached" if o.reached else "open" if o.missing else "missed"
        goals = ", ".join(filter(None, goal))
        body.append([o.target.name, str(o.threads), goals, ratios, mean, verdict])
    return table(["target", "threads", "goal", "ratios", "geomean", ""], body)


def machine_text(report: Report) -> str:
    """The machine and the packages of a report."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    packages = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    return f"Machine: {machine}.\n\nPackages: {packages}."


def _peers(rows: Sequence[Row]) -> list[str]:
    """The peers with a result in `rows`, in the usual order."""
    present = {r.peer for row in rows for r in row.results if r.median is not None}
    return [peer for peer in PEER_ORDER if peer in present]


def _milliseconds(row: Row, peer: str) -> str:
    """The median; bold for the fastest peer of those shown."""
    median = row.median(peer)
    if median is None:
        return EMPTY
    shown = (r.peer for r in row.results if r.peer not in DIRECT)
    fastest = min(m for peer in shown if (m := row.median(peer)) is not None)
    text = f"{median * 1e3:.3g}"
    return f"**{text}**" if median == fastest else text


def _ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.2f}" if above and below else EMPTY


def _seconds(seconds: float | None) -> str:
    return EMPTY if seconds is None else f"{seconds:.2f}"


def _compile_cell(result: Result | None) -> str:
    if result is None or result.compile_seconds is None:
        return EMPTY
    own = "" if result.own_seconds is None else f" ({result.own_seconds:.1f})"
    return f"{result.compile_seconds:.1f}{own}"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
