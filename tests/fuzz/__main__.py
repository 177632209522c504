"""Random programs against the interpreter, until the time is over.

    python -m tests.fuzz --seconds 600 --seed 0 --jobs 2
    python -m tests.fuzz --text build/fuzz/12.txt --on "avx2 small split"

Failing programs lie as texts in the folder (build/fuzz), named by their seeds, and some of them
shrunk. Exits with 1 where one failed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.check import SETUPS, Fault, Setup, check, setup_of
from tests.fuzz.crew import BROKEN, Result, apart, crew
from tests.fuzz.make import make
from tests.fuzz.program import Program, read
from tests.fuzz.shrink import shrink


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks for; 1 where a program failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="random programs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--n", type=int, default=1 << 60, help="the number of programs at most")
    parser.add_argument("--seed", type=int, default=0, help="the first program")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--shrink", type=int, default=12, help="how many failures to make small")
    parser.add_argument("--no-empty", action="store_true", help="no axes of extent 0")
    parser.add_argument("--text", type=Path, nargs="*", help="try these programs instead")
    parser.add_argument("--on", default="", help="with --text: a target and the words small, split")
    o = parser.parse_args(arguments)
    if o.text:
        return _texts(o.text, o.on)
    o.empty = not o.no_empty
    return _fuzz(o)


def _texts(files: Sequence[Path], on: str) -> int:
    words = on.split()
    setups = [Setup(words[0], "small" in words, "split" in words)] if words else SETUPS
    failed = 0
    for file in files:
        program = read(file.read_text(encoding="utf-8"))
        for setup in setups:
            fault = apart(lambda p=program, s=setup: check(p, s))
            failed += fault is not None
            print(f"{file} {setup}: {f'{fault.kind}: {fault.detail}' if fault else 'ok'}")
    return 1 if failed else 0


def _fuzz(o: argparse.Namespace) -> int:
    """Try programs until the time is over, then shrink some of those that failed."""
    o.folder.mkdir(parents=True, exist_ok=True)
    started, last = time.monotonic(), 0.0
    count, failed = 0, list[Result]()
    seeds = itertools.takewhile(
        lambda s: time.monotonic() - started < o.seconds, range(o.seed, o.seed + o.n)
    )
    for result in crew(seeds, o.jobs, lambda s: check(make(s, o.empty), setup_of(s))):
        count += 1
        passed = time.monotonic() - started
        if result.fault is not None:
            failed.append(result)
            latest = count
            if result.fault.kind != BROKEN:
                _write(o.folder / f"{result.seed}.txt", make(result.seed, o.empty), result)
            words = f"{result.fault.kind}: {result.fault.detail[:300]}"
            print(f"seed {result.seed}: {words}", flush=True)
        if passed - last > 30:
            last = passed
            print(_rate(count, passed, len(failed)), flush=True)
        if passed > o.seconds:
            break
    print(_rate(count, passed, len(failed)))
    if failed:
        print(f"the last {count - latest} had none")
        _shrink(failed, o)
    return 1 if failed else 0


def _rate(count: int, seconds: float, faults: int) -> str:
    rate = count / seconds
    return f"{count} programs in {seconds:.0f} s, {rate:.1f} a second, {faults} faults"


def _shrink(failed: Sequence[Result], o: argparse.Namespace) -> None:
    """Write and show small programs, first one for each kind of fault, then others."""
    times = Counter[str]()
    rank = {}
    failed = [r for r in failed if r.fault.kind != BROKEN]
    for r in failed:
        rank[r.seed] = times[r.fault.kind]
        times[r.fault.kind] += 1
    some = sorted(failed, key=lambda r: rank[r.seed])[: o.shrink]
    by_seed = {r.seed: r for r in some}

    def small(seed: int) -> Fault | None:
        setup = setup_of(seed)
        found = shrink(make(seed, o.empty), lambda p: apart(lambda: check(p, setup)))
        fault = apart(lambda: check(found, setup)) or by_seed[seed].fault
        _write(o.folder / f"{seed}.small.txt", found, Result(seed, fault))
        return fault

    for result in crew(iter(by_seed), o.jobs, small, seconds=300):
        file = o.folder / f"{result.seed}.small.txt"
        print(file.read_text(encoding="utf-8") if file.is_file() else result, flush=True)
    for kind, n in times.most_common():
        print(f"  {n:6} {kind}")


def _write(file: Path, program: Program, result: Result) -> None:
    fault = result.fault
    words = " ".join(f"{fault.kind}: {fault.detail}".split())[:400] if fault else ""
    file.write_text(f"# {setup_of(result.seed)}: {words}\n{program}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
