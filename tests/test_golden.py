"""A few programs as text at every level. The graphs are written by hand; the passes make the rest,
for a machine of fixed size, so that the files are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from ferrule.base import config
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.text import parse_all, to_text
from ferrule.pipeline.passes import State, begin, run, steps, text_of
from ferrule.target.cpu import Target
from tests.conftest import GOLDEN

PROGRAMS = ("softmax", "linear", "column_mean", "centred_rows")
LEVELS = ("graph", "system", "kernels", "scheduled", "functions")
AVX2 = Target(
    name="avx2", triple="x86_64-unknown-linux-gnu", cpu="x86-64-v3", features="",
    vector_bytes=32, registers=16, has_fma=True, has_masks=True, has_f16c=True, has_roundss=True,
    has_dot4=False, l1=32 << 10, l2=512 << 10,
)  # fmt: skip


def read(program: str, level: str) -> State:
    """A golden file as the state it stands for."""
    levels = parse_all((GOLDEN / f"{program}.{level}.txt").read_text(encoding="utf-8"))
    kernels = tuple(x for x in levels if isinstance(x, Kernel))
    functions = tuple(x for x in levels if isinstance(x, Function))
    return begin(kernels or functions or levels[0], AVX2)


def lowered(state: State, level: str) -> str:
    """`state` brought to `level`, each step verified, as text."""
    with config.override(verify=True):
        done, _ = run(state, steps(state.level, level))
    return text_of(done)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("level", LEVELS)
def test_graphs_lower_to_these_texts(
    program: str, level: str, golden: Callable[[str, str], None]
) -> None:
    graph = read(program, "graph")
    golden(f"{program}.{level}.txt", text_of(graph) if level == "graph" else lowered(graph, level))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("level", LEVELS)
def test_texts_read_back(program: str, level: str) -> None:
    text = (GOLDEN / f"{program}.{level}.txt").read_text(encoding="utf-8")
    assert "\n".join(map(to_text, parse_all(text))) == text


@pytest.mark.parametrize("program", ["softmax", "column_mean", "centred_rows"])
@pytest.mark.parametrize(("level", "below"), list(pairwise(LEVELS)))
def test_each_text_leads_to_the_next(
    program: str, level: str, below: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"{program}.{below}.txt", lowered(read(program, level), below))
