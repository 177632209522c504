"""Damaged artifacts never run. The long run is `python -m tests.api.mutate`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.api import mutate

pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="libraries are ELF"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mutate")
    mutate.make(made)
    return made


def test_damage_is_refused_and_ends_no_process(folder: Path) -> None:
    found = dict(mutate.outcomes(folder, 0, 300))
    assert len(found) == 300
    assert [b for b in found.values() if b.split()[1] not in ("refused", "taken")] == []
    for subject in mutate.SUBJECTS:
        if subject != "signed" or (folder / "signed").exists():
            assert f"{subject} refused" in found.values()


def test_a_mutation_is_another_file() -> None:
    data = bytes(range(256)) * 3
    for k in range(300):
        assert mutate.mutated(random.Random(k), data) != data


def test_what_must_not_be_is_found(folder: Path, tmp_path: Path) -> None:
    """Another result, code that nobody built, and a process that ends."""
    for file in folder.iterdir():
        if file.name in ("artifact", "packed"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    expected = np.load(folder / "expected.npy")
    np.save(tmp_path / "expected.npy", expected + 1)
    found = dict(mutate.outcomes(tmp_path, 0, 40)).values()
    assert any("failed: Failure: another result" in b for b in found)
    (tmp_path / "expected.npy").unlink()
    found = list(dict(mutate.outcomes(tmp_path, 0, 2)).values())
    assert all(b.startswith("failed: its process ended") for b in found)


def test_a_library_that_was_changed_is_not_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate.loading, "Library", mutate.loading.Library)
    cases = mutate.Cases(folder, 0)
    with pytest.raises(mutate.Failure, match="is opened"):
        cases._library(b"\x7fELF", "x")
