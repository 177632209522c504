"""What each operator of the Expr language does, against tables and against Python's integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferrule.base.dtype import (
    ALL,
    INTEGERS,
    bf16,
    boolean,
    f16,
    f32,
    f64,
    i8,
    i32,
    i64,
    to_storage,
    u8,
)
from ferrule.base.errors import RunError, RunIndexError, UnsupportedError, VerifyError
from ferrule.ir.expr import (
    Buf,
    arg,
    axis,
    bitcast,
    bounded,
    call,
    cast,
    checked,
    const,
    dim,
    load,
    lt,
    select,
)
from ferrule.ir.interp import Env, Memory, eval_expr
from ferrule.ir.operators import OPERATORS

INF, NAN = math.inf, math.nan


def run(op, dtype, *values):
    """`op` of constants, through `arg` so that nothing is folded."""
    args = tuple(eval_expr(const(v, dtype), Env()) for v in values)
    out = eval_expr(call(op, *(arg(i, dtype) for i in range(len(args)))), Env(args=args))
    return out.item()


@pytest.mark.parametrize(
    ("op", "dtype", "args", "expected"),
    [
        ("add", i8, (127, 1), -128),
        ("sub", u8, (0, 1), 255),
        ("mul", i32, (1 << 30, 4), 0),
        ("neg", i8, (-128,), -128),
        ("abs", i8, (-128,), -128),
        ("floordiv", i32, (-7, 2), -4),
        ("floordiv", i32, (7, -2), -4),
        ("mod", i32, (-7, 2), 1),
        ("mod", i32, (7, -2), -1),
        ("truncdiv", i32, (-7, 2), -3),
        ("div", i32, (7, -2), -3),
        ("rem", i32, (-7, 2), -1),
        ("floordiv", i8, (-128, -1), -128),
        ("shl", i8, (1, 7), -128),
        ("shl", i8, (1, 8), 0),
        ("shr", i8, (-128, 100), -1),
        ("shr", u8, (255, 9), 0),
        ("shr", i8, (-128, 3), -16),
        ("pow", i32, (3, 4), 81),
        ("pow", i32, (-1, -3), -1),
        ("pow", i32, (2, -1), 0),
        ("not", u8, (0,), 255),
        ("not", boolean, (True,), False),
        ("sign", i8, (-5,), -1),
        ("min", f32, (1.0, NAN), NAN),
        ("max", f32, (NAN, INF), NAN),
        ("round", f32, (2.5,), 2.0),
        ("round", f32, (-3.5,), -4.0),
        ("trunc", f32, (-2.7,), -2.0),
        ("floordiv", f32, (-7.0, 2.0), -4.0),
        ("mod", f32, (-7.0, 2.0), 1.0),
        ("rem", f32, (-7.0, 2.0), -1.0),
        ("div", f32, (1.0, 0.0), INF),
        ("sqrt", f32, (-1.0,), NAN),
        ("sign", f32, (NAN,), NAN),
        ("ne", f32, (NAN, NAN), True),
        ("eq", f32, (NAN, NAN), False),
        ("le", f32, (1.0, NAN), False),
        ("isnan", f32, (NAN,), True),
        ("isinf", f32, (-INF,), True),
        ("isinf", i32, (3,), False),
        ("exp", f32, (1.0,), float(np.float32(math.e))),
        ("sigmoid", f32, (-INF,), 0.0),
        ("erf", f64, (0.5,), math.erf(0.5)),
        ("lgamma", f64, (0.0,), INF),
        ("lgamma", f64, (10.0,), math.lgamma(10)),
        ("erfinv", f64, (1.0,), INF),
        ("erfinv", f64, (2.0,), NAN),
        ("digamma", f32, (1.0,), float(np.float32(-0.5772156649015329))),
        ("digamma", f64, (-1.0,), NAN),
        ("add", f16, (2048.0, 1.0), 2048.0),
        ("add", bf16, (256.0, 1.0), 256.0),
        ("add", boolean, (True, True), True),
        ("word", u8, (1, 2, 3, 255), 0x030201 - (1 << 24)),
        ("word", i8, (-1, 0, 0, 1), 0x010000FF),
        ("dot4", i32, (0x040302FF, 0x017F80FF), -255 - 2 * 128 + 3 * 127 + 4),
        ("dot4", i32, (-1, -1), -4 * 255),
        ("fma", f64, (1 + 2**-40, 1 + 2**-40, -1 - 2**-39), 2**-80),
        ("fma", f32, (1 + 2**-12, 1 + 2**-12, -1.0), 2**-11 + 2**-24),
    ],
)  # fmt: skip
def test_operator(op, dtype, args, expected):
    np.testing.assert_equal(run(op, dtype, *args), expected)


def wrapped(value, dtype):
    span = 1 << dtype.bits
    value &= span - 1
    return value - span if dtype.kind == "i" and value >= span >> 1 else value


def small_ints(dtype):
    return st.integers(dtype.min, dtype.max)


@given(st.data())
def test_integers_wrap_and_divide_as_stated(data):
    dtype = data.draw(st.sampled_from(INTEGERS))
    x, y = data.draw(small_ints(dtype)), data.draw(small_ints(dtype))
    assert run("add", dtype, x, y) == wrapped(x + y, dtype)
    assert run("mul", dtype, x, y) == wrapped(x * y, dtype)
    if y:
        assert run("floordiv", dtype, x, y) == wrapped(x // y, dtype)
        assert run("mod", dtype, x, y) == wrapped(x % y, dtype)
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        assert run("truncdiv", dtype, x, y) == wrapped(quotient, dtype)
        assert run("rem", dtype, x, y) == x - quotient * y


@given(st.floats(-0.999999999, 0.999999999))
def test_erfinv_inverts_erf(x):
    assert math.erf(run("erfinv", f64, x)) == pytest.approx(x, rel=1e-13, abs=1e-300)


@given(st.floats(0.01, 50))
def test_digamma_is_the_slope_of_lgamma(x):
    h = 1e-5 * x
    slope = (math.lgamma(x + h) - math.lgamma(x - h)) / (2 * h)
    assert run("digamma", f64, x) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_result_has_the_dtype_of_the_node(op, dtype):
    node = call(op, *(arg(i, dtype) for i in range(OPERATORS[op].arity)))
    args = (np.asarray([1], np.float32 if dtype == bf16 else dtype.numpy),) * OPERATORS[op].arity
    try:
        out = eval_expr(node, Env(args=args))
    except UnsupportedError:
        assert not dtype.is_float or OPERATORS[op].floats is None
        return
    assert out.dtype == (np.float32 if node.dtype == bf16 else node.dtype.numpy)


@pytest.mark.parametrize(
    ("value", "source", "to", "expected"),
    [
        (-2.7, f32, i32, -2),
        (NAN, f32, boolean, True),
        (-0.0, f32, boolean, False),
        (300, i32, u8, 44),
        (200, u8, i8, -56),
        (True, boolean, f32, 1.0),
        (1.00390625, f32, bf16, 1.0),
        (1.01171875, f32, bf16, 1.015625),
        (70000.0, f32, f16, INF),
        ((1 << 24) + 1, i64, f32, float(1 << 24)),
    ],
)
def test_cast(value, source, to, expected):
    x = eval_expr(const(value, source), Env())
    np.testing.assert_equal(eval_expr(cast(arg(0, source), to), Env(args=(x,))).item(), expected)


def test_bitcast():
    assert eval_expr(bitcast(const(1.0, f32), i32), Env()) == 0x3F800000
    assert eval_expr(bitcast(const(1.5, bf16), f16), Env()) == np.uint16(0x3FC0).view(np.float16)


def test_axes_broadcast():
    i, j, n = axis("i", 3), axis("j", dim("n")), dim("n")
    env = Env({"n": 4}, {i: np.arange(3)[:, None], j: np.arange(4)[None]})
    np.testing.assert_array_equal(eval_expr(i * n + j, env), np.arange(12).reshape(3, 4))


def test_select_does_not_load_where_it_is_not_taken():
    x, i = Buf("x", (const(3),), f32), axis("i", 5)
    memory = Memory({"x": np.array([1, 2, 3], np.float32)})
    env = Env({}, {i: np.arange(5)}, memory)
    padded = select(lt(i, 3), load(x, i), const(-1, f32))
    np.testing.assert_array_equal(eval_expr(padded, env), [1, 2, 3, -1, -1])
    nested = select(lt(i, 3), select(lt(i, 1), load(x, i + 2), load(x, i)), const(-1, f32))
    np.testing.assert_array_equal(eval_expr(nested, env), [3, 2, 3, -1, -1])
    with pytest.raises(VerifyError, match="index 3"):
        eval_expr(load(x, i), env)
    np.testing.assert_array_equal(eval_expr(load(x, i), env, np.arange(5) < 3)[:3], [1, 2, 3])


def test_bf16_loads_are_real_values():
    x = Buf("x", (const(2),), bf16)
    memory = Memory({"x": to_storage(np.array([1.5, -2], np.float32), bf16)})
    assert eval_expr(load(x, const(0)), Env(memory=memory)) == 1.5


def test_bounded():
    i = axis("i", 5)
    env = Env({}, {i: np.arange(5)})
    np.testing.assert_array_equal(eval_expr(bounded(i, 5), env), np.arange(5))
    with pytest.raises(RunIndexError, match="index 4 is out of bounds for a dimension of size 4"):
        eval_expr(bounded(i, 4), env)
    assert eval_expr(select(lt(i, 4), bounded(i, 4), const(0)), env).tolist() == [0, 1, 2, 3, 0]


def test_checked():
    i = axis("i", 5)
    env = Env({}, {i: np.arange(5)})
    x = checked(i * 2, lt(i, 4), "zero_division")
    with pytest.raises(RunError, match="divided by 0"):
        eval_expr(x, env)
    np.testing.assert_array_equal(eval_expr(x, env, np.arange(5) < 4)[:4], [0, 2, 4, 6])
    assert eval_expr(select(lt(i, 4), x, const(-1)), env).tolist() == [0, 2, 4, 6, -1]
    with pytest.raises(RunIndexError, match="index"):
        eval_expr(checked(i, lt(i, 4), "index"), env)
    assert checked(i, lt(const(1), 4), "index") is i


def test_unbound_names_are_reported():
    with pytest.raises(VerifyError, match="dim n is not bound"):
        eval_expr(dim("n") + 1, Env())
