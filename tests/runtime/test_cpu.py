"""Loading and running: the argument block, arenas, parameters, errors, and many callers at once."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from ferrule.base.artifact import Compiled
from ferrule.base.elf import undefined_symbols
from ferrule.base.errors import CompileError, FerruleError, InputError, RunError, RunIndexError
from ferrule.runtime import cpu, pool
from tests.runtime.conftest import NOTHING, Build


def run_double(executable: cpu.Executable, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    executable.run([x.ctypes.data], [y.ctypes.data], (len(x),))
    return y


@pytest.mark.parametrize("n", [1, 2, 1000, 100_000])
def test_run_with_a_dim_and_an_arena(double: Compiled, n: int) -> None:
    executable = cpu.load(double)
    x = np.random.default_rng(n).random(n, np.float32)
    np.testing.assert_array_equal(run_double(executable, x), 2 * x)
    assert executable.arena_bytes((n,)) == 4 * n


def test_dims_may_change_from_call_to_call(double: Compiled) -> None:
    executable = cpu.load(double)
    for n in (10, 5000, 3, 70_000, 10):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(run_double(executable, x), 2 * x)


def test_the_number_of_threads_may_change_from_call_to_call(double: Compiled) -> None:
    executable = cpu.load(double)
    x = np.arange(999, dtype=np.float32)
    try:
        for threads in (1, 3, 2):
            pool.set_num_threads(threads)
            np.testing.assert_array_equal(run_double(executable, x), 2 * x)
    finally:
        pool.set_num_threads(None)


def test_concurrent_calls_do_not_share_state(double: Compiled) -> None:
    executable = cpu.load(double)
    failures: list[int] = []

    def call(seed: int) -> None:
        x = np.random.default_rng(seed).random(1000 + 700 * seed, np.float32)
        for _ in range(100):
            if not np.array_equal(run_double(executable, x), 2 * x):
                failures.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_parameters_are_prepared_once_and_bound_again(bound: Compiled) -> None:
    executable = cpu.load(bound)
    x, y = np.arange(4.0), np.empty(4)
    weights = np.ones(4)
    executable.bind([(weights.ctypes.data, weights)])
    weights[:] = 100  # what prepare has read stays
    executable.run([x.ctypes.data], [y.ctypes.data])
    np.testing.assert_array_equal(y, x + 2)
    executable.bind([(weights.ctypes.data, weights)])
    executable.run([x.ctypes.data], [y.ctypes.data])
    np.testing.assert_array_equal(y, x + 200)


def test_binding_keeps_parameters_alive(bound: Compiled) -> None:
    executable = cpu.load(bound)
    owner = np.ones(4)
    before = gc.get_referrers(owner)
    executable.bind([(owner.ctypes.data, owner)])
    assert len(gc.get_referrers(owner)) > len(before)


def test_parameters_must_be_bound_and_be_as_many_as_declared(bound: Compiled) -> None:
    executable = cpu.load(bound)
    with pytest.raises(InputError, match="bind them before the first run"):
        executable.run([0], [0])
    with pytest.raises(InputError, match="has 1 parameters, and bind was given 0"):
        executable.bind([])


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (1, RunIndexError, "code: index 7 is out of range in gather"),
        (2, RunError, "the loop did not end"),
        (3, RunError, "failed with code 3"),
        (-1, RunError, "failed with code -1"),
    ],
)
def test_a_code_becomes_an_error(
    code: Compiled, value: int, kind: type[FerruleError], message: str
) -> None:
    executable = cpu.load(code)
    x = np.array(value, np.int32)
    with pytest.raises(kind, match=message):
        executable.run([x.ctypes.data], [])
    x[...] = 0
    executable.run([x.ctypes.data], [])
    assert issubclass(RunIndexError, IndexError)


def test_one_program_may_be_loaded_twice_and_freed(double: Compiled) -> None:
    x = np.arange(50, dtype=np.float32)
    kept = cpu.load(double)
    for _ in range(3):
        other = cpu.load(Compiled.from_bytes(double.to_bytes()))
        np.testing.assert_array_equal(run_double(other, x), 2 * x)
        del other
        gc.collect()
    np.testing.assert_array_equal(run_double(kept, x), 2 * x)


def test_code_that_cannot_run_here_is_refused(double: Compiled) -> None:
    with pytest.raises(CompileError, match="is no object file"):
        cpu.load(replace(double, object_code=b"not code"))
    with pytest.raises(CompileError, match="no function ferrule_entry_other"):
        cpu.load(replace(double, key="other"))
    with pytest.raises(CompileError, match="compiled for vax, which this CPU lacks"):
        cpu.load(replace(double, meta={"target": "vax"}))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an ELF object")
def test_code_that_calls_what_is_not_there_is_refused(build: Build) -> None:
    call = """
        declare i32 @ferrule_is_not_there(ptr)
        define i32 @ferrule_entry_KEY(ptr %args) {
          %code = call i32 @ferrule_is_not_there(ptr %args)
          ret i32 %code
        }
    """
    with pytest.raises(CompileError, match="calls ferrule_is_not_there, and has to be whole"):
        cpu.load(build(call + NOTHING, "calling"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an ELF object")
def test_a_damaged_table_of_symbols_is_an_error(build: Build) -> None:
    call = "define i32 @ferrule_entry_KEY(ptr %args) {\n ret i32 ptrtoint (ptr @there to i32)\n}"
    code = build("@there = external global i8\n" + call + NOTHING, "referring").object_code
    assert undefined_symbols(code) == ("there",)
    for end in (70, len(code) // 2):
        with pytest.raises(ValueError, match="damaged"):
            undefined_symbols(code[:end])
    assert undefined_symbols(b"something else") == ()


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 20, 5 << 20])
def test_arenas_are_aligned_and_writable(size: int) -> None:
    arena = cpu.Arena(size)
    assert arena.address % 64 == 0
    assert arena.size == size


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [64, 5 << 20])
def test_an_arena_is_not_shared_with_a_forked_process(size: int) -> None:
    arena = cpu.Arena(size)
    child = os.fork()
    if child == 0:
        ctypes.memset(arena.address, 1, size)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ctypes.string_at(arena.address, size) == bytes(size)
