"""The functions of f64 as the interpreter computes their formulas, with fused operations and
without (tests/math64.py has what they are held against).
"""

from __future__ import annotations

from itertools import pairwise

import mpmath
import numpy as np
import pytest

from ferrule.base.dtype import f32, f64
from ferrule.ir.expr import arg, call, walk
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.operators import RECORDS
from ferrule.lower.math import trig64
from ferrule.lower.math.expand import RULES, lower_math
from tests.math64 import BOUNDS, edges, errors, exact, operands


def evaluate(op: str, has_fma: bool, *xs: np.ndarray, dtype=f64) -> np.ndarray:
    e = lower_math(call(op, *(arg(i, dtype) for i in range(len(xs)))), has_fma)
    return np.broadcast_to(eval_expr(e, Env(args=xs)), xs[0].shape)


@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("op", sorted(BOUNDS))
def test_within_its_bound(op, has_fma):
    error = errors(evaluate(op, has_fma, *operands(op)), exact(op))
    at = int(np.argmax(error))
    assert error[at] <= BOUNDS[op], [x[at] for x in operands(op)]


@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("op", sorted(BOUNDS))
def test_limits(op, has_fma):
    xs, want = edges(op)
    got = evaluate(op, has_fma, *xs)
    np.testing.assert_array_equal(got, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


@pytest.mark.parametrize("has_fma", [True, False])
def test_nextafter_of_doubles(has_fma):
    x = np.array([0.0, 5e-324, 1.0, 2.0, 1e300, 1.7976931348623157e308, np.inf, np.nan])
    a, b = (g.ravel() for g in np.meshgrid(np.concatenate([x, -x]), np.concatenate([x, -x])))
    with np.errstate(over="ignore"):
        want = np.nextafter(a, b)
    got = evaluate("nextafter", has_fma, a, b)
    np.testing.assert_array_equal(got, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


@pytest.mark.parametrize("has_fma", [True, False])
def test_lgamma_of_doubles(has_fma):
    """Within 8 ulp above 0, roots included; below, within 8 ulp of the largest term or 1."""
    rng = np.random.default_rng(6)
    near = rng.uniform(-0.01, 0.01, 200)
    above = np.concatenate([
        rng.uniform(0, 10, 400), 10.0 ** rng.uniform(-320, 305, 200), 1 + near, 2 + near,
        [1.5, 2.5, 8.5, np.nextafter(8.5, 0), 5e-324],
    ])  # fmt: skip
    below = -np.concatenate([rng.uniform(0, 20, 400), 10.0 ** rng.uniform(-320, 2, 100)])
    with mpmath.workprec(400):
        exact = [mpmath.log(abs(mpmath.gamma(mpmath.mpf(float(v))))) for v in below]
        exact += [mpmath.loggamma(mpmath.mpf(float(v))) for v in above]
        nearest = np.array([float(v) for v in exact])
        rest = np.array([float(v - float(n)) for v, n in zip(exact, nearest, strict=True)])
    got = evaluate("lgamma", has_fma, np.concatenate([below, above]))
    scale = np.abs(nearest)
    scale[: len(below)] = np.maximum(scale[: len(below)], 1.0)
    assert np.max(np.abs((got - nearest) - rest) / np.spacing(scale)) <= 8


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_limits_of_lgamma(dtype):
    poles = [0.0, -0.0, -1.0, -2.0, -1e30, np.inf, -np.inf]
    x = np.array([*poles, np.nan, 1.0, 2.0], dtype.numpy)
    got = evaluate("lgamma", True, x, dtype=dtype)
    np.testing.assert_array_equal(got, [np.inf] * len(poles) + [np.nan, 0.0, 0.0])


def test_the_bits_of_two_over_pi():
    """Each word of the constant, from mpmath."""
    bits = 64 * len(trig64._TWO_OVER_PI)
    with mpmath.workprec(bits + 64):
        number = int(mpmath.floor(2 / mpmath.pi * mpmath.mpf(2) ** (bits - 55)))
    words = [number >> (bits - 64 - 64 * k) & (1 << 64) - 1 for k in range(bits // 64)]
    assert words == list(trig64._TWO_OVER_PI)


def test_reduction_at_every_exponent():
    """Payne and Hanek's window is cut out anew for each exponent."""
    rng = np.random.default_rng(7)
    x = np.ldexp(rng.uniform(1, 2, 1025), np.arange(-1, 1024))
    got = evaluate("sin", True, x)
    with mpmath.workprec(1400):
        want = np.array([float(mpmath.sin(mpmath.mpf(float(v)))) for v in x])
    np.testing.assert_allclose(got, want, rtol=3e-16)


@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("op", ["tanh", "erf", "sin", "cos", "sigmoid", "normal_cdf", "erfc"])
def test_functions_stay_within_their_range(op, has_fma):
    most = 2.0 if op == "erfc" else 1.0
    assert np.abs(evaluate(op, has_fma, *operands(op if op in BOUNDS else "exp"))).max() <= most


@pytest.mark.parametrize("op", ["exp", "log", "tanh", "atan"])
def test_steps_do_not_fall(op):
    """Where two formulas meet, by more than their bounds allow."""
    x = np.sort(np.concatenate([operands(op)[0], np.linspace(0.3, 3, 4000)]))
    y = evaluate(op, True, x)
    assert all(b >= a - 4 * np.spacing(abs(a)) for a, b in pairwise(y[np.isfinite(y)]))


@pytest.mark.parametrize("has_fma", [True, False])
def test_no_rule_of_doubles_leaves_a_function(has_fma):
    for op in RULES:
        e = lower_math(call(op, *(arg(i, f64) for i in range(RECORDS[op].arity))), has_fma)
        left = {*RULES, "rem", "mod"} if has_fma else {*RULES, "rem", "mod", "fma"}
        assert not {x.op for x in walk(e)} & left, op


@pytest.mark.parametrize(("op", "most"), [
    ("exp", 25), ("log", 45), ("tanh", 45), ("erf", 100), ("sin", 190), ("pow", 150),
])  # fmt: skip
def test_formulas_are_short(op, most):
    e = lower_math(call(op, *(arg(i, f64) for i in range(RECORDS[op].arity))))
    assert len([x for x in walk(e) if x.op not in ("const", "arg", "bitcast")]) <= most
