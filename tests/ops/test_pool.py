"""Pooling against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor

torch = pytest.importorskip("torch")
F = torch.nn.functional
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(7)

WINDOWS = [
    ((2, 3, 9), 3, {"stride": 2, "padding": 1}),
    ((2, 3, 9, 8), (3, 2), {"stride": 2}),
    ((2, 3, 9, 8), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((2, 3, 10, 7), 2, {"stride": 2, "ceil_mode": True}),
    ((1, 2, 5, 6, 7), 2, {}),
    ((1, 2, 8, 8), 3, {"stride": 1, "padding": 1}),
]
ADAPTIVE = [
    ((2, 3, 9), (4,)), ((2, 3, 9, 8), (3, 5)), ((2, 3, 9, 8), (1, 1)), ((2, 3, 6, 8), (3, 4)),
    ((1, 2, 5, 6, 7), (2, 3, 7)), ((1, 2, 3, 4), (5, 7)),
]  # fmt: skip


def given(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def same(ours: Any, theirs: Any) -> None:
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    for o, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(o, t.numpy(), rtol=1e-5, atol=1e-6)


def theirs_of(name: str, x: np.ndarray[Any, Any], *args: Any, **attrs: Any) -> Any:
    return getattr(F, f"{name}{x.ndim - 2}d")(torch.from_numpy(x), *args, **attrs)


@pytest.mark.parametrize(("shape", "kernel", "attrs"), WINDOWS)
def test_max_pool_is_torchs(shape: Any, kernel: Any, attrs: Any, check: Check) -> None:
    x = given(*shape)
    out = check(lambda b, x: ops.max_pool(b, x, kernel, with_indices=True, **attrs), x)
    same(out, theirs_of("max_pool", x, kernel, return_indices=True, **attrs))
    same(check(lambda b, x: ops.max_pool(b, x, kernel, **attrs), x), torch.from_numpy(out[0]))


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("shape", "kernel", "attrs"), WINDOWS)
def test_avg_pool_is_torchs(
    shape: Any, kernel: Any, attrs: Any, include: bool, check: Check
) -> None:
    x = given(*shape)
    out = check(lambda b, x: ops.avg_pool(b, x, kernel, count_include_pad=include, **attrs), x,
                rtol=1e-5, atol=1e-6)  # fmt: skip
    same(out, theirs_of("avg_pool", x, kernel, count_include_pad=include, **attrs))


def test_windows_may_be_dilated_and_sums_divided_by_any_number(check: Check) -> None:
    x = given(1, 2, 8, 8)
    same(
        check(lambda b, x: ops.max_pool(b, x, 3, 1, 1, 2), x), theirs_of("max_pool", x, 3, 1, 1, 2)
    )
    out = check(lambda b, x: ops.avg_pool(b, x, 3, 1, 1, divisor_override=5), x, atol=1e-6)
    same(out, theirs_of("avg_pool", x, 3, 1, 1, divisor_override=5))


@pytest.mark.parametrize(("shape", "sizes"), ADAPTIVE)
def test_adaptive_pooling_is_torchs(shape: Any, sizes: Any, check: Check) -> None:
    x = given(*shape)
    out = check(lambda b, x: ops.adaptive_avg_pool(b, x, sizes), x, rtol=1e-5, atol=1e-6)
    same(out, theirs_of("adaptive_avg_pool", x, sizes))
    out = check(lambda b, x: ops.adaptive_max_pool(b, x, sizes), x)
    same(out, theirs_of("adaptive_max_pool", x, sizes, return_indices=True))


def test_the_least_elements_are_found_inside(check: Check) -> None:
    lowest = np.full((1, 1, 4), -np.inf, np.float32)
    values, index = check(lambda b, x: ops.max_pool(b, x, 2, padding=1, with_indices=True), lowest)
    assert np.isneginf(values).all()
    np.testing.assert_array_equal(index[0, 0], [0, 1, 3])
    nan = np.array([[[1, np.nan, 3, 4]]], np.float32)
    np.testing.assert_array_equal(
        check(lambda b, x: ops.max_pool(b, x, 2, 1), nan)[0][0, 0], [np.nan, np.nan, 4]
    )


@pytest.mark.parametrize("indices", [False, True])
def test_windows_of_padding_alone_hold_the_least_number(indices: bool, check: Check) -> None:
    none = np.zeros((1, 2, 0, 3), np.float32)
    found = check(lambda b, x: ops.max_pool(b, x, 2, padding=1, with_indices=indices), none)
    assert found[0].shape == (1, 2, 1, 2)
    assert np.isneginf(found[0]).all()
    assert all((x == np.iinfo(np.int64).max).all() for x in found[1:])
    row = np.ones((1, 1, 2), np.float32)
    edges = check(lambda b, x: ops.max_pool(b, x, 1, padding=1, with_indices=indices), row)
    np.testing.assert_array_equal(edges[0][0, 0], [-np.inf, 1, 1, -np.inf])
    means = check(lambda b, x: ops.avg_pool(b, x, 2, padding=1), none)
    assert means[0].shape == (1, 2, 1, 2)
    assert not means[0].any()


@pytest.mark.parametrize("dtype", [np.float16, np.int32])
def test_other_dtypes(dtype: Any, check: Check) -> None:
    x = RNG.integers(-9, 9, (1, 2, 6)).astype(dtype)
    values, index = check(lambda b, x: ops.max_pool(b, x, 3, 1, with_indices=True), x)
    expected = np.lib.stride_tricks.sliding_window_view(x, 3, 2)
    np.testing.assert_array_equal(values, expected.max(-1))
    np.testing.assert_array_equal(index, expected.argmax(-1) + np.arange(4))


@pytest.mark.parametrize("include", [True, False])
def test_means_of_integers_are_rounded_to_zero(include: bool, check: Check) -> None:
    x = RNG.integers(-99, 99, (1, 2, 7))
    out = check(lambda b, x: ops.avg_pool(b, x, 3, 2, 1, count_include_pad=include), x)
    same(out, theirs_of("avg_pool", x, 3, 2, 1, count_include_pad=include))


def test_plain_windows_are_used_where_sizes_divide() -> None:
    b = GraphBuilder()
    x = b.input(tensor((1, 3, 6, 8), f32))
    for size, op in (((1, 1), "mean"), ((3, 4), "avg_pool"), ((4, 4), "adaptive_pool")):
        ops.adaptive_avg_pool(b, x, size)
        assert b.nodes[-1].op == op


def test_what_does_not_fit_is_an_error() -> None:
    b = GraphBuilder()
    x = b.input(tensor((1, 3, 6, 8), f32))
    with pytest.raises(CompileError, match="max_pool"):
        ops.max_pool(b, x, (2, 2, 2))
    with pytest.raises(CompileError, match="avg_pool"):
        ops.avg_pool(b, ops.cast(b, x, boolean), 2)
