"""Fills in the worked examples of the documents: a program as text at every level.

    python docs/make_example.py            rewrites each block between two marks

A block stands between `<!-- text: NAME -->` and `<!-- end -->`. NAME is one of the document's texts
in `EXAMPLES`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferrule.codegen.llvm.compile import assembly
from ferrule.ir.calls import Kernels
from ferrule.ir.text import parse
from ferrule.pipeline.explain import explain
from ferrule.pipeline.passes import Pass, options_for, steps
from ferrule.pipeline.run import run, text_of
from ferrule.schedule.choose import tasks_of
from ferrule.schedule.space import candidates, point_of
from ferrule.target.cpu import Target, named

FOLDER = Path(__file__).parent
NORM = """\
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
LINEAR = """\
graph linear {
  input x: f32[512, 1536]
  param w: f32[1536, 1000]
  param b: f32[1000]
  v0: f32[512, 1000] = dot_general(x, w) {batch = ((), ()), contract = ((1,), (0,))}
  v1: f32[512, 1000] = add(v0, b)
  v2: f32[] = full() {dtype = f32, shape = (), value = 0.0}
  v3: f32[512, 1000] = max(v1, v2)
  return v3
}
"""
FEW = """\
graph few {
  input x: f32[16, 768]
  param w: f32[768, 768]
  v0: f32[16, 768] = dot_general(x, w) {batch = ((), ()), contract = ((1,), (0,))}
  return v0
}
"""
WIDTH = 200
SKIPPED = ("dim ", "input ", "param ", "output ", "buf ", "write ", "read ", "takes ")


def machine(name: str) -> Target:
    """A machine that does not depend on the one that this runs on."""
    near, cpu = {"avx2": ((32, 512), "x86-64-v3"), "avx512": ((48, 2048), "x86-64-v4")}[name]
    sizes = {"l1": near[0] << 10, "l2": near[1] << 10}
    return replace(named(name), cpu=cpu, features="", **sizes)


def levels(graph: str, target: Target) -> dict[str, str]:
    """A graph after each pass, by the pass's name; `explain`, `space` and `assembly` too."""
    found = {"graph": graph}

    def keep(p: Pass, program: Any) -> None:
        found[p.name] = text_of(program)

    options = options_for(target)
    done = run(parse(graph), steps("graph", "llvm", options), options, keep)
    found["explain"] = "\n".join(explain(done))
    found["space"] = space(done.levels["kernels"], target)
    found["assembly"] = assembly(done.program.text, target)
    return found


def space(level: Kernels, target: Target) -> str:
    """The candidates of each contraction: how many, and the first."""
    lines = []
    for site in tasks_of(level, target):
        found = candidates(site.kernel, target, site.constant)
        lines.append(f"{len(found)} candidates, the default one first:")
        for b in found[:6]:
            lines.append(", ".join(f"{name} {value}" for name, value in point_of(b).items()))
        lines.append("..")
    return "\n".join(lines)


def whole(text: str) -> str:
    return text


def without_declarations(text: str) -> str:
    """A level without the lines that repeat what the level above has declared."""
    skipped = tuple(f"  {word}" for word in SKIPPED)
    return "\n".join(line for line in text.splitlines() if not line.startswith(skipped))


def code(text: str) -> str:
    """The kernels of a level, without what stands around them."""
    lines = without_declarations(textwrap.dedent(text)).splitlines()
    found, inside = list[str](), ""  # the columns before the kernel that `line` is in
    for line in lines:
        bare = line.lstrip()
        if not inside and bare.startswith("kernel "):
            inside = line[: len(line) - len(bare)]
            found += ["", bare] if found else [bare]
        elif inside:
            if not bare.startswith(SKIPPED):
                found.append(line[len(inside) :])
            inside = "" if line == inside + "}" else inside
    return "\n".join(found)


def part(first: str, last: str, depth: int = 0) -> Callable[[str], str]:
    """From the line that starts with `first` to the next one that starts with `last`, `depth`
    columns in.
    """

    def cut(text: str) -> str:
        lines = [line[depth:] for line in text.splitlines()]
        start = next(i for i, line in enumerate(lines) if line.startswith(first))
        end = next(i for i in range(start, len(lines)) if lines[i].startswith(last))
        return "\n".join(lines[start : end + 1])

    return cut


def inner_loop(text: str) -> str:
    """The loop of the assembly with the first fused multiply-add, without comments."""
    lines = [line.partition("#")[0].rstrip().expandtabs(8) for line in text.splitlines()]
    at = next(i for i, line in enumerate(lines) if "vfmadd" in line)
    start = max(i for i in range(at) if lines[i].startswith(".L"))
    end = next(i for i in range(at, len(lines)) if lines[i].lstrip().startswith("j"))
    return "\n".join(line for line in lines[start : end + 1] if line)


def beginning(text: str) -> str:
    """The first lines of the inner loop."""
    return "\n".join((*inner_loop(text).splitlines()[:26], "        .."))


Texts = dict[str, tuple[str, Callable[[str], str]]]


@dataclass(frozen=True)
class Example:
    """A program of a document, and the source and the cut of each of its texts there."""

    document: str
    graph: str
    texts: Texts
    target: str = "avx2"


EXAMPLES = (
    Example("architecture.md", NORM, {
        "graph": ("graph", whole),
        "system": ("equations", without_declarations),
        "inlined": ("inline", without_declarations),
        "kernel": ("choose", code),
        "explain": ("explain", whole),
        "scheduled": ("schedule", code),
        "loops": ("math", part("  for v0o", "  store s1[]", depth=2)),
        "program": ("assemble", part("  main {", "  }")),
        "llvm": ("emit", part("loop18:", "  br i1")),
    }),
    Example("contractions.md", LINEAR, {
        "graph": ("graph", whole),
        "kernel": ("choose", code),
        "scheduled": ("schedule", code),
        "space": ("space", whole),
        "assembly": ("assembly", inner_loop),
    }),
    Example("contractions.md", FEW, {"few": ("assembly", beginning)}, "avx512"),
)  # fmt: skip


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def fill(document: str, examples: Sequence[Example]) -> None:
    """Rewrites the blocks of a document. Raises KeyError for a mark with an unknown name."""
    found: dict[str, str] = {}
    for example in examples:
        made = levels(example.graph, machine(example.target))
        found |= {name: cut(made[source]) for name, (source, cut) in example.texts.items()}

    def block(match: re.Match[str]) -> str:
        lines = "\n".join(map(shortened, found[match[1]].strip("\n").splitlines()))
        language = {"llvm": "llvm", "assembly": "asm", "few": "asm"}.get(match[1], "text")
        return f"<!-- text: {match[1]} -->\n```{language}\n{lines}\n```\n<!-- end -->"

    path = FOLDER / document
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<!-- text: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Rewrites every document."""
    for document in dict.fromkeys(example.document for example in EXAMPLES):
        fill(document, [example for example in EXAMPLES if example.document == document])


if __name__ == "__main__":
    main()
