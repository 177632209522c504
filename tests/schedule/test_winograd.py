"""Winograd's algorithms: what they compute, where they apply, and that they can be refused."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import ferrule
from ferrule import ops
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.base.dtype import f32
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable
from ferrule.schedule.convolution.winograd import F2, F4
from tests.cpus import current

TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]


@pytest.mark.parametrize("algorithm", [F2, F4], ids=["F2", "F4"])
def test_the_matrices_are_an_algorithm(algorithm):
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal((algorithm.alpha,) * 2), rng.standard_normal((3, 3))
    b, f, a = (np.array(m) for m in (algorithm.inputs, algorithm.filters, algorithm.results))
    got = a @ ((f @ g @ f.T) * (b @ d @ b.T)) @ a.T
    want = [
        [(d[i : i + 3, j : j + 3] * g).sum() for j in range(algorithm.m)]
        for i in range(algorithm.m)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


class Block(nn.Module):
    """A convolution between pointwise operators, as in a residual network."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)
        self.norm.running_mean.uniform_(-1, 1)

    def forward(self, x):
        y = self.norm(self.conv(x))
        return torch.relu(y + x) if y.shape == x.shape else torch.relu(y)


Conv = nn.Conv2d
APPLIES = {
    "tiles of 4": (Conv(32, 32, 3, 1, 1), (1, 32, 24, 28)),
    "tiles of 2": (Conv(128, 128, 3, 1, 1), (1, 128, 14, 14)),
    "no padding": (Conv(32, 48, 3, bias=False), (1, 32, 18, 26)),
    "tiles and blocks over the end": (Conv(32, 32, 3, 1, 1), (2, 32, 27, 26)),
    "tiles over the end, no padding": (Conv(32, 48, 3, bias=False), (1, 32, 29, 33)),
    "many filters": (Conv(192, 192, 3, 1, 1), (1, 192, 17, 15)),
    "much padding": (Conv(32, 32, 3, 1, 3), (1, 32, 20, 24)),
    "a row's window beyond both borders": (Conv(64, 64, 3, 1, 2), (4, 64, 2, 38)),
}
DIRECT = {
    "stride": (Conv(32, 32, 3, 2, 1), (1, 32, 24, 24)),
    "dilation": (Conv(32, 32, 3, 1, 2, dilation=2), (1, 32, 24, 24)),
    "groups": (Conv(32, 32, 3, 1, 1, groups=2), (1, 32, 24, 24)),
    "few channels": (Conv(32, 36, 3, 1, 1), (1, 32, 24, 24)),
    "more weights than image": (Conv(256, 256, 3, 1, 1), (1, 256, 4, 4)),
}


def _compiled(conv, shape, **options):
    block = Block(conv).eval().requires_grad_(False)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return block, x, ferrule.compile(block, (x,), **options)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", APPLIES)
def test_where_it_applies_it_agrees_with_eager(case, target):
    with config.override(target=target):
        block, x, compiled = _compiled(*APPLIES[case])
        assert "Winograd" in compiled.explain()
        want = block(x)
        torch.testing.assert_close(compiled(x), want, rtol=0, atol=2e-5 * want.abs().max().item())


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "generic"])
@pytest.mark.parametrize("case", DIRECT)
def test_what_is_done_directly(case, target):
    with config.override(target=target):
        block, x, compiled = _compiled(*DIRECT[case])
        assert "Winograd" not in compiled.explain()
        torch.testing.assert_close(compiled(x), block(x), rtol=2e-5, atol=2e-5)


def test_strict_numerics_refuse_it():
    with config.override(numerics="strict"):
        block, x, compiled = _compiled(*APPLIES["tiles of 4"])
        assert "Winograd" not in compiled.explain()
        torch.testing.assert_close(compiled(x), block(x), rtol=1e-5, atol=1e-5)


def test_one_compilation_for_every_number_of_images():
    sizes = ({0: torch.export.Dim("images", min=1, max=64)},)
    block, _, compiled = _compiled(Conv(32, 32, 3, 1, 1), (3, 32, 16, 16), dynamic_shapes=sizes)
    assert "Winograd" in compiled.explain()
    for images in (1, 5):
        x = torch.randn(images, 32, 16, 16, generator=torch.Generator().manual_seed(images))
        torch.testing.assert_close(compiled(x), block(x), rtol=1e-4, atol=1e-4)


def test_filters_that_fit_cache_go_by_blocks(monkeypatch):
    machine = replace(current(), l2=1 << 20)
    monkeypatch.setattr(sys.modules["ferrule.pipeline.compile"], "named", lambda _: machine)
    few, many = (_compiled(Conv(c, c, 3, 1, 1), (1, c, 64, 28))[2] for c in (32, 128))
    assert "products of Winograd" not in few.explain()
    assert "products of Winograd" in many.explain()


def test_double_precision_is_summed_directly():
    block = Block(Conv(32, 32, 3, 1, 1)).double().eval().requires_grad_(False)
    x = torch.randn(1, 32, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ferrule.compile(block, (x,))(x), block(x), rtol=1e-12, atol=1e-12)


def test_exact_sums_are_not_rounded():
    """Integers in floats, as quantised models have them: Winograd's algorithms would round."""
    b = GraphBuilder("exact")
    x = b.input(tensor((1, 32, 24, 28), f32))
    w = b.param(tensor((32, 32, 3, 3), f32))
    graph = b.build([ops.conv(b, x, w, padding=1, exact=True)])
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (1, 32, 24, 28)).astype(np.float32)
    weights = rng.integers(-128, 128, (32, 32, 3, 3)).astype(np.float32)
    made = compile_graph(graph)
    assert "Winograd" not in made.explain()
    made.executable.bind([(weights.ctypes.data, weights)])
    (found,) = NumpyCallable(made.executable)(given)
    wanted = torch.conv2d(torch.tensor(given).double(), torch.tensor(weights).double(), padding=1)
    np.testing.assert_array_equal(found, wanted.numpy())
