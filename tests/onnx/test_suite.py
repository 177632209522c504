"""A part of the onnx package's suite, spread evenly; `make conformance` runs all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ferrule.onnx_backend import FerruleBackend
from tests.conformance.onnx_worker import suite

STEPS = {"Node": 16, "Simple": 4, "PyTorchConverted": 12, "PyTorchOperator": 6}
"""One test in so many of each kind."""
OUT = re.compile("adagrad|adam|momentum|gradient|image_decoder|bernoulli|loop16|causal_fp16_expan")
"""Training, image files, random numbers that are compared, and what docs/onnx.md names."""


def some() -> Iterator[Any]:
    for kind, tests in suite(FerruleBackend).items():
        named = [name for name in sorted(tests) if not OUT.search(name)]
        for name in named[:: STEPS.get(kind, len(named))]:
            yield pytest.param(tests[name], id=f"{kind}-{name}")


@pytest.mark.parametrize("test", some())
def test_suite(test: Any) -> None:
    test(None)
