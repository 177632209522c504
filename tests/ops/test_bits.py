"""Operators on bits: against NumPy on Python's integers, on values at the ends of each dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import bf16, boolean, f32, from_numpy, i8, i32, u8, u16, u64
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, Value, tensor

Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
RNG = np.random.default_rng(22)
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def samples(dtype: Any, count: int = 20) -> Array:
    """The ends, what is next to them, powers of two and numbers of every size."""
    info = np.iinfo(dtype)
    ends = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, info.max // 2]
    ends += [-1, -2] if info.min else []
    more = [int(RNG.integers(0, 1 << 62)) >> int(k) for k in RNG.integers(0, 62, count)]
    return np.array([*ends, *(v % (info.max + 1) for v in more)], dtype)


def pairs(dtype: Any) -> tuple[Array, Array]:
    x = samples(dtype, 3)
    return x[:, None], x[None, :]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_counts(dtype: Any, compiled: Check) -> None:
    x = samples(dtype)
    ones, zeros = compiled(
        lambda b, x: (ops.popcount(b, x), ops.count_leading_zeros(b, x)), x
    )
    width = x.dtype.itemsize * 8
    words = [int(v) % (1 << width) for v in x]
    np.testing.assert_array_equal(ones, [v.bit_count() for v in words])
    np.testing.assert_array_equal(zeros, [width - v.bit_length() for v in words])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_arithmetic_is_defined_everywhere(dtype: Any, compiled: Check) -> None:
    x, y = pairs(dtype)
    high, quotient, remainder, shifted = compiled(
        lambda b, x, y: (
            ops.mulhi(b, x, y), ops.quotient(b, x, y), ops.remainder(b, x, y),
            ops.shift_right_logical(b, x, y),
        ),
        x, y,
    )  # fmt: skip
    width = x.dtype.itemsize * 8

    def each(f: Callable[[int, int], int]) -> Array:
        rows = [[f(int(a), int(c)) % (1 << width) for c in y[0]] for a in x[:, 0]]
        return np.array(rows, f"u{width // 8}").view(dtype)

    def divided(a: int, c: int) -> int:
        return abs(a) // abs(c) * (1 if (a < 0) == (c < 0) else -1) if c else -1

    np.testing.assert_array_equal(high, each(lambda a, c: a * c >> width))
    np.testing.assert_array_equal(quotient, each(divided))
    np.testing.assert_array_equal(remainder, each(lambda a, c: a - c * divided(a, c)))
    logical = each(lambda a, c: (a % (1 << width)) >> c if 0 <= c < width else 0)
    np.testing.assert_array_equal(shifted, logical)


def test_division_of_floats_is_that_of_floats(check: Check) -> None:
    x, y = np.array([1, -7.5, 0], np.float32), np.array([0, 2, 0], np.float32)
    quotient, rest = check(lambda b, x, y: (ops.quotient(b, x, y), ops.remainder(b, x, y)), x, y)
    np.testing.assert_array_equal(quotient, [np.inf, -3.75, np.nan])
    np.testing.assert_array_equal(rest, [np.nan, -1.5, np.nan])


# ---- bitcast -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [np.uint8, np.int16, np.float16, np.float32, np.int64, np.float64])
@pytest.mark.parametrize("source", [np.uint8, np.float16, np.int32, np.float64])
def test_bitcasts_to_other_widths(source: Any, to: Any, compiled: Check) -> None:
    wide, narrow = np.dtype(to).itemsize, np.dtype(source).itemsize
    shape = (3, wide // narrow) if wide > narrow else (3,)
    raw = RNG.integers(0, 100, shape + (narrow,)).astype(np.uint8)  # no NaN, whose bits may change
    x = raw.view(source)[..., 0]
    expected = np.ascontiguousarray(x).reshape(-1).view(to)
    expected = expected.reshape(3, -1) if wide < narrow else expected
    (out,) = compiled(lambda b, x: ops.bitcast(b, x, from_numpy(to)), x)
    np.testing.assert_array_equal(out, expected.astype(out.dtype))


def test_a_bool_is_one_bit(compiled: Check) -> None:
    x = np.array([0x8001, 0x1234], np.uint16)
    (split,) = compiled(lambda b, x: ops.bitcast(b, x, boolean), x)
    assert split.shape == (2, 16)
    (back,) = compiled(lambda b, x: ops.bitcast(b, x, u16), split.astype(np.bool_))
    np.testing.assert_array_equal(back, x)


def test_scalars_of_bits(check: Check) -> None:
    x = np.array(1.5, np.float32)
    (out,) = check(lambda b, x: ops.bitcast(b, ops.bitcast(b, x, u8), f32), x)
    assert out == 1.5
    (out,) = check(lambda b, x: ops.reduce_precision(b, x, 5, 0), x)
    assert out == 2.0


def test_a_last_dim_of_another_size_cannot_be_put_together() -> None:
    b = GraphBuilder()
    with pytest.raises(CompileError, match="last dim must have size 4"):
        ops.bitcast(b, b.input(tensor((3, 2), u8)), i32)
    with pytest.raises(CompileError, match="last dim must have size 8"):
        ops.bitcast(b, b.input(tensor((), u8)), u64)
    assert ops.bitcast(b, b.input(tensor((3, 4), i8)), f32).type == tensor((3,), f32)


# ---- floats as bits ------------------------------------------------------------------------------

FLOATS = [0.0, -0.0, 1.0, -1.0, 1.5, -2.5, np.inf, -np.inf, 1e-7, -1e-7, 100.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_total_order(dtype: Any, compiled: Check) -> None:
    x = np.array([*FLOATS, np.nan, -np.nan], dtype)
    (keys,) = compiled(ops.total_order, x)
    order = [12, 7, 5, 3, 9, 1, 0, 8, 2, 4, 10, 6, 11]  # of x
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), order)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nextafter_of_each_float(dtype: Any, compiled: Check) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([*FLOATS, np.nan, tiny, -tiny, np.finfo(dtype).max], dtype)
    (out,) = compiled(ops.nextafter, x[:, None], x[None, :])
    with np.errstate(over="ignore"):
        expected = np.nextafter(x[:, None], x[None, :])
    expected = np.where(x[:, None] == x[None, :], x[None, :], expected)  # NumPy's of f16 is x
    np.testing.assert_array_equal(out, expected.astype(np.float64))
    np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))


def test_nextafter_of_bf16(compiled: Check) -> None:
    bits = np.array([0, 0x8000, 1, 0x8001, 0x3F80, 0xBF80, 0x7F7F, 0x7F80, 0xFF80], np.uint16)
    up, down = np.uint16(0x7F80), np.uint16(0xFF80)  # inf, -inf
    towards = np.array([up, down])
    (out,) = compiled(ops.nextafter, bits[:, None], towards[None, :], is_bf16=True)
    above = [1, 1, 2, 0x8000, 0x3F81, 0xBF7F, 0x7F80, 0x7F80, 0xFF7F]
    below = [0x8001, 0x8001, 0, 0x8002, 0x3F7F, 0xBF81, 0x7F7E, 0x7F7F, 0xFF80]
    found = (out.astype(np.float32).view(np.uint32) >> 16).T
    np.testing.assert_array_equal(found, [above, below])


# ---- reduce_precision ----------------------------------------------------------------------------


def many(dtype: Any) -> Array:
    scale = 10.0 ** RNG.integers(-9, 9, 400)
    x = np.concatenate([FLOATS, [np.nan, 65504, 65519.99, 65520, 6e-5, 6.1e-5],
                        RNG.standard_normal(400) * scale])  # fmt: skip
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def test_reduced_to_f16(compiled: Check) -> None:
    x = many(np.float32)
    (out,) = compiled(lambda b, x: ops.reduce_precision(b, x, 5, 10), x)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float64)
    expected = np.where(np.abs(x) < 2.0**-14, np.copysign(0, x), expected)  # no subnormal is left
    rounds_up = (np.abs(x) < 2.0**-14) & (np.abs(x) >= 2.0**-14 * (1 - 2.0**-12))
    np.testing.assert_array_equal(out[~rounds_up], expected[~rounds_up])


def test_reduced_to_bf16(compiled: Check) -> None:
    x = many(np.float32)
    (out,) = compiled(lambda b, x: ops.reduce_precision(b, x, 8, 7), x)
    (expected,) = compiled(lambda b, x: ops.cast(b, ops.cast(b, x, bf16), f32), x)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("bits", [(5, 10), (2, 3), (8, 0), (11, 52), (1, 0)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bf16"])
def test_reduced_to_other_formats(dtype: Any, bits: Any, compiled: Check) -> None:
    half = dtype == "bf16"
    x = many(np.float32 if half else dtype)
    x = (x.view(np.uint32) >> 16).astype(np.uint16) if half else x

    def build(b: GraphBuilder, x: Value) -> tuple[Value, Value]:
        once = ops.reduce_precision(b, x, *bits)
        return once, ops.reduce_precision(b, once, *bits)

    out, again = compiled(build, x, symbolic=False, is_bf16=half)
    np.testing.assert_array_equal(again, out)
    assert np.isinf(out[np.isnan(again)]).size == (1 if bits[1] else 0)


def test_examples_of_the_specification(check: Check) -> None:
    bits = np.array([0x7FF0000000000000, 0x7FFFFFFFFFFFFFFF, 1, 0], np.uint64).view(np.float64)
    x = np.concatenate([bits, [65505.0, 65520.0]])
    (out,) = check(lambda b, x: ops.reduce_precision(b, x, 5, 10), x)
    np.testing.assert_array_equal(out, [np.inf, np.nan, 0, 0, 65504, np.inf])
    (out,) = check(lambda b, x: ops.reduce_precision(b, x, 5, 0), x[1:2])
    np.testing.assert_array_equal(out, [np.inf])


def test_there_is_no_such_format() -> None:
    b = GraphBuilder()
    x: Value = b.input(tensor((2,), f32))
    with pytest.raises(CompileError, match="no such format"):
        ops.reduce_precision(b, x, 0, 3)
    with pytest.raises(CompileError, match="defined on floats"):
        ops.reduce_precision(b, b.input(tensor((2,), i32)), 5, 3)
