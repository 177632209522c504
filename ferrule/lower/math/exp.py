"""The exponential family: exp, exp2, expm1, sigmoid, tanh, sinh, cosh.

exp(x) = 2^n * e^r with n = round(x / ln 2) and |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds x / ln 2
to an integer and leaves n in the low bits of the sum, to which a bias can be added for nothing;
shifted to the exponent's place they are a power of two, without a conversion. r is x - n*ln(2) with
ln(2) in two parts, the first short enough for n times it to be exact (Cody and Waite, "Software
Manual for the Elementary Functions", 1980). e^r - 1 is kept apart from the 1, which is added in the
multiplication by 2^n: so small results are accurate, and expm1 comes from the same parts.

2^n is the product of two powers of two where results can be subnormal or n can be 128. Arguments
are clamped to where the result is 0 or infinite; below, the bits of the power itself become 0, so
that masked scores of -1e9 or -inf cost no underflow.
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, call, cast, select
from ferrule.lower.math.coefficients import EXP, EXP2, EXP64
from ferrule.lower.math.floats import Floats, absolute, below, clamp, copysign, narrowed

_LN2 = {  # by Floats.is_single
    True: (0.693359375, -2.12194440e-4),
    False: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}


def split(m: Floats, x: Expr, bias: int) -> tuple[Expr, Expr]:
    """(h, n) with e^x = (1 + h) * 2^k, where the low bits of the integer n hold k + bias.

    |x| is at most 177 (f32) or 1500 (f64); NaN gives a NaN h.
    """
    magic = 1.5 * 2.0**m.mantissa + bias
    t = m.fma(x, 1 / math.log(2), magic)
    n = t - magic
    high, low = _LN2[m.is_single]
    r = m.fma(n, -low, m.fma(n, -high, x))
    return _tail(m, r), m.bits(t)


def _tail(m: Floats, r: Expr) -> Expr:
    """e^r - 1."""
    return m.fma(r * r, m.horner(r, EXP if m.is_single else EXP64), r)


def scaled(m: Floats, h: Expr, n: Expr) -> Expr:
    """(1 + h) * 2^(n - 2*bias), rounded once more where that is subnormal."""
    half = call("shr", n, m.mask(1))
    first, second = m.power_of_two(half), m.power_of_two(n - half)
    return m.fma(h, first, first) * second


def _limits(m: Floats) -> tuple[float, float]:
    """Where both powers of two of `scaled` are zero, and where the result is surely infinite."""
    return -2 * m.bias * math.log(2), 100.0 if m.is_single else 720.0


def exp(m: Floats, x: Expr) -> Expr:
    return scaled(m, *split(m, clamp(x, *_limits(m)), 2 * m.bias))


def bounded_exp(m: Floats, x: Expr) -> Expr:
    """e^x for an x whose result is a normal number."""
    h, n = split(m, x, m.bias)
    scale = m.power_of_two(n)
    return m.fma(h, scale, scale)


def exp_nonpositive(m: Floats, x: Expr) -> Expr:
    """e^x for x <= 0, as softmax needs it beside a largest term of 1: 0 where it is subnormal, so
    that one power of two does.
    """
    return bounded_exp(m, clamp(x, low=-m.bias * math.log(2)))


def exp2(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return call("exp2", x)
    x = clamp(x, -2.0 * m.bias, 200.0)
    magic = 1.5 * 2.0**m.mantissa + 2 * m.bias
    t = x + magic
    r = x - (t - magic)
    return scaled(m, r * m.horner(r, EXP2), m.bits(t))


def expm1(m: Floats, x: Expr) -> Expr:
    """2 * (h*s + (s - 1/2)) with s = 2^(k-1), which does not overflow before the result does. The
    rounding error of r is carried along: where e^x is near 2 it would be doubled.
    """
    sign = x
    x = clamp(x, -40.0, 89.0) if m.is_single else clamp(x, -60.0, 709.9)
    magic = 1.5 * 2.0**m.mantissa + m.bias - 1
    t = m.fma(x, 1 / math.log(2), magic)
    n = t - magic
    high, low = _LN2[m.is_single]
    a = m.fma(n, -high, x)
    r = m.fma(n, -low, a)
    lost = m.fma(n, -low, a - r)
    h = _tail(m, r) + lost
    s = m.power_of_two(m.bits(t))
    return copysign(2.0 * m.fma(h, s, s - 0.5), sign)


def sigmoid(m: Floats, x: Expr) -> Expr:
    """e/(1+e) for negative x and 1/(1+e) for others, e = exp(-|x|).

    e is computed as 2^64 e (f64: 2^512 e), so that one power of two does for subnormal e too.
    """
    up = 64 if m.is_single else 512
    least = -(m.bias + up) * math.log(2)
    h, n = split(m, clamp(-absolute(x), low=least), m.bias + up)
    scale = m.power_of_two(n)
    e = m.fma(h, scale, scale) * 2.0**-up
    return select(below(x, 0.0), e, m.number(1.0)) / (1.0 + e)


def tanh(m: Floats, x: Expr) -> Expr:
    """-e/(2+e) with e = expm1(-2|x|), where |x| beyond which tanh is 1 does not matter."""
    y = clamp(-2.0 * absolute(x), low=-20.0 if m.is_single else -40.0)
    h, n = split(m, y, m.bias)
    s = m.power_of_two(n)
    e = m.fma(h, s, s - 1.0)
    return copysign(e / (2.0 + e), x)


_TINY = 2.0**-12  # below it, sinh(x) and the like are x to f32's accuracy


def odd_by_double(m: Floats, x: Expr, size: Expr) -> Expr:
    """An odd function in f32: `size`, computed in f64 from |x|, or x where that is tiny."""
    return select(below(absolute(x), _TINY), x, copysign(narrowed(size), x))


def sinh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return call("sinh", x)
    wide = m.widened()
    e = _exp_of_size(wide, x)
    return odd_by_double(m, x, (e - 1.0 / e) * 0.5)


def cosh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return call("cosh", x)
    e = _exp_of_size(m.widened(), x)
    return narrowed((e + 1.0 / e) * 0.5)


def _exp_of_size(wide: Floats, x: Expr) -> Expr:
    """e^|x| in f64, for an f32 x; large enough for infinity in f32 from there on."""
    return bounded_exp(wide, cast(clamp(absolute(x), high=200.0), wide.dtype))
