"""The mathematics of ferrule.lower.math.expand against its definition, in units in the last place
(that of f64: test_math64.py).

The reference is the interpreter's meaning of the operator in f64, for the same f32 arguments. A ulp
is the distance between f32 numbers of the reference's size, the subnormal ones' distance at least.
"""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest

from ferrule.base.dtype import bf16, f16, f32, f64
from ferrule.ir.expr import Expr, arg, call, const, walk
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.operators import RECORDS
from ferrule.lower.math.expand import RULES, lower_math

BOUNDS = {  # ulp
    "exp": 2, "exp2": 2, "expm1": 2, "log": 2, "log2": 2, "log10": 2, "log1p": 2,
    "sinh": 1, "cosh": 1, "tanh": 3, "sigmoid": 3, "asinh": 1, "acosh": 1, "atanh": 1,
    "sin": 2, "cos": 2, "tan": 4, "asin": 3, "acos": 2, "atan": 3,
    "erf": 3, "erfc": 1, "erfinv": 1, "rsqrt": 2,
}  # fmt: skip
BOUNDS_OF_PAIRS = {"pow": 1.0, "hypot": 1.0, "atan2": 3.0}
SPECIALS = np.float32([
    0.0, 1.0, 0.5, 2.0, np.inf, np.nan, 1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, 88.72283,
    88.72284, 89.5, 87.33655, 103.97, 104.0, 177.0,
])  # fmt: skip


@cache
def samples() -> np.ndarray:
    """Every exponent, ranges where functions turn, multiples of pi/4, and special values, of both
    signs.
    """
    rng = np.random.default_rng(0)
    significands = rng.integers(0, 1 << 23, (255, 120), dtype=np.uint32)
    significands[:, 0], significands[:, 1] = 0, (1 << 23) - 1
    exponents = np.arange(255, dtype=np.uint32)[:, None] << 23
    ranges = [rng.uniform(0, high, 6000) for high in (1.0, 4.0, 20.0, 110.0)]
    multiples = np.arange(1, 3000) * (np.pi / 4)
    x = np.concatenate([(exponents | significands).ravel().view(np.float32), *ranges, multiples])
    x = np.concatenate([x.astype(np.float32), SPECIALS])
    return np.concatenate([x, -x])


def evaluate(e: Expr, *args: np.ndarray) -> np.ndarray:
    return np.broadcast_to(eval_expr(e, Env(args=args)), args[0].shape)


