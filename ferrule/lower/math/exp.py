"""The exponential family: exp, exp2, expm1, sigmoid, tanh, sinh, cosh.

exp(x) = 2^n * e^r with n = round(x / ln 2) and |r| <= ln(2)/2. Adding 1.5 * 2^23 rounds x / ln 2
to an integer and leaves n in the low bits of the sum, to which a bias can be added for nothing;
shifted to the exponent's place they are a power of two, without a conversion. r is x - n*ln(2) with
ln(2) in two parts, the first short enough for n times it to be exact (Cody and Waite, "Software
Manual for the Elementary Functions", 1980). e^r - 1 is kept apart from the 1, which is added in the
multiplication by 2^n: so small results are accurate, and expm1 comes from the same parts. sinh and
cosh do too in f64; in f32 they are computed in f64 by exp alone.

2^n is the product of two powers of two where results can be subnormal or n can be 128. Arguments
are clamped to where the result is 0 or infinite; below, the bits of the power itself become 0, so
that masked scores of -1e9 or -inf cost no underflow.
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, call, cast, select
from ferrule.lower.math.coefficients import EXP, EXP2, EXP2_64, EXP64, SINH64, TANH64
from ferrule.lower.math.floats import (
    Floats,
    absolute,
    below,
    clamp,
    copysign,
    narrowed,
    ordered_sum,
)

_LN2 = {  # by Floats.is_single
    True: (0.693359375, -2.12194440e-4),
    False: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}


def split(m: Floats, x: Expr, bias: int, rest: Expr | None = None) -> tuple[Expr, Expr]:
    """(h, n) with e^(x + rest) = (1 + h) * 2^k, where the low bits of the integer n hold k + bias.

    |x| is at most 177 (f32) or 1500 (f64), `rest` tiny beside it; NaN gives a NaN h. With `rest`
    the rounding error of what is left of x is carried along.
    """
    magic = 1.5 * 2.0**m.mantissa + bias
    t = m.fma(x, 1 / math.log(2), magic)
    n = t - magic
    high, low = _LN2[m.is_single]
    a = m.fma(n, -high, x)
    r = m.fma(n, -low, a)
    if rest is None:
        return m.fma(r * r, _curve(m, r), r), m.bits(t)
    lost = m.fma(n, -low, a - r)
    r, rest = ordered_sum(r, rest)
    return r + m.fma(r * r, _curve(m, r), rest + lost), m.bits(t)


def _curve(m: Floats, r: Expr) -> Expr:
    """(e^r - 1 - r) / r^2."""
    return m.horner(r, EXP if m.is_single else EXP64)


def scaled(m: Floats, h: Expr, n: Expr) -> Expr:
    """(1 + h) * 2^(n - 2*bias), rounded once more where that is subnormal."""
    first, second = _halved_power(m, n)
    return m.fma(h, first, first) * second


def scaled_by(m: Floats, factor: tuple[Expr, Expr], h: Expr, n: Expr) -> Expr:
    """The same, times a factor that is the sum of two numbers."""
    first, second = _halved_power(m, n)
    return (factor[0] + m.fma(h, factor[0], factor[1])) * first * second


def _halved_power(m: Floats, n: Expr) -> tuple[Expr, Expr]:
    half = call("shr", n, m.mask(1))
    return m.power_of_two(half), m.power_of_two(n - half)


def limits(m: Floats) -> tuple[float, float]:
    """Where both powers of two of `scaled` are zero, and where the result is surely infinite."""
    return -2 * m.bias * math.log(2), 100.0 if m.is_single else 720.0


def exp(m: Floats, x: Expr) -> Expr:
    return scaled(m, *split(m, clamp(x, *limits(m)), 2 * m.bias))


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
    x = clamp(x, -2.0 * m.bias, 200.0 if m.is_single else 1100.0)
    magic = 1.5 * 2.0**m.mantissa + 2 * m.bias
    t = x + magic
    r = x - (t - magic)
    return scaled(m, r * m.horner(r, EXP2 if m.is_single else EXP2_64), m.bits(t))


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
    h = r + m.fma(r * r, _curve(m, r), lost)
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


_HALF_TANH = math.log(3) / 2


def tanh(m: Floats, x: Expr) -> Expr:
    """-e/(2+e) with e = expm1(-2|x|), where |x| beyond which tanh is 1 does not matter."""
    if not m.is_single:
        return _tanh64(m, x)
    y = clamp(-2.0 * absolute(x), low=-20.0)
    h, n = split(m, y, m.bias)
    s = m.power_of_two(n)
    e = m.fma(h, s, s - 1.0)
    return copysign(e / (2.0 + e), x)


def _tanh64(m: Floats, x: Expr) -> Expr:
    """A polynomial below 1/2, and 1 - 2g/(1+g) with g = e^(-2|x|) from there on."""
    a = absolute(x)
    s = x * x
    g = bounded_exp(m, clamp(-2.0 * a, low=-40.0))
    near = m.fma(x * s, m.horner(s, TANH64), x)
    return copysign(select(below(a, _HALF_TANH), near, 1.0 - 2.0 * g / (1.0 + g)), x)


_TINY = 2.0**-12  # below it, sinh(x) and the like are x to f32's accuracy


def odd_by_double(m: Floats, x: Expr, size: Expr) -> Expr:
    """An odd function in f32: `size`, computed in f64 from |x|, or x where that is tiny."""
    return select(below(absolute(x), _TINY), x, copysign(narrowed(size), x))


def sinh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return _sinh64(m, x)
    wide = m.widened()
    e = _exp_of_size(wide, x)
    return odd_by_double(m, x, (e - 1.0 / e) * 0.5)


def cosh(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        e = _quarter_exp(m, x)
        return 2.0 * (e + 0.0625 / e)
    e = _exp_of_size(m.widened(), x)
    return narrowed((e + 1.0 / e) * 0.5)


def _exp_of_size(wide: Floats, x: Expr) -> Expr:
    """e^|x| in f64, for an f32 x; large enough for infinity in f32 from there on."""
    return bounded_exp(wide, cast(clamp(absolute(x), high=200.0), wide.dtype))


def _sinh64(m: Floats, x: Expr) -> Expr:
    """A polynomial below 1, and (e - 1/e)/2 with e = e^|x| from there on."""
    s = x * x
    e = _quarter_exp(m, x)
    near = m.fma(x * s, m.horner(s, SINH64), x)
    return select(below(absolute(x), 1.0), near, copysign(2.0 * (e - 0.0625 / e), x))


def _quarter_exp(m: Floats, x: Expr) -> Expr:
    """e^|x| / 4 in f64, and infinite results left to who multiplies."""
    h, n = split(m, clamp(absolute(x), high=710.6), m.bias - 2)
    s = m.power_of_two(n)
    return m.fma(h, s, s)
