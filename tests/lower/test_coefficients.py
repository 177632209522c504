"""The stored coefficients are those that tools/fit_polynomials.py derives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ferrule.lower.math import coefficients

pytest.importorskip("mpmath")
TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import fit_polynomials

    yield fit_polynomials
    for name in ("fit_polynomials", "remez"):
        sys.modules.pop(name, None)


def test_every_fit_is_stored(tool):
    stored = {n for n in vars(coefficients) if n.isupper()}
    suffixes = {e.name: ("_TOP", "_BOTTOM") if e.below else ("",) for e in tool.TABLE}
    assert stored == {name + s for name, suffix in suffixes.items() for s in suffix}


@pytest.mark.parametrize("name", ["EXP", "EXP2", "LOG", "SIN", "ASIN", "ERF"])
def test_polynomials_are_derived_again(tool, name):
    entry = next(e for e in tool.TABLE if e.name == name)
    (values,), error = tool.coefficients(entry)
    stored = getattr(coefficients, name)
    assert [entry.dtype(v) for v in values] == [entry.dtype(v) for v in stored]
    assert error < 2.0**-23


def test_a_quotient_is_derived(tool):
    """tanh(x)/x in x^2: the exchange needs the eigenvalue problem, and levels the error."""
    from mpmath import mp

    found = tool.fit(
        tool.near_zero(tool.of_square(lambda x: mp.tanh(x) / x), lambda s: 1 - s / 3),
        (0, 9), 2, 2, warp=2,
    )  # fmt: skip
    assert abs(found.numerator[0] / found.denominator[0] - 1) <= found.error < 1e-4
