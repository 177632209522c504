"""The logarithms: log, log2, log10, log1p, and asinh, acosh, atanh, which are made of them.

x = 2^k * (1 + f) with f small, and log(x) = k*ln(2) + log(1 + f). The exponent k is taken from the
bits: those of the least 1 + f are subtracted and the exponent's field read off. In f32,
log(1+f) = f + f^2 * p(f) for 2/3 <= 1+f < 4/3. In f64, with s = f/(2+f), log(1+f) is
2s + s^3 * p(s^2) written as f - (f^2/2 - s*(f^2/2 + s^2 * p)), for 1/sqrt(2) <= 1+f < sqrt(2), as
in FreeBSD's e_log.c; the other bases multiply its upper half exactly, as in e_log2.c and e_log10.c.
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, call, cast, compare, select
from ferrule.lower.math.coefficients import LOG, LOG64
from ferrule.lower.math.exp import odd_by_double
from ferrule.lower.math.floats import (
    INF,
    Floats,
    above,
    absolute,
    below,
    choose,
    copysign,
    narrowed,
    ordered_sum,
    same,
)

_LEAST = 0x3F2AAAAB  # the bits of 2/3, the least 1 + f, in f32
_LEAST64 = 0x3FE6A09E667F3BCD  # of 1/sqrt(2) in f64
_ONE64 = 0x3FF << 52
# 1/ln(2), 1/ln(10) and log10(2): 21 bits and the rest
_TO_BASE_2 = (1.4426946640014648, 3.768874985636099e-07)
_TO_BASE_10 = (0.4342944622039795, 1.9699272335463627e-08)
_LOG10_2 = (0.30102992057800293, 7.508597826552624e-08)
_TWO52 = 0x433 << 52  # the bits of 2^52: an integer below it, put into its low bits, is a float


def log(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return _with_limits(x, _log64(m, *parts64(m, x)))
    k, f = _parts(m, x)
    return _with_limits(x, m.fma(k, math.log(2), f + _rest(m, f)))


def log2(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return _with_limits(x, _log64_in_base(m, *parts64(m, x), _TO_BASE_2, (1.0, 0.0)))
    k, f = _parts(m, x)
    return _with_limits(x, _in_base(m, f, math.log2(math.e)) + k)


def log10(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return _with_limits(x, _log64_in_base(m, *parts64(m, x), _TO_BASE_10, _LOG10_2))
    k, f = _parts(m, x)
    high, low = 0.30102539, math.log10(2) - 0.301025390625  # k * high is exact
    small = m.fma(k, low, _in_base(m, f, math.log10(math.e)))
    return _with_limits(x, m.fma(k, high, small))


def log1p(m: Floats, x: Expr) -> Expr:
    """k is that of 1+x, and f = x * 2^-k + (2^-k - 1) loses nothing of a small x."""
    if not m.is_single:
        return _log1p64(m, x)
    u = 1.0 + x
    n = _exponent(m, m.bits(u))
    four = m.power_of_two(m.mask(m.bias + 2) - n)  # 4 * 2^-k, where 2^-k could be subnormal
    f = m.fma(x * four, 0.25, m.fma(four, 0.25, -1.0))
    y = m.fma(cast(n, m.dtype), math.log(2), f + _rest(m, f))
    return select(same(x, 0.0), x, _with_limits(u, y))


def _with_limits(x: Expr, y: Expr) -> Expr:
    """y for positive finite x; the logarithm of any other x."""
    special = choose((same(x, 0.0), -INF), (below(x, 0.0), math.nan), x)
    return select(call("and", compare("gt", x, x * 0.0), below(x, INF)), y, special)


def _exponent(m: Floats, bits: Expr) -> Expr:
    """k as an integer."""
    return call("shr", bits - m.mask(_LEAST), m.mask(m.mantissa))


def _parts(m: Floats, x: Expr) -> tuple[Expr, Expr]:
    """(k, f) of a positive f32, k as a float."""
    tiny = below(x, 2.0**-126)
    bits = m.bits(select(tiny, x * 2.0**23, x))
    n = _exponent(m, bits)
    f = m.value(bits - call("shl", n, m.mask(m.mantissa))) - 1.0
    return cast(n - select(tiny, m.mask(23), m.mask(0)), m.dtype), f


def _rest(m: Floats, f: Expr) -> Expr:
    """log(1 + f) - f."""
    return f * f * m.horner(f, (-0.5, *LOG))


def _in_base(m: Floats, f: Expr, factor: float) -> Expr:
    """log(1 + f) * factor. The power of two next to the factor multiplies f exactly, and what is
    left of it makes small terms.
    """
    whole = 2.0 ** round(math.log2(factor))
    small = m.fma(f, factor - whole, _rest(m, f) * factor)
    return m.fma(f, whole, small)


# ---- f64 -----------------------------------------------------------------------------------------


def parts64(m: Floats, x: Expr) -> tuple[Expr, Expr]:
    """(k, f) of a positive f64, k as a float."""
    tiny = below(x, 2.0**-1022)
    k, f = normal_parts64(m, select(tiny, x * 2.0**54, x))
    return k - select(tiny, m.number(54.0), m.number(0.0)), f


def normal_parts64(m: Floats, x: Expr) -> tuple[Expr, Expr]:
    """(k, f) of a positive normal f64."""
    field = _field64(m, x)
    one = m.bits(x) - call("shl", field, m.mask(m.mantissa)) + m.mask(_ONE64)
    return _exponent64(m, field), m.value(one) - 1.0


def _field64(m: Floats, x: Expr) -> Expr:
    """k + bias as an integer."""
    return call("shr", m.bits(x) + m.mask(_ONE64 - _LEAST64), m.mask(m.mantissa))


def _exponent64(m: Floats, field: Expr) -> Expr:
    """k as a float."""
    return m.value(call("or", field, m.mask(_TWO52))) - (2.0**52 + m.bias)


def _rest64(m: Floats, f: Expr) -> tuple[Expr, Expr]:
    """(a, b) with log(1 + f) = f - (a - b): f^2/2, and what is left."""
    s = f / (2.0 + f)
    q = s * s
    half = f * f * 0.5
    return half, s * (half + q * m.horner(q, LOG64))


def _log64(m: Floats, k: Expr, f: Expr) -> Expr:
    half, inner = _rest64(m, f)
    high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    return m.fma(k, high, f - (half - m.fma(k, low, inner)))


def _log64_in_base(
    m: Floats, k: Expr, f: Expr, factor: tuple[float, float], two: tuple[float, float]
) -> Expr:
    """k * two + log(1 + f) * factor. Both constants are in two parts, the first of 21 bits, so that
    k and the upper 21 bits of log(1 + f) times them are exact.
    """
    half, inner = _rest64(m, f)
    upper = m.value(call("and", m.bits(f - half), m.mask(-(1 << 32))))
    lower = ((f - upper) - half) + inner
    high, low = factor
    a, b = k * two[0], upper * high
    out, lost = ordered_sum(a, b)
    small = m.fma(k, two[1], m.fma(lower + upper, low, lower * high))
    return out + (small + lost)


def _log1p64(m: Floats, x: Expr) -> Expr:
    u = 1.0 + x
    field = _field64(m, u)
    four = m.power_of_two(m.mask(2 * m.bias + 2) - field)  # 4 * 2^-k
    f = m.fma(x * four, 0.25, m.fma(four, 0.25, -1.0))
    y = _log64(m, _exponent64(m, field), f)
    return select(same(x, 0.0), x, _with_limits(u, y))


def log_of_double(m: Floats, x: Expr) -> Expr:
    """log of a positive normal f64; anything for others."""
    return _log64(m, *normal_parts64(m, x))


def _log_of_sum(m: Floats, a: Expr, t: Expr) -> Expr:
    """log(1 + t); or log(2a), the same there, where a^2 could overflow, of which t is made."""
    big = above(a, 2.0**500)
    y = log1p(m, select(big, a, t))
    return y + select(big, m.number(math.log(2)), m.number(0.0))


def asinh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        a = absolute(x)
        square = a * a
        return copysign(_log_of_sum(m, a, a + square / (1.0 + call("sqrt", 1.0 + square))), x)
    wide = m.widened()
    a = cast(absolute(x), wide.dtype)
    size = log_of_double(wide, a + call("sqrt", wide.fma(a, a, 1.0)))
    return odd_by_double(m, x, select(below(a, INF), size, a))


def acosh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        t = x - 1.0
        y = _log_of_sum(m, x, t + call("sqrt", m.fma(t, t, 2.0 * t)))
        return select(below(x, 1.0), m.number(math.nan), y)
    wide = m.widened()
    a = cast(x, wide.dtype)
    y = log_of_double(wide, a + call("sqrt", wide.fma(a, a, -1.0)))
    inside = call("and", compare("ge", a, wide.number(1.0)), below(a, INF))
    return narrowed(choose((inside, y), (same(a, INF), a), wide.number(math.nan)))


def atanh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        a = absolute(x)
        y = 0.5 * log1p(m, m.fma(2.0 * a, a / (1.0 - a), 2.0 * a))
        return select(above(a, 1.0), m.number(math.nan), copysign(y, x))
    wide = m.widened()
    a = cast(absolute(x), wide.dtype)
    y = log_of_double(wide, (1.0 + a) / (1.0 - a)) * 0.5
    size = choose((below(a, 1.0), y), (same(a, 1.0), INF), wide.number(math.nan))
    return copysign(select(below(a, 2.0**-12), x, narrowed(size)), x)
