"""`ferrule profile`: the text, the page and the trace of an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from ferrule.api import profile as profiles
from ferrule.base import config
from ferrule.cli.main import main
from tests.cli.models import product


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(profiles, "peaks", lambda: None)
    with config.override(cache_dir=str(tmp_path / "cache")):
        yield


def test_a_report_a_page_and_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = product(tmp_path / "m.onnx")
    page, trace = tmp_path / "r.html", tmp_path / "t.json"
    arguments = ["--report", str(page), "--trace", str(trace), "--threads", "1", "--budget", "0.01"]
    assert main(["profile", file, *arguments]) == 0
    printed = capsys.readouterr().out
    assert "model: " in printed
    assert "1 thread\n" in printed
    assert "compute-intensive" in printed
    assert "dot_general" in printed
    assert "<title>model</title>" in page.read_text(encoding="utf-8")
    names = {e["name"] for e in json.loads(trace.read_text())["traceEvents"]}
    assert "model" in names
    assert len(names) > 4


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = product(tmp_path / "m.onnx")
    where = str(tmp_path / "no" / "r.html")
    assert main(["profile", file, "--budget", "0.01", "--report", where]) == 1
    assert "r.html" in capsys.readouterr().err
