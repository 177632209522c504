"""Convolutions through their schedules: borders apart, guards of whole tiles, depthwise, copies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ferrule

Conv = nn.Conv2d
CASES = {
    "first layer": (Conv(3, 20, 7, 2, 3), (2, 3, 45, 61)),
    "row ends inside a tile": (Conv(3, 16, 3, 1, 1), (1, 3, 13, 13)),
    "taps beyond both borders": (Conv(2, 16, 5, 1, 4), (1, 2, 3, 4)),
    "channels outside the guards": (Conv(40, 24, 3, 1, 1), (1, 40, 14, 15)),
    "few columns": (Conv(32, 8, 3, 2, 1), (2, 32, 9, 7)),
    "dilated": (Conv(18, 16, 3, 1, 2, dilation=2), (1, 18, 12, 12)),
    "pointwise": (Conv(24, 40, 1), (1, 24, 9, 9)),
    "groups": (Conv(24, 32, 3, 1, 1, groups=4), (1, 24, 10, 10)),
    "depthwise": (Conv(40, 40, 3, 1, 1, groups=40), (2, 40, 11, 13)),
    "depthwise, strided": (Conv(37, 37, 3, 2, 1, groups=37), (1, 37, 12, 12)),
    "depthwise, two results each": (Conv(16, 32, 3, 1, 1, groups=16), (1, 16, 8, 8)),
    "depthwise in the middle": (
        nn.Sequential(Conv(8, 33, 1), nn.ReLU6(), Conv(33, 33, 5, 1, 2, groups=33), Conv(33, 9, 1)),
        (1, 8, 14, 7),
    ),
    "transposed": (nn.ConvTranspose2d(20, 12, 4, 2, 1), (1, 20, 8, 9)),
    "one dimension": (nn.Conv1d(17, 19, 5, 2, 3), (3, 17, 101)),
    "three dimensions": (nn.Conv3d(5, 16, 3, 1, 1), (1, 5, 6, 7, 8)),
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_convolutions_agree_with_eager(case, dtype):
    module, shape = CASES[case]
    module = module.to(dtype).eval().requires_grad_(False)
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    before = dict(ferrule.counters()["fallbacks"])
    got, expected = ferrule.compile(module, (x,))(x), module(x)
    assert ferrule.counters()["fallbacks"] == before
    tolerance = 2e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_weights_that_are_infinite_matter_inside_alone():
    conv = Conv(3, 16, 3, 1, 1).eval().requires_grad_(False)
    conv.weight[0, 0, 0, 0] = float("inf")
    x = torch.ones(1, 3, 9, 9)
    got = ferrule.compile(conv, (x,))(x)
    assert got[0, 0, 1:, 1:].isinf().all()
    assert not got[0, 1:].isinf().any()


class Two(nn.Module):
    """A convolution read in two orders."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(20, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.conv(x)
        return y, y.permute(0, 2, 3, 1).contiguous(), torch.cat([y, y.relu()], 1), y.mean((2, 3))


def test_results_in_several_orders():
    module, x = Two().eval().requires_grad_(False), torch.randn(1, 20, 10, 12)
    for got, expected in zip(ferrule.compile(module, (x,))(x), module(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
