"""Records: one caller at a time, only for the dims and threads they were made for, errors kept."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import weakref
from collections.abc import Sequence

import pytest

from ferrule.base.artifact import SLOT_FIRST, SLOT_THREADS
from ferrule.runtime.call import Record, Watched, prepared

BLOCK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


class Probe:
    """A record of two addresses and one dim, whose entry remembers the arguments it finds."""

    def __init__(self, code: int = 0) -> None:
        self.block = (ctypes.c_int64 * 8)()
        self.block[SLOT_THREADS], self.block[SLOT_FIRST + 2] = 4, 10
        self.seen: list[list[int]] = []
        self.inside = None

        def entry(_: int) -> int:
            self.seen.append(list(self.block[SLOT_FIRST : SLOT_FIRST + 3]))
            if self.inside is not None:
                self.inside()
            return code

        self.entry = BLOCK(entry)
        address = ctypes.cast(self.entry, ctypes.c_void_p).value
        self.record = Record(address, ctypes.addressof(self.block), count=3, dims=2)


@pytest.mark.parametrize("code", [0, 1, -1, 70_000])
def test_launch_passes_arguments_and_gives_the_code(code: int) -> None:
    probe = Probe(code)
    assert probe.record.launch(4, 1 << 47, 7, 10) == code
    assert probe.seen == [[1 << 47, 7, 10]]


@pytest.mark.parametrize(
    "arguments", [(4, 1, 2, 11), (3, 1, 2, 10), (4, 1, 2), (4, 1, 2, 10, 5), ()]
)
def test_launch_runs_nothing_for_other_dims_threads_or_counts(arguments: tuple[int, ...]) -> None:
    probe = Probe()
    assert probe.record.launch(*arguments) is None
    assert probe.seen == []
    assert probe.record.launch(4, 1, 2, 10) == 0


def test_a_record_serves_one_caller_at_a_time() -> None:
    probe = Probe()
    assert probe.record.take()
    assert not probe.record.take()
    assert probe.record.launch(4, 1, 2, 10) is None
    probe.record.release()
    within = []
    probe.inside = lambda: within.append((probe.record.launch(4, 1, 2, 10), probe.record.take()))
    assert probe.record.launch(4, 5, 6, 10) == 0
    assert within == [(None, 0)]
    assert probe.record.take()


@pytest.mark.parametrize("wrong", ["x", None, 1.5, 1 << 70])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_what_is_no_integer_is_an_error_and_the_record_is_free_again(
    wrong: object, place: int
) -> None:
    probe = Probe()
    arguments: list[object] = [4, 1, 2, 10]
    arguments[place] = wrong
    with pytest.raises((TypeError, OverflowError)):
        probe.record.launch(*arguments)
    assert probe.seen == []
    assert probe.record.launch(4, 1, 2, 10) == 0


class Calls:
    """A prepared call of one input, one output, one dim and some parameters, and what it asks for,
    on a probe.
    """

    def __init__(self, code: int = 0, dim: int = 10, params: Sequence[Watched] = ()) -> None:
        self.probe = Probe(code)
        self.alike: object = True
        self.threads: object = 4
        self.places: dict[str, object] = {"x": 100, "made": 200}
        self.made: object = "made"
        self.call = prepared(
            self.probe.record,
            lambda x: self.answer(self.alike),
            lambda x: self.answer(self.places[x]),
            1,
            [(lambda a, b: self.answer((a, b) == (1, "b") and self.made), (1, "b"))],
            (dim,),
            params,
            lambda: self.answer(self.threads),
            self.fail,
            self.probe,
        )

    @staticmethod
    def answer(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    @staticmethod
    def fail(code: int) -> None:
        raise ValueError(f"code {code}")


def test_a_prepared_call_makes_outputs_and_passes_addresses() -> None:
    calls = Calls()
    assert calls.call("x") == ("made",)
    assert calls.call("x") == ("made",)
    assert calls.probe.seen == [[100, 200, 10]] * 2


def test_a_prepared_call_raises_what_a_code_stands_for() -> None:
    calls = Calls(code=3)
    for _ in range(2):
        with pytest.raises(ValueError, match="code 3"):
            calls.call("x")


@pytest.mark.parametrize("name", ["alike", "threads", "made", "x", "made's place"])
def test_an_error_of_what_a_prepared_call_asks_is_raised(name: str) -> None:
    calls, error = Calls(), RuntimeError("asked")
    if name in ("x", "made's place"):
        calls.places["x" if name == "x" else "made"] = error
    else:
        setattr(calls, name, error)
    with pytest.raises(RuntimeError, match="asked"):
        calls.call("x")
    assert calls.probe.seen == []
    assert calls.probe.record.take()


@pytest.mark.parametrize(("name", "value"), [("alike", False), ("alike", 1), ("threads", 2)])
def test_a_prepared_call_runs_nothing_for_others(name: str, value: object) -> None:
    calls = Calls()
    setattr(calls, name, value)
    assert calls.call("x") is None
    assert calls.call() is None
    assert calls.call("x", "x") is None
    assert calls.probe.seen == []


def test_a_prepared_call_runs_nothing_on_a_record_for_other_dims_or_in_use() -> None:
    calls = Calls(dim=11)
    assert calls.call("x") is None
    calls = Calls()
    assert calls.probe.record.take()
    assert calls.call("x") is None
    calls.probe.record.release()
    assert calls.call("x") == ("made",)


def test_a_prepared_call_leaks_nothing_and_keeps_what_it_holds() -> None:
    calls = Calls()
    calls.made = object()
    calls.places = {"x": 1 << 40, calls.made: 1 << 41}
    record = weakref.ref(calls.probe)
    calls.call("x")
    before = sys.getrefcount(calls.made), sys.getrefcount(None), sys.getrefcount(True)
    for _ in range(1000):
        calls.call("x")
    after = sys.getrefcount(calls.made), sys.getrefcount(None), sys.getrefcount(True)
    assert max(abs(a - b) for a, b in zip(after, before)) < 500
    call = calls.call
    del calls
    gc.collect()
    assert record() is not None
    del call
    gc.collect()
    assert record() is None


class Weight:
    """A parameter: its place, its version (or what asking for it raises), its bytes."""

    def __init__(self) -> None:
        self.place, self.version = 300, 7
        self.bytes = (ctypes.c_char * 8)(*b"contents")

    @property
    def _version(self) -> object:
        return Calls.answer(self.version)

    def watched(self, version: int = 7) -> Watched:
        return 300, version, ctypes.addressof(self.bytes), b"contents"


def with_weights(version: int = 7) -> tuple[Calls, Weight, Weight]:
    a, b = Weight(), Weight()
    calls = Calls(params=(a.watched(version), b.watched(version)))
    calls.places |= {a: 300, b: 300}
    return calls, a, b


def test_a_prepared_call_runs_with_parameters_as_they_were() -> None:
    calls, a, b = with_weights()
    assert calls.call("x", a, b) == ("made",)
    assert calls.call("x", a) is None
    assert calls.call("x", a, b, b) is None
    assert calls.call("x", a, b) == ("made",)
    assert calls.probe.seen == [[100, 200, 10]] * 2


@pytest.mark.parametrize("which", [0, 1])
def test_a_prepared_call_runs_nothing_with_a_parameter_that_was_changed(which: int) -> None:
    for change in (
        lambda w, calls: calls.places.update({w: 301}),
        lambda w, _: setattr(w, "version", 8),
        lambda w, _: w.bytes.__setitem__(7, b"!"),
    ):
        calls, *weights = with_weights()
        assert calls.call("x", *weights) is not None
        change(weights[which], calls)
        assert calls.call("x", *weights) is None
        assert len(calls.probe.seen) == 1


def test_parameters_without_a_version_are_told_by_their_bytes() -> None:
    calls, a, b = with_weights(version=-1)
    a.version = b.version = RuntimeError("asked")
    assert calls.call("x", a, b) is not None
    b.bytes[0] = b"!"
    assert calls.call("x", a, b) is None
    calls, a, b = with_weights()
    b.version = RuntimeError("asked")
    with pytest.raises(RuntimeError, match="asked"):
        calls.call("x", a, b)
    assert calls.probe.record.take()


def test_results_are_hidden_from_others_until_they_are_all_there() -> None:
    calls, seen = Calls(), []
    calls.made = looking = object()
    calls.places = LookedUp(looking, seen)
    assert calls.call("x") == (looking,)
    assert len(seen) == 1
    assert not any(len(o) == 1 and o[0] is looking for o in seen[0])


class LookedUp(dict):
    """Places that look at all tuples when they are asked for the output's."""

    def __init__(self, output: object, seen: list) -> None:
        self.output, self.seen = output, seen

    def __getitem__(self, key: object) -> int:
        if key is self.output:
            self.seen.append([o for o in gc.get_objects() if type(o) is tuple])
        return 100


def test_records_made_by_several_threads_at_first_work() -> None:
    script = (
        "import ctypes, threading, gc\n"
        "from ferrule.runtime import call\n"
        "block = (ctypes.c_int64 * 4)(0, 1, 0, 0)\n"
        "entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(lambda _: 7)\n"
        "at = ctypes.cast(entry, ctypes.c_void_p).value, ctypes.addressof(block)\n"
        "records, start = [], threading.Barrier(4)\n"
        "def make():\n"
        "    start.wait()\n"
        "    records.append(call.Record(*at, 0, 0))\n"
        "threads = [threading.Thread(target=make) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; gc.collect()\n"
        "junk = [(ctypes.c_int64 * 4)(1, 1, 1, 0) for _ in range(2000)]\n"
        "assert [r.launch(1) for r in records] == [7] * 4\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == 0
