"""Counters of the CPU and the system."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
from typing import Any

import pytest

from ferrule.runtime import hardware
from ferrule.runtime.hardware import EVENTS, Counting

NAMES = {e.name for e in EVENTS}
PAGES = 200
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells")


def touch() -> None:
    """Faults that are ours, of PAGES pages."""
    memory = mmap.mmap(-1, PAGES * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for k in range(PAGES):
        memory[k * 4096] = 1


def opened() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")}  # fmt: skip


@linux
def test_each_event_is_counted_or_told_why_not() -> None:
    counting = Counting()
    touch()
    counts, missing = counting.end()
    assert counts.keys() | missing.keys() == NAMES
    assert not counts.keys() & missing.keys()
    assert all(missing.values())
    if "instructions" in counts:
        assert counts["instructions"] > 1000
    assert not any("perf_event" in name for name in opened())
    again, still = counting.end()
    assert not again
    assert still == missing


@linux
def test_threads_that_are_there_and_those_made_later_are_counted() -> None:
    begin = threading.Event()

    def early() -> None:
        begin.wait()
        touch()

    there = threading.Thread(target=early)
    there.start()
    counting = Counting()
    begin.set()
    later = threading.Thread(target=touch)
    later.start()
    later.join()
    there.join()
    counts, missing = counting.end()
    if "page faults" in missing:
        pytest.skip(missing["page faults"])
    assert counts["page faults"] >= 2 * PAGES


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (errno.EACCES, "forbids it"), (errno.EPERM, "paranoid"), (errno.ENOENT, "shows none"),
        (errno.EMFILE, os.strerror(errno.EMFILE)), (errno.ENOSYS, os.strerror(errno.ENOSYS)),
    ],
)  # fmt: skip
def test_a_refusal_is_told_and_nothing_is_raised(
    code: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any, event: Any, thread: int) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Counting, "_opened", refused)
    counts, missing = Counting().end()
    assert not counts
    assert missing.keys() == NAMES
    if sys.platform.startswith("linux"):
        assert all(why in reason for reason in missing.values())


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.platform, "system", lambda: "Darwin")
    counts, missing = Counting().end()
    assert not counts
    assert missing == dict.fromkeys(NAMES, "only Linux tells")
