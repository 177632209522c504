"""The space of blockings: what is in it fits the machine and compiles to the same results."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule import ops  # noqa: F401
from ferrule.base.dtype import f32
from ferrule.ir.expr import dim
from ferrule.ir.system import System
from ferrule.pipeline.compile import compile_task
from ferrule.pipeline.passes import options_for
from ferrule.pipeline.run import lowered
from ferrule.runtime.cpu import load
from ferrule.schedule.choose import tasks_of
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.space import blocking_from, candidates, fits, point_of, sizes_of
from ferrule.target.cpu import host, named
from tests.systems import attention, convolutions, linear, product

SYSTEMS = {
    "linear": linear(70, 100, 300),
    "product": product(33, 47, 130),
    "convolutions": convolutions(1, 5, 9, 20),
    "attention": attention(1, 2, 20, 24, 16),
    "symbolic": linear(dim("n"), 64, 96),
    "tiny": product(1, 8, 1),
}


def tasks(system: System, target):
    return tasks_of(lowered(system, "kernels", options_for(target)), target)


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_candidates_begin_with_the_default_and_fit(name: str, target: str) -> None:
    machine = named(target)
    for task in tasks(SYSTEMS[name], machine):
        found = candidates(task.kernel, machine, task.constant)
        sizes = sizes_of(task.kernel, machine, task.constant)
        assert len(set(found)) == len(found)
        assert all(fits(b, sizes, machine) for b in found[1:])
        assert all(b.vectors <= -(-sizes.n // machine.lanes(4)) for b in found[1:])


def test_a_large_product_has_a_choice_of_everything() -> None:
    (task,) = tasks(product(512, 512, 512), named("avx2"))
    found = candidates(task.kernel, named("avx2"), task.constant)
    for name in ("rows", "vectors", "depth", "block_rows", "panels"):
        assert len({getattr(b, name) for b in found}) > 2, name
    assert {b.straight for b in found} == {False}


def test_rows_of_an_image_may_be_straight() -> None:
    found = tasks(convolutions(1, 16, 14, 32), named("avx2"))
    spaces = [candidates(s.kernel, named("avx2"), s.constant) for s in found]
    assert any({b.straight for b in space} == {True, False} for space in spaces)


@pytest.mark.parametrize("name", SYSTEMS)
def test_candidates_give_the_default_result(name: str) -> None:
    for task in tasks(SYSTEMS[name], host()):
        found = candidates(task.kernel, host(), task.constant)
        expected = _result(task, found[0])
        for b in found[1 :: max(1, len(found) // 4)]:
            np.testing.assert_allclose(_result(task, b), expected, rtol=1e-4, atol=1e-4)


def _result(task, blocking: Blocking) -> np.ndarray:
    """One run of the operator alone, on the same numbers each time."""
    compiled, system = compile_task(task, host(), blocking)
    rng = np.random.default_rng(3)
    sizes = {d.name: 13 for d in task.kernel.dims}

    def array(b) -> np.ndarray:
        if b.name in sizes:
            return np.array(sizes[b.name])
        shape = [s.attr if s.is_const else sizes[s.name] for s in b.shape]
        return rng.random(shape, np.float32) if b.dtype is f32 else np.zeros(shape, b.dtype.numpy)

    inputs, params, outputs = (
        [array(b) for b in bufs] for bufs in (system.inputs, system.params, system.outputs)
    )
    executable = load(compiled)
    if params:
        executable.bind([(x.ctypes.data, x) for x in params])
    dims = tuple(sizes[name] for name in compiled.dim_names)
    executable.run([x.ctypes.data for x in inputs], [x.ctypes.data for x in outputs], dims)
    return outputs[0]


def test_a_blocking_is_numbers_and_back() -> None:
    for b in (Blocking(4, 3), Blocking(6, 2, 128, 96, 4, True)):
        assert blocking_from(point_of(b)) == b


@pytest.mark.parametrize(
    "change", [{"rows": 0}, {"depth": 1 << 40}, {"rows": 4096}, {"other": 1}, {"panels": -1}]
)
def test_numbers_that_are_no_blocking_give_none(change: dict[str, int]) -> None:
    assert blocking_from({**point_of(Blocking(4, 3)), **change}) is None


def test_missing_numbers_give_none() -> None:
    assert blocking_from({"rows": 4}) is None
