"""Random programs mean what the interpreter says. The long run is `make fuzz SECONDS=600`.

`tests/golden/fuzz` holds small programs that once failed; each runs on every target, in processes
of their own.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.ir.verify import verify
from ferrule.runtime import cpu
from tests.conftest import GOLDEN
from tests.fuzz.check import SETUPS, TARGETS, Fault, Setup, check, setup_of
from tests.fuzz.crew import apart, crew
from tests.fuzz.make import make
from tests.fuzz.memory import PAGE, Memory, array_at
from tests.fuzz.oracle import Judge
from tests.fuzz.program import Program, read
from tests.fuzz.shrink import shrink

TEXTS = sorted((GOLDEN / "fuzz").glob("*.txt"))
PROGRAMS = 80
JUMP = """
graph g {
  input x: f32[65]
  param w: f32[65]
  v0: f32[65] = mul(x, w)
  v1: f32[] = reduce_sum(v0) {axes = (0,), keepdims = false}
  v2: f32[] = floor(v1)
  v3: f32[65] = add(v0, v2)
  return v3, v1
}
"""


@pytest.mark.parametrize("file", TEXTS, ids=lambda f: f.stem)
def test_programs_that_once_failed(file: Path) -> None:
    program = read(file.read_text(encoding="utf-8"))
    for setup in SETUPS:
        assert apart(lambda s=setup: check(program, s)) is None, f"{setup}\n{program}"


@pytest.mark.parametrize("first", [0, PROGRAMS // 2])
def test_random_programs(first: int) -> None:
    seeds = range(first, first + PROGRAMS // 2)
    results = list(crew(iter(seeds), 1, lambda seed: check(make(seed), setup_of(seed))))
    assert sorted(r.seed for r in results) == list(seeds)
    for r in results:
        assert r.fault is None, f"seed {r.seed}, {setup_of(r.seed)}: {r.fault}\n{make(r.seed)}"


@pytest.mark.parametrize("seed", range(0, 120, 3))
def test_programs_are_texts_and_valid(seed: int) -> None:
    program = make(seed)
    verify(program.graph)
    again = read(str(program))
    assert str(again) == str(program) == str(make(seed))
    assert again.runs == program.runs


def test_setups_vary() -> None:
    found = {setup_of(seed) for seed in range(100)}
    assert len(found) == 4 * len(TARGETS)


# ---- what the fuzzer is made of ------------------------------------------------------------------


def test_a_wrong_value_is_found_and_made_small() -> None:
    """A compiler that takes max for min: the smallest program that shows it is one node."""
    program = read(
        """
        # runs n = 9; n = 4
        graph g {
          dim n 1..
          input x: f32[n, 8]
          param w: f32[8]
          v0: f32[n, 8] = mul(x, w)
          v1: f32[n, 8] = max(v0, w)
          v2: f32[8, n] = transpose(v1) {perm = (1, 0)}
          v3: f32[8] = reduce_sum(v2) {axes = (1,), keepdims = false}
          return v2, v3
        }
        """.replace("        #", "#")
    )

    def trial(p: Program) -> Fault | None:
        nodes = tuple(replace(n, op="min") if n.op == "max" else n for n in p.graph.nodes)
        return check_as(p, Program(replace(p.graph, nodes=nodes), p.runs))

    found = shrink(program, trial)
    assert [n.op for n in found.graph.nodes] == ["max"]
    assert not found.graph.params
    assert max(int(s.value) for v in found.graph.inputs for s in v.shape) <= 2


def check_as(meant: Program, compiled: Program) -> Fault | None:
    """The fault of a compiler that makes another program of `meant`."""
    judges = [Judge(meant.graph, sizes) for sizes in meant.runs]
    for judge, other in zip(judges, [Judge(compiled.graph, s) for s in compiled.runs], strict=True):
        message = judge.complaint(other.expected)
        if message is not None:
            return Fault("a wrong value", message)
    return None


def test_what_memory_held_before_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that a program leaves as it was differs with what was there."""
    program, setup = read(JUMP), Setup(TARGETS[0], small=True, split=True)
    assert check(program, setup) is None
    run = cpu.Executable.run

    def forgetful(self: cpu.Executable, inputs: Any, outputs: Any, dims: Any = ()) -> None:
        spare = np.zeros(256, np.uint8)
        first, *others = outputs
        run(self, inputs, [first, *(spare.ctypes.data for _ in others)], dims)

    monkeypatch.setattr(cpu.Executable, "run", forgetful)
    fault = check(program, setup)
    assert fault is not None
    assert fault.kind in ("unwritten memory", "a wrong value")


def test_a_dead_process_costs_one_seed() -> None:
    def trial(seed: int) -> Fault | None:
        if seed == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if seed == 3:
            raise KeyError("x")
        return Fault("odd", "") if seed == 5 else None

    found = {r.seed: r.fault for r in crew(iter(range(7)), 2, trial)}
    assert sorted(found) == list(range(7))
    assert found[2] is not None
    assert found[2].kind == "a crash: SIGSEGV"
    assert found[3] is not None
    assert "KeyError" in found[3].detail
    assert found[5] == Fault("odd", "")
    assert found[0] is found[1] is found[4] is found[6] is None


def test_a_hang_is_ended() -> None:
    def trial(seed: int) -> Fault | None:
        signal.pause()
        return None

    (result,) = crew(iter([7]), 1, trial, seconds=0.5)
    assert result.fault is not None
    assert result.fault.kind == "no end"


def test_memory_is_filled_and_guarded() -> None:
    memory = Memory()
    for at_end in (True, False):
        memory.begin(0x5A, at_end)
        address = memory.take(10)
        assert (array_at(address, (10,), np.dtype(np.uint8)) == 0x5A).all()
        outside = address + 10 if at_end else address - 1
        assert outside % PAGE == (0 if at_end else PAGE - 1)

        def touch(at: int = outside) -> None:
            array_at(at, (1,), np.dtype(np.uint8))

        fault = apart(touch)
        assert fault is not None
        assert fault.kind == "a crash: SIGSEGV"


def test_only_what_rounding_explains_is_excused() -> None:
    """A sum next to a whole number may fall to either side; a foreign number may not."""
    program = read(
        """graph g {
          input x: f32[9]
          v0: f32[9] = exp(x)
          v1: f32[9] = log(v0)
          v2: f32[9] = sub(v1, x)
          v3: f32[9] = add(v2, v2)
          v4: f32[9] = floor(v3)
          v5: i64[9] = "cast"(v4) {dtype = i64}
          return v5, v1
        }"""
    )
    judge = Judge(program.graph, {})
    jumps, smooth = (x.copy() for x in judge.expected)
    jumps[:] = -1 - jumps
    assert judge.complaint([jumps, smooth]) is None
    smooth[3] += 0.01
    assert judge.complaint([jumps, smooth]) is not None
    smooth[3] = np.nan
    assert judge.complaint([jumps, smooth]) is not None


def test_a_number_is_judged_as_arrays_are() -> None:
    """What has rank 0 is excused, or not, like any element."""
    program = read(
        """graph g {
          input x: f32[]
          v0: f32[] = exp(x)
          v1: f32[] = log(v0)
          v2: f32[] = sub(v1, x)
          v3: f32[] = floor(v2)
          return v3
        }"""
    )
    judge = Judge(program.graph, {})
    (jump,) = judge.expected
    assert judge.complaint([np.float32(-1) - jump]) is None
    assert judge.complaint([np.float32(300) + jump]) is not None
