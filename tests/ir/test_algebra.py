"""Every rule of the algebra keeps the value, bit for bit where the rule does not say otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrule.base.dtype import bf16, boolean, f16, f32, f64, i8, i32, i64
from ferrule.ir.algebra import algebra
from ferrule.ir.expr import arg, call, cast, compare, const, select
from ferrule.ir.interp import Env, eval_expr

VALUES = [0.0, -0.0, 1.0, -1.0, 2.5, -3.75, 1e-20, 1e20, np.inf, -np.inf, np.nan]
SUBNORMALS = (1, 3, 5, 11, 13, 27)  # times the smallest: some round in another way when done twice
COUNT = len(VALUES) + 4 + len(SUBNORMALS)
DTYPES = (f32, f32, f32, f64, f64, f64, i32, i32, i64, boolean)
X, Y, Z = (arg(k, f32) for k in range(3))


def environment(rng):
    """Arrays for the operands, special values among them."""
    args = []
    for d in DTYPES:
        if d.is_float:
            info = np.finfo(d.numpy)
            extreme = [info.max, -info.max / 2, info.max / 3, info.tiny]
            small = [k * float(info.smallest_subnormal) for k in SUBNORMALS]
            values = np.array([*VALUES, *extreme, *small], d.numpy)
            args.append(values[rng.permutation(COUNT)])
        elif d.is_bool:
            args.append(rng.random(COUNT) < 0.5)
        else:
            args.append(rng.integers(-9, 9, COUNT).astype(d.numpy))
    return Env(args=tuple(args))


@st.composite
def bodies(draw, dtype, depth=4):
    """Expressions in which the rules find something to do."""
    again = lambda d=dtype: draw(bodies(d, depth - 1))  # noqa: E731
    how = draw(st.integers(0, 8)) if depth else 0
    if how == 0:
        return draw(st.sampled_from([arg(k, d) for k, d in enumerate(DTYPES) if d == dtype]))
    if how == 1:
        value = draw(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 0.25, 2.0, -4.0, 16.0, 3.0]))
        return const(value, dtype)
    if how == 2:
        return select(again(boolean), again(), again())
    if how == 3:
        through = {f32: f64, i32: i64}.get(dtype, i8)
        return cast(cast(again(), through), dtype) if dtype in (f32, i32, boolean) else again()
    if dtype == boolean:
        op = draw(st.sampled_from(["lt", "le", "eq", "ne", "and", "or", "not"]))
        if op == "not":
            return call("not", again())
        source = boolean if op in ("and", "or") else draw(st.sampled_from([f32, i32]))
        a, b = again(source), again(source)
        return call(op, a, b) if op in ("and", "or") else compare(op, a, b)
    if how < 6:
        op = draw(st.sampled_from(["neg", "abs"]))
        return call(op, again())
    floats = ["add", "sub", "mul", "div", "min", "max"]
    return call(
        draw(st.sampled_from(floats if dtype.is_float else ["add", "sub", "mul", "min"])),
        again(),
        again(),
    )


@given(bodies(f32), st.integers(0, 5))
@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
def test_algebra_keeps_the_value(e, seed):
    env = environment(np.random.default_rng(seed))
    a, b = np.broadcast_arrays(eval_expr(e, env), eval_expr(algebra(e), env))
    np.testing.assert_array_equal(a, b)
    numbers = ~np.isnan(a)
    np.testing.assert_array_equal(np.signbit(a)[numbers], np.signbit(b)[numbers])


FACTORS = [s * 2.0**k for s in (1, -1) for k in range(-6, 7)] + [0.1, 3.0, 1e30, 1e-30, 0.0, np.inf]


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("factor", FACTORS)
def test_products_with_constants_round_as_they_stand(dtype, factor):
    env = environment(np.random.default_rng(0))
    x = arg(DTYPES.index(dtype), dtype)
    for other in FACTORS:
        for e in (x * factor * other, x * factor / other if other else x * factor):
            a, b = eval_expr(e, env), eval_expr(algebra(e), env)
            np.testing.assert_array_equal(a, b, err_msg=str(e))
            numbers = ~np.isnan(a)
            np.testing.assert_array_equal(np.signbit(a)[numbers], np.signbit(b)[numbers])


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        (X * 1.0, X),
        (X / 8.0, X * 0.125),
        (X / 3.0, X / 3.0),
        (X * 0.5 * 0.25, X * 0.5 * 0.25),
        (X * 0.5 * 0.5, X * 0.25),
        (X * 2.0 * -4.0, X * -8.0),
        (X * 0.1 * -1.0, X * -0.1),
        (X * 0.5 / 2.0, X * 0.25),
        (X * 2.0 * 0.5, X * 2.0 * 0.5),
        (X * 3e38 * 1e9, X * 3e38 * 1e9),
        (X - 0.0, X),
        (X + (-0.0), X),
        (X + 0.0, X + 0.0),
        (call("neg", call("neg", X)), X),
        (call("abs", -X), call("abs", X)),
        (cast(cast(X, f64), f32), X),
        (cast(cast(X, bf16), f32), cast(cast(X, bf16), f32)),
        (cast(cast(X, f16), f32), cast(cast(X, f16), f32)),
        (cast(cast(X, i32), f32), cast(cast(X, i32), f32)),
        (cast(cast(arg(0, bf16), f32), bf16), arg(0, bf16)),
        (cast(cast(arg(0, bf16), f16), bf16), cast(cast(arg(0, bf16), f16), bf16)),
        (cast(cast(arg(0, f64), f32), f64), cast(cast(arg(0, f64), f32), f64)),
        (cast(cast(arg(0, i64), i32), i64), cast(cast(arg(0, i64), i32), i64)),
        (cast(cast(arg(0, i8), f16), i8), arg(0, i8)),
        (cast(cast(arg(0, i32), f32), i32), cast(cast(arg(0, i32), f32), i32)),
        (cast(cast(arg(0, i8), boolean), i8), cast(cast(arg(0, i8), boolean), i8)),
        (cast(cast(arg(0, boolean), f32), boolean), arg(0, boolean)),
        (cast(const(0.1, f32), bf16), const(0.10009765625, bf16)),
        (call("not", compare("lt", X, Y)), call("not", compare("lt", X, Y))),
        (call("not", compare("eq", X, Y)), compare("ne", X, Y)),
        (const(1.0, f32) / call("sqrt", X), call("rsqrt", X)),
        (select(call("not", compare("lt", X, Y)), X, Z), select(compare("lt", X, Y), Z, X)),
        (call("max", X, X), X),
        (cast(const(3, i32), f32), const(3.0, f32)),
    ],
)
def test_rules(e, expected):
    assert algebra(e) is expected
