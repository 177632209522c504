"""The benchmark: ferrule and its peers, interleaved in one process for each number of threads.

    python -m benchmarks.run                                  everything
    python -m benchmarks.run --only softmax,mlp --peers eager,ferrule --threads 1
    python -m benchmarks.run --out results                    also results/benchmark.md and .json

How it measures is said in `measure`, what a peer's call is in `peers`, what the rows are in
`models`, and what ferrule is to reach in `targets`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.compile_time import compile_times
from benchmarks.models import MODELS, TINY, find
from benchmarks.peers import PEERS
from benchmarks.processes import lines_of
from benchmarks.report import markdown, times
from benchmarks.rows import Report, Result, Row, machine, row_from, to_json, versions
from benchmarks.worker import Job

USUAL_PEERS = ("eager", "inductor", "onnxruntime", "openvino", "ferrule")


def measure_rows(
    job: Job, module: str, group: Callable[[str], str], show: Callable[[Row], str]
) -> list[Row]:
    """The rows of a job, in processes of their own that run `module`: a crash costs the row it
    happens in, whose `group` is asked for by name. `show` tells of each row when it is there.
    """
    rows: list[Row] = []
    while len(rows) < len(job.models):
        rest = replace(job, models=job.models[len(rows) :])
        with tempfile.TemporaryDirectory() as cache:
            try:
                for line in lines_of(module, rest.to_json(), job.threads, Path(cache)):
                    rows.append(row_from(json.loads(line)))
                    print(show(rows[-1]), file=sys.stderr, flush=True)
            except ChildProcessError as error:
                if len(rows) < len(job.models):
                    name = job.models[len(rows)]
                    lost = (Result("all peers", note=str(error)),)
                    rows.append(Row(name, group(name), job.threads, 0.0, 0, lost))
    return rows


def run(options: argparse.Namespace) -> Report:
    """Measure what the command line asks for."""
    rows: list[Row] = []
    for threads in options.threads:
        job = Job(options.only, options.peers, threads, options.seed, options.budget)
        rows += measure_rows(
            job, "benchmarks.worker", lambda name: find(name).group, lambda row: times([row])
        )
    compilers = [p for p in ("ferrule", "inductor") if p in options.peers]
    wanted = options.compile_model in options.only
    compilations = compile_times(options.compile_model, compilers) if wanted else []
    return Report(tuple(rows), tuple(compilations), machine(), versions())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    everything = [m.name for m in (*MODELS, TINY)]
    parser = argparse.ArgumentParser(description="ferrule against its peers")
    parser.add_argument("--only", type=names(everything), default=tuple(everything))
    parser.add_argument("--peers", type=names(list(PEERS)), default=USUAL_PEERS)
    parser.add_argument("--threads", type=counts, default=(1, 2), help="such as 1,2")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of timing a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile-model", default="bert", help="for compile times, cold and warm")
    parser.add_argument("--out", type=Path, help="a folder for benchmark.md and benchmark.json")
    return parser.parse_args(arguments)


def names(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names out of `choices`."""

    def parsed(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        unknown = [name for name in given if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(choices)}")
        return given

    return parsed


def counts(text: str) -> tuple[int, ...]:
    """Numbers of threads, such as 1,2."""
    return tuple(int(part) for part in text.split(","))


def main(arguments: Sequence[str]) -> None:
    """Run, print the report, and write it where asked."""
    options = parse(arguments)
    report = run(options)
    tell(markdown(report), report, options.out, "benchmark")


def tell(text: str, report: Report, folder: Path | None, name: str) -> None:
    """Print a report's text, and write it and its data as NAME.md and NAME.json where asked."""
    print(text)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps(to_json(report), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
