"""What the samples of PyTorch's operator database brought to light, as machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.frontend.tools import compiled, fallbacks

ints = torch.tensor([[-3, -2, -1], [0, 1, 5]])
powers = torch.tensor([[3, -1, 62], [0, -5, 70]])
signed = torch.tensor([0.0, -0.0, -1.5, float("nan"), float("-inf")])
extremes = torch.tensor([1e-45, -1.17e-38, 3.4e38, 0.5, 1.0, -1023.5])

Case = tuple[str, Callable[..., Any], tuple[Any, ...]]
CASES: list[Case] = [
    ("integer powers", torch.pow, (ints, powers)),
    ("powers of an integer", torch.pow, (3, ints.abs())),
    ("linspace of integers", lambda: torch.linspace(-2.9, 7, 50, dtype=torch.int64), ()),
    (
        "linspace of integers between tensors",
        lambda a, b: torch.linspace(a, b, 50, dtype=torch.int64),
        (torch.tensor(4.3), torch.tensor(-3)),
    ),
    ("signs", lambda x, y: (torch.signbit(x), torch.signbit(y)), (signed, ints)),
    ("mantissas", torch.frexp, (torch.cat((signed, extremes)),)),
    ("mantissas of doubles", torch.frexp, (torch.cat((signed, extremes)).double(),)),
    ("means of integers", lambda x: F.avg_pool1d(x[None], 2, 1), (ints,)),
    (
        "leading axes of einsum",
        lambda x, y: (torch.einsum("...ij,...jk", x, y), torch.einsum("i...->...", x)),
        (torch.randn(4, 1, 3, 5), torch.randn(2, 5, 2)),
    ),
    (
        "embedding of limited norm",
        lambda i, w: (F.embedding(i, w, max_norm=1.0), w),
        (torch.tensor([[0, 2], [2, 2]]), torch.randn(5, 7)),
    ),
]


@pytest.mark.parametrize(("fn", "inputs"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_sample_agrees_with_eager_and_is_compiled_whole(
    fn: Callable[..., Any], inputs: tuple[Any, ...]
) -> None:
    def fresh() -> list[Any]:
        return [x.clone() if isinstance(x, torch.Tensor) else x for x in inputs]

    expected, actual = fn(*fresh()), compiled(fn)(*fresh())
    assert not fallbacks()
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-6, equal_nan=True)
