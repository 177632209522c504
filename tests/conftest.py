"""Options. `pytest --update-golden` writes golden files from what the code gives now, to be read
before they are committed; `pytest --cpu haswell` runs as if on another CPU (tests/cpus.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from tests.cpus import CPUS, pretend

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from the present code"
    )
    parser.addoption("--cpu", choices=sorted(CPUS), help="run as if on this CPU")


def pytest_configure(config: pytest.Config) -> None:
    # Tests that call LLVM themselves come in any order.
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    cpu = config.getoption("--cpu")
    if cpu is not None:
        pretend(cpu)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """A function (file name, text) that asserts that the file of tests/golden holds the text."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if update:
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"{file} is missing: run pytest --update-golden"
        expected = file.read_text(encoding="utf-8")
        assert text == expected, f"{name} differs: if it should, run pytest --update-golden"

    return compare
