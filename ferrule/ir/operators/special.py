"""Special functions that NumPy lacks, element by element in f64.

`erf`, `erfc` and `lgamma` come from Python's `math`; `erfinv` refines an approximation (Giles,
"Approximating the erfinv function", 2010) by Halley's method; `digamma` uses the recurrence, the
reflection formula and the asymptotic series (Abramowitz and Stegun, 6.3.5, 6.3.7, 6.3.18).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def vectorised(fn: Callable[[float], float]) -> Callable[[Array], Array]:
    """`fn` of each element, as f64."""
    each = np.frompyfunc(fn, 1, 1)
    return lambda x: np.asarray(each(np.asarray(x, np.float64))).astype(np.float64)


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf  # a pole, or beyond the largest number


def _erfinv(x: float) -> float:
    if not abs(x) < 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    y = _erfinv_start(x)
    slope = 2 / math.sqrt(math.pi)
    for _ in range(3):
        tail = math.erfc(abs(y)) - (1 - abs(x))
        error = math.erf(y) - x if abs(x) < 0.5 else math.copysign(tail, -x) * _sign(tail)
        step = error / (slope * math.exp(-y * y))
        y -= step / (1 + y * step)
    return y


def _sign(x: float) -> float:
    return math.copysign(1.0, x)


def _erfinv_start(x: float) -> float:
    w = -math.log((1 - x) * (1 + x))
    if w < 5:
        w -= 2.5
        low = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
               -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
        return x * _horner(low, w)
    w = math.sqrt(w) - 3
    high = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
            -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)  # fmt: skip
    return x * _horner(high, w)


def _horner(coefficients: tuple[float, ...], x: float) -> float:
    out = 0.0
    for c in coefficients:
        out = out * x + c
    return out


def _digamma(x: float) -> float:
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        if math.isinf(x) or x == math.floor(x):
            return math.nan
        return _digamma(1 - x) - math.pi / math.tan(math.pi * math.fmod(x, 1))
    out = 0.0
    while x < 10:
        out -= 1 / x
        x += 1
    if math.isinf(x):
        return x
    z = 1 / (x * x)
    series = (-1 / 12, 691 / 32760, -1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12, 0.0)
    return out + math.log(x) - 0.5 / x + _horner(series, z)


def _normal_cdf(x: float) -> float:
    return math.erfc(-x * math.sqrt(0.5)) / 2


normal_cdf = vectorised(_normal_cdf)
erf, erfc = vectorised(math.erf), vectorised(math.erfc)
lgamma, erfinv, digamma = vectorised(_lgamma), vectorised(_erfinv), vectorised(_digamma)
