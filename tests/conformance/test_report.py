"""What a run says of operators, and what it takes over from an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.conformance.journal import Journal
from tests.conformance.report import Operator, counts, markdown, summary


def operators() -> list[Operator]:
    passed, fell, failed, nothing = (Operator(n, "f32") for n in ("add", "sort", "pow", "jit"))
    passed.add(0, None, [])
    passed.refused += 1
    fell.add(0, None, [("aten.sort.default", "it has | no meaning")])
    fell.add(1, None, [])
    failed.add(4, "AssertionError: 1 is not 2", [])
    failed.crash(7, "the process ended with code -11")
    failed.add(8, None, [])
    nothing.refused += 2
    return [passed, fell, failed, nothing]


def test_operators_are_counted_by_their_worst_sample() -> None:
    done = operators()
    assert [o.status for o in done] == ["passed", "in PyTorch", "failed", "no reference"]
    c = counts(done)
    assert list(c.operators.values()) == [4, 1, 1, 1, 1]
    assert list(c.samples.values()) == [6, 3, 1, 2, 3]
    assert c.agreeing == pytest.approx(2 / 3)
    assert "4 operators, 6 samples" in summary(done)


def test_the_document_names_each_failure_and_counts_samples() -> None:
    text = markdown(operators(), limit=0)
    assert "| f32 | samples | 6 | 3 | 1 | 2 | 3 | |" in text
    assert "- `pow`: 2 of 3" in text
    assert "sample 4: `AssertionError: 1 is not 2`" in text
    assert "sample 7: `crash: the process ended with code -11`" in text
    assert "| `sort` | 2 | 1 | `aten.sort.default`: it has \\| no meaning |" in text
    assert "`add` 1" in text
    assert "every sample" in text


def test_a_run_is_resumed_where_it_checks_the_same(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "logs" / "run.jsonl", "one")
    assert journal.read() == []
    for operator in operators():
        journal.add(operator)
    assert [o.status for o in journal.read()] == [o.status for o in operators()]
    assert Journal(journal.path, "another").read() == []
    assert journal.read() == []
