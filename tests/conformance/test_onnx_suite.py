"""The runner of the ONNX suite: how outcomes are told apart, and what the report says."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from tests.conformance.onnx_suite import HEAD, Result, table, write
from tests.conformance.onnx_worker import backend_of, outcome


def raising(error: Exception) -> Callable[[Any], None]:
    """A test that raises."""

    def test(_: Any) -> None:
        raise error

    return test


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AssertionError("different"), "failed"),
        (ValueError("broken"), "failed"),
        (NotImplementedError("no such operator"), "not supported"),
        (unittest.SkipTest("not compatible"), "not supported"),
    ],
)
def test_outcomes(error: Exception, status: str) -> None:
    assert outcome(raising(error)) == (status, outcome(raising(error))[1])
    assert str(error) in outcome(raising(error))[1]
    assert outcome(lambda _: None) == ("passed", "")


def test_the_table_counts_by_backend_and_kind() -> None:
    found = [
        Result("ferrule", "Node", "a", "passed"),
        Result("ferrule", "Node", "b", "failed"),
        Result("ferrule", "Simple", "c", "passed"),
        Result("onnxruntime", "Node", "a", "not supported"),
    ]
    lines = table(found)
    assert "| ferrule, Node | 2 | 1 | 1 | 0 | 50.0 % |" in lines
    assert "| **ferrule, all** | 3 | 2 | 1 | 0 | 66.7 % |" in lines
    assert "| **onnxruntime, all** | 1 | 0 | 0 | 1 | 0.0 % |" in lines


def test_a_report_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "onnx.md"
    path.write_text(f"For users.\n\n{HEAD}\n\nold\n")
    write(path, f"{HEAD}\n\nnew\n")
    assert path.read_text() == f"For users.\n\n{HEAD}\n\nnew\n"


def test_our_backend_is_the_one_that_is_tested() -> None:
    assert backend_of("ferrule").supports_device("CPU")
