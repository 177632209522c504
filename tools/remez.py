"""Minimax approximation by the exchange algorithm of Remez, in high precision with mpmath.

A fit is found for f on [a, b] that makes the largest |weight(x) * (f(x) - r(x))| least, where r is
a polynomial or a quotient of two. On a reference of as many points as there are unknowns, the error
is made equal in size with alternating signs, which for a quotient is an eigenvalue problem (Powell,
"Approximation Theory and Methods", 1981, chapter 10); then the reference moves to the extrema of
the error that results, until the sizes agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
from mpmath import mp, mpf

Function = Callable[[mpf], mpf]


@dataclass(frozen=True)
class Fit:
    """Coefficients from the lowest power on, and the largest weighted error that is left."""

    numerator: list[mpf]
    denominator: list[mpf]
    error: mpf


def horner(coefficients: list[mpf], x: mpf) -> mpf:
    out = mpf(0)
    for c in reversed(coefficients):
        out = out * x + c
    return out


def fit(
    f: Function,
    interval: tuple[float, float],
    degree: int,
    below: int = 0,
    weight: Function = lambda x: mpf(1),
    rounds: int = 20,
    warp: int = 1,
) -> Fit:
    """The best numerator of `degree` over a denominator of degree `below` with constant term 1.

    The first reference, and the grid on which extrema are sought, are Chebyshev's points of the
    interval; with `warp` p, those of its p-th root (from 0 on), to the power of p.
    """
    a, b = (mp.root(mpf(x), warp) if warp > 1 else mpf(x) for x in interval)
    n = degree + below + 2

    def chebyshev(angles: list[mpf]) -> list[mpf]:
        return [((a + b) / 2 - (b - a) / 2 * mp.cos(t)) ** warp for t in angles]

    points = chebyshev([mp.pi * (2 * k + 1) / (2 * n) for k in range(n)])
    grid = chebyshev([mp.pi * k / (24 * n) for k in range(24 * n + 1)])
    for _ in range(rounds):
        top, bottom = _solve(f, weight, points, degree, below)

        def miss(x: mpf, top: list[mpf] = top, bottom: list[mpf] = bottom) -> mpf:
            return weight(x) * (f(x) - horner(top, x) / horner(bottom, x))

        points, sizes = _extrema(miss, grid, n)
        if max(sizes) <= min(sizes) * mpf("1.02"):
            break
    return Fit(top, bottom, max(sizes))


def _solve(
    f: Function, weight: Function, points: list[mpf], degree: int, below: int
) -> tuple[list[mpf], list[mpf]]:
    """The quotient P/Q whose error on the points is e, -e, e, ..

    P - f Q = e s Q, with s the signs over the weights. A basis of the vectors orthogonal to all P
    leaves an eigenvalue problem for Q, of which the solution without a sign change is taken.
    """
    values = mpmath.diag([f(x) for x in points])
    signs = mpmath.diag([mpf((-1) ** i) / weight(x) for i, x in enumerate(points)])
    p = mpmath.matrix([[x**j for j in range(degree + 1)] for x in points])
    q = mpmath.matrix([[x**j for j in range(below + 1)] for x in points])
    orthogonal = mpmath.qr(p, mode="full")[0][:, degree + 1 :].T
    _, vectors = mpmath.eig(mpmath.inverse(-orthogonal * signs * q) * (orthogonal * values * q))
    best = None
    for k in range(below + 1):
        v = vectors[:, k].apply(mp.re)
        at = q * v
        if min(at) * max(at) <= 0:
            continue
        target = values * at
        top = mpmath.lu_solve(p, target)
        size = mpmath.norm(p * top - target)
        if best is None or size < best[0]:
            best = (size, v, at)
    if best is None:
        raise ArithmeticError("every quotient has a pole")
    _, v, at = best
    error = (orthogonal * values * at)[0] / -(orthogonal * signs * at)[0]
    top = mpmath.lu_solve(p, (values + error * signs) * at)
    return [c / v[0] for c in top], [c / v[0] for c in v]


def _extrema(miss: Function, xs: list[mpf], n: int) -> tuple[list[mpf], list[mpf]]:
    """n points at which the error is extreme, with alternating signs, and its sizes there."""
    ys = [miss(x) for x in xs]
    best: list[tuple[mpf, mpf]] = []
    for x, y in zip(xs, ys):
        if best and mp.sign(y) == mp.sign(best[-1][1]):
            if abs(y) > abs(best[-1][1]):
                best[-1] = (x, y)
        else:
            best.append((x, y))
    while len(best) > n:
        best.pop(0 if abs(best[0][1]) < abs(best[-1][1]) else -1)
    if len(best) < n:
        raise ArithmeticError(f"the error alternates {len(best)} times, expected {n}")
    return [x for x, _ in best], [abs(y) for _, y in best]
