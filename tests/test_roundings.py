"""Every rounding that a program holds happens, whatever is fused with it: f16 and bf16 by NumPy,
PyTorch and ONNX, on every target that this machine runs, in vectors and in what is left of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

import ferrule
from ferrule.base import config
from ferrule.base.cpu import supports
from ferrule.target.cpu import NAMES
from tests.frontend.tools import compiled
from tests.onnx.tools import check, model, node

F16, F32 = np.float16, np.float32
VALUES = np.resize(np.array([1 / 3, 1e6, 1e-9, 70000, -2049, 65519, 300, -0.1, 1e-6], F32), 77)


@pytest.fixture(params=[n for n in NAMES if supports(n)], autouse=True)
def target(request: pytest.FixtureRequest) -> Iterator[None]:
    with config.override(target=request.param):
        yield


def agree(fn: Callable[..., Any], *args: torch.Tensor) -> None:
    """Bit for bit what eager gives."""
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(compiled(fn)(*args), fn(*args), rtol=0, atol=0, equal_nan=True)


NUMPY: dict[str, Callable[[Any], Any]] = {
    "there and back": lambda x: x.astype(F16).astype(F32),
    "what is lost": lambda x: x - x.astype(F16).astype(F32),
    "to f64": lambda x: x.astype(F16).astype(np.float64),
    "f64 through f32": lambda x: (x.astype(np.float64) / 3).astype(F32).astype(np.float64),
    "steps in f16": lambda x: ((x.astype(F16) + F16(0.1)) * x.astype(F16) - F16(1)).astype(F32),
    "square and back": lambda x: (x.astype(F16) * x.astype(F16)) / x.astype(F16),
    "through int32": lambda x: (x * 7).astype(np.int64).astype(np.int32).astype(np.int64),
    "through float": lambda x: (x * 1e3).astype(np.int32).astype(F32).astype(np.int32),
    "through bool": lambda x: x.astype(bool).astype(F32),
    "summed": lambda x: x.astype(F16).astype(F32).sum(keepdims=True),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_casts_stay(name: str) -> None:
    with np.errstate(all="ignore"):
        want = NUMPY[name](VALUES)
        got = ferrule.jit(NUMPY[name])(VALUES)
    near = np.testing.assert_array_equal if name != "summed" else np.testing.assert_allclose
    assert got.dtype == want.dtype
    near(got, want)


def test_one_function_of_numpy_rounds_once() -> None:
    x = np.linspace(-3, 3, 77).astype(F16)

    def functions(x: Any) -> Any:
        return np.deg2rad(x), np.rad2deg(x), x**3, np.cbrt(x), np.logaddexp(x, x + F16(1)), x * 0.1

    for got, want in zip(ferrule.jit(functions)(x), functions(x), strict=True):
        assert got.dtype == F16
        np.testing.assert_array_max_ulp(got, want, 1)
        assert (got != want).mean() < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_torch_casts_stay(dtype: torch.dtype) -> None:
    agree(lambda x: x.to(dtype).float(), torch.from_numpy(VALUES))
    agree(lambda x: (x - x.to(dtype).float()).to(dtype), torch.from_numpy(VALUES))
    agree(lambda x: x.to(dtype).isinf(), torch.from_numpy(VALUES))
    agree(lambda x, y: x.to(dtype) + y, torch.from_numpy(VALUES), torch.ones(77, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_torch_rounds_after_each_operator(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-3, 3, 59), torch.full((18,), 300.0)]).to(dtype)
    y = torch.linspace(0.1, 5, 77).to(dtype)
    agree(lambda x, y: ((x + y) * y - x) / y + x, x, y)
    agree(lambda x: x * x / x, x)
    agree(lambda x: (x * x, x * x / x), x)
    agree(lambda x: torch.where(torch.isinf(x * x), 0.0, x * x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_operator_of_torch_rounds_once(dtype: torch.dtype) -> None:
    """Numbers are not rounded, nor is what an operator computes on its way. (Eager rounds in what
    is left of its vectors of 32 or less, so there is none.)
    """
    x, y = (torch.linspace(a, b, 96).to(dtype) for a, b in ((-3, 3), (0.1, 5)))
    agree(lambda x: (x * 0.1, x / 0.3, 0.3 / x, x * torch.tensor(0.1)), x)
    agree(lambda x, y: (torch.sub(x, y, alpha=3), torch.lerp(x, y, 0.3)), x, y)
    agree(lambda x, y: torch.addcmul(x, y, x, value=0.3), x, y)
    agree(lambda x: (torch.round(x, decimals=1), torch.div(x, 0.3, rounding_mode="floor")), x)
    agree(lambda x: F.silu(x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_product_and_its_bias_round_once(dtype: torch.dtype) -> None:
    """Small integers and one half: each sum is exact in f32, and none in 16 bits."""
    rng = np.random.default_rng(0)
    x, w = (torch.from_numpy(rng.integers(-9, 9, s).astype(F32)) for s in ((5, 24), (19, 24)))
    bias = torch.from_numpy(rng.integers(-9, 9, 19) * F32(31) + F32(0.5))
    x, w, bias = x.to(dtype) * 8, w.to(dtype), bias.to(dtype)

    def linear(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w, bias)

    torch._dynamo.reset()
    with torch.no_grad():
        got = compiled(linear)(x, w, bias)
        conv = compiled(F.conv1d)(x[..., None], w[..., None], bias)
        added = compiled(lambda x, w, b: torch.addmm(b, x, w.T, alpha=0.5, beta=2))(x, w, bias)
    exact = linear(x.double(), w.double(), bias.double())
    half = 0.5 * (x.double() @ w.double().T) + 2 * bias.double()
    assert torch.equal(got, exact.to(dtype))
    assert torch.equal(conv[..., 0], exact.to(dtype))
    assert torch.equal(added, half.to(dtype))


def test_rms_norm_of_small_numbers() -> None:
    """The smallest number that is added is that of f32, in which it is computed."""
    x = (torch.linspace(-1, 1, 5 * 33).reshape(5, 33) * 0.02).to(torch.bfloat16)
    agree(lambda x: F.rms_norm(x, (33,)), x)


def test_onnx_casts_stay() -> None:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Cast", "h", "y", to=1),
        node("Sub", "x y", "z"),
    ]  # fmt: skip
    with np.errstate(over="ignore"):
        check(model(nodes, {"x": (F32, (77,))}, ["y", "z"]), rtol=0, x=VALUES)
