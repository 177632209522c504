"""Counters: they count, they can be reset, threads lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ferrule.base.errors import InputError
from ferrule.runtime.counters import add_seconds, count, count_fallback, counters, reset_counters


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    reset_counters()
    yield
    reset_counters()


def test_counting() -> None:
    count("compilations")
    count("kernels", 12)
    count_fallback("aten.sort")
    count_fallback("aten.sort")
    add_seconds(0.25)
    add_seconds(0.5)
    expected = {
        "compilations": 1,
        "cache_hits": 0,
        "kernels": 12,
        "eager_kept": 0,
        "compile_seconds": 0.75,
        "fallbacks": {"aten.sort": 2},
    }
    assert counters() == expected
    counters()["fallbacks"].clear()
    assert counters() == expected
    reset_counters()
    assert counters()["kernels"] == 0
    assert counters()["compile_seconds"] == 0.0
    assert counters()["fallbacks"] == {}


def test_unknown_counters_are_refused() -> None:
    with pytest.raises(InputError, match="no counter is called 'speed'"):
        count("speed")


def test_threads_lose_no_count() -> None:
    def work() -> None:
        for _ in range(5000):
            count("kernels")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters()["kernels"] == 20_000
