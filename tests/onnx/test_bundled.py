"""A part of the onnx package's suite as C libraries; `python -m tests.onnx.bundled` runs all."""

from __future__ import annotations

import sys

import pytest

from tests.onnx.bundled import cases, outcome


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are ELF")
def test_models_as_c_libraries_give_the_same_bits() -> None:
    found = {c.name: outcome(c) for c in cases()[::50]}
    assert [name for name, how in found.items() if how == "different"] == []
    assert list(found.values()).count("same") > len(found) // 3
