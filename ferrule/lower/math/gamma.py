"""lgamma and digamma, computed in f64.

Far out they are Stirling's series (Abramowitz and Stegun, 6.1.41 and 6.3.18); near 0 the recurrence
leads to where an approximation holds, and negative arguments are reflected (6.1.17, 6.3.7).
"""

from __future__ import annotations

import math

from ferrule.ir.expr import Expr, call, cast, compare, select
from ferrule.lower.math.coefficients import LGAMMA64_BOTTOM, LGAMMA64_TOP
from ferrule.lower.math.floats import (
    INF,
    Floats,
    above,
    absolute,
    below,
    choose,
    copysign,
    narrowed,
    same,
)
from ferrule.lower.math.log import log, log_of_double

_FAR = 8.5  # from here on lgamma is Stirling's series


def lgamma(m: Floats, x: Expr) -> Expr:
    """log|gamma(x)|, infinite at the poles. Beside its roots at 1 and 2 it is within a few units in
    the last place; below 0, where there is a root between any two poles, as near as its terms are.
    """
    wide = m.widened()
    a = cast(x, wide.dtype)
    z = absolute(a)
    near, steps = _shifted(wide, z)
    far, tiny, low = compare("ge", z, wide.number(_FAR)), below(z, 0.5), below(z, 1.5)
    ratio = select(far, wide.number(1.0), wide.horner(near, LGAMMA64_TOP))
    ratio = ratio / select(far, z, wide.horner(near, LGAMMA64_BOTTOM))
    logarithm = log(wide, select(far, z, steps))
    square = ratio * ratio
    series = wide.fma(ratio, wide.horner(square, _LGAMMA_SERIES), 0.5 * math.log(2 * math.pi) - 0.5)
    series = wide.fma(z - 0.5, logarithm - 1.0, series)
    base = near * ratio
    positive = select(far, series, base + select(low, -logarithm, logarithm))
    sine = absolute(_sine_of_turns(wide, _turn(wide, z - call("floor", z))))
    over = select(low, wide.number(1.0), select(far, z, z * steps))
    under = math.pi * select(tiny, 1.0 + z, wide.number(1.0))
    negative = -log(wide, sine * over / under) - select(far, series, base)
    pole = call("or", same(sine, 0.0), same(z, INF))
    mirrored = select(pole, wide.number(INF), negative)
    out = select(below(a, 0.0), mirrored, positive)
    return narrowed(out) if m.is_single else out


def _shifted(m: Floats, z: Expr) -> tuple[Expr, Expr]:
    """(d, p) where gamma(z) is gamma(2 + d), |d| <= 1/2, times p, or from 3/2 down by it."""
    at, steps = z, m.number(1.0)
    for k in range(1, int(_FAR - 1.5)):
        passed = compare("ge", z, m.number(k + 1.5))
        at = select(passed, z - float(k), at)
        steps = steps * select(passed, z - float(k), m.number(1.0))
    tiny, low = below(z, 0.5), below(z, 1.5)
    return (
        choose((tiny, z), (low, z - 1.0), at - 2.0),
        choose((tiny, z * (1.0 + z)), (low, z), steps),
    )


def _turn(m: Floats, part: Expr) -> Expr:
    """What is left of a fraction to the nearest integer."""
    return part - select(above(part, 0.5), m.number(1.0), m.number(0.0))


def _sine_of_turns(m: Floats, t: Expr) -> Expr:
    """sin(pi * t) for |t| <= 1/2."""
    return t * m.horner(t * t, _SIN_PI)


def digamma(m: Floats, x: Expr) -> Expr:
    """In f64: Stirling's series at x + 10, less 1/x + .. + 1/(x + 9); below 0 by reflection."""
    wide = m.widened()
    a = cast(x, wide.dtype)
    negative = below(a, 0.0)
    z = select(negative, 1.0 - a, a)
    steps = 1.0 / z
    for k in range(1, _SHIFT):
        steps = steps + 1.0 / (z + float(k))
    t = z + float(_SHIFT)
    r = 1.0 / (t * t)
    y = log_of_double(wide, t) - 0.5 / t - r * wide.horner(r, _STIRLING) - steps
    part = a - call("floor", a)
    turn = _turn(wide, part)
    cotangent = wide.horner(turn * turn, _COS_PI) / _sine_of_turns(wide, turn)
    mirrored = y - math.pi * cotangent
    pole = call("and", negative, same(part, 0.0))
    out = choose(
        (same(a, 0.0), -copysign(wide.number(INF), a)),
        (call("or", pole, same(a, -INF)), math.nan),
        (same(a, INF), a),
        (negative, mirrored),
        y,
    )
    return narrowed(out) if m.is_single else out


_SHIFT = 10
_COS_PI = tuple((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(12))
_SIN_PI = tuple(
    (-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(12)
)  # of t in [-1/2, 1/2], sin divided by t
_STIRLING = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_LGAMMA_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
