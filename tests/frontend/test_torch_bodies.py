"""Branches and loops run in PyTorch, and what they call is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._higher_order_ops import scan, while_loop

import ferrule
from ferrule.runtime.counters import counters, reset_counters
from tests.frontend.tools import compiled

X = torch.randn(3, 4)


def _branch(x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda t: t.sin() * 2, lambda t: (t.cos() * t).softmax(-1), (x,))


def _loop(x: torch.Tensor) -> Any:
    start = (torch.zeros((), dtype=torch.int64), x)
    return while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.softmax(-1) + i), start)


def _scan(x: torch.Tensor) -> Any:
    return scan(lambda carry, t: (carry * 0.5 + t, (carry + t).tanh()), x[0] * 0, x)


def _nested(x: torch.Tensor) -> Any:
    def inner(t: torch.Tensor) -> Any:
        return torch.cond(t.min() > -9, lambda u: u.exp(), lambda u: u - 1, (t,))

    return torch.cond(x.sum() > 0, inner, lambda t: inner(t) + 1, (x,))


def _left(x: torch.Tensor) -> Any:
    j0 = torch.special.bessel_j0
    return torch.cond(x.sum() > 0, lambda t: j0(t) + 1, lambda t: t.flip(0).clone(), (x,))


@pytest.mark.parametrize(
    ("fn", "dynamic"),
    [(_branch, True), (_loop, True), (_loop, False), (_scan, False), (_nested, False),
     (_left, False)],
)  # fmt: skip
def test_bodies_are_compiled(fn: Callable[..., Any], dynamic: bool) -> None:
    torch._dynamo.reset()
    reset_counters()
    run = compiled(fn, dynamic=dynamic)
    with torch.no_grad():
        for x in (X.abs(), -X.abs(), X.abs().mT.contiguous() if dynamic else X.abs() * 2):
            for a, e in zip(_list(run(x)), _list(fn(x)), strict=True):
                assert a.stride() == e.stride()
                torch.testing.assert_close(a, e)
    assert counters()["kernels"] >= 2


def _list(out: Any) -> list[torch.Tensor]:
    return [out] if isinstance(out, torch.Tensor) else list(out)


def test_the_bodies_of_an_exported_module_are_told() -> None:
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return _branch(x)

    model = ferrule.compile(Branch(), (X,))
    for x in (X.abs(), -X.abs()):
        torch.testing.assert_close(model(x), _branch(x))
    assert model.kernels >= 3
    assert "in PyTorch: cond" in model.explain()
    assert "sin(" in model.explain()
