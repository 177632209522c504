"""Eager or compiled: the guard of speed, and compiling in the background."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import ferrule
from ferrule.api import versions
from ferrule.api.guard import LOOKS, WARM
from ferrule.base.errors import CompileError, InputError
from ferrule.frontend.torch.module import CompiledModule
from ferrule.frontend.torch.plan import Direct
from ferrule.pipeline import apart
from ferrule.pipeline.compile import compile_fresh
from ferrule.runtime.counters import counters
from ferrule.runtime.cpu import Executable
from tests.api.own import own_shrink

ALL = WARM + LOOKS[-1] + 1
GUARD = {"guard_speed": True, "cache": False}
BACKGROUND = {"background": True, "cache": False}
SLOW = 0.01
ENDS = {WARM + n for n in LOOKS}  # mostly the first; a busy machine may need more rounds


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).relu())


def slowed(fn: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def slow(*args: Any) -> Any:
        calls.append(1)
        time.sleep(SLOW)
        return fn(*args)

    return slow


def until(condition: Callable[[], Any]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen in a minute")


# ---- the guard -----------------------------------------------------------------------------------


def test_a_slow_program_is_left_to_eager(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Direct, "__call__", slowed(Direct.__call__, calls))
    model, x = Model(), torch.randn(3, 8)
    run = torch.compile(model, backend="ferrule", options=GUARD)
    for _ in range(ALL):
        torch.testing.assert_close(run(x), model(x))
    assert len(calls) in ENDS
    assert counters()["eager_kept"] == 1
    told = capsys.readouterr().err
    assert told.count("runs in eager from now on") == 1
    assert "medians of " in told


def test_a_fast_program_stays(capsys: pytest.CaptureFixture[str]) -> None:
    model, x, calls = Model(), torch.randn(3, 8), []
    run = ferrule.compile(model, (x,), reference=slowed(model, calls), options=GUARD)
    for _ in range(ALL):
        torch.testing.assert_close(run(x), model(x))
    assert len(calls) in ENDS
    assert type(run) is CompiledModule  # nothing of the guard is left in a call
    assert counters()["eager_kept"] == 0
    assert not capsys.readouterr().err


def test_a_slow_module_is_left_to_its_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    call = CompiledModule.__call__
    monkeypatch.setattr(CompiledModule, "__call__", slowed(call, calls))
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), reference=True, options={"cache": False})
    with torch.enable_grad():
        results = [run(x) for _ in range(ALL)]
    for y in results:
        torch.testing.assert_close(y, model(x))
        assert not y.requires_grad  # whichever it was of
    assert len(calls) in ENDS
    assert counters()["eager_kept"] == 1
    assert "Model runs in eager from now on" in capsys.readouterr().err
    assert isinstance(run, CompiledModule)
    assert run.kernels == 2
    assert "kernel" in run.explain()
    torch.testing.assert_close(copy.deepcopy(run)(x), model(x))


def test_each_graph_has_its_own_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Direct, "__call__", slowed(Direct.__call__, calls))
    model = Model()
    run = torch.compile(model, backend="ferrule", dynamic=False, options=GUARD)
    for n in (3, 5):
        for _ in range(ALL):
            run(torch.randn(n, 8))
    assert len(calls) in {a + b for a in ENDS for b in ENDS}
    assert counters()["eager_kept"] == 2


def test_a_graph_that_writes_into_its_arguments_runs_once_a_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def count(x: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        total.add_(x)
        return total * 2

    run = torch.compile(count, backend="ferrule", options=GUARD)
    total = torch.zeros(4)
    for n in range(1, ALL):
        torch.testing.assert_close(run(torch.ones(4), total), torch.full((4,), 2.0 * n))
    assert capsys.readouterr().err.count("calls must not run twice: it writes into") == 1


def test_a_module_that_writes_into_its_buffers_runs_once_a_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(1)
            return x + self.seen

    run = ferrule.compile(Counting(), (torch.zeros(3),), reference=True)
    for n in range(1, 6):
        torch.testing.assert_close(run(torch.zeros(3)), torch.full((3,), float(n)))
    assert capsys.readouterr().err.count("calls must not run twice: it writes into") == 1


def test_random_numbers_are_drawn_once_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, 0.5) + 1

    run = torch.compile(noisy, backend="ferrule", options=GUARD)
    x = torch.randn(100)
    run(x)
    torch.manual_seed(5)
    found = run(x), torch.rand(1)
    torch.manual_seed(5)
    expected = noisy(x), torch.rand(1)
    torch.testing.assert_close(found, expected)
    assert "it draws random numbers" in capsys.readouterr().err


def test_the_guard_is_off_by_default() -> None:
    model, x = Model(), torch.randn(3, 8)
    assert type(ferrule.compile(model, (x,))) is CompiledModule


# ---- in the background ---------------------------------------------------------------------------


class Held:
    """A compilation that goes on when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.go_on, self.error = threading.Event(), threading.Event(), error

    def __call__(self, *args: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(60)
        if self.error is not None:
            raise self.error
        return compile_fresh(*args)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    found = Held()
    monkeypatch.setattr(apart, "_fresh", found)
    yield found
    found.go_on.set()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each run of a compiled program."""
    calls: list[int] = []
    call = Direct.__call__

    def counted(*args: Any) -> Any:
        calls.append(1)
        return call(*args)

    monkeypatch.setattr(Direct, "__call__", counted)
    return calls


def test_calls_go_on_while_a_program_is_compiled(held: Held, runs: list[int]) -> None:
    model, x = Model(), torch.randn(3, 8)
    run = torch.compile(model, backend="ferrule", options=BACKGROUND)
    expected = model(x)
    torch.testing.assert_close(run(x), expected)
    assert held.begun.wait(60)
    for _ in range(50):
        torch.testing.assert_close(run(x), expected)
    assert not runs
    held.go_on.set()
    until(lambda: run(x) is not None and runs)
    torch.testing.assert_close(run(x), expected)
    assert counters()["compilations"] == 1


def test_a_module_becomes_what_was_compiled(held: Held) -> None:
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    expected = model(x)
    assert held.begun.wait(60)
    torch.testing.assert_close(run(x), expected)
    assert type(run) is versions.Pending
    threading.Timer(0.1, held.go_on.set).start()
    assert run.kernels == 2  # waits
    assert type(run) is CompiledModule
    torch.testing.assert_close(run(x), expected)
    twin = copy.deepcopy(run)
    assert type(twin) is CompiledModule
    torch.testing.assert_close(twin(x), expected)


@pytest.mark.parametrize("how", ["dynamo", "export"])
def test_no_call_packs_weights(
    held: Held, runs: list[int], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    threads: list[str] = []
    bind = Executable.bind

    def bound(*args: Any) -> None:
        threads.append(threading.current_thread().name)
        bind(*args)

    monkeypatch.setattr(Executable, "bind", bound)
    model, x = Model(), torch.randn(3, 8)
    if how == "dynamo":
        run = torch.compile(model, backend="ferrule", options=BACKGROUND)
        run(x)
        held.go_on.set()
        until(lambda: run(x) is not None and runs)
    else:
        run = ferrule.compile(model, (x,), options=BACKGROUND)
        held.go_on.set()
        assert run.kernels == 2
    torch.testing.assert_close(run(x), model(x))
    assert threads == ["ferrule"]


def test_parameters_that_are_replaced_meanwhile_are_seen(held: Held) -> None:
    model, other, x = Model(), Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert held.begun.wait(60)
    model.load_state_dict(other.state_dict(), assign=True)
    torch.testing.assert_close(run(x), other(x))
    held.go_on.set()
    until(lambda: type(run) is CompiledModule)
    torch.testing.assert_close(run(x), other(x))


def test_a_copy_of_what_is_not_ready_waits(held: Held) -> None:
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    threading.Timer(0.1, held.go_on.set).start()
    twin = pickle.loads(pickle.dumps(run))
    torch.testing.assert_close(twin(x), model(x))


def test_the_guard_begins_when_the_program_is_there(held: Held) -> None:
    model, x, calls = Model(), torch.randn(3, 8), []
    options = {**BACKGROUND, **GUARD}
    run = ferrule.compile(model, (x,), reference=slowed(model, calls), options=options)
    assert held.begun.wait(60)
    for _ in range(3):
        run(x)
    held.go_on.set()
    assert run.kernels == 2
    del calls[:]
    for _ in range(ALL):
        run(x)
    assert len(calls) in ENDS
    assert type(run) is CompiledModule


def test_a_compilation_that_fails_is_told_once_and_eager_stays(
    held: Held, runs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    held.error = CompileError("no luck")
    held.go_on.set()
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options={**BACKGROUND, "strict": True})
    with pytest.raises(CompileError, match="no luck"):
        run.explain()
    for _ in range(3):
        torch.testing.assert_close(run(x), model(x))
    assert not runs
    assert capsys.readouterr().err.count("Model stays in eager: ") == 1


def test_the_same_of_a_graph_of_dynamo(
    held: Held, runs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    held.error = CompileError("no luck")
    model, x = Model(), torch.randn(3, 8)
    run = torch.compile(model, backend="ferrule", options={**BACKGROUND, "strict": True})
    run(x)
    held.go_on.set()
    told: list[str] = []
    until(lambda: told.append(capsys.readouterr().err) or "stays in eager" in "".join(told))
    for _ in range(3):
        torch.testing.assert_close(run(x), model(x))
    assert not runs
    assert "".join(told).count("stays in eager") == 1


def test_tuning_needs_the_foreground() -> None:
    with pytest.raises(InputError, match="background"):
        ferrule.compile(Model(), (torch.randn(3, 8),), options=BACKGROUND, tune=True)


# ---- the other process ---------------------------------------------------------------------------


def test_another_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from ferrule.pipeline import compile as here

    def fails(*args: Any) -> Any:
        raise AssertionError("compiled in this process")

    monkeypatch.setattr(apart, "compile_fresh", fails)
    monkeypatch.setattr(here, "compile_fresh", fails)
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert run.kernels == 2
    torch.testing.assert_close(run(x), model(x))
    assert counters()["compilations"] == 1


def test_it_raises_what_the_other_process_raises() -> None:
    replies = [apart._reply(pickle.dumps(request)) for request in [(0, None, None, None), (0,)]]
    assert all("defect" in kind for kind, _ in replies)


def test_a_process_that_ends_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apart, "_send", lambda file, message: file.close())
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert run.kernels == 0
    torch.testing.assert_close(run(x), model(x))
    assert "the process that compiles ended with" in capsys.readouterr().err


def test_without_another_process_a_thread_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    apart.close()
    monkeypatch.setattr(apart.sys, "executable", "/nowhere/python")
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert run.kernels == 2
    torch.testing.assert_close(run(x), model(x))


def test_operators_of_the_user_are_compiled_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: Any, request: bytes) -> None:
        raise AssertionError("sent to a process that has no such operator")

    monkeypatch.setattr(apart._Process, "ask", ask)

    class Shrinking(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return own_shrink(x * 2) + 1

    model, x = Shrinking(), torch.randn(100)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert run.kernels == 1
    torch.testing.assert_close(run(x), model(x))


EXITS = """
import sys, threading, time
import torch, ferrule
from ferrule.base import watch
from ferrule.pipeline import apart
from ferrule.pipeline.compile import compile_fresh

begun = threading.Event()
how = sys.argv[1]
if how == "thread":
    def fresh(*args):
        begun.set()
        return compile_fresh(*args)
    apart._fresh = fresh
else:
    send = apart._send
    def sent(*args):
        send(*args)
        begun.set()
    apart._send = sent
model = torch.nn.Sequential(*(torch.nn.Linear(64 + 8 * k, 72 + 8 * k) for k in range(16)))
run = ferrule.compile(model, (torch.randn(3, 64),), options={"background": True, "cache": False})
assert begun.wait(60)
time.sleep(0.1)
run(torch.randn(3, 64))
print("ends")
"""


@pytest.mark.parametrize("how", ["process", pytest.param("thread", marks=pytest.mark.slow)])
def test_a_process_ends_while_it_compiles(how: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", EXITS, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.stdout == "ends\n"
    assert done.returncode == 0
    assert not done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_stays_in_eager_and_compiles_when_asked(held: Held) -> None:
    model, x = Model(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,), options=BACKGROUND)
    assert held.begun.wait(60)
    expected = model(x)
    child = os.fork()
    if child == 0:
        held.go_on.set()
        ok = torch.equal(run(x), expected) and run.kernels == 2 and type(run) is CompiledModule
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_reply_that_nobody_waits_for_goes_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt the next graph gets its own code."""
    receive, interrupted = apart._receive, []

    def once(file: Any) -> bytes | None:
        if file.name != 0 and apart._process._child is not None and not interrupted:
            interrupted.append(1)
            raise KeyboardInterrupt
        return receive(file)

    apart.close()
    process = apart._Process()
    monkeypatch.setattr(apart, "_process", process)
    assert process._running() is not None
    monkeypatch.setattr(apart, "_receive", once)
    with pytest.raises(KeyboardInterrupt):
        process.ask(pickle.dumps((0,)))
    assert interrupted
    assert process._child is None
    kind, _ = process.ask(pickle.dumps((0, None, None, None))) or ("", None)
    assert kind.startswith("a defect")
    process.close()


def test_a_guarded_copy_is_no_longer_guarded() -> None:
    model, x, calls = Model(), torch.randn(3, 8), []
    run = ferrule.compile(model, (x,), reference=slowed(model, calls), options=GUARD)
    other = copy.copy(run)
    assert type(other) is CompiledModule
    torch.testing.assert_close(other(x), model(x))
    assert not calls
