"""`simplify` keeps the value of every expression, and `prove` never proves what is false.

Random index expressions are evaluated by the interpreter at random values that meet the dims'
facts, at all points of their axes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrule.base.dtype import f32, i64
from ferrule.ir.expr import (
    FALSE,
    TRUE,
    Buf,
    axis,
    bounded,
    call,
    cast,
    compare,
    const,
    dim,
    eq,
    load,
    lt,
    select,
)
from ferrule.ir.interp import Env, Memory, eval_expr
from ferrule.ir.simplify import (
    coefficient,
    equal,
    prove,
    prove_nonneg,
    range_of,
    simplify,
)
from tests.ir.strategies import index_exprs

DIMS = (dim("n", 1), dim("S", 4, 12, 4), dim("p", 0, 5))
AXES = (axis("i", 6), axis("j", DIMS[0]), axis("k", DIMS[1]), axis("b", 3))
HEAVY = settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
SIZES = st.fixed_dictionaries(
    {"n": st.integers(1, 9), "S": st.sampled_from([4, 8, 12]), "p": st.integers(0, 5)}
)
INDEX = index_exprs(AXES, DIMS)
COMPARISON = st.builds(compare, st.sampled_from(["lt", "le", "eq", "ne"]), INDEX, INDEX)
CONDITION = st.recursive(
    st.one_of(st.sampled_from([TRUE, FALSE]), COMPARISON),
    lambda inner: st.one_of(
        st.builds(select, inner, inner, inner),
        st.builds(call, st.sampled_from(["and", "or"]), inner, inner),
        st.builds(call, st.just("not"), inner),
    ),
    max_leaves=6,
)


def points(sizes):
    """The extent of each axis."""
    return 6, sizes["n"], sizes["S"], 3


def environment(sizes):
    """All points of the axes at once."""
    values = {}
    for d, (a, n) in enumerate(zip(AXES, points(sizes), strict=True)):
        values[a] = np.arange(n).reshape([-1 if k == d else 1 for k in range(4)])
    return Env(sizes, values)


def divides_by_zero(e, env):
    """Whether a divisor in `e` is zero somewhere, so that its value is not specified."""
    if e.op in ("floordiv", "mod") and (eval_expr(e.args[1], env) == 0).any():
        return True
    return any(divides_by_zero(a, env) for a in e.args if e.op != "axis")


@given(INDEX, SIZES)
@HEAVY
def test_simplify_keeps_the_value(e, sizes):
    env = environment(sizes)
    if divides_by_zero(e, env):
        return
    s = simplify(e)
    a, b = np.broadcast_arrays(eval_expr(e, env), eval_expr(s, env))
    assert (a == b).all(), f"{e}  became  {s}"


@given(INDEX)
@HEAVY
def test_simplify_is_a_normal_form(e):
    s = simplify(e)
    assert simplify(s) is s
    assert s.dtype == i64


@given(INDEX, INDEX, st.sampled_from(["lt", "le", "eq", "ne"]), SIZES)
@HEAVY
def test_comparisons_are_proved_only_where_they_hold(a, b, op, sizes):
    env = environment(sizes)
    if divides_by_zero(a, env) or divides_by_zero(b, env):
        return
    cond = compare(op, a, b)
    s = simplify(cond)
    x, y = np.broadcast_arrays(eval_expr(cond, env), eval_expr(s, env))
    assert (x == y).all(), f"{cond}  became  {s}"
    assert prove(cond) == (s is TRUE)


@given(CONDITION, SIZES)
@HEAVY
def test_conditions_keep_their_value(c, sizes):
    env = environment(sizes)
    if divides_by_zero(c, env):
        return
    s = simplify(c)
    x, y = np.broadcast_arrays(eval_expr(c, env), eval_expr(s, env))
    assert (x == y).all(), f"{c}  became  {s}"


def test_branches_may_become_equal_only_when_simplified():
    i, j = axis("i", 4), axis("j", 2)
    c = select(lt(i, 2), TRUE, select(lt(j, 5), TRUE, lt(j, 1)))
    assert simplify(c) is TRUE


@given(INDEX, SIZES)
@HEAVY
def test_bounds_hold(e, sizes):
    env = environment(sizes)
    if divides_by_zero(e, env):
        return
    values = eval_expr(e, env)
    if prove_nonneg(e):
        assert values.min() >= 0, e
    lo, hi = range_of(e)
    assert lo is None or values.min() >= lo, f"{e} >= {lo}"
    assert hi is None or values.max() <= hi, f"{e} <= {hi}"


@given(INDEX, st.sampled_from(AXES), SIZES)
@HEAVY
def test_coefficient(e, a, sizes):
    env = environment(sizes)
    if divides_by_zero(e, env):
        return
    c = coefficient(e, a)
    if c is None:
        return
    assert a not in c.axes
    values = np.broadcast_to(eval_expr(e, env), points(sizes))
    slope = np.broadcast_to(eval_expr(c, env), values.shape)
    along = AXES.index(a)
    assert (np.diff(values, axis=along) == np.diff(slope.cumsum(along), axis=along)).all()


@given(INDEX, INDEX)
@HEAVY
def test_equal_expressions_have_one_normal_form(a, b):
    assert equal((a + b) * 3, b * 3 + a + a + a)
    assert equal(a - b + b, a)


I, J, K = AXES[:3]
N, S, P = DIMS
D = axis("d", 64)
H = axis("h", 12)
L = axis("l", S)


@pytest.mark.parametrize(
    ("e", "expected"),
    [
        ((H * 64 + D) // 64, H),
        ((H * 64 + D) % 64, D),
        ((J * S + L) // S, J),
        ((J * S + L) % S, L),
        ((H * 64 + D) // 64 * 64 + (H * 64 + D) % 64, H * 64 + D),
        (H // 4 // 3, const(0)),
        (I % 6, I),
        ((I * 4 + 8) // 4, I + 2),
        (call("min", I, const(5)), I),
        (call("max", I - 7, const(0)), const(0)),
        (bounded(I, 6), I),
        (S % 4, None),
        (S // 4 * 4, None),
    ],
)
def test_what_is_simplified(e, expected):
    assert simplify(e) is (simplify(e) if expected is None else simplify(expected))


@pytest.mark.parametrize(
    "cond",
    [
        lt(I, 6),
        lt(J, N),
        lt(J * S + L, N * S),
        lt(H * 64 + D, 768),
        compare("le", const(0), I + J),
        lt(I // 2, 3),
        lt(L // 4 * 4, S),
        compare("ne", J, N),
        lt(P, 6),
        lt(call("min", I, J), N),
    ],
)
def test_what_is_proved(cond):
    assert prove(cond)


def test_what_is_not_proved():
    for cond in (lt(I, 5), lt(I, N), eq(I, const(0)), lt(P, 5), lt(J + 1, N)):
        assert not prove(cond)
    assert simplify(lt(I, 0)) is FALSE


def test_data_is_left_alone():
    """Loads may wrap, so that division must not look into sums of them."""
    x = Buf("x", (const(3),), i64)
    big = (load(x, const(0)) * 4) // 4
    env = Env({}, {}, Memory({"x": np.array([1 << 62, 0, 0])}))
    assert eval_expr(simplify(big), env) == eval_expr(big, env)


@given(INDEX, SIZES)
@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
def test_bodies_keep_their_value(e, sizes):
    env = environment(sizes)
    if divides_by_zero(e, env):
        return
    body = select(lt(e, 3), cast(e, f32), call("exp", cast(e % 5, f32)))
    a, b = np.broadcast_arrays(eval_expr(body, env), eval_expr(simplify(body), env))
    np.testing.assert_array_equal(a, b)
