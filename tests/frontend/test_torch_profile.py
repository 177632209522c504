"""A profile of PyTorch models: what ran in PyTorch, and which calls are the model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ferrule
from ferrule.api import profile as profiles
from ferrule.report.data import CALL, COMPUTE, FRAMEWORK

X = torch.randn(16, 32)


@pytest.fixture(autouse=True)
def _no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "peaks", lambda: None)


class Model(torch.nn.Module):
    def __init__(self, bessel: bool = False) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(32, 64), torch.nn.Linear(64, 8)
        self.bessel = bessel

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.first(x))
        if self.bessel:
            x = x + torch.special.bessel_j0(x)
        return self.last(x).softmax(-1)


def profiled(model: Any, calls: int = 4) -> profiles.Profile:
    with torch.no_grad():
        model(X)
        with ferrule.profile(model) as p:
            for _ in range(calls):
                model(X)
    assert p.report.calls == calls
    assert sum(p.shares.values()) == pytest.approx(p.wall)
    assert min(p.shares.values()) >= 0  # nothing is counted twice
    assert all(k.calls == calls for k in p.kernels)
    return p


def test_kernels_are_in_modules(tmp_path: Any) -> None:
    p = profiled(ferrule.compile(torch.nn.Sequential(Model(), Model()).eval()[:1], (X,)))
    assert {k.module for k in p.kernels} >= {"0.last"}
    p.html(tmp_path / "page.html")
    assert "<h2>Modules</h2>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert p.counters.keys() | p.report.uncounted.keys() >= {"cycles", "instructions"}


@pytest.mark.parametrize("way", ["compile", "module", "function"])
def test_ways_to_compile(way: str) -> None:
    torch._dynamo.reset()
    own = Model().eval()
    if way == "compile":
        model = ferrule.compile(own, (X,))
    elif way == "module":
        model = torch.compile(own, backend="ferrule")
    else:
        model = torch.compile(lambda x: own(x), backend="ferrule")
    p = profiled(model)
    assert p.shares[FRAMEWORK] == 0
    assert p.shares[COMPUTE] > 0
    assert p.shares[CALL] > 0
    assert not p.report.framework
    assert sum("dot_general" in k.operators for k in p.kernels) == 2
    assert any("first" in place for k in p.kernels for place in k.places)


def test_what_runs_in_pytorch_is_a_share() -> None:
    p = profiled(ferrule.compile(Model(bessel=True).eval(), (X,)))
    assert p.shares[FRAMEWORK] > 0
    (left,) = [o for o in p.report.framework if "bessel_j0" in o.operator]
    assert left.place == "PyTorch"
    assert left.calls == 4
    assert sum(o.seconds for o in p.report.framework) == pytest.approx(p.shares[FRAMEWORK])
    assert "in PyTorch: aten.special_bessel_j0" in str(p)
    assert any(s.kind == FRAMEWORK for s in p.report.timeline)


def test_a_body_that_pytorch_calls_is_not_pytorchs_time() -> None:
    class Loop(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            def body(i: Any, x: Any) -> Any:
                return i + 1, torch.special.bessel_j0(torch.tanh(x @ x))  # which ferrule lacks

            loop = torch._higher_order_ops.while_loop
            return loop(lambda i, x: i < 3, body, (torch.tensor(0), x))[1]

    x = torch.ones(64, 64) / 64
    model = ferrule.compile(Loop(), (x,))
    with torch.no_grad(), ferrule.profile(model) as p:
        model(x)
    assert any("while_loop" in o.operator for o in p.report.framework)
    assert sum(p.shares.values()) == pytest.approx(p.wall)
    assert min(p.shares.values()) >= 0  # nothing is counted twice
    assert sum(k.calls for k in p.kernels if "dot_general" in k.operators) == 3
