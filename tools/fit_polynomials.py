"""Derives the coefficients of ferrule.lower's mathematics and prints them as a Python module:

    python tools/fit_polynomials.py > ferrule/lower/math/coefficients.py

Each entry of TABLE is a minimax fit (tools/remez.py) of a smooth part of a function, under the
weight that makes the error relative to the function's own result. The error that is printed is
that of the rounded coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf
from remez import Function, fit, horner

mp.dps = 50


@dataclass(frozen=True)
class Entry:
    """`f` is fitted by degree over `below` on `interval`, in a variable whose `warp`-th root is
    smooth. `meaning` is printed as a comment.
    """

    name: str
    meaning: str
    f: Function
    interval: tuple[float, float]
    degree: int
    below: int = 0
    weight: Function = lambda x: mpf(1)
    warp: int = 1
    dtype: type = np.float32


def near_zero(exact: Function, series: Callable[[mpf], mpf]) -> Function:
    """`exact`, and its first terms where it is 0/0."""
    return lambda x: series(x) if abs(x) < mpf(10) ** -15 else exact(x)


def of_square(f: Function) -> Function:
    """f(sqrt(s)) for s >= 0."""
    return lambda s: f(mp.sqrt(s))


def _exp(r: mpf) -> mpf:
    return (mp.expm1(r) - r) / r**2


def _log(f: mpf) -> mpf:
    return (mp.log1p(f) - f + f**2 / 2) / f**3


def _log_quotient(s: mpf) -> mpf:
    return (mp.log((1 + s) / (1 - s)) / s - 2) / s**2


def _log_quotient_rest(s: mpf) -> mpf:
    return (_log_quotient(s) - mpf(2) / 3) / s**2


ERFCX_CENTRE = mpf(61) / 16  # near where u has its middle; the first coefficient rounds well


def _scaled_erfc(u: mpf) -> mpf:
    """(1 + 2a) * e^(a^2) * erfc(a) where u = (a - c) / (a + c), c = ERFCX_CENTRE."""
    a = ERFCX_CENTRE * (1 + u) / (1 - u)
    return (1 + 2 * a) * mp.exp(a * a) * mp.erfc(a)


def _lgamma(d: mpf) -> mpf:
    return mp.loggamma(2 + d) / d


def _tail(x: mpf) -> mpf:
    return mp.erfc(x / mp.sqrt(2)) / 2


def _erfinv(w: mpf) -> mpf:
    """erfinv(x) / x where w = -log(1 - x*x)."""
    x = mp.sqrt(-mp.expm1(-w))
    guess = mpf(mp.erfinv(x)) if x < mpf("0.9") else mp.sqrt(w)
    tail = 1 - x if w < 60 else mp.exp(-w) / 2
    return mp.findroot(lambda y: mp.log(mp.erfc(y)) - mp.log(tail), guess) / x


HALF_LN2, FOURTH_PI = 0.34658, 0.78540
TABLE = (
    Entry("EXP", "(e^r - 1 - r) / r^2, |r| <= ln(2)/2",
          near_zero(_exp, lambda r: mpf(1) / 2 + r / 6), (-HALF_LN2, HALF_LN2), 4,
          weight=lambda r: abs(r)),
    Entry("EXP2", "(2^r - 1) / r, |r| <= 1/2",
          near_zero(lambda r: mp.expm1(r * mp.ln2) / r, lambda r: mp.ln2 + r * mp.ln2**2 / 2),
          (-0.5, 0.5), 5),
    Entry("LOG", "(log(1+f) - f + f^2/2) / f^3, 2/3 <= 1+f < 4/3",
          near_zero(_log, lambda f: mpf(1) / 3 - f / 4), (-0.33334, 0.33334), 7,
          weight=lambda f: f**2),
    Entry("SIN", "(sin(r) - r) / r^3 in r^2, |r| <= pi/4",
          near_zero(of_square(lambda r: (mp.sin(r) - r) / r**3), lambda s: -mpf(1) / 6),
          (0, FOURTH_PI**2), 2, weight=lambda s: s),
    Entry("COS", "(cos(r) - 1 + r^2/2) / r^4 in r^2, |r| <= pi/4",
          near_zero(of_square(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4), lambda s: mpf(1) / 24),
          (0, FOURTH_PI**2), 2, weight=lambda s: s**2),
    Entry("ASIN", "(asin(x) - x) / x^3 in x^2, |x| <= 1/2",
          near_zero(of_square(lambda x: (mp.asin(x) - x) / x**3), lambda s: mpf(1) / 6),
          (0, 0.25), 4, weight=lambda s: s),
    Entry("ATAN", "(atan(t) - t) / t^3 in t^2, |t| <= 1",
          near_zero(of_square(lambda t: (mp.atan(t) - t) / t**3), lambda s: -mpf(1) / 3),
          (0, 1), 7, weight=lambda s: s),
    Entry("ERF", "erf(x) / x in x^2, |x| <= 0.9",
          near_zero(of_square(lambda x: mp.erf(x) / x), lambda s: 2 / mp.sqrt(mp.pi) * (1 - s / 3)),
          (0, 0.81), 5),
    Entry("ERF_TAIL", "log2(erfc(x)), 0.9 <= x <= 3.92", lambda x: mp.log(mp.erfc(x), 2),
          (0.9, 3.92), 6, weight=mp.erfc),
    Entry("NORMAL_TAIL", "log2(erfc(x / sqrt(2)) / 2), 0 <= x <= 5.6, and falling for all x > 0",
          lambda x: mp.log(_tail(x), 2), (0, 5.6), 8, weight=_tail),
    Entry("EXP2_TAIL", "2^r, |r| <= 1/2", lambda r: mpf(2) ** r, (-0.5, 0.5), 5),
    Entry("EXP64", "(e^r - 1 - r) / r^2, |r| <= ln(2)/2",
          near_zero(_exp, lambda r: mpf(1) / 2 + r / 6), (-HALF_LN2, HALF_LN2), 10,
          weight=lambda r: abs(r), dtype=np.float64),
    Entry("LOG64", "(log((1+s)/(1-s)) / s - 2) / s^2 in s^2, 1/sqrt(2) <= (1+s)/(1-s) <= sqrt(2)",
          near_zero(of_square(_log_quotient), lambda q: mpf(2) / 3), (0, 0.1716**2), 6,
          weight=lambda q: q, dtype=np.float64),
    Entry("EXP2_64", "(2^r - 1) / r, |r| <= 1/2",
          near_zero(lambda r: mp.expm1(r * mp.ln2) / r, lambda r: mp.ln2 + r * mp.ln2**2 / 2),
          (-0.5, 0.5), 11, dtype=np.float64),
    Entry("SINH64", "(sinh(x) - x) / x^3 in x^2, |x| <= 1",
          near_zero(of_square(lambda x: (mp.sinh(x) - x) / x**3), lambda s: mpf(1) / 6),
          (0, 1), 6, weight=lambda s: s, dtype=np.float64),
    Entry("TANH64", "(tanh(x) - x) / x^3 in x^2, |x| <= ln(3)/2",
          near_zero(of_square(lambda x: (mp.tanh(x) - x) / x**3), lambda s: -mpf(1) / 3),
          (0, 0.3018), 9, weight=lambda s: s, dtype=np.float64),
    Entry("SIN64", "(sin(r) - r) / r^3 in r^2, |r| <= pi/4",
          near_zero(of_square(lambda r: (mp.sin(r) - r) / r**3), lambda s: -mpf(1) / 6),
          (0, FOURTH_PI**2), 5, weight=lambda s: s, dtype=np.float64),
    Entry("COS64", "(cos(r) - 1 + r^2/2) / r^4 in r^2, |r| <= pi/4",
          near_zero(of_square(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4), lambda s: mpf(1) / 24),
          (0, FOURTH_PI**2), 5, weight=lambda s: s**2, dtype=np.float64),
    Entry("ASIN64", "(asin(x) - x) / x^3 in x^2, |x| <= 1/2",
          near_zero(of_square(lambda x: (mp.asin(x) - x) / x**3), lambda s: mpf(1) / 6),
          (0, 0.25), 12, weight=lambda s: s, dtype=np.float64),
    Entry("ATAN64", "(atan(t) - t) / t^3 in t^2, |t| <= 1/2",
          near_zero(of_square(lambda t: (mp.atan(t) - t) / t**3), lambda s: -mpf(1) / 3),
          (0, 0.25), 11, weight=lambda s: s, dtype=np.float64),
    Entry("ERF64", "erf(x) / x - 1 in x^2, |x| <= 1/2",
          near_zero(of_square(lambda x: mp.erf(x) / x - 1),
                    lambda s: 2 / mp.sqrt(mp.pi) * (1 - s / 3) - 1),
          (0, 0.25), 8, dtype=np.float64),
    Entry("ERFCX64", "(1 + 2a) * e^(a^2) * erfc(a) in u = (a-c)/(a+c), c = 61/16, 1/2 <= a <= 27.5",
          _scaled_erfc, (-0.76812, 0.75649), 21, dtype=np.float64),
    Entry("LOG_REST64", "(log((1+s)/(1-s)) / s - 2 - 2/3 s^2) / s^4 in s^2, as LOG64",
          near_zero(of_square(_log_quotient_rest), lambda q: mpf(2) / 5), (0, 0.1716**2), 6,
          weight=lambda q: q**2, dtype=np.float64),
    Entry("LGAMMA64", "lgamma(2 + d) / d, |d| <= 1/2",
          near_zero(_lgamma, lambda d: 1 - mp.euler), (-0.5, 0.5), 7, 6,
          weight=lambda d: 1 / near_zero(_lgamma, lambda e: 1 - mp.euler)(d), dtype=np.float64),
    Entry("ERFC64", "e^(z^2) * erfc(z), 0 <= z <= 11",
          lambda z: mp.exp(z * z) * mp.erfc(z), (0, 11), 5, 6,
          weight=lambda z: mp.exp(-z * z) / mp.erfc(z), warp=2, dtype=np.float64),
    Entry("ERFINV64", "erfinv(x) / x in w = -log(1 - x^2), w <= 17",
          near_zero(_erfinv, lambda w: mp.sqrt(mp.pi) / 2), (0, 17), 6, 6,
          weight=lambda w: 1 / _erfinv(w) if w > 1e-9 else mpf(1), dtype=np.float64),
)  # fmt: skip


def coefficients(entry: Entry) -> tuple[list[list[float]], float]:
    """The polynomials of an entry, rounded to its dtype, and the largest weighted error then."""
    e = entry
    best = fit(e.f, e.interval, e.degree, e.below, e.weight, warp=e.warp)
    scale = best.denominator[-1] if e.dtype is np.float64 else mpf(1)
    found = [best.numerator, best.denominator] if e.below else [best.numerator]
    parts = [[float(e.dtype(float(c / scale))) for c in p] for p in found]
    low, high = (mp.root(mpf(x), e.warp) if e.warp > 1 else mpf(x) for x in e.interval)
    grid = [(low + (high - low) * (k + mpf("0.5")) / 400) ** e.warp for k in range(400)]
    bottom = parts[1] if e.below else [1.0]
    error = max(
        abs(e.weight(x) * (e.f(x) - horner(parts[0], x) / horner(bottom, x))) for x in grid
    )
    return parts, float(error)


def text(name: str, values: list[float], dtype: type) -> list[str]:
    numbers = [str(dtype(v)) for v in values]
    lines, line = [], f"{name} = ("
    for n in numbers:
        if len(line) + len(n) > (84 if n is numbers[-1] else 96):
            lines.append(line.rstrip())
            line = "    "
        line += n + ", "
    return [*lines, line.rstrip(", ") + ")  # fmt: skip"]


def main() -> None:
    print('"""Coefficients from the lowest power on, written by tools/fit_polynomials.py."""\n')
    for entry in TABLE:
        parts, error = coefficients(entry)
        print(f"# {entry.meaning}: error 2^{np.log2(error):.1f}")
        names = [entry.name] if len(parts) == 1 else [f"{entry.name}_TOP", f"{entry.name}_BOTTOM"]
        for name, part in zip(names, parts):
            print("\n".join(text(name, part, entry.dtype)))


if __name__ == "__main__":
    main()
