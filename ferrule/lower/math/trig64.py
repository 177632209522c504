"""The trigonometric functions of f64 and their inverses.

sin, cos and tan reduce |x| in fixed point, as those of f32 do (Payne and Hanek, "Radian Reduction
for Trigonometric Functions", 1983): |x| = M * 2^e with an integer M of 53 bits, and the fraction of
|x| * 2/pi / 4 is M times 192 bits of 2/pi, which begin where whole turns end. The upper 128 bits of
the product are kept; no f64 is so near a multiple of pi/2 that fewer than 64 significant bits are
left. What is left of the quadrant becomes a sum of two numbers, r + rest with |r| <= pi/4, and the
polynomials are corrected by the second, as in FreeBSD's k_sin.c and k_cos.c.

The inverses follow the tangent of a difference: atan(t) = c + atan((t - b) / (1 + b*t)) with
b = tan(c).
"""

from __future__ import annotations

import math
from itertools import pairwise

from ferrule.base.dtype import u64
from ferrule.ir.expr import Expr, call, cast, compare, const, maximum, minimum, select
from ferrule.lower.math.coefficients import ATAN64, COS64, SIN64
from ferrule.lower.math.floats import (
    Floats,
    Pair,
    above,
    absolute,
    below,
    choose,
    copysign,
    finite,
    ordered_sum,
    same,
)

# 2/pi to 1161 bits after 55 zeros, in words of 64 bits, the first most significant.
_TWO_OVER_PI = (
    0x0000000000000145, 0xF306DC9C882A53F8, 0x4EAFA3EA69BB81B6, 0xC52B3278872083FC,
    0xA2C757BD778AC36E, 0x48DC74849BA5C00C, 0x925DD413A32439FC, 0x3BD63962534E7DD1,
    0x046BEA5D768909D3, 0x38E04D68BEFC8273, 0x23AC7306A673E939, 0x08BF177BF250763F,
    0xF12FFFBC0B301FDE, 0x5E2316B414DA3EDA, 0x6CFD9E4F96136E9E, 0x8C7ECD3CBFD45AEA,
    0x4F758FD7CBE2F67A, 0x0E73EF14A525D4D7, 0xF6BF623F1ABA10AC,
)  # fmt: skip
_FIRST_EXPONENT = 1022  # the exponent field for which the window begins at the first bit
_LAST_EXPONENT = _FIRST_EXPONENT + 1023  # the last for which 10 bits say where it begins
_LOW = (1 << 32) - 1
_SIGN = 1 << 63
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)  # rounded, and what is left
_QUARTER_PI = (0.7853981633974483, 3.061616997868383e-17)
_THREE_QUARTERS_PI = (2.356194490192345, 9.184850993605148e-17)


def _shl(x: Expr, by: Expr | int) -> Expr:
    return call("shl", x, by if isinstance(by, Expr) else const(by, u64))


def _shr(x: Expr, by: Expr | int) -> Expr:
    return call("shr", x, by if isinstance(by, Expr) else const(by, u64))


def _and(x: Expr, mask: int) -> Expr:
    return call("and", x, const(mask, u64))


def _is_odd(x: Expr) -> Expr:
    return compare("ne", _and(x, 1), const(0, u64))


# ---- reduction -----------------------------------------------------------------------------------


def _reduced(m: Floats, x: Expr) -> tuple[Expr, Expr, Expr]:
    """(q, r, rest) with |x| = q*pi/2 + r + rest; q is a u64 below 4. Anything for inf and NaN."""
    size = absolute(x)
    high, low = _turns(m, size)
    quadrant = _shr(high + const(1 << 61, u64), 62)
    high, low = call("or", _shl(high, 2), _shr(low, 62)), _shl(low, 2)
    negative = const(0, u64) - _shr(high, 63)  # all bits or none; signed from the nearest quadrant
    high, low = call("xor", high, negative), call("xor", low, negative)
    first, second = _as_floats(m, high, low)
    sign = _and(negative, _SIGN)
    first, second = (m.value(call("xor", m.bits(v), sign)) for v in (first, second))
    p, lost = m.product(first, HALF_PI[0])
    lost = lost + m.fma(first, HALF_PI[1], second * HALF_PI[0])
    r, rest = ordered_sum(p, lost)
    small = below(size, math.pi / 4)
    zero = m.number(0.0)
    return (
        select(small, const(0, u64), quadrant), select(small, size, r), select(small, zero, rest)
    )  # fmt: skip


def _turns(m: Floats, size: Expr) -> tuple[Expr, Expr]:
    """The fraction of size * 2/pi / 4, times 2^128, in two words; of numbers from 1/2 on."""
    bits = m.bits(size)
    exponent = _shr(bits, 52)
    significand = call("or", _and(bits, (1 << 52) - 1), const(1 << 52, u64))
    over = compare("gt", exponent, const(_LAST_EXPONENT, u64))
    significand = select(over, _shl(significand, 1), significand)
    exponent = minimum(exponent, const(_LAST_EXPONENT, u64))
    offset = maximum(exponent, const(_FIRST_EXPONENT, u64)) - const(_FIRST_EXPONENT, u64)
    first, second, third = _window(offset)
    high, low = _wide_product(significand, second)
    small, _ = _wide_product(significand, third)
    total = low + small
    carry = cast(compare("lt", total, low), u64)
    return significand * first + high + carry, total


def _window(offset: Expr) -> list[Expr]:
    """Three words of the constant from bit `offset` on: words are chosen by the bits of its number,
    the uppermost first.
    """
    words: list[Expr] = [const(w, u64) for w in _TWO_OVER_PI]
    for bit in (8, 4, 2, 1):
        later = compare("ne", _and(offset, 64 * bit), const(0, u64))
        words = [select(later, words[k + bit], words[k]) for k in range(3 + bit)]
    shift = _and(offset, 63)
    back = const(63, u64) - shift
    return [call("or", _shl(a, shift), _shr(_shr(b, 1), back)) for a, b in pairwise(words)]


