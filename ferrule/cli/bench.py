"""`ferrule bench`: the time of a model, beside other runtimes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferrule.api.session import InferenceSession, read_onnx
from ferrule.base.errors import UnsupportedError
from ferrule.cli.command import Command, add_model, add_target, add_threads, chosen, seconds
from ferrule.cli.feeds import FEEDS, Feed, add_feeds, feed_of
from ferrule.cli.peers import PEERS, Results, ready
from ferrule.cli.run import parts_of
from ferrule.frontend.onnx.model import Array, Model
from ferrule.runtime.pool import get_num_threads
from ferrule.tune.interleave import Timing, interleave

_BUDGET = 10.0

_ABOUT = f"""\
Times an ONNX model: NumPy arrays in, NumPy arrays out, with equal threads. Rounds give each runtime
one slot, in an order shuffled each time; what is printed is the median of the slots with its
quartiles, in milliseconds, how many times as long as ferrule each runtime takes, and the largest
difference of its outputs from those of the first peer. Close other programs: they disturb it.

{FEEDS}\
  Here, all inputs that are not given are made up.

examples:
  ferrule bench model.onnx --vs onnxruntime,openvino --threads 1
  ferrule bench model.onnx --shape x=8,3,224,224 --budget 30
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--vs",
        type=_peers,
        default=(),
        metavar="PEERS",
        help=f"what to compare with, by commas: {', '.join(PEERS)} (default: ferrule alone)",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        default=_BUDGET,
        metavar="S",
        help=f"seconds to measure in all, about (default: {_BUDGET:g})",
    )
    add_feeds(parser, random=False)
    add_threads(parser)
    add_target(parser)


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(n for n in text.split(",") if n))
    unknown = [n for n in names if n not in PEERS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} must name some of: {', '.join(PEERS)}")
    return names


def _run(options: argparse.Namespace) -> None:
    model = read_onnx(options.model)
    feed = feed_of(model.body.inputs, options, random=True)
    print(*feed.notes, sep="\n", end="\n" if feed.notes else "")
    with chosen(options):
        threads = get_num_threads()
        calls = _calls(options.model, model, feed, options.vs, threads)
        outputs = {name: call() for name, call in calls.items()}
        timings = interleave(calls, options.budget)
    rounds = next(iter(timings.values())).rounds
    print(f"{threads} thread{'s' if threads > 1 else ''}, {rounds} rounds", "", sep="\n")
    print("\n".join(_table(timings, outputs)))


def _calls(
    file: str, model: Model, feed: Feed, peers: Sequence[str], threads: int
) -> dict[str, Results]:
    """What is timed, by name, ferrule first; a peer that can't take part is told of in one line."""
    session, arrays = InferenceSession(model), feed.arrays
    with feed.blamed():
        session.run(None, arrays)
    calls: dict[str, Results] = {"ferrule": lambda: session.run(None, arrays)}
    for peer in peers:
        try:
            calls[peer] = ready(peer, file, arrays, threads)
        except UnsupportedError as error:
            print(f"ferrule: left out: {error}", file=sys.stderr)
    return calls


def _table(timings: Mapping[str, Timing], outputs: Mapping[str, Sequence[Any]]) -> list[str]:
    peer = next((name for name in outputs if name != "ferrule"), None)
    width = max(map(len, timings))
    head = f"{'':{width}}  {'ms':>9}  {'quartiles':>17}"
    lines = [head if peer is None else f"{head}  {'/ ferrule':>9}  off {peer}"]
    own = timings["ferrule"].median
    for name, t in timings.items():
        spread = f"{_ms(t.low)} - {_ms(t.high)}"
        line = f"{name:{width}}  {_ms(t.median):>9}  {spread:>17}"
        if peer is not None:
            off = "-" if name == peer else difference(outputs[name], outputs[peer])
            line += f"  {t.median / own:9.2f}  {off}"
        lines.append(line)
    return lines


def _ms(value: float) -> str:
    return f"{value * 1e3:.4g}"


def difference(found: Sequence[Any], wanted: Sequence[Any]) -> str:
    """The largest difference between numbers of the same place in two lists of outputs."""
    ours = [a for i, x in enumerate(found) for _, a in parts_of(str(i), x)]
    theirs = [a for i, x in enumerate(wanted) for _, a in parts_of(str(i), x)]
    shapes = [[None if a is None else a.shape for a in side] for side in (ours, theirs)]
    if shapes[0] != shapes[1]:
        return "other shapes"
    largest = 0.0
    for a, b in zip(ours, theirs):
        if a is None or b is None:
            continue
        if a.dtype.kind == "O" or b.dtype.kind == "O":
            largest = max(largest, float((a != b).any()))
        else:
            largest = max(largest, _largest(a, b))
    return f"{largest:.2g}"


def _largest(a: Array, b: Array) -> float:
    """NaNs of the same place and equal infinities do not differ."""
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    x, y = a.astype(wide), b.astype(wide)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        off = np.where(same, 0.0, np.abs(x - y))
    return float(np.nan_to_num(off, nan=np.inf, posinf=np.inf).max(initial=0.0))


COMMAND = Command("bench", "time an ONNX model beside other runtimes", _run, _arguments, _ABOUT)
