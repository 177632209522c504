"""Hurwitz's zeta function and the polygamma functions against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops

torch = pytest.importorskip("torch")
Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
X = np.array([1.0, 1.1, 1.5, 2.0, 3.0, 4.0, 6.5, 20.0, 50.0, 0.5, -1.0, np.nan])
Q = np.array([0.1, 0.5, 1.0, 2.5, 7.0, 30.0, 1e4, 1e-8])


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 2e-13), (np.float32, 1e-6)])
def test_zeta_is_torchs(dtype: Any, rtol: float, check: Check, compiled: Check) -> None:
    x, q = X[:, None].astype(dtype), Q[None, :].astype(dtype)
    with np.errstate(all="ignore"):
        (out,) = (compiled if dtype is np.float32 else check)(ops.zeta, x, q, rtol=rtol)
    theirs = torch.special.zeta(torch.from_numpy(x).double(), torch.from_numpy(q).double())
    np.testing.assert_allclose(out, theirs.numpy().astype(dtype), rtol=rtol)


def test_zeta_at_poles_and_below_them(check: Check) -> None:
    x, q = np.array([2.0, 3.0, 2.5, 2.0, 3.0]), np.array([0.0, -1.0, -0.5, -0.5, -2.5])
    (out,) = check(ops.zeta, x, q)
    np.testing.assert_allclose(out[:3], [np.inf, np.nan, np.nan])
    series = [sum((b + k) ** -a for k in range(200000)) for a, b in zip(x[3:], q[3:])]
    np.testing.assert_allclose(out[3:], series, rtol=2e-6)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 2e-6)])
def test_polygamma_is_torchs(dtype: Any, rtol: float, check: Check) -> None:
    x = np.array([0.1, 0.7, 1.0, 2.5, 9.0, 40.0], dtype)
    orders = np.array([0, 1, 2, 3, 5, 10], dtype)
    (out,) = check(ops.polygamma, orders[:, None], x[None, :], rtol=rtol)
    wide = torch.from_numpy(x).double()
    rows = [torch.special.polygamma(int(n), wide).numpy() for n in orders]
    np.testing.assert_allclose(out, np.stack(rows), rtol=rtol)


def test_polygamma_has_whole_orders(check: Check) -> None:
    (out,) = check(ops.polygamma, np.array([0.5, -1.0, 2.0]), np.array([1.0, 1.0, np.nan]))
    assert np.isnan(out).all()


def test_the_first_derivative_is_exact(check: Check) -> None:
    """PyTorch's has nine digits."""
    (out,) = check(ops.polygamma, np.array([1.0, 1.0]), np.array([1.0, 0.5]), rtol=1e-14)
    np.testing.assert_allclose(out, [np.pi**2 / 6, np.pi**2 / 2], rtol=1e-14)
