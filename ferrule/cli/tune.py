"""`ferrule tune`: the fastest schedules for a model's contractions, by measuring them."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ferrule.api.programs import InferenceSession
from ferrule.api.tuning import TRIALS, Budget, tune
from ferrule.base import config
from ferrule.base.errors import InputError
from ferrule.cli.command import Command, add_target, add_threads, chosen, positive, seconds
from ferrule.ir.graph import Graph
from ferrule.pipeline.compile import CompiledGraph, compile_graph, native
from ferrule.pipeline.progress import tuning
from ferrule.tune.database import Database, default_path

_ABOUT = """\
Measures schedules of a model's matrix products, convolutions and attention beside the default ones,
checks that their results agree, and keeps those that are faster in the tuning database (the
settings tuning_db and tuning). Later compilations on this machine with this number of threads use
them at once. Ctrl-C ends it early and keeps what was found. Close other programs: they disturb it.

examples:
  ferrule tune model.onnx --time-budget 300
  ferrule tune --export tuned.sqlite            what this machine knows, as one file to ship
  ferrule tune --merge tuned.sqlite             taken over into this machine's database
  ferrule tune --list                           what the database holds
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX model (a file)")
    parser.add_argument(
        "--trials",
        type=positive,
        default=TRIALS,
        metavar="N",
        help=f"schedules to measure for each operator (default: {TRIALS})",
    )
    parser.add_argument(
        "--time-budget",
        type=seconds,
        metavar="S",
        help="seconds to tune in all, the most expensive operators first (default: all trials)",
    )
    parser.add_argument(
        "--again", action="store_true", help="tune operators that the database knows too"
    )
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the database to a file")
    parser.add_argument("--merge", type=Path, metavar="FILE", help="read a file into the database")
    parser.add_argument("--list", action="store_true", help="print what the database holds")
    add_threads(parser)
    add_target(parser)


def _run(options: argparse.Namespace) -> None:
    if options.model is None and not (options.export or options.merge or options.list):
        raise InputError("name a model to tune, or --export, --merge or --list")
    base = Database(default_path(config.settings()))
    if options.merge:
        print(f"{base.merge(options.merge)} records of {options.merge} taken over")
    if options.model is not None:
        with chosen(options):
            _tune(options)
    if options.export:
        print(f"{base.export(options.export)} records written to {options.export}")
    if options.list:
        _list(base)


def _tune(options: argparse.Namespace) -> None:
    budget = Budget(options.trials, options.time_budget, options.again)
    graphs = graphs_of(options.model)
    with tuning() as progress:
        report = tune(graphs, budget, progress)
    print(report.text())
    for graph in () if report.interrupted else graphs:
        compile_graph(graph)  # the next process finds the tuned program in the cache


def graphs_of(model: str) -> list[Graph]:
    """The graphs that an ONNX model is compiled to. Raises InputError where there is none before
    the sizes of a run are known.
    """
    graphs: list[Graph] = []

    def collect(graph: Graph) -> CompiledGraph:
        graphs.append(graph)
        return compile_graph(graph)

    InferenceSession(model, compiler=replace(native(config.settings()), program_of=collect))
    if not graphs:
        raise InputError(
            f"{model} is compiled for the sizes of each run, so there is nothing to tune before "
            "one: give its inputs constant sizes"
        )
    return graphs


def _list(base: Database) -> None:
    records = base.records() if base.path.is_file() else []
    for r in records:
        print(
            f"{r.machine}  {r.threads} threads  {r.operator:40}  {r.default_ns / 1e3:.1f} us -> "
            f"{r.best_ns / 1e3:.1f} us  {r.default_ns / max(r.best_ns, 1e-9):.2f}  "
            f"({r.trials} trials, version {r.version})"
        )
    print(f"{len(records)} records in {base.path}")


COMMAND = Command(
    "tune", "measure schedules of a model and keep the fastest", _run, _arguments, _ABOUT
)