def ulps(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The distance of f32 `got` from the f64 `expected`; inf where NaN, infinity or the sign of a
    zero is wrong.
    """
    with np.errstate(all="ignore"):
        nearest = expected.astype(np.float32)
    finite = np.isfinite(nearest)
    _, exponent = np.frexp(np.where(finite, expected, 1.0))
    ulp = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    with np.errstate(invalid="ignore"):
        distance = np.abs(got.astype(np.float64) - np.where(finite, expected, 0)) / ulp
    same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    distance = np.where(finite & np.isfinite(got), distance, np.where(same, 0.0, np.inf))
    wrong_zero = (got == 0) & (expected == 0) & (np.signbit(got) != np.signbit(expected))
    return np.where(wrong_zero, np.inf, distance)


def worst(op: str, has_fma: bool, *args: np.ndarray) -> tuple[float, tuple]:
    """The largest error in ulp, and its arguments."""
    lowered = lower_math(call(op, *(arg(i, f32) for i in range(len(args)))), has_fma)
    meaning = call(op, *(arg(i, f64) for i in range(len(args))))
    got = evaluate(lowered, *args)
    error = ulps(got, evaluate(meaning, *(a.astype(np.float64) for a in args)))
    at = int(np.argmax(error))
    return float(error[at]), (*(a[at] for a in args), got[at])


@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("op", sorted(BOUNDS))
def test_functions_of_one_number(op, has_fma):
    error, where = worst(op, has_fma, samples())
    assert error <= BOUNDS[op], where


@pytest.mark.parametrize("has_fma", [True, False])
def test_exp_of_what_is_not_positive(has_fma):
    """As exp, but that subnormal results may be 0."""
    x = samples()
    x = x[~(x > 0)]
    got = evaluate(lower_math(call("exp_nonpositive", arg(0, f32)), has_fma), x)
    expected = np.exp(x.astype(np.float64))
    small = expected < 2.0**-126
    assert ulps(got, expected)[~small].max() <= 2
    assert ((got >= 0) & (got <= 2.0**-126))[small].all()


@pytest.mark.parametrize("has_fma", [True, False])
def test_the_normal_distribution(has_fma):
    """Within 1.3e-7, and 0 far to the left."""
    x = samples()
    got = evaluate(lower_math(call("normal_cdf", arg(0, f32)), has_fma), x)
    expected = evaluate(call("normal_cdf", arg(0, f64)), x.astype(np.float64))
    assert (np.isnan(got) == np.isnan(x)).all()
    number = ~np.isnan(x)
    assert np.abs(got - expected)[number].max() <= 1.3e-7
    assert (got[x < -20] == 0).all()
    assert (got[x > 20] == 1).all()


def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    special = np.float32([0.0, 0.5, 1.0, 1.5, 2, 3, 7, 1e-40, 1e-20, 1e20, 3e38, np.inf, np.nan])
    special = np.concatenate([special, -special])
    a, b = (g.ravel() for g in np.meshgrid(special, special))
    size = 2.0 ** rng.uniform(-20, 20, (2, 20000)) * rng.choice([-1, 1], (2, 20000))
    wide = 2.0 ** rng.uniform(-140, 127, (2, 5000)) * rng.choice([-1, 1], (2, 5000))
    whole = np.stack([rng.uniform(-9, 9, 2000), rng.integers(-40, 40, 2000)])
    x, y = (np.concatenate(z) for z in zip((a, b), size, wide, whole))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("has_fma", [True, False])
@pytest.mark.parametrize("op", sorted(BOUNDS_OF_PAIRS))
def test_functions_of_two_numbers(op, has_fma):
    error, where = worst(op, has_fma, *pairs())
    assert error <= BOUNDS_OF_PAIRS[op], where


def test_nextafter_is_exact():
    x, y = pairs()
    x, y = np.concatenate([x, samples()]), np.concatenate([y, samples()[::-1]])
    got = evaluate(lower_math(call("nextafter", arg(0, f32), arg(1, f32))), x, y)
    expected = np.nextafter(x, y)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(got)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
def test_constant_powers(exponent):
    e = lower_math(call("pow", arg(0, f32), const(exponent, f32)))
    x = samples()
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), np.full(len(x), exponent))
    error = ulps(evaluate(e, x), expected)
    assert error.max() <= 2.0, x[np.argmax(error)]
    if exponent != 0.5:
        assert all(n.op in ("arg", "const", "mul", "div") for n in walk(e))


@pytest.mark.parametrize("op", ["tanh", "erf", "sigmoid", "sin", "cos"])
def test_bounded_functions_stay_in_their_bounds(op):
    got = evaluate(lower_math(call(op, arg(0, f32))), samples())
    assert np.nanmax(np.abs(got)) == 1.0


@pytest.mark.parametrize("dtype", [f16, bf16])
def test_half_formats_are_computed_in_single(dtype):
    e = lower_math(call("exp", arg(0, dtype)))
    assert e.dtype == dtype
    x = np.float32([-3.0, 0.0, 0.5, 4.0])
    got = evaluate(e, x.astype(np.float16) if dtype == f16 else x)
    np.testing.assert_allclose(got, np.exp(x), rtol=2.0**-8)


@pytest.mark.parametrize("has_fma", [True, False])
def test_what_formulas_are_made_of(has_fma):
    simple = {
        "add", "sub", "mul", "div", "neg", "abs", "sqrt", "copysign", "min", "max", "floor",
        "isnan", "lt", "le", "eq", "ne", "select", "cast", "bitcast", "shl", "shr", "and", "or",
        "xor", "not", "const", "arg",
    }  # fmt: skip
    for op in RULES:
        e = lower_math(call(op, *(arg(i, f32) for i in range(RECORDS[op].arity))), has_fma)
        assert {x.op for x in walk(e)} - simple <= ({"fma"} if has_fma else set()), op


def test_the_cost_table_knows_the_formulas():
    for op in RULES:
        e = lower_math(call(op, *(arg(i, f32) for i in range(RECORDS[op].arity))))
        nodes = [x for x in walk(e) if x.op not in ("const", "arg", "bitcast")]
        size = sum(RECORDS[x.op].flops * (2 if x.dtype.bits == 64 else 1) for x in nodes)
        assert size / 1.3 <= RECORDS[op].flops <= size * 1.3, (op, size)


def references(fn, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`fn` of mpmath, as the nearest f64 and what is left of it."""
    with mpmath.workprec(200):
        exact = [fn(mpmath.mpf(float(v))) for v in x]
        nearest = np.array([float(v) for v in exact])
        return nearest, np.array([float(v - n) for v, n in zip(exact, nearest, strict=True)])


@pytest.mark.parametrize("has_fma", [True, False])
def test_erfinv_of_doubles(has_fma):
    """Giles' polynomials: within 4 ulp up to the last number before 1."""
    rng = np.random.default_rng(5)
    near_one = 1 - 10.0 ** rng.uniform(-16, 0, 300)
    x = np.concatenate([rng.uniform(-1, 1, 300), near_one, -near_one, [np.nextafter(1.0, 0.0)]])
    x = np.concatenate([x[np.abs(x) < 1], 10.0 ** rng.uniform(-300, 0, 100)])
    e = lower_math(call("erfinv", arg(0, f64)), has_fma)
    got = evaluate(e, x)
    nearest, rest = references(mpmath.erfinv, x)
    assert np.max(np.abs(got - nearest - rest) / np.spacing(np.abs(nearest))) <= 4
    edges = np.array([0.0, -0.0, 1.0, -1.0, 1.5, np.inf, np.nan])
    wanted = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(evaluate(e, edges), wanted)
    assert (np.signbit(evaluate(e, edges[:2])) == [False, True]).all()


def test_digamma_of_doubles():
    """Within 8 ulp of the largest term: digamma has roots between its poles."""
    rng = np.random.default_rng(6)
    x = np.concatenate([
        rng.uniform(0, 12, 300), rng.uniform(-20, 0, 300), 10.0 ** rng.uniform(-300, 300, 100),
        [1.4616321449683622, -0.5040830082644554],
    ])  # fmt: skip
    nearest, rest = references(mpmath.digamma, x)
    terms = np.where(x < 0, np.abs(np.pi / np.tan(np.pi * x)), 1.0)
    ulp = np.spacing(np.maximum(np.maximum(np.abs(nearest), terms), 1.0))
    got = evaluate(lower_math(call("digamma", arg(0, f64))), x)
    assert np.max(np.abs(got - nearest - rest) / ulp) <= 8


def test_digamma():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-6, 12, 200), rng.uniform(0, 1e4, 50), [1e-30, 1.4616321]])
    x = x.astype(np.float32)
    got = evaluate(lower_math(call("digamma", arg(0, f32))), x)
    expected = np.array([float(mpmath.digamma(mpmath.mpf(float(v)))) for v in x])
    assert np.all(np.abs(got - expected) <= 1e-7 * np.abs(expected) + 1e-9)
    edges = np.float32([0.0, -0.0, -1.0, -7.0, -np.inf, np.inf, np.nan])
    wanted = [-np.inf, np.inf, np.nan, np.nan, np.nan, np.inf, np.nan]
    np.testing.assert_array_equal(
        evaluate(lower_math(call("digamma", arg(0, f32))), edges), np.float32(wanted)
    )


def test_other_expressions_are_untouched():
    x = arg(0, f32)
    e = call("max", x * 2.0 + 1.0, call("sqrt", x))
    assert lower_math(e) is e
