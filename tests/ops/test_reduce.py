"""Reductions against PyTorch, over all shapes, axes and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
SHAPE = (2, 3, 4)
AXES = [None, *(c for n in (1, 2) for c in combinations(range(3), n)), (-1,)]
RNG = np.random.default_rng(3)


def floats(shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def same(ours: Any, theirs: Any, rtol: float = 2e-6) -> None:
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.double().numpy(), rtol=rtol, atol=1e-6)


REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "sum": (ops.reduce_sum, torch.sum),
    "max": (ops.reduce_max, torch.amax),
    "min": (ops.reduce_min, torch.amin),
    "any": (ops.reduce_any, torch.any),
    "all": (ops.reduce_all, torch.all),
    "mean": (ops.mean, torch.mean),
    "var": (ops.var, torch.var),
    "std": (ops.std, torch.std),
    "logsumexp": (ops.logsumexp, torch.logsumexp),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_reductions_are_torchs(name: str, axes: Any, check: Check) -> None:
    ours, theirs = REDUCTIONS[name]
    x = np.where(floats() > 0.8, np.float32(0), floats())
    over = tuple(range(3)) if axes is None else axes
    for keepdims in (False, True):
        (out,) = check(lambda b, x, k=keepdims: ours(b, x, axes, keepdims=k), x)
        same(out, theirs(torch.from_numpy(x), dim=over, keepdim=keepdims))


@pytest.mark.parametrize("name", ["sum", "max", "min", "any", "all"])
def test_reductions_of_integers_are_torchs(name: str, check: Check) -> None:
    x = RNG.integers(-50, 50, SHAPE)
    ours, theirs = REDUCTIONS[name]
    (out,) = check(lambda b, x: ours(b, x, (0, 2)), x)
    same(out, theirs(torch.from_numpy(x), dim=(0, 2)))


def test_products_and_bool_extremes(check: Check) -> None:
    x = floats()
    (out,) = check(lambda b, x: ops.reduce_prod(b, x, 1), x)
    same(out, torch.prod(torch.from_numpy(x), dim=1))
    (high, low) = check(
        lambda b, x: (ops.reduce_max(b, x, 1), ops.reduce_min(b, x, 1)), np.eye(2, 3) > 0
    )
    assert high.tolist() == [True, True]
    assert low.tolist() == [False, False]


def test_narrow_integers_wrap_in_their_own_dtype(check: Check) -> None:
    (out,) = check(lambda b, x: ops.reduce_sum(b, x), np.full(3, 100, np.int8))
    assert out == 44


def test_half_floats_are_summed_in_f32(check: Check) -> None:
    x = np.full((2, 3000), 1.0, np.float16)
    for build in (ops.reduce_sum, ops.mean, ops.logsumexp):
        (out,) = check(lambda b, x, build=build: build(b, x, 1), x, symbolic=False, rtol=1e-3)
        assert np.isfinite(out).all()
        assert out[0] == {ops.reduce_sum: 3000, ops.mean: 1}.get(build, out[0])


@pytest.mark.parametrize("correction", [0, 1, 2.5, 4, 9])
@pytest.mark.filterwarnings("ignore:var")
def test_degrees_of_freedom(correction: float, check: Check) -> None:
    x = floats()
    variance, mean = check(lambda b, x: ops.var_mean(b, x, -1, correction), x)
    same(variance, torch.var(torch.from_numpy(x), -1, correction=correction), rtol=1e-5)
    same(mean, torch.mean(torch.from_numpy(x), -1))


@pytest.mark.parametrize("scale", [1e30, 1e-30, None], ids=["huge", "tiny", "far from 0"])
@pytest.mark.parametrize("axes", [None, (1,), (0,)], ids=str)
def test_spreads_of_numbers_of_any_size_are_torchs(scale: Any, axes: Any, check: Check) -> None:
    """Squares are out of f32's range, or the mean is known to a few digits of the spread."""
    x = floats((8, 500))
    x = x + np.float32(1e7) if scale is None else x * np.float32(scale)

    def build(b: GraphBuilder, x: Value) -> list[Value]:
        return [ops.var(b, x, axes), ops.std(b, x, axes), *ops.var_mean(b, x, axes, 0)]

    t = torch.from_numpy(x)
    theirs = [t.var(axes), t.std(axes), *torch.var_mean(t, axes, correction=0)]
    b = GraphBuilder("spread")
    graph = b.build(build(b, b.input(tensor(x.shape, f32))))
    compiled = NumpyCallable(compile_graph(graph).executable)(x)
    with np.errstate(over="ignore"):
        for found in (compiled, check(build, x)):
            for got, want in zip(found, theirs, strict=True):
                np.testing.assert_allclose(got, want.double().numpy(), rtol=1e-4)


