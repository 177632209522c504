"""The Bessel functions against PyTorch's, in both branches and at their ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops

torch = pytest.importorskip("torch")
POINTS = [0.0, -0.0, 1e-9, 0.3, -2.5, 7.99, 8.0, 8.01, -20.0, 85.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("name", ["i0", "i0e", "i1", "i1e"])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 3e-6), (np.float64, 1e-13)])
def test_a_bessel_function_is_torchs(
    name: str, dtype: Any, rtol: float, check: Callable[..., Any]
) -> None:
    x = np.array([*POINTS, *np.linspace(-40, 40, 257)], dtype)
    if not name.endswith("e"):
        x = x[~np.isinf(x)]  # exp(inf) * 0
    (out,) = check(getattr(ops, name), x, rtol=rtol, atol=0)
    expected = getattr(torch.special, name)(torch.from_numpy(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=0)
