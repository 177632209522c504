"""The zoo itself: tiny architectures are right, and what is wrong, dead or late is found out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tools.zoo.case import DEAD, LATE, NOTHING, RIGHT, WRONG, Call, Case, Program, Result  # noqa: E402
from tools.zoo.check import check  # noqa: E402
from tools.zoo.pool import run_all  # noqa: E402
from tools.zoo.report import markdown, summary  # noqa: E402
from tools.zoo.table import ARCHITECTURES  # noqa: E402
from tools.zoo.tiny import tiny  # noqa: E402

X = torch.linspace(-1.0, 1.0, 12).reshape(3, 4)


@pytest.mark.parametrize("name", ["opt", "xlnet", "beit"])
def test_architectures_are_right(name: str) -> None:
    (case,) = (c for c in ARCHITECTURES if c.name == name)
    result = check(case)
    assert (result.status, result.error) == (RIGHT, "")
    assert result.fallbacks == {}
    assert result.exported == 1
    assert result.kernels > 0


def test_names_of_architectures_differ() -> None:
    assert len({c.name for c in ARCHITECTURES}) == len(ARCHITECTURES) >= 100


def test_a_configuration_is_tiny_in_all_parts() -> None:
    config = tiny("clip", **{"text_config.num_hidden_layers": 1})
    assert (config.text_config.hidden_size, config.vision_config.image_size) == (32, 32)
    assert (config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers) == (1, 2)


def _one(program: Program) -> Case:
    return Case("one", "module", lambda: iter([program]))


@pytest.mark.parametrize(
    "other",
    [lambda x: x + 1e-3, lambda x: x.double(), lambda x: x[:2], lambda x: x / 0, lambda x: (x, x)],
)
def test_what_differs_is_wrong(other: object) -> None:
    result = check(_one(Program(lambda x: x, (Call((X,)),), ways={"other": lambda: other})))
    assert result.status == WRONG
    assert "other, call 0" in result.error


def test_what_the_framework_refuses_is_no_reference() -> None:
    def refuse(x: object) -> object:
        raise ValueError("not today")

    result = check(_one(Program(refuse, (Call((X,)),))))
    assert result.status == NOTHING
    assert "not today" in result.error


def test_what_ran_in_the_framework_is_noted() -> None:
    result = check(_one(Program(lambda x: torch.special.bessel_j0(x) + 1, (Call((X,)),))))
    assert result.status == RIGHT
    assert list(result.fallbacks) == ["aten.special_bessel_j0.default"]


def _fate(case: Case) -> Result:
    if case.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.name == "hangs":
        time.sleep(60)
    return Result(case.name, case.group, RIGHT)


def _nothing() -> Iterator[Program]:
    return iter(())


def test_a_process_that_dies_or_hangs_costs_one_case() -> None:
    cases = [Case(n, "module", _nothing) for n in ("dies", "hangs", "lives")]
    done = {r.name: r for r in run_all(cases, _fate, jobs=2, limit=3.0)}
    assert {n: r.status for n, r in done.items()} == {"dies": DEAD, "hangs": LATE, "lives": RIGHT}
    assert "code -9" in done["dies"].error


def test_report() -> None:
    right = Result("a", "module", RIGHT, fallbacks={"aten.sort.default": "no | meaning"})
    done = [right, replace(right, name="b", status=WRONG, error="off by 1")]
    assert summary(done) == "module: 2 cases; right 1, wrong 1; 0 without a fallback"
    text = markdown(done, of=3)
    assert "Only 2 of 3 cases were run." in text
    assert "cases were run" not in markdown(done, of=2)
    assert "- `b` (module), wrong: `off by 1`" in text
    assert "| `aten.sort.default` | no \\| meaning | a, b |" in text