NAN = float("nan")


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8])
def test_extremes_and_their_indices_are_torchs(name: str, dtype: Any, check: Check) -> None:
    x = RNG.integers(0, 3, SHAPE).astype(dtype)
    arg = getattr(ops, f"arg{name}")
    for axis in (None, 0, 1, -1):
        (out,) = check(lambda b, x, a=axis: arg(b, x, a), x)
        np.testing.assert_array_equal(out, getattr(np, f"arg{name}")(x, axis))
    best, index = check(lambda b, x: getattr(ops, f"{name}_with_index")(b, x, 1, True), x)
    theirs = getattr(torch, name)(torch.from_numpy(x), dim=1, keepdim=True)
    same(best, theirs.values)
    np.testing.assert_array_equal(np.take_along_axis(x, index, 1), theirs.values.numpy())


def test_nan_wins_and_the_first_of_equals_is_found(check: Check) -> None:
    x = np.array([[1, NAN, 3, NAN], [5, 2, 5, 2]], np.float32)
    for arg, expected in ((ops.argmax, [1, 0]), (ops.argmin, [1, 1])):
        (out,) = check(lambda b, x, arg=arg: arg(b, x, 1), x)
        assert out.tolist() == expected
    for fold in (ops.reduce_max, ops.reduce_min):
        (out,) = check(lambda b, x, fold=fold: fold(b, x, 1), x)
        assert np.isnan(out[0])


def test_logsumexp_of_infinities_is_torchs(check: Check) -> None:
    inf = float("inf")
    x = np.array([[-inf, -inf], [inf, 1], [-inf, 2], [inf, -inf], [NAN, 1]], np.float32)
    (out,) = check(lambda b, x: ops.logsumexp(b, x, 1), x)
    same(out, torch.logsumexp(torch.from_numpy(x), 1))


@pytest.mark.parametrize("p", [0, 1, 2, 3, float("inf"), float("-inf")])
def test_norms_are_torchs(p: float, check: Check) -> None:
    x = np.array([[3, -4, 0], [1, 2, -2]], np.float32)
    (out,) = check(lambda b, x: ops.p_norm(b, x, p, 1), x)
    same(out, torch.linalg.vector_norm(torch.from_numpy(x), p, 1))


def test_scalars_are_their_own_reductions(check: Check) -> None:
    for build in (ops.reduce_sum, ops.reduce_max, ops.mean, ops.argmax, ops.logsumexp):
        (out,) = check(lambda b, x, build=build: build(b, x), np.float32(2.5))
        assert out == (0 if build is ops.argmax else 2.5)


def test_wrong_axes_and_empty_extremes_are_refused() -> None:
    b = GraphBuilder()
    x, empty = b.input(tensor([2, 3], i32)), b.input(tensor([2, 0], f32))
    for build, message in (
        (lambda: ops.reduce_sum(b, x, 2), "axis 2 is out of range for a tensor of rank 2"),
        (lambda: ops.reduce_sum(b, x, (0, -2)), "an axis is given twice"),
        (lambda: ops.mean(b, x), "is defined on floats, got i32"),
        (lambda: ops.reduce_max(b, empty, 1), "of no elements has no value"),
        (lambda: ops.argmax(b, empty), "of no elements has no value"),
    ):
        with pytest.raises(CompileError, match=message):
            build()


def test_sums_of_no_elements_are_neutral(check: Check) -> None:
    x = np.zeros((2, 0), np.float32)
    for build, value in (
        (ops.reduce_sum, 0), (ops.reduce_prod, 1), (ops.reduce_any, 0), (ops.reduce_all, 1),
        (ops.mean, NAN), (ops.logsumexp, -np.inf),
    ):  # fmt: skip
        (out,) = check(lambda b, x, build=build: build(b, x, 1), x, symbolic=False)
        np.testing.assert_array_equal(out, np.full(2, value))
