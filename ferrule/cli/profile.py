"""`ferrule profile`: where the time of a model goes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ferrule.api.profile import profile
from ferrule.api.programs import InferenceSession, described
from ferrule.cli.command import Command, add_model, add_target, add_threads, chosen, seconds
from ferrule.cli.feeds import FEEDS, add_feeds, feed_of

_BUDGET = 1.0
_CALLS = 10

_ABOUT = f"""\
Runs an ONNX model or a StableHLO program again and again, and tells where the time goes: the shares
of products, of moving bytes and of overhead; for each kernel its time beside the least that this
machine allows, what it holds, and why it was not joined with others. --report writes a page,
--trace what https://ui.perfetto.dev shows. Close other programs: they disturb it.

{FEEDS}\
  Here, all inputs that are not given are made up.

examples:
  ferrule profile model.onnx
  ferrule profile model.onnx --report report.html --trace trace.json --threads 1
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page of HTML there")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write trace events there")
    parser.add_argument(
        "--budget",
        type=seconds,
        default=_BUDGET,
        metavar="S",
        help=f"seconds to run the model, about, at least {_CALLS} calls (default: {_BUDGET:g})",
    )
    add_feeds(parser, random=False)
    add_threads(parser)
    add_target(parser)


def _run(options: argparse.Namespace) -> None:
    model = described(options.model)
    feed = feed_of(model.inputs, options, random=True)
    print(*feed.notes, sep="\n", end="\n" if feed.notes else "")
    with chosen(options):
        session = InferenceSession(model.model)
        with feed.blamed():
            session.run(None, feed.arrays)
        for _ in range(2):
            session.run(None, feed.arrays)
        with profile(session) as p:
            ends, calls = time.perf_counter() + options.budget, 0
            while calls < _CALLS or time.perf_counter() < ends:
                session.run(None, feed.arrays)
                calls += 1
    print(p)
    if options.report is not None:
        p.html(options.report)
        print(f"the page is {options.report}")
    if options.trace is not None:
        p.trace(options.trace)
        print(f"the trace is {options.trace}")


COMMAND = Command("profile", "where the time of an ONNX model goes", _run, _arguments, _ABOUT)
