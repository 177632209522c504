"""The contraction benchmark: single products, convolutions, LSTMs and attention against peers.

    python -m benchmarks.contractions                           every row, 1 and 2 threads
    python -m benchmarks.contractions --rows 'mm_|bert_' --threads 1 --budget 2
    python -m benchmarks.contractions --inductor --out results  also results/contractions.md, .json
    python -m benchmarks.contractions --tune 20                 also ferrule tuned, 20 s a row
    python -m benchmarks.contractions --list                    the rows and their operations

It measures as `benchmarks.run` does: all peers interleaved, in one process for each number of
threads. TorchInductor is left out unless asked for: it compiles for about 8 s a row.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contraction_report import TUNED, markdown, mean_line, shares
from benchmarks.contraction_table import find, table
from benchmarks.contraction_worker import CONTRACTION_PEERS
from benchmarks.rows import Report, Row, machine, versions
from benchmarks.run import counts, measure_rows, names, tell
from benchmarks.worker import Job

USUAL = ("eager", "onnxruntime", "openvino", "ferrule")
WORKER = "benchmarks.contraction_worker"


def run(options: argparse.Namespace) -> Report:
    """Measure what the command line asks for."""
    chosen = tuple(row.name for row in table() if re.search(options.rows, row.name))
    peers = dict.fromkeys(options.peers)
    peers |= {"inductor": None} if options.inductor else {}
    peers |= {f"{TUNED}:{options.tune:g}": None} if options.tune else {}
    rows: list[Row] = []
    for threads in options.threads:
        job = Job(chosen, tuple(peers), threads, options.seed, options.budget)
        rows += measure_rows(job, WORKER, lambda name: find(name).kind, lambda row: shares([row]))
        print(mean_line(rows), file=sys.stderr, flush=True)
    return Report(tuple(rows), (), machine(), versions())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="ferrule's contractions against its peers'")
    parser.add_argument("--rows", type=pattern, default="", help="rows that this regex is found in")
    parser.add_argument("--peers", type=names(list(CONTRACTION_PEERS)), default=USUAL)
    parser.add_argument("--inductor", action="store_true", help="with frozen TorchInductor too")
    parser.add_argument("--tune", type=float, metavar="SECONDS", help="also tune each row so long")
    parser.add_argument("--threads", type=counts, default=(1, 2), help="such as 1,2")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds of timing a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for contractions.md and .json")
    parser.add_argument("--list", action="store_true", help="print the rows alone")
    return parser.parse_args(arguments)


def pattern(text: str) -> str:
    """An argument that is a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    return text


def main(arguments: Sequence[str]) -> None:
    """Run, print the report, and write it where asked."""
    options = parse(arguments)
    if options.list:
        for row in table():
            print(f"{row.name:40} {row.kind:12} {row.flops / 1e6:12.3f} MFLOP")
        return
    report = run(options)
    tell(markdown(report), report, options.out, "contractions")


if __name__ == "__main__":
    main(sys.argv[1:])
