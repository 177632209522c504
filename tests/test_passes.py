"""Each pass by itself, on a text of its own: what it is given, and what it makes of that.

A file of tests/golden/passes holds

    # passes NAME ..                 which run, one after another
    # about ..                       what is to be seen
    # target l1 = 4096, ..           what the machine has, where it is not that of the golden files;
                                     `having avxvnni` gives it a feature
    graph g { .. }                   the program they are given
    ----
    graph g { .. }                   what it becomes; `pytest --update-golden` writes it

What a text becomes must mean what it meant; a module means what its program does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest

from ferrule.ir.calls import Functions, Kernels, Scheduled
from ferrule.ir.graph import Graph
from ferrule.ir.interp import (
    run_functions,
    run_graph,
    run_kernels,
    run_program,
    run_scheduled,
    run_system,
)
from ferrule.ir.module import Module
from ferrule.ir.program import Program
from ferrule.ir.system import System
from ferrule.ir.text import parse, to_text
from ferrule.ir.verify import verify
from ferrule.pipeline.passes import Options, level_of, passes, steps
from ferrule.pipeline.run import run
from ferrule.target.cpu import Target
from tests.conftest import GOLDEN
from tests.test_golden import AVX2

FOLDER = GOLDEN / "passes"
FILES = sorted(f.stem for f in FOLDER.glob("*.txt"))
SIZES = {"n": 5, "m": 7}
SEPARATOR = "----\n"
WITHOUT_TEXT = {"emit", "object"}
Array = np.ndarray[Any, Any]


def read(name: str) -> tuple[list[str], str, str]:
    """The passes of a file, its head with the program that they are given, and that program."""
    given, _, _ = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").partition(SEPARATOR)
    head = given.splitlines()[0].split()
    assert head[:2] == ["#", "passes"], name
    program = "".join(line for line in given.splitlines(True) if not line.startswith("#"))
    return head[2:], given, program


def target(head: str) -> Target:
    found = re.search(r"^# target (.*)$", head, re.MULTILINE)
    sizes = re.findall(r"(\w+) = (\d+)", found[1]) if found else []
    features = re.findall(r"having (\w+)", found[1]) if found else []
    return reduce(
        Target.having, features, replace(AVX2, **{name: int(value) for name, value in sizes})
    )


def after(names: list[str], head: str, program: Any) -> Any:
    options = Options(target(head), verify=True)
    chosen = {p.name: p for p in passes(options)}
    return run(program, [chosen[n] for n in names], options).program


def arrays(bufs: Any) -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = [[s.value if s.is_const else SIZES[s.name] for s in b.shape] for b in bufs]
    return [
        rng.standard_normal(s).astype(b.dtype.numpy)
        if b.dtype.is_float
        else rng.integers(0, 3, s).astype(b.dtype.numpy)
        for s, b in zip(shapes, bufs, strict=True)
    ]


def results(program: Any) -> list[Array]:
    """What a program gives for arrays that depend on their shapes alone."""
    if isinstance(program, Module):
        options = Options(AVX2)
        left = steps(level_of(program), "program", options)
        program = run(program, [p for p in left if p.name != "small_loops"], options).program
    face = program if hasattr(program, "inputs") else program.interface
    inputs, params = arrays(face.inputs), arrays(face.params)
    if isinstance(program, Graph):
        return run_graph(program, [*inputs, *params])
    if isinstance(program, System):
        return run_system(program, [*inputs, *params])
    run_it: dict[type, Callable[..., list[Array]]] = {
        Kernels: run_kernels,
        Scheduled: run_scheduled,
        Functions: run_functions,
        Program: run_program,
    }
    return run_it[type(program)](program, inputs, params)


@pytest.mark.parametrize("name", FILES)
def test_a_pass_makes_this_of_that(name: str, golden: Callable[[str, str], None]) -> None:
    names, given, text = read(name)
    done = after(names, given, parse(text))
    golden(f"passes/{name}.txt", given + SEPARATOR + to_text(done))


@pytest.mark.parametrize("name", FILES)
def test_what_a_pass_makes_means_the_same(name: str) -> None:
    names, given, text = read(name)
    program = parse(text)
    verify(program)
    before, behind = results(program), results(after(names, given, program))
    for x, y in zip(before, behind, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_every_pass_has_a_text() -> None:
    tried = {n for name in FILES for n in read(name)[0]}
    assert {p.name for p in passes(Options(AVX2))} - WITHOUT_TEXT <= tried


def test_texts_are_small() -> None:
    for file in FOLDER.glob("*.txt"):
        assert file.stat().st_size < 8000, file.name
