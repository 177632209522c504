"""What long work shows while it runs: a line on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from ferrule import ops
from ferrule.base import config, log, watch
from ferrule.base.dtype import f32
from ferrule.base.watch import Step
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.pipeline import progress
from ferrule.pipeline.compile import compile_graph
from ferrule.tune.progress import Status

pty = pytest.importorskip("pty")
STATUS = Status(12, 48, 1, 3, 1.254, "f32 m=4", 61.0)


class Terminal:
    """The other end of a terminal that is the standard error."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self.text = ""

    def until(self, wanted: str) -> None:
        """Reads until a text was shown."""
        for _ in range(200):
            if wanted in self.read():
                return
        pytest.fail(f"{wanted!r} was not shown: {self.text!r}")

    def read(self) -> str:
        """All that was shown so far: what was written arrives a little later."""
        while select.select([self._leader], [], [], 0.05)[0]:
            self.text += os.read(self._leader, 1 << 16).decode()
        return self.text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Everything is shown at once."""
    leader, follower = pty.openpty()
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.001)
    monkeypatch.setenv("TERM", "xterm")
    with open(follower, "w", encoding="utf-8") as end:
        for module in (progress, log):  # pytest sets sys.stderr itself before the test runs
            monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=end))
        yield Terminal(leader)
    os.close(leader)


def graph() -> Graph:
    b = GraphBuilder("exps")
    x, w = b.input(tensor((4, 8), f32)), b.param(tensor((5, 8), f32))
    return b.build([ops.exp(b, ops.linear(b, x, w))])


def compiled(watched: Callable[[Step], None] | None = None) -> None:
    settings = config.settings(cache=False)
    if watched is None:
        compile_graph(graph(), settings)
        return
    with watch.watched(watched):
        compile_graph(graph(), settings)


# ---- what is told --------------------------------------------------------------------------------


def test_passes_and_their_kernels_are_told() -> None:
    told: list[Step] = []
    compiled(told.append)
    passes = told[0].passes
    assert passes[-1] == "object"
    assert [s.done for s in told if not s.kernels] == list(range(len(passes)))
    parts = [progress.part_done(s) for s in told]
    assert parts == sorted(parts)
    assert parts[0] == 0 < parts[-1] < 1
    for name in ("choose", "schedule", "loops", "emit"):
        steps = [s for s in told if s.kernels and s.passes[s.done] == name]
        assert [s.kernels_done for s in steps] == list(range(steps[0].kernels))
        assert all(s.kernel for s in steps)


def test_a_text_names_pass_kernel_and_program() -> None:
    step = Step("mlp", ("loops", "emit"), 1, "k3", 3, 5)
    assert progress.text_of(step) == "emit k3 (4 of 5), pass 2 of 2 of mlp"
    assert progress.text_of(Step("mlp", ("loops", "emit"), 0)) == "loops, pass 1 of 2 of mlp"


def test_an_observer_may_end_a_compilation() -> None:
    class Enough(BaseException):
        pass

    def stop(step: Step) -> None:
        if step.passes[step.done] == "emit":
            raise Enough

    with pytest.raises(Enough):
        compiled(stop)


# ---- what is shown -------------------------------------------------------------------------------


def test_nothing_is_shown_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.001)
    compiled()
    with progress.tuning() as update:
        update(STATUS)
        time.sleep(0.05)
    assert capfd.readouterr() == ("", "")


def test_a_compilation_is_drawn_and_taken_away(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ferrule.pipeline import passes

    compile_module = passes.compile_module

    def waits(*args: object) -> object:
        terminal.until("object, pass")  # also while a step takes long, and nothing is told
        return compile_module(*args)

    monkeypatch.setattr(passes, "compile_module", waits)
    compiled()
    assert "of exps" in terminal.read()
    assert terminal.text.startswith("\r[")
    assert terminal.text.endswith("\r\x1b[K")
    assert "\n" not in terminal.text


def test_a_short_compilation_is_not(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "AFTER", 1000.0)
    compiled()
    assert not terminal.read()


def test_tunings_are_drawn_and_not_the_compilations_in_them(terminal: Terminal) -> None:
    with progress.tuning() as update:
        update(STATUS)
        terminal.until("[######..................] 12 of 48 trials, 1 of 3 operators")
        compiled()
    assert "pass" not in terminal.read()
    assert terminal.text.endswith("\r\x1b[K")


def test_a_message_takes_the_place_of_the_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.tuning() as update:
        update(STATUS)
        terminal.until("12 of 48")
        monkeypatch.setattr(progress, "EVERY", 1000.0)
        log.warn("look", once=False)
        assert terminal.read().endswith("\r\x1b[Kferrule: look\r\n")


@pytest.mark.parametrize("variable", ["logs", "TERM"])
def test_other_messages_and_dumb_terminals_have_no_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("TERM", "dumb" if variable == "TERM" else "xterm")
    with config.override(logs=int(variable == "logs")), progress.tuning() as update:
        update(STATUS)
        time.sleep(0.05)
    assert not terminal.read()


def test_there_is_one_line_at_a_time(terminal: Terminal) -> None:
    with progress.tuning() as first, progress.tuning() as second:
        second(STATUS)
        first(Status(1, 2, 0, 1, 1.0, ""))
        terminal.until("1 of 2 trials")
    assert "12 of 48" not in terminal.read()
