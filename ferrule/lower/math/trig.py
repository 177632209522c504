"""The trigonometric functions and their inverses: those of f32, and asin and acos of both.

sin, cos and tan reduce |x| to r = |x| - q*pi/2, |r| <= pi/4, in fixed point (Payne and Hanek,
"Radian Reduction for Trigonometric Functions", 1983), one way for every size of x: with
|x| = M * 2^e, M an integer of 24 bits, the fraction of |x| * 2/pi / 4 is M times the bits of 2/pi
from some place on, which is where a 64-bit window is cut out of a constant; what stands to the left
of it are whole turns. The product's upper two bits are the quadrant q, the others r to 60 bits.
Below pi/4, r is |x| itself. The others of f64 are in trig64.
"""

from __future__ import annotations

import math

from ferrule.base.dtype import f64, i32, u32, u64
from ferrule.ir.expr import Expr, bitcast, call, cast, compare, const, maximum, select
from ferrule.lower.math import trig64
from ferrule.lower.math.coefficients import ASIN, ASIN64, ATAN, COS, SIN
from ferrule.lower.math.floats import (
    Floats,
    above,
    absolute,
    below,
    choose,
    copysign,
    finite,
    ordered_sum,
    same,
)

# 2/pi to 288 bits after 32 zeros, in words of 64 bits, the first most significant.
_TWO_OVER_PI = (
    0x00000000A2F9836E, 0x4E441529FC2757D1, 0xF534DDC0DB629599, 0x3C439041FE5163AB,
    0xDEBBC561B7246E3A,
)  # fmt: skip
_FIRST_EXPONENT = 120  # the exponent field for which the window begins at the constant's first bit
_SIGN = -(1 << 31)


def _reduced(m: Floats, x: Expr) -> tuple[Expr, Expr]:
    """(q as an i32 with more than its two low bits, r) of |x|; anything for inf and NaN."""
    size = absolute(x)
    bits = m.bits(size)
    exponent = call("shr", bits, const(23, i32))
    significand = call("or", call("and", bits, const(0x7FFFFF, i32)), const(0x800000, i32))
    turns = _turns(_unsigned(significand), maximum(exponent - _FIRST_EXPONENT, const(0, i32)))
    near = turns + const(1 << 61, u64)
    quadrant = bitcast(cast(call("shr", near, const(62, u64)), u32), i32)
    rest = call("shl", turns, const(2, u64))  # signed: quadrants from the nearest one, times 2^64
    high = bitcast(cast(call("shr", rest, const(32, u64)), u32), i32)
    low = bitcast(call("shr", cast(rest, u32), const(1, u32)), i32)
    wide = m.widened()
    r = cast(wide.fma(cast(high, f64), 2.0**31, cast(low, f64)) * (math.pi / 2 * 2.0**-63), m.dtype)
    small = below(size, math.pi / 4)
    return select(small, const(0, i32), quadrant), select(small, size, r)


def _unsigned(x: Expr) -> Expr:
    return cast(bitcast(x, u32), u64)


def _turns(significand: Expr, offset: Expr) -> Expr:
    """The fraction of significand * (the constant from bit `offset` on), times 2^64."""
    offset = _unsigned(offset)
    word = call("shr", offset, const(6, u64))
    shift = call("and", offset, const(63, u64))
    is_first, is_second = (compare("eq", word, const(i, u64)) for i in (0, 1))

    def words(k: int) -> Expr:
        a, b, c = (const(w, u64) for w in _TWO_OVER_PI[k : k + 3])
        return choose((is_first, a), (is_second, b), c)

    def window(high: Expr, low: Expr) -> Expr:
        spill = call("shr", call("shr", low, const(1, u64)), const(63, u64) - shift)
        return call("or", call("shl", high, shift), spill)

    first, second, third = words(0), words(1), words(2)
    upper = significand * window(first, second)
    lower = significand * call("shr", window(second, third), const(32, u64))
    return upper + call("shr", lower, const(32, u64))


def _sin_cos(m: Floats, r: Expr) -> tuple[Expr, Expr]:
    """sin(r) and cos(r) for |r| <= pi/4."""
    s = r * r
    sine = m.fma(s * r, m.horner(s, SIN), r)
    cosine = m.fma(s * s, m.horner(s, COS), m.fma(s, -0.5, 1.0))
    return sine, cosine


