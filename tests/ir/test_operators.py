"""What the records of operators say of them, against their NumPy meaning."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ferrule.base.dtype import DType, bf16, boolean, f32, f64, i8, i32, i64, u8, u32, u64
from ferrule.ir.expr import arg, call, compare, const, mul
from ferrule.ir.interp.scalar import apply, supports
from ferrule.ir.operators import COMPARISONS, FORMS, LOGIC, OPERATORS, PREDICATES, RECORDS, typed

INTS = (i8, i32, i64, u8, u32, u64)
ALL = (*INTS, boolean, f32, f64)


def samples(dtype: DType) -> np.ndarray:
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_float:
        values = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e30, -1e-30, np.inf, -np.inf, np.nan]
        return np.array(values, dtype.numpy)
    ends = [dtype.min, dtype.min + 1, dtype.max]
    return np.array([*ends, 0, 1, 2, 3, 7, 100] + [-1, -2, -7] * dtype.is_signed, dtype.numpy)


def filled(value: float, like: np.ndarray) -> np.ndarray:
    """The number in every element, wrapped: -1 has all bits set."""
    return np.full(like.shape, value, np.int64).astype(like.dtype)


def same(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal, signs of zeros and NaN included."""
    return bool(np.all((x == y) & (np.signbit(x) == np.signbit(y)) | (x != x) & (y != y)))


CASES = [(n, d) for n in OPERATORS for d in ALL if supports(n, d)]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=[f"{n}-{d}" for n, d in CASES])
def test_algebraic_facts(name, dtype):
    op, x = OPERATORS[name], samples(dtype)

    def value(*args: np.ndarray) -> np.ndarray:
        return apply(name, dtype, list(args))

    if op.commutative and not dtype.is_float:
        a, b = (m.ravel() for m in np.meshgrid(x, x))
        np.testing.assert_array_equal(value(a, b), value(b, a))
    if op.idempotent:
        np.testing.assert_array_equal(value(x, x), x)
    if op.involution:
        np.testing.assert_array_equal(value(value(x)), x)
    if dtype.is_float and op.float_unit is not None:
        assert same(value(x, np.full_like(x, op.float_unit)), x)
    if dtype.is_int or (dtype.is_bool and name in LOGIC):
        if op.unit is not None:
            np.testing.assert_array_equal(value(x, filled(op.unit, x)), x)
        if op.collapse is not None:
            k, c = (filled(v, x) for v in op.collapse)
            np.testing.assert_array_equal(value(x, k), c)
        if op.cancels:
            assert not np.any(value(x, x))
    if op.opposite is not None:
        a, b = (m.ravel() for m in np.meshgrid(x, x))
        np.testing.assert_array_equal(value(a, b), ~apply(op.opposite, dtype, [a, b]))


@pytest.mark.parametrize("name", sorted(n for n, op in OPERATORS.items() if op.exact))
def test_on_pythons_integers_it_is_the_same(name):
    op = OPERATORS[name]
    dtype = boolean if name in LOGIC else i64
    numbers = [0, 1] if dtype.is_bool else [-9, -4, -1, 0, 1, 2, 3, 10]
    for args in np.array(np.meshgrid(*[numbers] * op.arity)).reshape(op.arity, -1).T:
        expected = apply(name, dtype, [np.asarray(a, dtype.numpy) for a in args])
        assert op.exact(*map(int, args)) == expected, args


def test_every_operator_has_a_meaning_and_a_cost():
    for name in OPERATORS:
        assert any(supports(name, d) for d in ALL), name
    assert all(op.flops >= 1 and name == op.name for name, op in RECORDS.items())
    assert not OPERATORS.keys() & FORMS.keys()


def test_sets_of_operators():
    assert {"eq", "ne", "lt", "le"} == COMPARISONS
    assert {"isnan", "isinf"} == PREDICATES
    assert {"and", "or", "xor", "not"} == LOGIC


@pytest.mark.parametrize(
    ("name", "dtypes", "to", "result"),
    [
        ("add", (f32, f32), None, f32),
        ("lt", (i64, i64), None, boolean),
        ("word", (u8, u8, u8, u8), None, i32),
        ("select", (boolean, f32, f32), None, f32),
        ("cast", (i8,), f64, f64),
        ("bitcast", (i32,), f32, f32),
        ("bounded", (i64, i64), None, i64),
        ("checked", (u8, boolean), None, u8),
    ],
)
def test_dtypes_of_values(name, dtypes, to, result):
    assert typed(name, dtypes, to) == result


@pytest.mark.parametrize(
    ("name", "dtypes", "to", "message"),
    [
        ("nothing", (f32,), None, "nothing is no operator of 1 arguments"),
        ("add", (f32,), None, "add is no operator of 1 arguments"),
        ("add", (f32, i64), None, "add of f32 and i64: dtypes must agree"),
        ("select", (i64, f32, f32), None, "select of i64, f32, f32"),
        ("select", (boolean, f32, f64), None, "select of bool, f32, f64"),
        ("bitcast", (i64,), f32, "bitcast of i64 to f32: widths differ"),
        ("bounded", (i64, i32), None, "bounded takes i64, i64, not i64, i32"),
        ("checked", (i64, i64), None, "checked takes a value and a bool, not i64, i64"),
    ],
)
def test_dtypes_that_do_not_fit(name, dtypes, to, message):
    with pytest.raises((TypeError, ValueError), match=message):
        typed(name, dtypes, to)


def test_constructors_fold_by_the_facts():
    x, y = arg(0, i32), arg(0, f32)
    assert mul(const(3, i32), x).args == (x, const(3, i32))
    assert mul(x, const(0, i32)) is const(0, i32)
    assert mul(y, const(1.0, f32)) is y
    assert mul(y, const(0.0, f32)).op == "mul"
    assert (x + 0) is x
    assert (x - x) is const(0, i32)
    assert (x % 1) is const(0, i32)
    assert (x // 1) is x
    assert (const(7) // 0).op == "floordiv"
    assert (y - y).op == "sub"
    assert call("max", arg(0, i64), arg(0, i64)) is arg(0, i64)
    assert compare("ge", const(2), const(3)) is const(False, boolean)


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPERATORS["add"].flops = 2  # type: ignore[misc]


def test_one_nan_whoever_makes_it_first() -> None:
    for first in (-math.nan, math.nan):
        made = const(first, bf16)
        assert made is const(-first, bf16)
        assert math.copysign(1, made.attr) == 1
