"""What eager PyTorch refuses is refused: values that an operator does not take, and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ferrule.base.errors import RunError, RunIndexError
from tests.frontend.tools import compiled, graphs

Function = Callable[..., Any]
ints, zeros = torch.tensor([7, -7, 9]), torch.tensor([0, 2, -2])
small, byte = torch.tensor([-128, 0, 127], dtype=torch.int8), torch.tensor([5], dtype=torch.uint8)
half, p = torch.tensor([1.0, 2.0]).half(), torch.tensor([[0.0, 0.3], [0.6, 1.0]])
x43, rows, low, high = torch.zeros(4, 3), torch.ones(2, 3), torch.tensor([-1, 1]), torch.tensor([4])

DIVISIONS: dict[str, Function] = {
    "floor": lambda x, y: x // y,
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "of a number": lambda x, y: 7 // y,
    "by one element": lambda x, y: x % y[0],
}
REFUSED: dict[str, tuple[Function, tuple[torch.Tensor, ...]]] = {
    "by 0": (lambda x: x // 0, (ints,)),
    "by 256 as a byte": (lambda x: x % 256, (small,)),
    "negative power": (lambda x: x**-2, (ints,)),
    "power beyond the dtype": (lambda x: x**300, (small,)),
    "bool alpha": (lambda x: torch.add(x, x, alpha=True), (ints,)),
    "index_add": (lambda x, i, s: x.index_add(0, i, s), (x43, low, rows)),
    "index_add beyond": (lambda x, i, s: x.index_add(0, i, s), (x43, high, rows[:1])),
    "index_copy": (lambda x, i, s: x.index_copy(0, i, s), (x43, low, rows)),
    "one_hot below": (lambda i: F.one_hot(i, 4), (low,)),
    "one_hot above": (lambda i: F.one_hot(i, 4), (high,)),
    "select_scatter": (lambda x, s: torch.select_scatter(x, s[0], 0, 4), (x43, rows)),
    "take of one": (lambda x, i: torch.take(x[:1, 0], i), (x43, high)),
    "rows of a broadcast": (lambda x, i: x[:1].expand(4, 3)[i], (x43, high)),
    "rows of a literal": (lambda i: torch.zeros(4)[i], (high,)),
    "masked_scatter of too few": (lambda x, s: x.masked_scatter(x == 0, s[:1, :1]), (x43, rows)),
    "target above 1": (lambda x: F.binary_cross_entropy(x, x + 0.5), (p,)),
    "input below 0": (lambda x: F.binary_cross_entropy(x - 0.5, x), (p,)),
    "input is NaN": (lambda x: F.binary_cross_entropy(x / 0, x), (p,)),
    "beta": (lambda x: F.smooth_l1_loss(x, x * 2, beta=-1.0), (p,)),
    "delta": (lambda x: F.huber_loss(x, x * 2, delta=0.0), (p,)),
    "celu": (lambda x: F.celu(x, 0.0), (p,)),
    "mvlgamma": (lambda x: torch.mvlgamma(x + 2, 0), (p,)),
}
SCALARS: dict[str, Function] = {
    "clamp": lambda x, k: x.clamp(max=k),
    "where": lambda x, k: torch.where(x > 0, x, k),
    "masked_fill": lambda x, k: x.masked_fill(x > 0, k),
    "full_like": torch.full_like,
    "new_full": lambda x, k: x.new_full((2,), k),
    "fill_": lambda x, k: x.clone().fill_(k),
    "alpha": lambda x, k: torch.sub(x, x, alpha=k),
    "index_fill": lambda x, k: x.index_fill(0, torch.tensor([0]), k),
    "scatter": lambda x, k: x.scatter(0, torch.tensor([0]), k),
    "addcmul": lambda x, k: torch.addcmul(x, x, x, value=k),
    "pad": lambda x, k: F.pad(x, (1, 1), value=k),
    "threshold": lambda x, k: F.threshold(x, 1, k),
    "hardtanh": lambda x, k: F.hardtanh(x, 0, k),
    "plus": lambda x, k: x + k,
    "compare": lambda x, k: x > k,
}
NUMBERS = [(small, 300), (small, -129), (byte, 256), (byte, -1), (byte, -256), (half, 70000.0)]


def agree(fn: Function, inputs: tuple[torch.Tensor, ...]) -> None:
    """`fn` gives what eager gives, or both raise."""
    try:
        expected = fn(*inputs)
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError):
        with pytest.raises((RuntimeError, IndexError, ValueError, ZeroDivisionError)):
            graphs(fn, inputs)
        return
    (out,), _, _ = graphs(fn, inputs)
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out.numpy(), expected.numpy())


@pytest.mark.parametrize("name", REFUSED)
def test_what_eager_refuses_is_refused(name: str) -> None:
    fn, inputs = REFUSED[name]
    with pytest.raises((RuntimeError, IndexError, ValueError, ZeroDivisionError)):
        fn(*inputs)
    agree(fn, inputs)


@pytest.mark.parametrize("name", DIVISIONS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.float32])
def test_integers_are_not_divided_by_zero(name: str, dtype: torch.dtype) -> None:
    agree(DIVISIONS[name], (ints.to(dtype), zeros.to(dtype)))
    agree(DIVISIONS[name], (ints.to(dtype), zeros.to(dtype) + 1))


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize(("x", "k"), NUMBERS)
def test_numbers_fit_or_are_refused(name: str, x: torch.Tensor, k: float) -> None:
    agree(lambda x: SCALARS[name](x, k), (x,))


def test_what_is_allowed_stays_allowed() -> None:
    agree(lambda x, i: x.index_fill(0, i, 2.0), (x43, low))
    agree(lambda x, i, s: x.index_copy(1, i, s.t()), (torch.zeros(3, 4), low.abs(), rows))
    agree(lambda x: x ** torch.tensor([-1, 0, 2]), (ints,))
    agree(lambda x: x.masked_fill(x > 1, float("-inf")), (half,))
    agree(lambda x: F.celu(x, 0.5), (p,))
    for reduction in ("mean", "sum", "none"):
        loss = F.binary_cross_entropy(p, p.t(), rows[:, :2], reduction=reduction)

        def fn(x: torch.Tensor, w: torch.Tensor, r: str = reduction) -> torch.Tensor:
            return F.binary_cross_entropy(x, x.t(), w, reduction=r)

        (out,), _, left = graphs(fn, (p, rows[:, :2]))
        torch.testing.assert_close(out, loss)
        assert not left


def test_compiled_programs_say_what_was_wrong() -> None:
    divide = compiled(lambda x, y: (x // y + 1) * 2)
    np.testing.assert_array_equal(divide(ints, zeros + 3), (ints // (zeros + 3) + 1) * 2)
    with pytest.raises(RunError, match="ZeroDivisionError"):
        divide(ints, zeros)
    np.testing.assert_array_equal(divide(ints, zeros + 3), (ints // (zeros + 3) + 1) * 2)
    with pytest.raises(RunError, match="between 0 and 1"):
        compiled(lambda x: F.binary_cross_entropy(x, x))(p + 1)
    with pytest.raises(RunIndexError):
        compiled(lambda x, i: x[:1].expand(4, 3)[i] + 1)(x43, high)


def test_a_known_divisor_is_not_checked() -> None:
    _, (graph,), left = graphs(lambda x: x // 3 + x % 2 + torch.fmod(x, -5), (ints,))
    assert not left
    assert "ensure" not in {n.op for n in graph.nodes}
