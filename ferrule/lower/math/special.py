"""erf, erfc, erfinv, normal_cdf, pow, hypot, rsqrt, nextafter.

erf needs no division: polynomials, and a power of two. erfc, erfinv and pow are computed in f64,
whose spare bits take up what squares, logarithms and cancellation lose; their formulas are only as
good as f32 needs. Those of f64 are in erf64, erfinv and pow64.
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, call, cast, compare, select
from ferrule.lower.math import erf64, pow64
from ferrule.lower.math.coefficients import (
    ERF,
    ERF_TAIL,
    ERFC64_BOTTOM,
    ERFC64_TOP,
    ERFINV64_BOTTOM,
    ERFINV64_TOP,
    EXP2_TAIL,
    NORMAL_TAIL,
)
from ferrule.lower.math.erfinv import erfinv_of_double
from ferrule.lower.math.exp import bounded_exp
from ferrule.lower.math.floats import (
    INF,
    Floats,
    above,
    absolute,
    below,
    choose,
    clamp,
    copysign,
    narrowed,
    same,
)
from ferrule.lower.math.log import log_of_double


def erf(m: Floats, x: Expr) -> Expr:
    """x * p(x^2) near 0, else 1 - 2^g(|x|) with a polynomial g; the power as in math_exp."""
    if not m.is_single:
        return erf64.erf(m, x)
    a = clamp(absolute(x), high=3.92)
    s = a * a
    near = a * m.horner(s, ERF)
    g = m.horner(a, ERF_TAIL)
    magic = 1.5 * 2.0**m.mantissa + m.bias
    t = g + magic
    power = m.horner(g - (t - magic), EXP2_TAIL)
    far = m.fma(-power, m.power_of_two(m.bits(t)), 1.0)
    return copysign(select(below(a, 0.9), near, far), x)


def normal_cdf(m: Floats, x: Expr) -> Expr:
    """h = 2^g(|x|) for negative x and 1 - h for others, with a polynomial g; within 1.3e-7, and 0
    where g is below the smallest exponent.
    """
    if not m.is_single:
        return erf64.normal_cdf(m, x)
    g = clamp(m.horner(absolute(x), NORMAL_TAIL), low=float(-m.bias))
    h = _power(m, g)
    return select(below(x, 0.0), h, 1.0 - h)


def _power(m: Floats, g: Expr) -> Expr:
    """2^g for a g from -bias, where it is 0, to bias."""
    magic = 1.5 * 2.0**m.mantissa + m.bias
    t = g + magic
    return m.horner(g - (t - magic), EXP2_TAIL) * m.power_of_two(m.bits(t))


def erfc(m: Floats, x: Expr) -> Expr:
    """exp(-z^2) * (a quotient of polynomials) with z = |x|; 2 minus that for negative x."""
    if not m.is_single:
        return erf64.erfc(m, x)
    wide = m.widened()
    z = cast(clamp(absolute(x), high=11.0), wide.dtype)
    tail = bounded_exp(wide, -(z * z)) * wide.horner(z, ERFC64_TOP)
    tail = tail / wide.horner(z, ERFC64_BOTTOM)
    return narrowed(select(below(x, 0.0), 2.0 - tail, tail))


def erfinv(m: Floats, x: Expr) -> Expr:
    """x times a quotient of polynomials in -log(1 - x^2)."""
    if not m.is_single:
        return erfinv_of_double(m, x)
    wide = m.widened()
    a = cast(x, wide.dtype)
    w = -log_of_double(wide, (1.0 - a) * (1.0 + a))
    y = a * wide.horner(w, ERFINV64_TOP) / wide.horner(w, ERFINV64_BOTTOM)
    size = absolute(a)
    edge = select(same(size, 1.0), copysign(wide.number(INF), a), wide.number(math.nan))
    return narrowed(select(below(size, 1.0), y, edge))


def pow(m: Floats, x: Expr, y: Expr) -> Expr:
    """exp(y * log|x|) in f64, with the sign of odd powers; a few constant exponents are products
    and quotients.
    """
    if y.is_const and y.value in _POWERS:
        return _POWERS[y.value](m, x)
    size = absolute(x)
    power = _power_of_size(m, size, y) if m.is_single else pow64.power_of_size(m, size, y)
    whole = same(call("floor", y), y)
    odd = call("and", whole, compare("ne", call("floor", y * 0.5), y * 0.5))
    negative = m.is_negative(x)
    undefined = call("and", call("and", below(x, 0.0), above(x, -INF)), call("not", whole))
    signed = select(call("and", negative, odd), -power, power)
    unit = call("and", same(size, 1.0), same(absolute(y), INF))
    one = call("or", call("or", same(y, 0.0), same(x, 1.0)), unit)
    return choose((one, 1.0), (undefined, math.nan), signed)


def _power_of_size(m: Floats, size: Expr, y: Expr) -> Expr:
    """size^y for size >= 0, of f32."""
    wide = m.widened()
    size, exponent = cast(size, wide.dtype), cast(y, wide.dtype)
    log = choose((same(size, 0.0), -INF), (below(size, INF), log_of_double(wide, size)), size)
    return narrowed(bounded_exp(wide, clamp(exponent * log, -200.0, 200.0)))


_POWERS = {
    -1.0: lambda m, x: 1.0 / x,
    0.0: lambda m, x: m.number(1.0),
    1.0: lambda m, x: x,
    2.0: lambda m, x: x * x,
    3.0: lambda m, x: x * x * x,
    4.0: lambda m, x: (x * x) * (x * x),
}


def hypot(m: Floats, x: Expr, y: Expr) -> Expr:
    """In f64 the squares of f32 neither overflow nor vanish; those of f64 are scaled. An infinite
    side wins over NaN.
    """
    if not m.is_single:
        return _hypot64(m, x, y)
    wide = m.widened()
    a, b = cast(x, wide.dtype), cast(y, wide.dtype)
    infinite = call("or", same(absolute(x), INF), same(absolute(y), INF))
    return select(infinite, m.number(INF), narrowed(call("sqrt", wide.fma(a, a, b * b))))


def _hypot64(m: Floats, x: Expr, y: Expr) -> Expr:
    a, b = absolute(x), absolute(y)
    most = call("max", a, b)
    up, down = m.number(2.0**600), m.number(2.0**-600)
    scale = choose((above(most, 2.0**500), down), (below(most, 2.0**-500), up), m.number(1.0))
    back = choose((above(most, 2.0**500), up), (below(most, 2.0**-500), down), m.number(1.0))
    p, q = a * scale, b * scale
    infinite = call("or", same(a, INF), same(b, INF))
    return select(infinite, m.number(INF), call("sqrt", m.fma(p, p, q * q)) * back)


def rsqrt(m: Floats, x: Expr) -> Expr:
    return 1.0 / call("sqrt", x)


def nextafter(m: Floats, x: Expr, y: Expr) -> Expr:
    """The bits of x moved by one, away from zero or towards it; from zero, the least subnormal."""
    bits, one = m.bits(x), m.mask(1)
    outward = compare("eq", below(x, y), above(x, 0.0))
    moved = m.value(select(outward, bits + one, bits - one))
    first = copysign(m.value(one), y)
    step = choose((same(x, y), y), (same(x, 0.0), first), moved)
    return select(call("or", call("isnan", x), call("isnan", y)), x + y, step)
