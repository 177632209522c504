"""What XLA makes of graphs as StableHLO is what they mean: an oracle that shares no code with ours.

Needs jaxlib: python -m venv, pip install jax.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("jaxlib")
pytest.importorskip("jax")

from tests.codegen.stablehlo.programs import CASES, check, golden, judged
from tests.codegen.stablehlo.xla import run
from tests.fuzz.make import make
from tests.long import LONG


@pytest.mark.parametrize("p", [pytest.param(p, id=name) for name, p in golden()])
def test_golden_graphs_on_xla(p: Any) -> None:
    judged(p, run)


@pytest.mark.parametrize("seed", range(30 * LONG))
def test_random_graphs_on_xla(seed: int) -> None:
    judged(make(seed), run)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cases_on_xla(name: str) -> None:
    build, arrays = CASES[name]
    check(build, *arrays, run=run)
