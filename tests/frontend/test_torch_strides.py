"""Results lie in memory as eager PyTorch's do, also where its shape functions tell otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.frontend.tools import graphs

rows = torch.randn(2, 3, 6, 4)
LAYOUTS = {
    "row-major": rows,
    "channels-last": rows.to(memory_format=torch.channels_last),
    "permuted": torch.randn(4, 6, 3, 2).permute(3, 2, 1, 0),
}
FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)),
    "batch_norm that trains": lambda x: F.batch_norm(x, None, None, training=True),
    "what follows": lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)).relu() * 2,
    "mixed": lambda x: F.batch_norm(x, torch.zeros(3), torch.ones(3)) + x,
    "roll": lambda x: (x.roll(1, 2) + 1).exp(),
    "roll of two": lambda x: x.roll((1, 2), (1, 3)),
    "roll of all": lambda x: x.roll(5),
    "roll, then a view": lambda x: (x.roll(1, 0).permute(0, 2, 3, 1), x.roll(1, 1).sum(1)),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 3),
    "pointwise": lambda x: x * 2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_strides_are_eagers(name: str, layout: str) -> None:
    fn, x = FUNCTIONS[name], LAYOUTS[layout]
    expected = fn(x)
    found, _, left = graphs(fn, (x,))
    assert not left
    several = expected if isinstance(expected, tuple) else (expected,)
    for ours, theirs in zip(found, several, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert ours.stride() == theirs.stride()