def _wide_product(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """The words of a * b, for an `a` below 2^54."""
    a1, a0, b1, b0 = _shr(a, 32), _and(a, _LOW), _shr(b, 32), _and(b, _LOW)
    low, cross = a0 * b0, a0 * b1
    middle = _shr(low, 32) + a1 * b0 + _and(cross, _LOW)
    high = a1 * b1 + _shr(cross, 32) + _shr(middle, 32)
    return high, call("or", _shl(middle, 32), _and(low, _LOW))


def _as_floats(m: Floats, high: Expr, low: Expr) -> Pair:
    """The 128 bits of two words, the first below 2^63, times 2^-128, as a sum of two numbers. 51,
    52 and 24 bits are put below a power of two, which is subtracted.
    """

    def below_power(bits: Expr, exponent: int) -> Expr:
        power = const((m.bias + exponent) << m.mantissa, u64)
        return m.value(call("or", bits, power)) - 2.0**exponent

    middle = call("or", _shl(_and(high, 0xFFF), 40), _shr(low, 24))
    a, b = ordered_sum(below_power(_shr(high, 12), 0), below_power(middle, -52))
    return ordered_sum(a, b + below_power(_and(low, 0xFFFFFF), -76))


def _sine(m: Floats, r: Expr, rest: Expr) -> Pair:
    """sin(r + rest) for |r| <= pi/4, as r and the difference."""
    z = r * r
    cube = z * r
    inner = m.fma(z, m.fma(cube, -m.horner(z, SIN64[1:]), 0.5 * rest), -rest)
    return r, -m.fma(cube, -SIN64[0], inner)


def _cosine(m: Floats, r: Expr, rest: Expr) -> Pair:
    """cos(r + rest) for |r| <= pi/4, as 1 - r^2/2 and the difference."""
    z = r * r
    half = 0.5 * z
    most = 1.0 - half
    return most, ((1.0 - most) - half) + m.fma(z * z, m.horner(z, COS64), -(r * rest))


def _either(odd: Expr, a: Pair, b: Pair) -> Pair:
    return select(odd, a[0], b[0]), select(odd, a[1], b[1])


def _flipped(m: Floats, y: Expr, sign: Expr) -> Expr:
    """y with its sign changed where the sign bit of the integer `sign` is set."""
    return m.value(call("xor", m.bits(y), _and(sign, _SIGN)))


def sin(m: Floats, x: Expr) -> Expr:
    q, r, rest = _reduced(m, x)
    high, low = _either(_is_odd(q), _cosine(m, r, rest), _sine(m, r, rest))
    return finite(x, _flipped(m, high + low, call("xor", _shl(q, 62), m.bits(x))))


def cos(m: Floats, x: Expr) -> Expr:
    q, r, rest = _reduced(m, x)
    high, low = _either(_is_odd(q), _sine(m, r, rest), _cosine(m, r, rest))
    return finite(x, _flipped(m, high + low, _shl(q + const(1, u64), 62)))


def tan(m: Floats, x: Expr) -> Expr:
    q, r, rest = _reduced(m, x)
    odd, cosine = _is_odd(q), ordered_sum(*_cosine(m, r, rest))
    sine = ordered_sum(*_sine(m, r, rest))
    high, low = m.quotient(_either(odd, cosine, sine), _either(odd, sine, cosine))
    return finite(x, _flipped(m, high + low, call("xor", _shl(q, 63), m.bits(x))))


# ---- inverses ------------------------------------------------------------------------------------


def angle(m: Floats, a: Expr, b: Expr, backwards: Expr | None = None) -> Expr:
    """atan(a / b) for a, b >= 0 of which one is finite, or pi less that where `backwards`; 0 where
    both are 0.

    Up to 1/2, from 2 on, and between, the angle is that of a/b beside 0, of -b/a beside pi/2 and of
    (a-b)/(a+b) beside pi/4, whose differences are exact.
    """
    near, far = compare("le", a, 0.5 * b), above(a, 2.0 * b)
    top = choose((near, a), (far, -b), a - b)
    bottom = choose((near, b), (far, a), a + b)
    nothing = call("and", near, same(a, 0.0))
    t = select(nothing, a, top / bottom)
    s = t * t
    turned = m.fma(t * s, m.horner(s, ATAN64), t)

    def base(part: int) -> Expr:
        ends = [m.number(c[part]) for c in (HALF_PI, _QUARTER_PI)]
        out = choose((near, 0.0), (far, ends[0]), ends[1])
        if backwards is None:
            return out
        third = m.number(_THREE_QUARTERS_PI[part])
        other = choose((near, 2 * HALF_PI[part]), (far, ends[0]), third)
        return select(backwards, other, out)

    signed = turned if backwards is None else select(backwards, -turned, turned)
    return base(0) + (base(1) + signed)


def atan(m: Floats, x: Expr) -> Expr:
    return copysign(angle(m, absolute(x), m.number(1.0)), x)


def atan2(m: Floats, y: Expr, x: Expr) -> Expr:
    """Scaled down where a sum of the sizes could overflow. Equal infinities are equal sizes."""
    a, b = absolute(y), absolute(x)
    scale = select(above(call("max", a, b), 2.0**1000), m.number(0.25), m.number(1.0))
    equal = call("and", same(a, b), above(a, 0.0))
    a, b = (select(equal, m.number(1.0), v * scale) for v in (a, b))
    backwards = m.is_negative(x)
    return copysign(angle(m, a, b, backwards), y)
