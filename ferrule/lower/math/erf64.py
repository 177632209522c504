"""erf, erfc and normal_cdf in f64.

Up to 1/2, erf(x) = x + x*p(x^2). From there on erfc(a) = e^(-a^2) / (1 + 2a) * p(u), where
(1 + 2a) * e^(a^2) * erfc(a) hardly varies and u = (a - c) / (a + c) makes it a polynomial's
(Shepherd and Laframboise, "Chebyshev Approximation of (1 + 2x) exp(x^2) erfc(x) in 0 <= x < inf",
1981). The square is computed in two parts, since e^(-a^2) multiplies its error by up to 745.
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, select
from ferrule.lower.math.coefficients import ERF64, ERFCX64
from ferrule.lower.math.exp import scaled_by, split
from ferrule.lower.math.floats import Floats, Pair, absolute, below, clamp, copysign, ordered_sum

_CENTRE = 61 / 16  # as tools/fit_polynomials.py has it


def erf(m: Floats, x: Expr) -> Expr:
    a = absolute(x)
    near = m.fma(a, m.horner(a * a, ERF64), a)
    return copysign(select(below(a, 0.5), near, 1.0 - _tail(m, a, None)), x)


def erfc(m: Floats, x: Expr) -> Expr:
    """1 - erf(x) near 0, 2 - erfc(-x) for negative x."""
    return _erfc(m, x, None)


def normal_cdf(m: Floats, x: Expr) -> Expr:
    """erfc(-x / sqrt(2)) / 2; the rounding of the argument is made good in the tail."""
    high, low = -math.sqrt(0.5), 4.833646656726457e-17
    x = clamp(x, -40.0, 40.0)  # it is 0 and 1 there
    z, lost = m.product(x, high)
    return 0.5 * _erfc(m, z, m.fma(x, low, lost))


def _erfc(m: Floats, x: Expr, rest: Expr | None) -> Expr:
    a = absolute(x)
    near = 0.5 - m.fma(x, m.horner(a * a, ERF64), x - 0.5)
    tail = _tail(m, a, rest if rest is None else copysign(m.number(1.0), x) * rest)
    far = select(below(x, 0.0), 2.0 - tail, tail)
    return select(below(a, 0.5), near, far)


def _tail(m: Floats, a: Expr, rest: Expr | None) -> Expr:
    """erfc(a + rest) for a >= 1/2, of which `rest` is tiny."""
    a = clamp(a, high=28.0)  # 0 from 27.3 on
    square, lost = m.product(a, a)
    lost = lost if rest is None else m.fma(2.0 * a, rest, lost)
    h, n = split(m, -square, 2 * m.bias, -lost)
    return scaled_by(m, _without_square(m, a), h, n)


def _without_square(m: Floats, a: Expr) -> Pair:
    """e^(a^2) * erfc(a) as a sum of two numbers."""
    u = (a - _CENTRE) / (a + _CENTRE)
    top = ordered_sum(m.number(ERFCX64[0]), u * m.horner(u, ERFCX64[1:]))
    return m.quotient(top, ordered_sum(2.0 * a, m.number(1.0)))
