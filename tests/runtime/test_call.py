"""Records: one caller at a time, only for the dims and threads they were made for, errors kept."""

from __future__ import annotations

import ctypes

import pytest

from ferrule.base.compiled import SLOT_FIRST, SLOT_THREADS
from ferrule.runtime.call import Record

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
