"""Tolerances: what counts as the same, and how a difference is told."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.base.dtype import FLOATS, DType, bf16, boolean, f16, f32, f64, i8, to_storage
from ferrule.base.numerics import TOLERANCES, difference


def stored(values: object, dtype: DType) -> np.ndarray:
    return to_storage(np.asarray(values, dtype=np.float64 if dtype is f64 else np.float32), dtype)


def test_every_float_has_a_tolerance_above_its_rounding() -> None:
    ulps = {f64: 2.0**-53, f32: 2.0**-24, f16: 2.0**-11, bf16: 2.0**-8}
    assert set(TOLERANCES) == set(FLOATS)
    for dtype, tolerance in TOLERANCES.items():
        assert ulps[dtype] < tolerance.relative < 0.1


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounding_agrees_and_a_percent_of_ten_does_not(dtype: DType) -> None:
    x = np.linspace(-3, 3, 12).reshape(3, 4)
    assert difference(stored(x * (1 + 1e-9), dtype), stored(x, dtype), dtype) is None
    assert difference(stored(x * 1.2, dtype), stored(x, dtype), dtype) is not None


def test_small_elements_may_be_off_by_a_part_of_the_largest() -> None:
    expected = np.array([1000.0, 1e-3], np.float32)
    assert difference(expected + np.float32([0, 0.05]), expected, f32) is None
    assert difference(expected + np.float32([0, 0.5]), expected, f32) is not None


def test_special_values_agree_with_themselves_alone() -> None:
    special = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert difference(special, special, f32) is None
    for i, wrong in ((0, 1.0), (1, 3e38), (2, np.inf), (3, np.nan)):
        found = special.copy()
        found[i] = wrong
        assert f"element [{i}] is {found[i]} and should be {special[i]}; 1 of 4" in str(
            difference(found, special, f32)
        )


def test_integers_and_booleans_are_exact() -> None:
    assert difference(np.int8([1, 2]), np.int8([1, 2]), i8) is None
    assert "[1] is 3 and should be 2" in str(difference(np.int8([1, 3]), np.int8([1, 2]), i8))
    assert difference(np.array([True]), np.array([False]), boolean) is not None


def test_the_worst_element_is_named_and_shapes_must_agree() -> None:
    expected = np.zeros((2, 3), np.float32)
    found = expected.copy()
    found[0, 1], found[1, 2] = 1.0, 2.0
    text = "element [1, 2] is 2.0 and should be 0.0; 2 of 6 elements differ"
    assert difference(found, expected, f32) == text
    assert "the shape (2,)" in str(difference(found[:, 0], expected, f32))
    assert difference(expected[:0], expected[:0], f32) is None
