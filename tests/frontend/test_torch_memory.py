"""Operators that address memory: what lies around a view is what eager has there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ferrule.runtime.counters import reset_counters
from tests.frontend.tools import compiled, fallbacks

LARGE = torch.arange(48.0).reshape(4, 3, 4)
ONES = torch.ones(2, 2)


def _agrees(fn: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> set[str]:
    """Whether fn gives what eager does; the operators that ran in PyTorch."""
    torch._dynamo.reset()
    reset_counters()
    with torch.no_grad():
        assert torch.equal(compiled(fn)(x), fn(x))
    return fallbacks()


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: (x * 2)[:1].as_strided((48,), (1,)),
        lambda x: (x * 2)[1:, 1:].as_strided((2, 2), (3, 1), 0) + 1,
        lambda x: (x * 2)[2].T[1:].as_strided((2, 2), (3, 1)) + 1,
        lambda x: (x.permute(1, 2, 0) * 2)[1:].as_strided((5, 2), (3, 1), 2) + 1,
        lambda x: (x * 2).as_strided((2, 2), (3, 1), 1).as_strided((3,), (2,)) + 1,
    ],
)
def test_a_view_of_what_is_computed(fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert _agrees(fn, LARGE) == set()


@pytest.mark.parametrize("x", [LARGE[2:], LARGE[:, 1:], LARGE.mT[1:]])
@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x.as_strided((2, 2), (3, 1)) + 1,
        lambda x: x[1:].as_strided((2, 2), (3, 1), 0) * 2,
        lambda x: x.as_strided_scatter(ONES, (2, 2), (3, 1), 0) + 1,
    ],
)
def test_what_is_given_is_a_part(
    fn: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> None:
    assert any(name.startswith("aten.as_strided") for name in _agrees(fn, x))


def test_a_scatter_into_a_part_of_what_is_computed() -> None:
    fallen = _agrees(lambda x: (x * 2)[1:].as_strided_scatter(ONES, (2, 2), (3, 1), 14), LARGE)
    assert "aten.as_strided_scatter.default" in fallen
