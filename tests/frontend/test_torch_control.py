"""cond, while_loop, scan and map of PyTorch as whiles, cases and loops of one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.experimental.control_flow import map as map_rows
from torch._higher_order_ops import scan, while_loop

import ferrule
from ferrule.runtime.counters import reset_counters
from tests.frontend.tools import compiled, fallbacks

W = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) / 2
Tensors = tuple[torch.Tensor, ...]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(fn: Callable[..., Any], *calls: Tensors, dynamic: bool = False) -> None:
    """Compare with eager PyTorch, to which nothing is left."""
    torch._dynamo.reset()
    reset_counters()
    run = compiled(fn, dynamic=dynamic, fullgraph=True)
    with torch.no_grad():
        for args in calls:
            mine, theirs = ([x] if isinstance(x, torch.Tensor) else list(x)
                            for x in (run(*args), fn(*args)))  # fmt: skip
            for a, e in zip(mine, theirs, strict=True):
                assert (a.dtype, a.stride()) == (e.dtype, e.stride())
                torch.testing.assert_close(a, e)
    assert fallbacks() == set()


def counted(n: torch.Tensor, x: torch.Tensor) -> Any:
    """States of three dtypes, a weight from outside; stops by count, or when a sum is large."""
    flags = torch.tensor([True, False])

    def goes(i: Any, t: Any, f: Any) -> Any:
        return (i < n) & (t.abs().sum() < 1000)

    def step(i: Any, t: Any, f: Any) -> Any:
        return i + 1, (t @ W) * 2 + i, ~f

    return while_loop(goes, step, (torch.zeros((), dtype=torch.int64), x, flags))


@pytest.mark.parametrize("dynamic", [False, True])
def test_while_loops_stop_by_count_and_by_data(dynamic: bool) -> None:
    sizes = (3, 3, 3, 5, 7) if dynamic else (3,) * 5
    calls = [
        (torch.tensor(n), numbers(k, 4)) for n, k in zip((0, 1, 2, 5, 500), sizes, strict=True)
    ]
    check(counted, *calls, dynamic=dynamic)


def chosen(x: torch.Tensor, y: torch.Tensor) -> Any:
    """Two results, one a bool; weights from outside; memory that is no row-major."""
    a, b = torch.cond(
        x.sum() > 0,
        lambda p, q: ((p @ W).softmax(-1), p > q),
        lambda p, q: ((q - p).cumsum(0), (p + q) > 1),
        (x, y),
    )
    return a.mT * 2, b.logical_not(), a.sum()


@pytest.mark.parametrize("dynamic", [False, True])
def test_branches_give_several_results(dynamic: bool) -> None:
    calls = [(s * numbers(k, 4).abs(), numbers(k, 4, seed=2)) for k in (3, 5 if dynamic else 3)
             for s in (1, -1)]  # fmt: skip
    turned = [(x.mT.contiguous().mT, y) for x, y in calls]
    check(chosen, *calls, *turned, dynamic=dynamic)


def recurrent(h: torch.Tensor, x: torch.Tensor) -> Any:
    def step(carry: Any, row: Any) -> Any:
        n, h = carry
        h = (h @ W + row).tanh()
        return (n + 1, h), (h.sum(-1) > 0, h * n)

    return scan(step, (torch.zeros((), dtype=torch.int32), h), x)


def test_scans_have_several_states_and_rows() -> None:
    def flat(h: torch.Tensor, x: torch.Tensor) -> Any:
        (n, last), (flags, rows) = recurrent(h, x)
        return n, last, flags, rows

    for steps in (1, 6):
        check(flat, (numbers(2, 4), numbers(steps, 2, 4, seed=1)))


def test_a_scan_goes_backwards_and_along_another_dim() -> None:
    def turned(x: torch.Tensor) -> Any:
        return scan(lambda c, t: (c * 0.5 + t, c.exp()), x[:, 0] * 0, x, dim=1, reverse=True)

    check(turned, (numbers(3, 5),))


def test_maps() -> None:
    def rows(x: torch.Tensor, y: torch.Tensor) -> Any:
        return map_rows(lambda r, o: (r @ W).relu() + o, x, y)

    check(rows, (numbers(5, 2, 4), numbers(4)))


def test_symbolic_sizes_decide_a_branch() -> None:
    def sized(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.shape[0] > 5, lambda t: t * t.shape[0], lambda t: t.exp() + 1, (x,))

    check(sized, *((numbers(k, 4),) for k in (3, 7, 5, 6)), dynamic=True)


def nested(x: torch.Tensor) -> torch.Tensor:
    """A loop in a branch in a loop."""

    def halved(t: Any) -> Any:
        (out,) = while_loop(lambda u: u.max() > 1, lambda u: (u * 0.5,), (t,))
        return out + 1

    def step(i: Any, t: Any) -> Any:
        return i + 1, torch.cond(t.max() > 10, halved, lambda u: u * 3 + W[0], (t,))

    start = torch.zeros((), dtype=torch.int64)
    return while_loop(lambda i, t: (i < 20) & (t.sum() < 1000), step, (start, x))[1]


def test_a_loop_in_a_branch_in_a_loop() -> None:
    check(nested, (numbers(3, 4).abs(),), (numbers(3, 4).abs() * 400,), (-numbers(3, 4).abs(),))


def test_an_exported_program_is_one_program() -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(W)

        def forward(self, n: torch.Tensor, x: torch.Tensor) -> Any:
            i = torch.zeros((), dtype=torch.int64)
            _, y = while_loop(
                lambda i, t: i < n, lambda i, t: (i + 1, (t @ self.weight).tanh() + t), (i, x)
            )
            return torch.cond(y.sum() > 0, lambda t: t.exp(), lambda t: t @ self.weight, (y,))

    module, batch = Module().eval(), torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        module, (torch.tensor(3), numbers(3, 4)), dynamic_shapes=({}, {0: batch})
    )
    model = ferrule.compile(program)
    assert "in PyTorch" not in model.explain()
    for n, k in ((0, 3), (1, 1), (7, 5)):
        for s in (1, -1):
            x = s * numbers(k, 4).abs()
            torch.testing.assert_close(model(torch.tensor(n), x), module(torch.tensor(n), x))
