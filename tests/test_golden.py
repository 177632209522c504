"""A few programs as text at every level. The graphs are written by hand; the passes make the rest,
for a machine of fixed size, so that the files are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ferrule.base import features
from ferrule.ir.text import parse, to_text
from ferrule.pipeline.passes import Options, steps
from ferrule.pipeline.run import lowered, run, text_of
from ferrule.target.cpu import Target
from tests.conftest import GOLDEN

AVX2 = Target(
    name="avx2", triple="x86_64-unknown-linux-gnu", cpu="x86-64-v3", features="",
    vector_bytes=32, registers=16, extensions=features.level("avx2").promised,
    l1=32 << 10, l2=512 << 10,
)  # fmt: skip
TARGETS = {
    "bytes": AVX2.having("avxvnni"),
    "overlapped": replace(AVX2, l1=4 << 10, l2=8 << 10),
}
PROGRAMS = (
    "softmax", "linear", "column_mean", "centred_rows", "attention", "convolution", "winograd",
    "overlapped", "loop", "gather", "scan", "sort", "long_sum", "bytes",
)  # fmt: skip
LEVELS = ("graph", "segments", "system", "kernels", "scheduled", "functions", "program")
LONG = {"winograd", "overlapped", "attention", "convolution"}
"""Of which the texts below `kernels` are too long to be read; they are made all the same."""
KEPT = [(p, x) for p in PROGRAMS for x in (LEVELS[:4] if p in LONG else LEVELS)
        if x != "segments" or p == "loop"]  # fmt: skip


def read(program: str, level: str) -> Any:
    return parse((GOLDEN / f"{program}.{level}.txt").read_text(encoding="utf-8"))


def options(program: str) -> Options:
    return Options(TARGETS.get(program, AVX2), verify=True)


@pytest.mark.parametrize(("program", "level"), KEPT)
def test_graphs_lower_to_these_texts(
    program: str, level: str, golden: Callable[[str, str], None]
) -> None:
    done = lowered(read(program, "graph"), level, options(program))
    golden(f"{program}.{level}.txt", text_of(done))


@pytest.mark.parametrize(("program", "level"), KEPT)
def test_texts_read_back(program: str, level: str) -> None:
    text = (GOLDEN / f"{program}.{level}.txt").read_text(encoding="utf-8")
    assert to_text(parse(text)) == text


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_level_goes_on_from_its_text_to_the_same_end(program: str) -> None:
    given = options(program)
    graph = read(program, "graph")
    outcome = run(graph, steps("graph", "llvm", given), given)
    for level in LEVELS:
        again = parse(to_text(outcome.levels[level]))
        assert lowered(again, "llvm", given) == outcome.program, level
