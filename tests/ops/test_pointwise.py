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


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 3e-16), (np.float32, 2e-7)])
def test_cube_roots(dtype: Any, rtol: float, compiled: Check) -> None:
    info = np.finfo(dtype)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, info.tiny / 1024,
            info.smallest_subnormal, 8.0, -27.0]  # fmt: skip
    more = np.random.default_rng(3).standard_normal(200) * np.logspace(-30, 30, 200)
    x = np.concatenate([ends, more]).astype(dtype)
    (out,) = compiled(ops.cbrt, x, rtol=rtol, atol=0)
    np.testing.assert_allclose(out, np.cbrt(x), rtol=rtol)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(x))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_rounding_away_from_zero(dtype: Any, compiled: Check) -> None:
    x = np.array([-2.5, 0.4, 0.5, 0.6, 2.5, -0.0, 0.49999997, -0.3, 1025.0, np.inf, np.nan], dtype)
    (out,) = compiled(ops.round_away, x)
    half = 1.0 if dtype is np.float16 else 0.0  # where the number before 0.5 is 0.5
    np.testing.assert_array_equal(out, [-3, 0, 1, 1, 3, -0.0, half, -0.0, 1025, np.inf, np.nan])
    np.testing.assert_array_equal(np.signbit(out), np.signbit(x))


def test_infinities_of_either_sign(check: Check) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1], np.float32)
    up, down = check(lambda b, x: (ops.isposinf(b, x), ops.isneginf(b, x)), x)
    np.testing.assert_array_equal(up, [True, False, False, False])
    np.testing.assert_array_equal(down, [False, True, False, False])
    (none,) = check(ops.isposinf, np.array([1, 2]))
    assert not none.any()
