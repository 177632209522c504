"""Scans against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f64, from_numpy
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ir.interp.system import combine
from ferrule.ir.system import Monoid
from ferrule.ops.scan import LAST_MAX, LAST_MIN, LOG_ADD_EXP
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

torch = pytest.importorskip("torch")
Check = Callable[..., list[np.ndarray[Any, Any]]]
RNG = np.random.default_rng(4)
INF, NAN = float("inf"), float("nan")


def same(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_running_folds_are_torchs(name: str, axis: int, check: Check) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    (out,) = check(lambda b, x: getattr(ops, name)(b, x, axis), x)
    same(out, getattr(torch, name)(torch.from_numpy(x), axis))


def _along_rows(scan: Any, exclusive: bool, reverse: bool, b: Any, x: Any) -> Any:
    return scan(b, x, 1, exclusive, reverse)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int8])
def test_scans_may_exclude_and_run_backwards(dtype: Any, check: Check) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    for exclusive, reverse, sums, products in (
        (False, False, [1, 3, 6], [1, 2, 6]), (True, False, [0, 1, 3], [1, 1, 2]),
        (False, True, [6, 5, 3], [6, 6, 3]), (True, True, [5, 3, 0], [6, 3, 1]),
    ):  # fmt: skip
        for scan, expected in ((ops.cumsum, sums), (ops.cumprod, products)):
            (out,) = check(partial(_along_rows, scan, exclusive, reverse), x)
            np.testing.assert_array_equal(out[0], expected)


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_running_extremes_are_torchs(name: str, check: Check) -> None:
    x = RNG.integers(0, 3, (5, 6)).astype(np.float32)
    x[0] = [1, 3, 3, NAN, 2, NAN]
    x[1] = [-INF, -INF, INF, INF, 0, -INF]
    for given in (x, np.nan_to_num(x, posinf=9, neginf=-9).astype(np.int32)):
        for axis in (0, 1):
            values, indices = check(lambda b, x, a=axis: getattr(ops, name)(b, x, a), given)
            theirs = getattr(torch, name)(torch.from_numpy(given), axis)
            same(values, theirs.values)
            np.testing.assert_array_equal(indices, theirs.indices.numpy())


def test_log_sums_of_infinities_are_torchs(check: Check) -> None:
    x = np.array([[-INF, -INF, 1, INF], [INF, INF, -INF, 0], [1, -INF, NAN, 2]], np.float32)
    (out,) = check(lambda b, x: ops.logcumsumexp(b, x, 1), x)
    same(out, torch.logcumsumexp(torch.from_numpy(x), 1))


def test_scalars_are_their_own_scans(check: Check) -> None:
    x = np.float32(2.5)
    assert check(lambda b, x: ops.cumsum(b, x, 0), x)[0] == 2.5
    assert check(lambda b, x: ops.cummax(b, x, -1)[1], x)[0] == 0


@pytest.mark.parametrize("monoid", [LOG_ADD_EXP(f64), LAST_MAX(f64), LAST_MIN(f64)],
                         ids=lambda m: m.name)  # fmt: skip
def test_monoids_are_associative_and_have_an_identity(monoid: Monoid) -> None:
    numbers = np.array([-INF, -1, 0, 2, INF, NAN])
    a, b, c = np.meshgrid(numbers, numbers, numbers, indexing="ij")
    places = [np.full(a.shape, k) for k in range(3)]
    x, y, z = ((v, p)[: monoid.arity] for v, p in zip((a, b, c), places, strict=True))
    left = combine(monoid, combine(monoid, x, y), z)
    right = combine(monoid, x, combine(monoid, y, z))
    for p, q in zip(left, right, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-15)
    neutral = tuple(np.broadcast_to(i.value, a.shape) for i in monoid.identity)
    for both in (combine(monoid, neutral, x), combine(monoid, x, neutral)):
        for p, q in zip(both, x, strict=True):
            np.testing.assert_array_equal(p, q)


def running(make: Any, x: Any) -> Any:
    """What compiled code makes of one input of a known and of a symbolic length, the same."""
    out = []
    for shape in (x.shape, tuple(dim(f"d{i}") for i in range(x.ndim))):
        b = GraphBuilder("scan")
        graph = b.build([make(b, b.input(tensor(shape, from_numpy(x.dtype))))])
        out.append(NumpyCallable(compile_graph(graph).executable)(x)[0])
    np.testing.assert_array_equal(*out)
    return out[0]


def test_long_running_sums_lose_no_digits() -> None:
    ones = np.ones(2**24 + 10, np.float32)
    assert running(lambda b, x: ops.cumsum(b, x, 0), ones)[-1] == 2**24 + 10
    for x in (RNG.random((100_000, 3)), RNG.standard_normal((2, 100_000)) * 1e10):
        x = x.astype(np.float32)
        axis = int(np.argmax(x.shape))
        found = running(lambda b, x, a=axis: ops.cumsum(b, x, a), x)
        right = x.astype(np.float64).cumsum(axis)
        assert np.abs(found / right - 1).max() < 2.0**-23


def test_long_running_products_and_logarithms_lose_no_digits() -> None:
    x = np.full(100_000, 1.0001, np.float32)
    found = running(lambda b, x: ops.cumprod(b, x, 0), x)
    np.testing.assert_allclose(found, x.astype(np.float64).cumprod(), rtol=1e-6)
    found = running(lambda b, x: ops.logcumsumexp(b, x, 0), x)
    right = x[0] + np.log(np.arange(1, x.size + 1))
    np.testing.assert_allclose(found, right, rtol=1e-6)


def test_running_sums_of_halves_are_rounded_once(check: Check) -> None:
    x = np.full(3000, 1.0, np.float16)
    (out,) = check(lambda b, x: ops.cumsum(b, x, 0), x)
    np.testing.assert_array_equal(out, np.arange(1, 3001).astype(np.float16))
