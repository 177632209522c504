"""StableHLO out of what ferrule.compile and ferrule.jit give: our own reader gives the values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.api.stablehlo import stablehlo
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.base.safetensors import tensors_of
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text
from ferrule.ir.interp import run_graph


def run(text: str, *arrays: Any) -> list[Any]:
    """What a text means to our own reader."""
    found = convert(read_text(text))
    return run_graph(found.graph, [*map(np.asarray, arrays), *found.params])


def scaled(x: Any, k: Any) -> Any:
    return {"y": np.sort(x @ WEIGHTS, axis=-1) * k, "n": 7}


WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)
X = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)


def test_a_function_of_arrays() -> None:
    f = ferrule.jit(scaled, dynamic={"x": [0]})
    with pytest.raises(InputError, match=r"scaled must have one program, .* it has none"):
        f.stablehlo()
    y = f(X, np.float32(2))["y"]
    with pytest.raises(InputError, match="the sizes n4 are symbolic"):
        f.stablehlo()
    text = f.stablehlo({"n4": 4})
    assert "@main(%x0: tensor<4x2xf32>, %x1: tensor<f32>) -> (tensor<4x3xf32>)" in text
    np.testing.assert_allclose(run(text, X, np.float32(2))[0], y, rtol=1e-6)
    f(X.astype(np.float64), np.float32(2))
    with pytest.raises(InputError, match=r"it has \(f32\[n4, 2\], f32\[\]\); \(f64\[n4, 2\]"):
        f.stablehlo({"n4": 4})


def test_weights_in_a_file_are_arguments(tmp_path: Path) -> None:
    large = np.arange(100, dtype=np.float32).reshape(2, 50)
    f = ferrule.jit(lambda x: np.tanh(x @ large))
    y, file = f(X), tmp_path / "w.safetensors"
    text = f.stablehlo(weights=file)
    assert "@main(%x0: tensor<4x2xf32>, %w0: tensor<2x50xf32>) ->" in text
    held = tensors_of(memoryview(file.read_bytes()))
    np.testing.assert_array_equal(held["w0"], large)
    np.testing.assert_allclose(run(text, X, held["w0"])[0], y, rtol=1e-5)
    np.testing.assert_allclose(run(f.stablehlo(), X)[0], y, rtol=1e-5)


def test_what_was_not_compiled_is_refused() -> None:
    with pytest.raises(InputError, match="a function has no StableHLO text"):
        stablehlo(scaled)


torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    """Results in another order than they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.conv(x)))
        return torch.softmax(self.head(y.mean((2, 3))), -1), y


class Partly(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.linalg.inv(x.exp()) + 1


def net() -> Any:
    torch.manual_seed(3)
    return Net().eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_a_module(format: Any, tmp_path: Path) -> None:
    module, x = net(), torch.randn(2, 3, 9, 9).to(memory_format=format)
    compiled = ferrule.compile(module, (x,))
    text = compiled.stablehlo()
    assert "@main(%x: tensor<2x3x9x9xf32>) -> (tensor<2x5xf32>, tensor<2x8x5x5xf32>)" in text
    with torch.no_grad():
        wanted = module(x)
    for found, y in zip(run(text, x.numpy()), wanted, strict=True):
        np.testing.assert_allclose(found, y.numpy(), rtol=1e-4, atol=1e-6)
    text = compiled.stablehlo(weights=tmp_path / "w")
    assert "%head.weight: tensor<5x8xf32>" in text


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::RuntimeWarning")
def test_a_module_in_parts_names_what_runs_apart() -> None:
    compiled = ferrule.compile(Partly(), (torch.eye(3),))
    with pytest.raises(UnsupportedError, match=r"parts of it run in PyTorch .*linalg"):
        compiled.stablehlo()