def _odd(q: Expr) -> Expr:
    return compare("ne", call("and", q, const(1, i32)), const(0, i32))


def _flipped(m: Floats, y: Expr, sign: Expr) -> Expr:
    """y with its sign changed where the sign bit of the integer `sign` is set."""
    return m.value(call("xor", m.bits(y), call("and", sign, const(_SIGN, i32))))


def sin(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return trig64.sin(m, x)
    q, r = _reduced(m, x)
    sine, cosine = _sin_cos(m, r)
    sign = call("xor", call("shl", q, const(30, i32)), m.bits(x))
    return finite(x, _flipped(m, select(_odd(q), cosine, sine), sign))


def cos(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return trig64.cos(m, x)
    q, r = _reduced(m, x)
    sine, cosine = _sin_cos(m, r)
    sign = call("shl", q + 1, const(30, i32))
    return finite(x, _flipped(m, select(_odd(q), sine, cosine), sign))


def tan(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return trig64.tan(m, x)
    q, r = _reduced(m, x)
    sine, cosine = _sin_cos(m, r)
    odd = _odd(q)
    y = select(odd, cosine, sine) / select(odd, sine, cosine)
    return finite(x, _flipped(m, y, call("xor", call("shl", q, const(31, i32)), m.bits(x))))


# ---- inverses ------------------------------------------------------------------------------------


def _asin_parts(m: Floats, a: Expr) -> tuple[Expr, Expr, Expr]:
    """(whether a > 1/2, p, q) with asin(a) = p + q, or pi/2 - 2(p + q) where a > 1/2, for a >= 0;
    q is small beside p.
    """
    big = above(a, 0.5)
    s = select(big, m.fma(a, -0.5, 0.5), a * a)
    w = select(big, call("sqrt", s), a)
    return big, w, w * s * m.horner(s, ASIN if m.is_single else ASIN64)


def _half_pi(m: Floats) -> tuple[float, float]:
    """pi/2 as the sum of two of m's numbers."""
    if not m.is_single:
        return trig64.HALF_PI
    high = float(m.dtype.numpy.type(math.pi / 2))
    return high, math.pi / 2 - high


def asin(m: Floats, x: Expr) -> Expr:
    big, p, q = _asin_parts(m, absolute(x))
    high, low = _half_pi(m)
    far, lost = ordered_sum(m.number(high), -2.0 * p)
    return copysign(select(big, far + (m.fma(q, -2.0, low) + lost), p + q), x)


def acos(m: Floats, x: Expr) -> Expr:
    """2(p + q) near 1, pi less that near -1, pi/2 - asin(x) between."""
    big, p, q = _asin_parts(m, absolute(x))
    negative = below(x, 0.0)
    high, low = _half_pi(m)
    far = m.fma(p, -2.0, 2 * high) + m.fma(q, -2.0, 2 * low)
    near = high - (copysign(p + q, x) - low)
    return select(big, select(negative, far, 2.0 * (p + q)), near)


def _atan_small(m: Floats, t: Expr) -> Expr:
    """atan(t) for 0 <= t <= 1."""
    s = t * t
    return m.fma(t * s, m.horner(s, ATAN), t)


def atan(m: Floats, x: Expr) -> Expr:
    if not m.is_single:
        return trig64.atan(m, x)
    a = absolute(x)
    big = above(a, 1.0)
    p = _atan_small(m, select(big, 1.0 / a, a))
    return copysign(select(big, math.pi / 2 - p, p), x)


def atan2(m: Floats, y: Expr, x: Expr) -> Expr:
    """The angle of (x, y); equal infinities count as equal sizes, and zeros as on the axis of x."""
    if not m.is_single:
        return trig64.atan2(m, y, x)
    a, b = absolute(y), absolute(x)
    least, most = call("min", a, b), call("max", a, b)
    equal = call("and", same(a, b), above(a, 0.0))
    p = _atan_small(m, choose((equal, 1.0), (same(least, 0.0), least), least / most))
    p = select(above(a, b), math.pi / 2 - p, p)
    backwards = m.is_negative(x)
    return copysign(select(backwards, math.pi - p, p), y)
