"""StableHLO's own tests give what they should, compiled; all of them: `python -m
tests.frontend.stablehlo.conformance`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frontend.stablehlo import programs
from tests.frontend.stablehlo.conformance import run

if programs.folder() is None:
    pytest.skip("StableHLO's tests are not there", allow_module_level=True)

FILES = [*programs.files("testdata"), *programs.files("interpret")]


def check(path: Path, compiled: bool) -> None:
    wrong = {k: v for k, v in run(path, compiled).items() if v is not None}
    assert not {k: v for k, v in wrong.items() if not v.startswith("UnsupportedError")}


@pytest.mark.parametrize("path", FILES[::16], ids=lambda p: p.stem)
def test_one_file_of_sixteen_compiled(path: Path) -> None:
    check(path, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES[::4], ids=lambda p: p.stem)
def test_one_file_of_four_compiled(path: Path) -> None:
    check(path, compiled=True)
