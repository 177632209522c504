"""The command line of the zoo: run cases, write docs/zoo.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.zoo.case import GROUPS, RIGHT, Result
from tools.zoo.journal import Journal
from tools.zoo.pool import run_all
from tools.zoo.report import markdown, summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 1 if a case is not right."""
    p = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    p.add_argument("--only", default="", help="beginnings of names, comma separated")
    p.add_argument("--groups", default="", help=f"of {', '.join(GROUPS)}; all by default")
    p.add_argument("--jobs", type=int, default=2, help="processes at once")
    p.add_argument("--limit", type=float, default=600, help="seconds for a case")
    p.add_argument("--write", type=Path, help="the report, as Markdown")
    p.add_argument("--log", type=Path, help="journal to resume from: cases done are kept")
    a = p.parse_args(argv)
    done = zoo(a.only, a.groups, a.jobs, a.limit, a.log)
    print(summary(done))
    if a.write is not None:
        a.write.parent.mkdir(parents=True, exist_ok=True)
        a.write.write_text(markdown(done, len(done)))
    return int(any(r.status != RIGHT for r in done))


def zoo(
    only: str = "", groups: str = "", jobs: int = 2, limit: float = 600, log: Path | None = None
) -> list[Result]:
    """The results of the cases whose names start so, of these groups."""
    os.environ.setdefault("FERRULE_CACHE", "0")  # seconds are those of compiling
    from tools.zoo.cases import cases, warm

    starts, of = tuple(only.split(",")), groups.split(",") if groups else GROUPS
    chosen = [c for c in cases() if c.group in of and c.name.startswith(starts)]
    journal = Journal(log) if log is not None else None
    done = {(r.group, r.name): r for r in (journal.read() if journal is not None else ())}
    left = [c for c in chosen if (c.group, c.name) not in done]
    warm()
    from tools.zoo.check import check

    for result in run_all(left, check, jobs, limit):
        print(result.line(), flush=True)
        done[result.group, result.name] = result
        if journal is not None:
            journal.add(result)
    return [done[c.group, c.name] for c in chosen]


if __name__ == "__main__":
    sys.exit(main())
