"""Activations and other named functions against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional
Check = Callable[..., list[np.ndarray[Any, Any]]]
X = np.array(
    [0, -0.0, 0.3, -0.3, 1, -1, 2.9, -2.9, 3.1, -3.1, 7, -7, 19, 21, -21, 90, -90, np.inf, np.nan],
    np.float32,
)

ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "gelu": (ops.gelu, lambda x: F.gelu(x.double()).float()),  # in f32 NaN of inf on some CPUs
    "gelu, tanh": (
        lambda b, x: ops.gelu(b, x, "tanh"), lambda x: F.gelu(x, approximate="tanh")
    ),
    "silu": (ops.silu, F.silu),
    "softplus": (ops.softplus, F.softplus),
    "softplus, beta": (lambda b, x: ops.softplus(b, x, 2, 5), lambda x: F.softplus(x, 2, 5)),
    "mish": (ops.mish, F.mish),
    "logsigmoid": (ops.logsigmoid, F.logsigmoid),
    "logit": (lambda b, x: ops.logit(b, ops.sigmoid(b, x), 1e-6),
              lambda x: torch.logit(torch.sigmoid(x), 1e-6)),
    "logit, eps above 1/2": (lambda b, x: ops.logit(b, ops.sigmoid(b, x), 0.51),
                             lambda x: torch.logit(torch.sigmoid(x), 0.51)),
    "relu": (ops.relu, F.relu),
    "relu6": (ops.relu6, F.relu6),
    "hardtanh": (lambda b, x: ops.hardtanh(b, x, -2, 1), lambda x: F.hardtanh(x, -2, 1)),
    "leaky_relu": (lambda b, x: ops.leaky_relu(b, x, 0.2), lambda x: F.leaky_relu(x, 0.2)),
    "elu": (lambda b, x: ops.elu(b, x, 0.7), lambda x: F.elu(x, 0.7)),
    "selu": (ops.selu, F.selu),
    "hardshrink": (lambda b, x: ops.hardshrink(b, x, 0.7), lambda x: F.hardshrink(x, 0.7)),
    "hardsigmoid": (ops.hardsigmoid, F.hardsigmoid),
    "hardswish": (ops.hardswish, F.hardswish),
    "softsign": (ops.softsign, F.softsign),
    "square": (ops.square, torch.square),
    "reciprocal": (ops.reciprocal, torch.reciprocal),
    "isfinite": (ops.isfinite, torch.isfinite),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str, check: Check) -> None:
    ours, theirs = ACTIVATIONS[name]
    (out,) = check(ours, X, atol=3e-6)
    np.testing.assert_allclose(out, theirs(torch.from_numpy(X)).numpy(), rtol=2e-5, atol=3e-6)


def test_mixtures_are_torchs(check: Check) -> None:
    rng = np.random.default_rng(1)
    x, y, z = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(3))
    tx, ty, tz = map(torch.from_numpy, (x, y, z))
    for ours, theirs in (
        (ops.lerp, torch.lerp),
        (lambda b, x, y, z: ops.lerp(b, x, y, 0.75), lambda x, y, z: torch.lerp(x, y, 0.75)),
        (lambda b, x, y, z: ops.addcmul(b, x, y, z, 0.5),
         lambda x, y, z: torch.addcmul(x, y, z, value=0.5)),
        (lambda b, x, y, z: ops.addcdiv(b, x, y, z, 2),
         lambda x, y, z: torch.addcdiv(x, y, z, value=2)),
    ):  # fmt: skip
        (out,) = check(ours, x, y, z)
        np.testing.assert_allclose(out, theirs(tx, ty, tz).numpy(), rtol=1e-5, atol=1e-6)


def test_masked_fill_takes_a_number(check: Check) -> None:
    (out,) = check(lambda b, x, m: ops.masked_fill(b, x, m, -1e9), X, X > 0)
    np.testing.assert_array_equal(out, np.where(X > 0, np.float32(-1e9), X))


def test_all_integers_are_finite(check: Check) -> None:
    (out,) = check(ops.isfinite, np.array([1, 2]))
    assert out.all()
