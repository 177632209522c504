"""The benchmark beside busy processes: its percentiles, its rounds and its table."""

from __future__ import annotations

import pytest

from benchmarks import busy


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(1, 50, 1), (2, 50, 1), (3, 50, 2), (100, 99, 99), (200, 99, 198), (101, 99, 100), (5, 99, 5)],
)
def test_percentiles(count: int, percent: float, expected: float) -> None:
    values = [float(v) for v in range(count, 0, -1)]
    assert busy.percentile(values, percent) == expected


def test_all_loads_and_threads_are_measured_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "_SETTLE", 0)
    called: list[int] = []
    job = busy.Job("none", "workers", (1, 2), (0, 1), 3, 2)
    found = busy.measure(job, called.append)
    assert called == [1] * 4 + [2] * 4 + [1] * 4 + [2] * 4 + called[16:]
    assert [(f.busy, f.threads, f.calls) for f in found] == [
        (0, 1, 6), (0, 2, 6), (1, 1, 6), (1, 2, 6)
    ]  # fmt: skip
    assert all(0 <= f.median <= f.p99 for f in found)


def test_ratios_are_to_the_first_number_of_threads() -> None:
    found = [
        busy.Found("team", 4, 1, 9, 2.0, 10.0),
        busy.Found("team", 4, 2, 9, 1.0, 15.0),
    ]
    assert busy.report(found).splitlines()[-1].endswith("| 1.00 | 15.00 | 0.50 | 1.50 |")
