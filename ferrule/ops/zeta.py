"""Zeta: Hurwitz's zeta function, and the polygamma functions that follow from it.

    zeta(x, q) = sum over k >= 0 of 1 / (q + k)^x
    polygamma(n, x) = (-1)^(n + 1) * n! * zeta(n + 1, x), the n-th derivative of digamma

The first ten terms are summed, and the rest of them is Euler's and Maclaurin's formula with twelve
terms (Johansson, "Rigorous high-precision computation of the Hurwitz zeta function", 2015, (5)).
All is computed in f64. It is good for q above about -10: further down ten terms do not lead to
where the formula holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.dtype import f64
from ferrule.ir.expr import Expr, call, cast, compare, const, select
from ferrule.ir.operators import special
from ferrule.ops.op import Array, operator_of_elements

_TERMS = 10
# B(2k) / (2k)!, from k = 1 on
_TAIL = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -1 / 1892437580.3183791606,
    1 / 7.47242496e10, -1 / 2.950130727918164224e12, 1 / 1.1646782814350067249e14,
    -1 / 4.5979787224074726105e15, 1 / 1.8152105401943546773e17, -1 / 7.1661652561756670113e18,
)  # fmt: skip


def _zeta_meaning(x: Array, q: Array) -> Array:
    wide = np.vectorize(_zeta_of_numbers, otypes=[np.float64])
    return np.asarray(wide(x.astype(np.float64), q.astype(np.float64))).astype(x.dtype)


def _zeta_of_numbers(x: Any, q: Any) -> Any:
    x, q = np.float64(x), np.float64(q)  # whose powers are inf where they overflow
    if x == 1:
        return np.inf
    if not x > 1 or np.isnan(q) or (q <= 0 and x != np.floor(x)):
        return np.nan
    if q <= 0 and q == np.floor(q):
        return np.inf if x % 2 == 0 else np.nan
    w = q + _TERMS
    factors = x * w ** (-x - 1)
    total = sum((q + k) ** -x for k in range(_TERMS)) + w ** (1 - x) / (x - 1) + 0.5 * w**-x
    for k, c in enumerate(_TAIL, 1):
        total += c * factors
        factors *= (x + 2 * k - 1) * (x + 2 * k) / (w * w)
    return total


@operator_of_elements(_zeta_meaning, accepts="f")
def zeta(x: Expr, q: Expr) -> Expr:
    """Hurwitz's zeta function: infinite at x = 1, NaN for x below 1; at q = 0, -1, .. infinite
    where x is even, else NaN, as it is for other negative q where x is no integer.
    """
    return cast(_zeta(cast(x, f64), cast(q, f64)), x.dtype)


def _zeta(x: Expr, q: Expr) -> Expr:
    one, zero = const(1, f64), const(0, f64)
    total = call("pow", q, -x)
    for k in range(1, _TERMS):
        total = total + call("pow", q + float(k), -x)
    w = q + float(_TERMS)
    last, square = call("pow", w, -x), one / (w * w)
    tail = const(_TAIL[-1], f64)
    for k in range(len(_TAIL) - 1, 0, -1):
        tail = (x + float(2 * k)) * (x + float(2 * k - 1)) * square * tail + _TAIL[k - 1]
    rest = last * (w / (x - 1.0) + (x / w * tail + 0.5))
    total = total + select(compare("eq", last, zero), last, rest)
    whole = compare("eq", call("floor", x), x)
    low = compare("le", q, zero)
    pole = call("and", low, compare("eq", call("floor", q), q))
    even = compare("eq", call("rem", x, const(2, f64)), zero)
    nan = const(np.nan, f64)
    total = select(pole, select(even, const(np.inf, f64), nan), total)
    outside = call("or", compare("lt", x, one), call("and", low, call("not", whole)))
    return select(compare("eq", x, one), const(np.inf, f64), select(outside, nan, total))


def _polygamma_meaning(n: Array, x: Array) -> Array:
    wide = np.vectorize(_polygamma_of_numbers, otypes=[np.float64])
    return np.asarray(wide(n.astype(np.float64), x.astype(np.float64))).astype(x.dtype)


def _polygamma_of_numbers(n: Any, x: Any) -> Any:
    if n == 0:
        return special.digamma(np.asarray(x))
    if not n > 0 or n != np.floor(n):
        return np.nan
    sign = 1.0 if n % 2 else -1.0
    return sign * np.exp(special.lgamma(np.asarray(n + 1))) * _zeta_of_numbers(n + 1, x)


@operator_of_elements(_polygamma_meaning, accepts="f")
def polygamma(n: Expr, x: Expr) -> Expr:
    """The n-th derivative of digamma at `x`; NaN where n is no integer from 0 on."""
    order, at = cast(n, f64), cast(x, f64)
    zero = const(0, f64)
    odd = compare("ne", call("rem", order, const(2, f64)), zero)
    size = call("exp", call("lgamma", order + 1.0)) * _zeta(order + 1.0, at)
    found = select(odd, size, -size)
    found = select(compare("eq", order, zero), call("digamma", at), found)
    whole = call("and", compare("le", zero, order), compare("eq", call("floor", order), order))
    return cast(select(whole, found, const(np.nan, f64)), x.dtype)
