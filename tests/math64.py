"""What the functions of f64 are held against: mpmath's results, in units in the last place.

    operands(op)        numbers within the function's domain, where it turns, overflows or vanishes
    exact(op, xs)       its values, as the nearest f64 and what is left
    errors(got, want)   distances in ulp, those of subnormal numbers at least
    edges(op)           operands at which the result is a limit: zeros, infinities, NaN, outside
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from ferrule.ir.operators import OPERATORS

Array = np.ndarray[Any, Any]

BOUNDS = {  # ulp
    "exp": 1.5, "exp2": 1.5, "expm1": 2, "log": 1.5, "log2": 1.5, "log10": 1.5, "log1p": 1.5,
    "sinh": 2, "cosh": 2, "tanh": 2, "sigmoid": 3, "asinh": 2, "acosh": 2.5, "atanh": 2,
    "sin": 1, "cos": 1, "tan": 1, "asin": 1.5, "acos": 1.5, "atan": 2, "atan2": 2,
    "erf": 1.5, "erfc": 2, "normal_cdf": 3, "pow": 1.5, "hypot": 1.5,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp2": lambda x: mpmath.power(2, x),
    "log2": lambda x: mpmath.log(x, 2),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erfc": lambda x: _erfc(x),
    "normal_cdf": lambda x: _erfc(-x / mpmath.sqrt(2)) / 2,
    "pow": mpmath.power,
}
_LARGEST = 1.7976931348623157e308
_INF = np.inf


def _erfc(x: mpf) -> Any:
    """mpmath's, which fails far out."""
    return mpmath.erfc(max(min(x, mpf(60)), mpf(-60)))


def _numbers() -> Array:
    """Of every size, and from the ranges where functions are neither constant nor linear."""
    rng = np.random.default_rng(0)
    ranges = [rng.uniform(0, high, 250) for high in (0.6, 1.0, 3.0, 30.0, 750.0)]
    wide = [2.0 ** rng.uniform(-1074, 1023.9, 200), 2.0 ** rng.uniform(-40, 12, 200)]
    borders = [5e-324, 2.225073858507201e-308, 2.2250738585072014e-308, _LARGEST, 1e22, 0.5, 1, 2]
    x = np.concatenate([*ranges, *wide, borders])
    return np.concatenate([x, -x])


def _angles() -> Array:
    """Beside multiples of pi/4, the nearest one of all among them."""
    rng = np.random.default_rng(1)
    turns = np.concatenate([np.arange(1, 200), rng.integers(1, 1 << 40, 100)]) * (np.pi / 4)
    return np.concatenate([_numbers(), turns, -turns, [6381956970095103 * 2.0**797]])


def _fractions() -> Array:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(0, 1, 800), 2.0 ** rng.uniform(-1074, 0, 200)])
    x = np.concatenate([x, 1 - 2.0 ** rng.uniform(-53, 0, 200)])
    return np.concatenate([x[x < 1], -x[x < 1]])


def _with_borders(*borders: float) -> Array:
    """Numbers, and the ones next to where results overflow or vanish."""
    near = [np.nextafter(b, side) for b in borders for side in (-_INF, _INF)]
    return np.concatenate([_numbers(), borders, near])


def _pairs() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    wide = 2.0 ** rng.uniform(-1070, 1023, (2, 500))
    usual = 2.0 ** rng.uniform(-20, 20, (2, 1000))
    sides = np.concatenate([wide, usual, usual * 1e300, usual * 1e-300], axis=1)
    return tuple(sides * rng.choice([-1, 1], sides.shape))


def _powers() -> tuple[Array, Array]:
    """Exponents that bring the power of a base of any size within range, and whole ones."""
    rng = np.random.default_rng(4)
    x = np.concatenate([2.0 ** rng.uniform(-1074, 1023.9, 800), 1 + rng.uniform(-0.5, 0.5, 800)])
    y = rng.uniform(-744, 709, len(x)) / np.log(x)
    whole = np.stack([rng.uniform(-9, 9, 400), rng.integers(-330, 320, 400)])
    return np.concatenate([x, whole[0]]), np.concatenate([y, whole[1]])


@cache
def operands(op: str) -> tuple[Array, ...]:
    if op in ("atan2", "hypot"):
        return _pairs()
    if op == "pow":
        return _powers()
    x = _numbers()
    if op in ("sin", "cos", "tan"):
        return (_angles(),)
    if op in ("asin", "acos", "atanh"):
        return (_fractions(),)
    if op in ("exp", "expm1", "sinh", "cosh", "sigmoid"):
        return (_with_borders(709.782712893384, 710.4758600739439, -745.1332191019411),)
    if op == "exp2":
        return (_with_borders(1024.0, -1022.0, -1074.0),)
    if op in ("erf", "erfc", "normal_cdf"):
        return (_with_borders(-38.5, -0.5, 0.5, 26.5, 27.2),)
    if op in ("log", "log2", "log10"):
        return (np.concatenate([x[x > 0], 1 + x[np.abs(x) < 0.5]]),)
    if op == "log1p":
        return (x[x > -1],)
    return (np.concatenate([x[x >= 1], 1 + x[(x > 0) & (x < 1)]]) if op == "acosh" else x,)


@cache
def exact(op: str) -> tuple[Array, Array]:
    """(nearest, rest) of `op` at its operands."""
    fn = _FUNCTIONS.get(op) or getattr(mpmath, op)
    with mpmath.workprec(250):
        values = [fn(*(mpf(float(v)) for v in at)) for at in zip(*operands(op), strict=True)]
        nearest = np.array([float(v) for v in values])
        pairs = zip(values, nearest, strict=True)
        rest = np.array([float(v - float(n)) if np.isfinite(n) else 0.0 for v, n in pairs])
    return nearest, rest


def errors(got: Array, want: tuple[Array, Array]) -> Array:
    """inf where one is finite and the other not."""
    nearest, rest = want
    finite = np.isfinite(nearest)
    with np.errstate(invalid="ignore"):
        ulp = np.spacing(np.abs(np.where(finite, nearest, 1.0)))
        distance = np.abs((got - nearest) - rest) / ulp
    return np.where(finite & np.isfinite(got), distance, np.where(got == nearest, 0.0, np.inf))


def edges(op: str) -> tuple[tuple[Array, ...], Array]:
    """Operands and results, those of the operator's meaning (NumPy's, C99's Annex F) where that is
    a zero, an infinity, NaN, or 1 as of powers.
    """
    x = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 2.0**52 + 1, 2.0**53, 5e-324, _LARGEST])
    x = np.concatenate([x, [_INF, np.nan]])
    x = np.concatenate([x, -x])
    xs: tuple[Array, ...] = (x,)
    if OPERATORS[op].arity == 2:
        xs = tuple(np.ravel(g) for g in np.meshgrid(x, x))
    meaning = OPERATORS[op].floats
    assert meaning is not None
    with np.errstate(all="ignore"):
        want = np.asarray(meaning(*xs), np.float64)
    known = ~np.isfinite(want) | (want == 0) | (np.abs(want) == 1)
    return tuple(v[known] for v in xs), want[known]
