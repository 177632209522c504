"""StableHLO's own tests are read, or refused for what is not supported."""

from __future__ import annotations

import re

import pytest

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.text import read_texts
from tests.frontend.stablehlo import programs

REASON = re.compile(r"quantised types|the element type (i4|ui4|i2|ui2|f4\w+|f6\w+|f8\w+) ")

if programs.folder() is None:
    pytest.skip("StableHLO's tests are not there", allow_module_level=True)


def refusal(text: str, name: str) -> str:
    """Why a text is not read, or nothing."""
    try:
        read_texts(text, name)
    except UnsupportedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("kind", "least"), [("testdata", 0.95), ("interpret", 0.85)])
def test_files_are_read(kind: str, least: float) -> None:
    files = programs.files(kind)
    reasons = {f.name: refusal(f.read_text(encoding="utf-8"), f.name) for f in files}
    refused = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in refused.items():
        assert reason.startswith(f"{name}:")
        assert REASON.search(reason), reason
    assert len(refused) <= (1 - least) * len(files), refused


def test_programs_of_files_one_by_one() -> None:
    refused = [reason for text in programs.texts() if (reason := refusal(text, "x"))]
    assert all(REASON.search(reason) for reason in refused), refused
    assert len(refused) <= 0.1 * len(programs.texts())
