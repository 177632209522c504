"""Branches and loops are compiled; those that can't be run in PyTorch, with compiled bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._higher_order_ops import scan, while_loop

import ferrule
from ferrule.runtime.counters import counters, reset_counters
from tests.frontend.tools import compiled, fallbacks

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


def _grows(x: torch.Tensor) -> Any:
    other = torch.cond(x.sum() > 0, lambda t: t[:2].exp(), lambda t: t[:1].exp(), (x,))
    return other.sum() + x


def _number(x: torch.Tensor) -> Any:
    return while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.sin() + i), (0, x))[1]


@pytest.mark.parametrize(
    ("fn", "dynamic", "left"),
    [(_branch, True, False), (_loop, True, False), (_loop, False, False), (_scan, False, False),
     (_nested, False, False), (_left, False, True), (_grows, False, True),
     (_number, False, True)],
)  # fmt: skip
def test_bodies_are_compiled(fn: Callable[..., Any], dynamic: bool, left: bool) -> None:
    torch._dynamo.reset()
    reset_counters()
    run = compiled(fn, dynamic=dynamic)
    with torch.no_grad():
        for x in (X.abs(), -X.abs(), X.abs().mT.contiguous() if dynamic else X.abs() * 2):
            for a, e in zip(_list(run(x)), _list(fn(x)), strict=True):
                assert a.stride() == e.stride()
                torch.testing.assert_close(a, e)
    assert counters()["kernels"] >= 2 - left
    assert bool(fallbacks() & {"cond", "while_loop", "scan"}) == left


def _list(out: Any) -> list[torch.Tensor]:
    return [out] if isinstance(out, torch.Tensor) else list(out)


def test_the_bodies_of_an_exported_module_are_told() -> None:
    class Branch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return _branch(x)

    model = ferrule.compile(Branch(), (X,))
    assert "in PyTorch" not in model.explain()
    for x in (X.abs(), -X.abs()):
        torch.testing.assert_close(model(x), _branch(x))

    class Left(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return _left(x.sin())

    model = ferrule.compile(Left(), (X,))
    for x in (X.abs(), -X.abs()):
        torch.testing.assert_close(model(x), _left(x.sin()))
    assert model.kernels >= 2
    assert "in PyTorch: cond" in model.explain()
    assert "special_bessel_j0" in model.explain()
