"""pow in f64: e^(y * log|x|), with log|x| and its product with y as sums of two numbers.

With x = 2^k * (1 + f) and s = f / (2 + f), log(1 + f) = 2s + s^3 * (2/3 + s^2 * p(s^2)) as in log.
Its error has to be 2^-62 of itself, since e^(y * log|x|) multiplies it by up to 745: so s, its
square and the coefficient 2/3 are sums of two numbers, p is a number.
"""

from __future__ import annotations

from ferrule.ir.expr import Expr, call, select
from ferrule.lower.math.coefficients import LOG_REST64
from ferrule.lower.math.exp import limits, scaled, split
from ferrule.lower.math.floats import (
    INF,
    Floats,
    Pair,
    above,
    absolute,
    below,
    choose,
    clamp,
    ordered_sum,
    same,
)
from ferrule.lower.math.log import parts64

_LN2 = (0.6931471805598903, 5.497923018708371e-14)  # 42 bits, and the rest
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def power_of_size(m: Floats, size: Expr, y: Expr) -> Expr:
    """size^y for size >= 0."""
    high, low = _log(m, size)
    edge = choose((same(size, 0.0), -INF), size)  # the logarithm of 0, of infinity and of NaN
    regular = call("and", above(size, 0.0), below(size, INF))
    product, lost = m.product(y, high)
    lost = m.fma(y, low, lost)
    product = select(regular, product, y * edge)
    lost = select(call("and", regular, below(absolute(product), 800.0)), lost, m.number(0.0))
    return scaled(m, *split(m, clamp(product, *limits(m)), 2 * m.bias, lost))


def _log(m: Floats, x: Expr) -> Pair:
    """log(x) for positive finite x; anything for others."""
    k, f = parts64(m, x)
    s = m.quotient((f, m.number(0.0)), ordered_sum(m.number(2.0), f))
    q = _times(m, s, s)
    rest = m.fma(q[0], m.horner(q[0], LOG_REST64), _TWO_THIRDS[1])
    inner = ordered_sum(m.number(_TWO_THIRDS[0]), rest)
    cubic = _times(m, s, _times(m, q, inner))
    high, lost = ordered_sum(2.0 * s[0], cubic[0])
    low = m.fma(s[1], 2.0, cubic[1] + lost)
    total, lost = ordered_sum(k * _LN2[0], high)
    return ordered_sum(total, m.fma(k, _LN2[1], lost + low))


def _times(m: Floats, a: Pair, b: Pair) -> Pair:
    p, e = m.product(a[0], b[0])
    return p, m.fma(a[0], b[1], m.fma(a[1], b[0], e))

