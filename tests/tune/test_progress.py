"""What a tuning run tells."""

from __future__ import annotations

from dataclasses import replace

from ferrule.tune.progress import Status, clock

STATUS = Status(12, 48, 1, 3, 1.254, "f32 m=4", 61.0)


def test_a_line_tells_trials_the_best_and_the_time_left() -> None:
    text = STATUS.text()
    assert "12 of 48 trials" in text
    assert "1 of 3 operators" in text
    assert "1.25 times" in text
    assert "1:01 left" in text
    assert "left" not in replace(STATUS, seconds_left=None).text()


def test_a_clock_has_minutes() -> None:
    assert [clock(s) for s in (0, 5.4, 65, 3600)] == ["0:00", "0:05", "1:05", "60:00"]
