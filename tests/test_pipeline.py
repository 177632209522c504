"""Every lowering keeps the meaning: System, Kernels, Program and machine code agree on the same
arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule.fuse.group import group
from ferrule.fuse.inline import inline
from ferrule.fuse.layout import assign_layouts
from ferrule.ir.analysis.size import evaluate
from ferrule.ir.expr import dim
from ferrule.ir.interp import run_kernels, run_program, run_system
from ferrule.ir.system import System
from ferrule.pipeline.compile import compile_program, program_of
from ferrule.runtime.cpu import Executable, load
from ferrule.target.cpu import named
from tests import systems
from tests.cpus import current

Array = np.ndarray[Any, Any]
N, M, B = dim("n"), dim("m"), dim("b")


def sizes(system: System, values: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of each input, param and output at these dims."""
    return {
        b.name: tuple(evaluate(s, lambda d: values[d.name]) for s in b.shape)
        for b in (*system.inputs, *system.params, *system.outputs)
    }


def random_arrays(system: System, values: dict[str, int]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = sizes(system, values)
    return {
        b.name: rng.standard_normal(shapes[b.name]).astype(np.float32)
        for b in (*system.inputs, *system.params)
    }


def by_kernels(system: System, arrays: dict[str, Array], values: dict[str, int]) -> list[Array]:
    """The outputs, through the unscheduled kernels that fusion makes."""
    level, _ = group(inline(system)[0])
    return run_kernels(level, arrays, arrays, values)


def compiled(system: System, target: str) -> Executable:
    """The program of `system` for the target of that name."""
    chosen = current() if target == "host" else named(target)
    program = program_of(system, chosen)
    return load(compile_program(program, f"test{abs(hash((system, target)))}", chosen))


def natively(
    system: System, arrays: dict[str, Array], values: dict[str, int], executable: Executable
) -> list[Array]:
    params = [arrays[b.name] for b in system.params]
    executable.bind([(p.ctypes.data, p) for p in params])
    shapes = sizes(system, values)
    outputs = [np.full(shapes[b.name], np.nan, b.dtype.numpy) for b in system.outputs]
    executable.run(
        [arrays[b.name].ctypes.data for b in system.inputs],
        [o.ctypes.data for o in outputs],
        tuple(values[d] for d in executable.compiled.dim_names),
    )
    return outputs


def close(got: list[Array], want: list[Array]) -> None:
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-5)


CASES: list[tuple[System, dict[str, int]]] = [
    (systems.softmax(3, 70), {}),
    (systems.softmax(N, M), {"n": 4, "m": 37}),
    (systems.softmax(N, M), {"n": 2, "m": 3}),
    (systems.column_mean(5, 64), {}),
    (systems.column_mean(N, M), {"n": 7, "m": 45}),
    (systems.linear(7, 33, 12), {}),
    (systems.linear(N, 20, 16), {"n": 13}),
    (systems.linear(1, 40, 9), {}),
    (systems.product(N, M, B), {"n": 5, "m": 19, "b": 11}),
    (systems.product(6, 32, 8), {}),
    (systems.convolutions(2, 3, 7, 10), {}),
    (systems.convolutions(1, 4, N, 16, stride=2), {"n": 9}),
    (systems.attention(2, 2, 7, 9, 8), {}),
    (systems.attention(B, 2, N, M, 16), {"b": 1, "n": 8, "m": 21}),
]
NAMES = [f"{s.name}-{i}" for i, (s, _) in enumerate(CASES)]


@pytest.mark.parametrize(("system", "values"), CASES, ids=NAMES)
def test_fusion_keeps_the_meaning(system: System, values: dict[str, int]) -> None:
    arrays = random_arrays(system, values)
    close(by_kernels(assign_layouts(system), arrays, values), run_system(system, arrays, values))


SLOW = {"convolutions-11"}
INTERPRETED = [
    pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, case in zip(NAMES, CASES, strict=True)
]


@pytest.mark.parametrize(("system", "values"), INTERPRETED)
def test_scheduled_loops_keep_the_meaning(system: System, values: dict[str, int]) -> None:
    arrays = random_arrays(system, values)
    program = program_of(system, current())
    given = {b.name: arrays[b.name] for b in system.inputs}
    params = {b.name: arrays[b.name] for b in system.params}
    close(run_program(program, given, params, values), run_system(system, arrays, values))


@pytest.mark.parametrize("target", ["host", "generic"])
@pytest.mark.parametrize(("system", "values"), CASES, ids=NAMES)
def test_machine_code_keeps_the_meaning(
    system: System, values: dict[str, int], target: str
) -> None:
    arrays = random_arrays(system, values)
    found = natively(system, arrays, values, compiled(system, target))
    close(found, run_system(system, arrays, values))


@pytest.fixture(scope="module")
def dynamic() -> list[tuple[System, Executable]]:
    """Systems of symbolic sizes, each with its one program."""
    several = (systems.linear(N, 24, 16), systems.product(N, M, B), systems.softmax(N, M))
    return [(system, compiled(system, "host")) for system in several]


@settings(max_examples=15, deadline=None)
@given(m=st.integers(1, 40), n=st.integers(1, 70), k=st.integers(1, 20))
def test_one_dynamic_program_serves_every_size(
    dynamic: list[tuple[System, Executable]], m: int, n: int, k: int
) -> None:
    values = {"n": m, "m": n, "b": k}
    for system, executable in dynamic:
        arrays = random_arrays(system, values)
        found = natively(system, arrays, values, executable)
        close(found, run_system(system, arrays, values))


def launches(system: System) -> list[str]:
    return [k.name for k in group(inline(system)[0])[0].kernels]


def test_fused_patterns_are_one_kernel() -> None:
    assert len(launches(systems.softmax(N, M))) == 1
    assert len(launches(systems.column_mean(N, M))) == 1
    assert len(launches(systems.linear(N, 64, 64))) == 1
    assert len(launches(systems.attention(B, 12, N, M, 64))) == 1
    assert len(launches(systems.convolutions(1, 16, 14, 16))) == 2
