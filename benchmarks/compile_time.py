"""Compile time of a model by peer: the first time, and again in a new process.

    python -m benchmarks.compile_time --model bert --peers ferrule,inductor

Each figure is one process of its own. It starts with imports done and the model built, ends with
the first result, and so holds PyTorch's capture or the export to ONNX; `own share` is the
compiler's part. The second process finds what the first left in the peer's disk cache (ferrule and
Inductor have one).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import lines_of
from benchmarks.rows import Compilation, to_json


@dataclass(frozen=True)
class Request:
    """One process: compile `model` by `peer`."""

    model: str
    peer: str
    threads: int
    seed: int


def compile_times(
    model: str, peers: Sequence[str], threads: int = 1, seed: int = 0
) -> list[Compilation]:
    """Cold and warm compilations of the model by each of the peers."""
    found = []
    for peer in peers:
        with tempfile.TemporaryDirectory() as cache:
            for cold in (True, False):
                request = Request(model, peer, threads, seed)
                found.append(_in_new_process(request, cold, Path(cache)))
    return found


def _in_new_process(request: Request, cold: bool, cache: Path) -> Compilation:
    argument = json.dumps(vars(request))
    try:
        for line in lines_of("benchmarks.compile_time", argument, request.threads, cache):
            return Compilation(**{**json.loads(line), "cold": cold})
    except ChildProcessError as error:
        return Compilation(request.model, request.peer, cold, None, note=str(error))
    return Compilation(request.model, request.peer, cold, None, note="no result")


def compile_here(request: Request) -> Compilation:
    """Compile in this process; `cold` is for the caller to know."""
    import torch

    from benchmarks.models import find
    from benchmarks.peers import PEERS, Case, Unavailable
    from benchmarks.worker import quiet

    torch.set_num_threads(request.threads)
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        case = Case(find(request.model), request.seed, request.threads, Path(folder))
        try:
            ready = PEERS[request.peer](case)
        except Unavailable as error:
            return Compilation(request.model, request.peer, True, None, note=str(error))
    return Compilation(request.model, request.peer, True, ready.compile_seconds, ready.own_seconds)


def main(arguments: Sequence[str]) -> None:
    """The command line; a single argument in JSON is a `Request` for this process."""
    if len(arguments) == 1 and arguments[0].startswith("{"):
        print(json.dumps(to_json(compile_here(Request(**json.loads(arguments[0]))))))
        return
    from benchmarks.report import compilations

    parser = argparse.ArgumentParser(description="compile time by peer, cold and warm")
    parser.add_argument("--model", default="bert")
    parser.add_argument("--peers", default="ferrule,inductor,onnxruntime,openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(
        compilations(
            compile_times(options.model, options.peers.split(","), options.threads, options.seed)
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
