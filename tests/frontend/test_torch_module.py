"""ferrule.compile(module, inputs): the callable that it gives."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim

import ferrule
from tests.frontend.tools import fallbacks


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))


class Fn(torch.nn.Module):
    """A function as a module."""

    def __init__(self, fn: Any):
        super().__init__()
        self.fn = fn

    def forward(self, *args: Any) -> Any:
        return self.fn(*args)


def test_a_module() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    torch.testing.assert_close(run(x), model(x))
    assert run.kernels > 0
    assert run.compile_seconds > 0
    assert run.explain()
    assert not fallbacks()


def test_an_exported_program() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(torch.export.export(model, (x,)), (x,))
    torch.testing.assert_close(run(x), model(x))


def test_a_call_in_grad_mode_gives_plain_tensors() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    with torch.enable_grad():
        assert not run(x.requires_grad_()).requires_grad


def test_structures_of_arguments_and_results() -> None:
    def f(pair: Any, table: Any) -> Any:
        return {"sum": pair[0] + pair[1], "twice": (table["a"] * 2, None, table["a"])}

    a, b = torch.randn(3), torch.randn(3)
    run = ferrule.compile(Fn(f), ((a, b), {"a": a}))
    out = run((a, b), {"a": a})
    torch.testing.assert_close(out["sum"], a + b)
    torch.testing.assert_close(out["twice"][0], a * 2)
    assert out["twice"][1] is None
    assert out["twice"][2] is a
    with pytest.raises(ferrule.InputError, match="structure"):
        run((a, b))


def test_sizes_that_vary_within_their_range() -> None:
    model, n = Mlp(), Dim("n", min=1, max=64)
    run = ferrule.compile(model, (torch.randn(3, 8),), dynamic_shapes=({0: n},))
    for size in (1, 2, 17, 64):
        x = torch.randn(size, 8)
        torch.testing.assert_close(run(x), model(x))
    with pytest.raises(ferrule.InputError):
        run(torch.randn(65, 8))


def test_equal_sizes_have_to_stay_equal() -> None:
    n = Dim("n")
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    run = ferrule.compile(Fn(torch.add), (x, y), dynamic_shapes=(({0: n}, {0: n}),))
    torch.testing.assert_close(run(x[:2], y[:2]), x[:2] + y[:2])
    with pytest.raises(ferrule.InputError):
        run(x, y[:2])


@pytest.mark.parametrize(
    "wrong",
    [
        torch.randn(3, 8).double(),
        torch.randn(3, 9),
        torch.randn(8),
        torch.randn(4, 8),
        [[1.0] * 8] * 3,
        torch.empty(3, 8, device="meta"),
    ],
    ids=["dtype", "size", "rank", "static size", "a list", "device"],
)
def test_wrong_arguments_are_refused(wrong: Any) -> None:
    run = ferrule.compile(Mlp(), (torch.randn(3, 8),))
    with pytest.raises(ferrule.InputError):
        run(wrong)


def test_numbers_are_constants() -> None:
    x = torch.randn(3)
    run = ferrule.compile(Fn(lambda x, n: x * n), (x, 3))
    torch.testing.assert_close(run(x, 3), x * 3)
    with pytest.raises(ferrule.InputError):
        run(x, 4)


def test_state_that_is_written() -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add_(x)
            return self.seen * 2

    model, x = Counter(), torch.ones(2)
    run = ferrule.compile(model, (x,))
    for n in (1, 2, 3):
        torch.testing.assert_close(run(x), torch.full((2,), 2.0 * n))


def test_arguments_that_are_written() -> None:
    x, y = torch.ones(3), torch.randn(3)
    run = ferrule.compile(Fn(lambda x, y: x.add_(y) * 2), (x, y))
    out = run(x, y)
    torch.testing.assert_close(x, 1 + y)
    torch.testing.assert_close(out, 2 * (1 + y))


def test_parameters_are_the_modules_own() -> None:
    model, x = Mlp(), torch.randn(3, 8)
    run = ferrule.compile(model, (x,))
    run(x)
    model.up.weight.mul_(2)
    torch.testing.assert_close(run(x), model(x))
    model.down.bias.data.add_(1)
    torch.testing.assert_close(run(x), model(x))


def test_results_that_are_views_share_memory() -> None:
    x = torch.randn(3, 4)
    run = ferrule.compile(Fn(lambda x: (x.t(), x + 1)), (x,))
    turned, _ = run(x)
    assert turned.data_ptr() == x.data_ptr()
    assert turned.stride() == (1, 4)


def test_fallbacks_run_in_pytorch() -> None:
    x = torch.randn(4, 4) + 5 * torch.eye(4)
    f = Fn(lambda x: torch.linalg.cholesky_ex(x @ x.t())[0].exp().sum(0))
    run = ferrule.compile(f, (x,))
    torch.testing.assert_close(run(x), f(x))
    assert any("cholesky" in name for name in fallbacks())
    assert "aten.linalg_cholesky_ex.default" in run.explain()


def test_many_threads_at_once() -> None:
    run = ferrule.compile(Fn(lambda x: (x * 2).cumsum(0)), (torch.zeros(1 << 18),))
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(5):
            out = run(torch.full((1 << 18,), float(i)))
            if out[3].item() != 8.0 * i:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
