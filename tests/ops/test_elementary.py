"""The elementary operators against PyTorch, on random and on special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base.dtype import bf16, boolean, f16, f32, f64, i8, i32, i64, to_storage, u8
from ferrule.base.errors import CompileError
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ops.op import broadcast

torch = pytest.importorskip("torch")
Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, np.inf, -np.inf, np.nan, 1e-30, 3.7, -3.7, 20.0],
    np.float32,
)
INTEGERS = np.array([-7, -2, -1, 1, 2, 3, 7, 100, -128, 127], np.int32)

UNARY = [
    "neg", "abs", "floor", "ceil", "trunc", "round", "sqrt", "rsqrt", "exp", "exp2", "expm1",
    "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "sigmoid", "digamma", "isnan",
    "isinf",
]  # fmt: skip


def same(ours: Array, theirs: Any, rtol: float = 2e-6) -> None:
    expected = theirs.numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=1e-7)


def pairs(values: Array) -> tuple[Array, Array]:
    """Every pair of values, as a column and a row."""
    return values[:, None], values[None, :]


@pytest.mark.parametrize("name", UNARY)
def test_unary_operators_are_torchs(name: str, check: Check) -> None:
    (out,) = check(getattr(ops, name), SPECIAL)
    same(out, getattr(torch, name)(torch.from_numpy(SPECIAL)), rtol=2e-5)


def test_sign_keeps_nan_and_lgamma_is_infinite_at_its_poles(check: Check) -> None:
    (out,) = check(ops.sign, np.array([-2, 0, 3, np.nan], np.float32))
    np.testing.assert_array_equal(out, [-1, 0, 1, np.nan])
    x = np.array([0.5, 10, -0.5, 0, -1, np.inf], np.float32)
    (out,) = check(ops.lgamma, x)
    same(out, torch.lgamma(torch.from_numpy(x)))


@pytest.mark.parametrize("name", ["neg", "abs", "sign", "floor", "round", "bitwise_not", "isnan"])
def test_unary_operators_of_integers_are_torchs(name: str, check: Check) -> None:
    (out,) = check(getattr(ops, name), INTEGERS)
    same(out, getattr(torch, name)(torch.from_numpy(INTEGERS)))


BINARY: dict[str, Any] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
    "floordiv": torch.floor_divide, "mod": torch.remainder, "rem": torch.fmod,
    "truncdiv": lambda x, y: torch.div(x, y, rounding_mode="trunc"), "min": torch.minimum,
    "max": torch.maximum, "pow": torch.pow, "atan2": torch.atan2, "copysign": torch.copysign,
    "nextafter": torch.nextafter, "hypot": torch.hypot, "eq": torch.eq, "ne": torch.ne,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators_are_torchs(name: str, check: Check) -> None:
    x, y = pairs(SPECIAL)
    (out,) = check(getattr(ops, name), x, y)
    theirs = BINARY[name](torch.from_numpy(x), torch.from_numpy(y))
    same(out, theirs)
    if name in ("floordiv", "mod", "rem", "truncdiv", "copysign"):
        finite = ~np.isnan(out)
        np.testing.assert_array_equal(np.signbit(out[finite]), np.signbit(theirs.numpy()[finite]))


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "floordiv", "mod", "rem", "truncdiv", "min", "max", "eq", "lt"]
)
def test_binary_operators_of_integers_are_torchs(name: str, check: Check) -> None:
    x, y = pairs(INTEGERS)
    (out,) = check(getattr(ops, name), x, y)
    same(out, BINARY[name](torch.from_numpy(x), torch.from_numpy(y)))


def test_integer_powers_and_shifts(check: Check) -> None:
    x, y = pairs(np.array([0, 1, 2, 3, 5], np.int64))
    for name, theirs in (
        ("pow", torch.pow), ("shl", torch.bitwise_left_shift), ("shr", torch.bitwise_right_shift),
    ):  # fmt: skip
        (out,) = check(getattr(ops, name), x, y)
        same(out, theirs(torch.from_numpy(x), torch.from_numpy(y)))
    (out,) = check(lambda b, x: ops.shr(b, x, 40), np.array([-5, 5], np.int32))
    np.testing.assert_array_equal(out, [-1, 0])


def test_integers_wrap(check: Check) -> None:
    x = np.array([127, -128], np.int8)
    (out,) = check(lambda b, x: ops.mul(b, ops.add(b, x, 1), 2), x)
    np.testing.assert_array_equal(out, (x + np.int8(1)) * np.int8(2))


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_bit_operators_act_on_bool_and_on_integers(name: str, check: Check) -> None:
    x, y = pairs(np.array([False, True]))
    for family in ("logical", "bitwise"):
        (out,) = check(getattr(ops, f"{family}_{name}"), x, y)
        same(out, getattr(torch, f"bitwise_{name}")(torch.from_numpy(x), torch.from_numpy(y)))
    x, y = pairs(INTEGERS)
    (out,) = check(getattr(ops, f"bitwise_{name}"), x, y)
    same(out, getattr(torch, f"bitwise_{name}")(torch.from_numpy(x), torch.from_numpy(y)))


def test_arithmetic_of_bool_is_logic(check: Check) -> None:
    x, y = pairs(np.array([False, True]))
    for name, meant in (("add", x | y), ("mul", x & y), ("max", x | y), ("min", x & y)):
        (out,) = check(getattr(ops, name), x, y)
        np.testing.assert_array_equal(out, meant)


HALVES = {"f16": (f16, torch.half, 2.0**-10), "bf16": (bf16, torch.bfloat16, 2.0**-7)}


@pytest.mark.parametrize("name", HALVES)
def test_half_floats_are_computed_in_f32_and_rounded_once(name: str, check: Check) -> None:
    dtype, theirs, step = HALVES[name]
    x = to_storage(np.random.default_rng(0).standard_normal(64), dtype)
    (out,) = check(ops.silu, x, is_bf16=True)
    given = torch.from_numpy(x.view(np.int16)).view(theirs)
    same(out, torch.nn.functional.silu(given).double(), rtol=step)


CASTS = [
    (f32, i32), (f32, boolean), (i32, f32), (f64, f16), (i32, u8), (u8, i8), (boolean, f32),
    (f32, bf16),
]  # fmt: skip


@pytest.mark.parametrize(("source", "dtype"), CASTS)
def test_casts(source: Any, dtype: Any, check: Check) -> None:
    x = to_storage(np.array([0, 1, 2.75, 100, 3]), source)
    (out,) = check(lambda b, x: ops.cast(b, x, dtype), x)
    np.testing.assert_array_equal(out, x.astype(dtype.numpy) if dtype is not bf16 else x)


def test_bitcast_reads_the_same_bits(check: Check) -> None:
    x = np.array([1.5, -0.0, np.inf], np.float32)
    (out,) = check(lambda b, x: ops.bitcast(b, x, i32), x)
    np.testing.assert_array_equal(out, x.view(np.int32))
    half = to_storage(np.array([1.5, -2.0]), bf16)
    (out,) = check(lambda b, x: ops.bitcast(b, x, f16), half, is_bf16=True)
    np.testing.assert_array_equal(out, half.view(np.float16))


def test_select_broadcasts_and_takes_numbers(check: Check) -> None:
    x, y = np.arange(3, dtype=np.float32), np.ones((2, 1), np.float32)
    c = np.array([True, False, True])
    (out,) = check(ops.select, c, x, y)
    np.testing.assert_array_equal(out, np.where(c, x, y))
    (out,) = check(lambda b, c, x: ops.select(b, c, -np.inf, x), c, x)
    np.testing.assert_array_equal(out, np.where(c, -np.inf, x))


def test_clamp(check: Check) -> None:
    (out,) = check(lambda b, x: ops.clamp(b, x, -1, 0.5), SPECIAL)
    same(out, torch.clamp(torch.from_numpy(SPECIAL), -1, 0.5))


sizes = st.sampled_from([1, 2, 3])


@settings(max_examples=30, deadline=None)
@given(st.lists(sizes, max_size=3), st.lists(st.booleans(), max_size=3), st.integers(0, 3))
def test_broadcasting_is_numpys(shape: list[int], ones: list[bool], drop: int) -> None:
    other = [1 if one else n for n, one in zip(shape, ones + [False] * 3)][drop:]
    got = broadcast([tensor(shape, f32).shape, tensor(other, f32).shape])
    assert tuple(e.value for e in got) == np.broadcast_shapes(tuple(shape), tuple(other))


def values(*types: tuple[list[Any], Any]) -> tuple[GraphBuilder, list[Value]]:
    b = GraphBuilder()
    return b, [b.input(tensor(shape, dtype)) for shape, dtype in types]


N = dim("n")


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (([2, 3], f32), ([2], f32), r"\[2, 3\] and \[2\] do not broadcast: dimension 1 is 3 and 2"),
        (([N], f32), ([3], f32), "do not broadcast"),
        (([2], f32), ([2], i64), r"add takes operands of one dtype, got f32\[2\], i64\[2\]"),
    ],
)
def test_operands_that_do_not_fit_are_refused(left: Any, right: Any, message: str) -> None:
    b, (x, y) = values(left, right)
    with pytest.raises(CompileError, match=message):
        ops.add(b, x, y)


def test_symbolic_sizes_broadcast_where_they_are_equal_or_one() -> None:
    b, (x, y, z) = values(([N, 4], f32), ([N * 2 - N, 1], f32), ([4], f32))
    assert ops.add(b, ops.add(b, x, y), z).type == tensor([N, 4], f32)


def test_operators_refuse_kinds_of_dtype_they_are_not_defined_on() -> None:
    b, (x, c) = values(([2], i32), ([2], boolean))
    for build in (lambda: ops.exp(b, x), lambda: ops.shl(b, c, c), lambda: ops.neg(b, c)):
        with pytest.raises(CompileError, match="is defined on"):
            build()
    with pytest.raises(CompileError, match="select takes a bool"):
        ops.select(b, x, x, x)
