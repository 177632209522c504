"""Damaged programs never crash. The long run is `python -m tests.frontend.stablehlo.damage`."""

from __future__ import annotations

import pytest

from tests.frontend.stablehlo import artifacts, damage, programs


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few programs, the same wherever the tests run."""
    seeds = (programs.SMALL, artifacts.SMALL, artifacts.EXPORT)
    monkeypatch.setattr(damage, "seeds", lambda: seeds)


def test_damaged_programs_are_read_or_refused() -> None:
    outcomes = {damage.survives(number) for number in range(300)}
    assert {"text read", "text ParseError", "bytes ParseError"} <= outcomes


def test_what_is_no_clear_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: str | bytes) -> None:
        raise KeyError("x")

    monkeypatch.setattr(damage, "read_text", broken)
    monkeypatch.setattr(damage, "read", broken)
    with pytest.raises(KeyError):
        damage.survives(0)


def test_an_error_without_a_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def vague(program: str | bytes) -> None:
        raise damage.ParseError("something is wrong")

    monkeypatch.setattr(damage, "read_text", vague)
    monkeypatch.setattr(damage, "read", vague)
    with pytest.raises(AssertionError, match="without a place"):
        damage.survives(0)
