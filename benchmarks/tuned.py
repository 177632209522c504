"""ferrule's default schedules against its tuned ones, over rows of the contraction benchmark.

    python -m benchmarks.tuned                                  the usual rows, 20 s of tuning each
    python -m benchmarks.tuned --rows 'mm_.*|attention_.*' --seconds 60 --threads 1
    python -m benchmarks.tuned --out results                    also results/tuned.md and .json

Both run interleaved in one process, as in `benchmarks.contractions --tune`, and each row is tuned
from nothing: the database is in a folder that is removed behind the run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from benchmarks.contraction_report import OURS, TUNED, best_of, default_share, peak_line
from benchmarks.contraction_table import find
from benchmarks.contraction_table import table as all_rows
from benchmarks.contractions import WORKER, pattern
from benchmarks.report import EMPTY, machine_text, notes, table
from benchmarks.rows import Report, Row, machine, versions
from benchmarks.run import counts, measure_rows, tell
from benchmarks.worker import Job

ROWS = (
    "mm_128|mm_512|mm_1024|bert_768x3072_t1|gpt2_768x2304_t128|bmm_pv_t128"
    "|resnet50_64x56_64_k3s1|resnet50_1024x14_256_k1s1|mobilenet_96x56_24_k1s1"
    "|lstm_step_1024_b16|attention_512_causal"
)
"""Some of each kind: square, thin, batched, convolutions, a step of an LSTM, attention."""
GOAL = 0.9
HEAD = """\
Microseconds a call, medians and quartiles of interleaved rounds (`*`: channels-last). `share` is
the tuned schedule's time over the default one's: at 1 the default is as fast as what the tuner
found."""


def run(options: argparse.Namespace) -> Report:
    """Measure what the command line asks for."""
    chosen = tuple(row.name for row in all_rows() if re.fullmatch(options.rows, row.name))
    peers = (OURS, f"{TUNED}:{options.seconds:g}")
    rows: list[Row] = []
    for threads in options.threads:
        job = Job(chosen, peers, threads, options.seed, options.budget)
        rows += measure_rows(job, WORKER, lambda name: find(name).kind, lambda row: times([row]))
    return Report(tuple(rows), (), machine(), versions())


def markdown(report: Report, seconds: float) -> str:
    """The whole report."""
    parts = ["# Default against tuned schedules", machine_text(report)]
    parts += [f"Each row was tuned for {seconds:g} s.", HEAD]
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        parts += [f"## {threads} thread{'s' if threads > 1 else ''}", peak_line(rows)]
        parts += [times(rows), mean_line(rows), notes(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def times(rows: Sequence[Row]) -> str:
    """The table of rows: both times, the share, the number of rounds."""
    body = []
    for row in rows:
        share = default_share(row)
        cells = [_time(row, OURS), _time(row, TUNED), EMPTY if share is None else f"{share:.3f}"]
        body.append([row.model, *cells, str(row.rounds)])
    return table(["row", "default", "tuned", "share", "rounds"], body)


def mean_line(rows: Sequence[Row]) -> str:
    """The geometric mean of the shares, against the goal."""
    found = {row.model: share for row in rows if (share := default_share(row)) is not None}
    if not found:
        return "No row has both times."
    mean, worst = geometric_mean(found.values()), min(found, key=found.__getitem__)
    verdict = "reached" if mean >= GOAL else "missed"
    return (
        f"Geometric mean of {len(found)} rows: {mean:.3f} (goal ≥ {GOAL:g}: {verdict}); "
        f"least {found[worst]:.3f} ({worst})."
    )


def _time(row: Row, peer: str) -> str:
    """The median of the peer's best layout, and its quartiles."""
    best = best_of(row, peer)
    if best is None:
        return EMPTY
    label = f"{peer} {best[1]}".strip()
    result = next(r for r in row.results if r.peer == label)
    low, high = result.low or best[0], result.high or best[0]
    return f"{best[0] * 1e6:.1f} ({low * 1e6:.1f} to {high * 1e6:.1f})" + "*" * bool(best[1])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="ferrule's default schedules against tuned ones")
    parser.add_argument("--rows", type=pattern, default=ROWS, help="rows whose names are this")
    parser.add_argument("--seconds", type=float, default=20.0, help="of tuning a row")
    parser.add_argument("--threads", type=counts, default=(1, 2), help="such as 1,2")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of timing a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for tuned.md and tuned.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Run, print the report, and write it where asked."""
    options = parse(arguments)
    report = run(options)
    tell(markdown(report, options.seconds), report, options.out, "tuned")


if __name__ == "__main__":
    main(sys.argv[1:])
