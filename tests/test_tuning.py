"""Tuning from end to end: what it measures and keeps, what later compilations do with it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferrule import ops
from ferrule.api import tuning
from ferrule.api.tuning import BATCH, Budget, TunedOperator, _Run, budget_from, tune
from ferrule.base import config
from ferrule.base.dtype import f32
from ferrule.base.errors import InputError
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.pipeline.compile import TUNED_VERSION, compile_graph, tuned, tuning_tasks
from ferrule.runtime import counters, pool
from ferrule.runtime.arrays import NumpyCallable
from ferrule.schedule.contraction.blocking import Blocking
from ferrule.schedule.space import candidates, point_of
from ferrule.tune.database import Database, Record, default_path
from ferrule.tune.measure import Measured
from ferrule.tune.model import History
from ferrule.tune.progress import silent
from tests.cpus import current


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path), cache=True, tuning_db=None, tuning=True):
        yield


def mlp(rows=20) -> Graph:
    """Two products, one of which is there twice."""
    b = GraphBuilder("mlp")
    x = b.input(tensor((rows, 64), f32))
    weights = [b.param(tensor(shape, f32)) for shape in ((64, 64), (64, 64), (64, 40))]
    for w in weights:
        x = ops.relu(b, ops.matmul(b, x, w))
    return b.build((x,))


def result(graph: Graph) -> np.ndarray:
    compiled = compile_graph(graph)
    rng = np.random.default_rng(1)
    params = [rng.random((64, n), np.float32) for n in (64, 64, 40)]
    compiled.executable.bind([(p.ctypes.data, p) for p in params])
    return NumpyCallable(compiled.executable)(rng.random((20, 64), np.float32))[0]


def chosen(graph: Graph) -> dict[str, str]:
    return dict(compile_graph(graph).compiled.meta["blockings"])


def put(graph: Graph, number: int) -> list[Blocking]:
    """Records that choose the candidate of that number for every contraction."""
    found = []
    for task in tuning_tasks(graph, current()):
        found.append(candidates(task.kernel, current(), task.constant)[number])
        record = Record(
            current().key, pool.get_num_threads(), task.key, TUNED_VERSION, "op",
            point_of(found[-1]), 2.0, 1.0, 1,
        )  # fmt: skip
        Database(default_path(config.settings())).put([record])
    return found


def test_each_operator_is_tuned_once_and_remembered() -> None:
    report = tune([mlp(), mlp()], Budget(trials=3))
    assert sorted(o.count for o in report.outcomes) == [2, 4]
    assert all(o.trials == 3 for o in report.outcomes)
    assert all(o.best <= o.default for o in report.outcomes)
    assert len(Database(default_path(config.settings())).records()) == 2
    again = tune([mlp()], Budget(trials=3))
    assert again.outcomes == ()
    assert again.known == 2
    assert len(tune([mlp()], Budget(trials=1, again=True)).outcomes) == 2
    for text in (report.text(), again.text()):
        assert "times as fast" in text


@pytest.mark.slow
def test_symbolic_sizes_are_tuned_at_a_likely_value() -> None:
    report = tune([mlp(dim("rows"))], Budget(trials=2))
    assert len(report.outcomes) == 2
    assert set(chosen(mlp(dim("rows")))) == set(tuned(current(), config.settings()))


def test_later_compilations_use_the_records_at_once() -> None:
    graph = mlp()
    before, expected = chosen(graph), result(graph)
    assert set(before.values()) == {"default"}
    blockings = put(graph, 3)
    assert sorted(chosen(graph).values()) == sorted(map(repr, blockings))
    np.testing.assert_allclose(result(graph), expected, rtol=1e-5)
    with config.override(tuning=False):
        assert chosen(graph) == before


def test_the_cache_keeps_programs_of_other_blockings_apart() -> None:
    graph = mlp()
    compile_graph(graph)
    put(graph, 3)
    compile_graph(graph)
    counters.reset_counters()
    compile_graph(graph)
    with config.override(tuning=False):
        compile_graph(graph)
    assert counters.counters()["cache_hits"] == 2
    assert counters.counters()["compilations"] == 0


def test_records_of_other_threads_and_nonsense_are_not_used() -> None:
    graph = mlp()
    put(graph, 3)
    base = Database(default_path(config.settings()))
    first, second = base.records()
    with config.override(num_threads=pool.get_num_threads() + 1):
        assert set(chosen(graph).values()) == {"default"}
    base.put([replace(first, point={"rows": 1000}), second])
    assert sorted(v == "default" for v in chosen(graph).values()) == [False, True]


def test_an_interrupt_keeps_what_was_found() -> None:
    def progress(status) -> None:
        if status.trials:
            raise KeyboardInterrupt

    report = tune([mlp()], Budget(trials=4), progress)
    assert report.interrupted
    assert "cut short" in report.text()
    assert len(Database(default_path(config.settings())).records()) == 1


@pytest.mark.slow
def test_a_later_run_goes_on_where_an_earlier_one_ended() -> None:
    tune([mlp()], Budget(trials=2))
    report = tune([mlp()], Budget(trials=5))
    assert [o.trials for o in report.outcomes] == [5, 5]
    assert tune([mlp()], Budget(trials=5)).outcomes == ()


def test_the_most_expensive_operator_comes_first_and_the_rest_in_time() -> None:
    seen = []
    tune([mlp()], Budget(trials=1), lambda status: seen.append(status.operator))
    assert "n=64" in seen[0]
    assert any("n=40" in operator for operator in seen)


def test_without_time_nothing_is_tried_and_the_report_says_so() -> None:
    report = tune([mlp()], Budget(trials=4, seconds=1e-9))
    assert (report.outcomes, report.missed, report.speedup) == ((), 2, 1.0)
    assert "0 operators tuned, 2 not reached" in report.text()
    assert not default_path(config.settings()).exists()


def test_batches_are_as_long_as_the_time_left() -> None:
    (task, *_) = (TunedOperator(s, current()) for s in tuning_tasks(mlp(), current()))
    task.seconds = 1.0
    base = Database(default_path(config.settings()))
    counts = [
        _Run([task], Budget(seconds=left), silent, lambda: None, base)._affordable(task)
        for left in (1, 45, 1000, None)
    ]
    assert counts == [1, 3, BATCH, BATCH]


@pytest.mark.slow
def test_the_run_teaches_one_model() -> None:
    """Candidates of all operators are learned from, in numbers that compare across them."""
    history = History()
    for operator in tuning_tasks(mlp(), current()):
        task = TunedOperator(operator, current(), history)
        task.start(lambda: None)
        task.step(4)
    rows = [row for row, _ in history.rows.values()]
    assert len({operator for operator, _ in history.rows}) == 2
    assert len({len(row) for row in rows}) == 1
    assert np.isfinite(rows).all()


def test_what_is_known_is_measured_beside_the_default(monkeypatch) -> None:
    (first, second) = put(mlp(), 3)

    def told(calls, rounds, between):
        found = [Measured(1.0, 1.0, 0.0), Measured(0.5, 0.5, 1.0), Measured(1.2, 1.2, 0.0)]
        return found[: len(calls)]  # the default, the best so far, a new one

    monkeypatch.setattr(tuning, "side_by_side", told)
    report = tune([mlp()], Budget(trials=1, again=True))
    assert {o.blocking for o in report.outcomes} == {first, second}
    assert report.speedup == 2


def test_ctrl_c_ends_a_run() -> None:
    def progress(status) -> None:
        if status.trials:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert tune([mlp()], Budget(trials=12), progress).interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_a_wrong_candidate_is_never_timed(monkeypatch, capsys) -> None:
    timed = []

    def watched(calls, rounds, between):
        timed.append(len(calls))
        return [Measured(1.0, 1.0, 0.0) for _ in calls]

    monkeypatch.setattr(tuning, "side_by_side", watched)
    monkeypatch.setattr(tuning, "difference", lambda *_: "it is wrong")
    report = tune([mlp()], Budget(trials=3))
    assert set(timed) == {1}
    assert all(o.best == o.default for o in report.outcomes)
    assert "it is wrong" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("batch", "last", "faster"),
    [
        ((0.5, 1.0), (0.6, 1.0), True),
        ((0.5, 1.0), (1.1, 0.0), False),
        pytest.param((0.99, 1.0), (0.99, 1.0), False, marks=pytest.mark.slow),
        pytest.param((0.5, 0.5), (0.5, 0.5), False, marks=pytest.mark.slow),
    ],
)
def test_only_what_is_surely_faster_is_chosen(monkeypatch, batch, last, faster) -> None:
    def told(calls, rounds, between):
        ratio, wins = last if rounds == tuning.LAST_ROUNDS else batch
        others = [Measured(ratio, ratio, wins) for _ in calls[1:]]
        return [Measured(1.0, 1.0, 0.0), *others]

    monkeypatch.setattr(tuning, "side_by_side", told)
    graph = mlp()
    defaults = [
        repr(candidates(s.kernel, current(), s.constant)[0]) for s in tuning_tasks(graph, current())
    ]
    report = tune([graph], Budget(trials=3))
    assert (report.speedup > 1) == faster
    assert all((text not in defaults) == faster for text in chosen(graph).values())


def test_an_operator_that_cannot_run_alone_is_left_out(monkeypatch) -> None:
    def refuse(*_):
        raise InputError("no")

    monkeypatch.setattr(tuning, "compile_task", refuse)
    assert tune([mlp()], Budget(trials=2)).outcomes == ()


def test_compile_tunes_before_it_compiles() -> None:
    torch = pytest.importorskip("torch")
    import ferrule

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.ReLU()).eval()
    x = torch.randn(16, 32)
    compiled = ferrule.compile(module, (x,), tune={"trials": 2, "seconds": 60})
    torch.testing.assert_close(compiled(x), module(x))
    assert len(Database(default_path(config.settings())).records()) == 1


def test_what_tune_may_be() -> None:
    assert budget_from(None) is None
    assert budget_from(False) is None
    assert budget_from(True) == Budget()
    assert budget_from(7) == Budget(trials=7)
    assert budget_from({"seconds": 5}) == Budget(seconds=5)
    assert budget_from(Budget(3)) == Budget(3)


@pytest.mark.parametrize("wanted", ["yes", {"hours": 1}, 0, {"seconds": 0}, {"trials": -1}, 1.5])
def test_what_tune_may_not_be(wanted) -> None:
    with pytest.raises(InputError, match="trial"):
        budget_from(wanted)
