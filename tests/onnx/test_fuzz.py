"""Damaged models never crash. The long run is `python -m tests.onnx.fuzz`."""

from __future__ import annotations

from tests.onnx import fuzz


def test_damaged_models_load_or_are_refused() -> None:
    seen: list[str] = []
    assert not fuzz.run(range(60), seen.append)
    assert len(seen) == 60
    assert any("refused" in line for line in seen)
    assert any("accepted" in line for line in seen)


def test_what_is_no_clear_error_is_found(monkeypatch) -> None:
    def broken(data: bytes) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzz, "InferenceSession", broken)
    found = [None] * 3
    for number in range(3):
        try:
            fuzz.survives(number)
        except KeyError as error:
            found[number] = error
    assert any(found)
