"""Fills in the worked example of architecture.md: one program as text at every level.

    python docs/make_example.py            rewrites each block between two marks

A block stands between `<!-- text: NAME -->` and `<!-- end -->`. NAME is one of `TEXTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ferrule.base.target import named
from ferrule.compile import Pass, State, begin, run, steps, text_of
from ferrule.ir.text import parse

DOCUMENT = Path(__file__).parent / "architecture.md"
GRAPH = """\
graph norm {
  dim n 2..
  input x: f32[n, 256]
  input r: f32[n, 256]
  param w: f32[256]
  param b: f32[256]
  v0: f32[n, 256] = add(x, r)
  v1: f32[n, 256] = layer_norm(v0, w, b) {affine = "wb", axes = 1, eps = 1e-05}
  return v1
}
"""
WIDTH = 200


def levels() -> dict[str, str]:
    """The example after each pass, by the pass's name; `explain` too."""
    found = {"graph": GRAPH}

    def keep(p: Pass, s: State) -> None:
        found[p.name] = text_of(s)
        if s.program is not None:
            found["explain"] = "\n".join(s.program.explain)

    run(begin(parse(GRAPH), named("avx2")), steps("graph", "llvm"), keep)
    return found


def whole(text: str) -> str:
    return text


def without_declarations(text: str) -> str:
    """A level without the lines that repeat what the level above has declared."""
    skipped = (
        "  dim ",
        "  input ",
        "  param ",
        "  output ",
        "  buf ",
        "  write ",
        "  read ",
        "  takes ",
    )
    return "\n".join(line for line in text.splitlines() if not line.startswith(skipped))


def part(first: str, last: str) -> Callable[[str], str]:
    """From the line that starts with `first` to the next one that starts with `last`."""

    def cut(text: str) -> str:
        lines = text.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(first))
        end = next(i for i in range(start, len(lines)) if lines[i].startswith(last))
        return "\n".join(lines[start : end + 1])

    return cut


TEXTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "graph": ("graph", whole),
    "system": ("equations", without_declarations),
    "inlined": ("inline", without_declarations),
    "kernel": ("group", without_declarations),
    "explain": ("explain", whole),
    "scheduled": ("schedule", without_declarations),
    "loops": ("math", part("  for v0o", "  store s1[]")),
    "program": ("assemble", part("  main {", "  }")),
    "llvm": ("emit", part("loop18:", "  br i1")),
}  # fmt: skip


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def main() -> None:
    """Rewrites the blocks of the document. Raises KeyError for a mark with an unknown name."""
    made = levels()

    def block(match: re.Match[str]) -> str:
        source, cut = TEXTS[match[1]]
        lines = "\n".join(map(shortened, cut(made[source]).strip("\n").splitlines()))
        language = "llvm" if match[1] == "llvm" else "text"
        return f"<!-- text: {match[1]} -->\n```{language}\n{lines}\n```\n<!-- end -->"

    text = DOCUMENT.read_text(encoding="utf-8")
    text = re.sub(r"<!-- text: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
