"""Eigenvalues of any square matrices, Schur's and Hessenberg's form and LU, compiled: by what they
are multiplied, and against NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f64
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ops.numbers import Parts
from tests.ops.matrices import DTYPES, Array, adjoint, compiled, near, random, run, unitary


def both(b: GraphBuilder, a: Parts) -> Sequence[Any]:
    """(eigenvalues, left and right vectors, whether all is well)."""
    return ops.eig(b, a, left=True)


def schur(b: GraphBuilder, a: Parts) -> Sequence[Any]:
    return ops.schur(b, a)


def check_eig(a: Array, found: Sequence[Array]) -> None:
    """Whether a v = v w and u^H a = w u^H, to what rounding leaves of each matrix."""
    w, u, v, good = found
    assert good.all()
    eps = float(np.finfo(w.real.dtype).eps)
    wide, w2, u, v = (x.astype(np.complex128) for x in (a, w, u, v))
    size = np.maximum(np.linalg.norm(wide, axis=(-2, -1)), 1e-300)[..., None, None]
    np.testing.assert_allclose((wide @ v - v * w2[..., None, :]) / size, 0, atol=100 * eps)
    left = adjoint(u)
    np.testing.assert_allclose((left @ wide - w2[..., None] * left) / size, 0, atol=100 * eps)
    for x in (u, v):
        np.testing.assert_allclose(np.linalg.norm(x, axis=-2), 1, atol=20 * eps)
        large = np.abs(x) > np.abs(x).max(-2, keepdims=True) * (1 - 8 * eps)
        assert (large & (x.imag == 0)).any(-2).all()
    if not np.iscomplexobj(a):
        check_pairs(w, v)


def check_pairs(w: Array, v: Array) -> None:
    """Whether conjugates are neighbours and exact, the upper one first; real ones have no more."""
    for at in np.ndindex(w.shape[:-1]):
        k = 0
        while k < w.shape[-1]:
            one = w[at][k]
            if one.imag == 0:
                assert (v[at][:, k].imag == 0).all()
                k += 1
                continue
            assert one.imag > 0
            assert w[at][k + 1] == one.conj()
            np.testing.assert_array_equal(v[at][:, k + 1], v[at][:, k].conj())
            k += 2


def check_schur(a: Array, found: Sequence[Array]) -> None:
    t, z, w, good = found
    assert good.all()
    n = a.shape[-1]
    near(z @ t @ adjoint(z), a, a)
    unitary(z)
    assert (np.tril(t, -2) == 0).all()
    below = np.diagonal(t, -1, -2, -1)
    if np.iscomplexobj(a):
        assert (below == 0).all()
        np.testing.assert_array_equal(w, np.diagonal(t, 0, -2, -1))
    else:
        some, middle = below != 0, np.diagonal(t, 0, -2, -1)
        assert not (some[..., 1:] & some[..., :-1]).any()
        assert (middle[..., 1:] == middle[..., :-1])[some].all()
        assert (below * np.diagonal(t, 1, -2, -1) < 0)[some].all()
        assert w.shape == (*a.shape[:-2], n)


@pytest.mark.parametrize(
    ("n", "dtype"), [*((6, t) for t in DTYPES), *((n, np.float64) for n in (1, 2, 3))]
)
def test_eig(n: int, dtype: Any) -> None:
    a = random(3, n, n, dtype=dtype)
    found = run(both, a)
    check_eig(a, found)
    w, exact = np.sort_complex(found[0]), np.sort_complex(np.linalg.eigvals(a))
    np.testing.assert_allclose(w, exact, atol=1000 * np.finfo(a.real.dtype).eps)


def test_eig_of_a_larger_one() -> None:
    a = random(30, 30, dtype=np.float32)
    check_eig(a, run(both, a))


def test_schur_of_a_larger_one() -> None:
    a = random(30, 30, dtype=np.complex128)
    check_schur(a, run(schur, a))


def hard(n: int) -> dict[str, Array]:
    """Matrices that iterations have stopped at, or that have few eigenvectors."""
    rng, ones = np.random.default_rng(1), np.ones((40, n, n))
    q = np.linalg.qr(rng.standard_normal((40, n, n)))[0]
    jordan = np.eye(n, k=1) + 2 * np.eye(n)
    last = np.eye(n, k=-1) * ones
    last[:, 0] = rng.standard_normal((40, n)) * 10.0 ** rng.integers(-2, 3, (40, 1))
    return {
        "zero": 0 * ones, "one": np.eye(n) * ones, "ones": ones,
        "cycles": np.stack([np.eye(n)[rng.permutation(n)] for _ in range(40)]),
        "integers": rng.integers(-1, 2, (40, n, n)), "nilpotent": np.eye(n, k=1) * ones,
        "triangular": np.triu(rng.integers(-2, 3, (40, n, n))),
        "lower": np.tril(rng.integers(-2, 3, (40, n, n))),
        "jordan": jordan * ones, "turned jordan": q @ jordan @ adjoint(q),
        "orthogonal": q, "skew": q - adjoint(q), "companion": last,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_hard_matrices(dtype: Any) -> None:
    for n in (2, 5):
        eig, form = (compiled(f, np.zeros((40, n, n), dtype)) for f in (both, schur))
        for a in hard(n).values():
            a = a.astype(dtype)
            if np.iscomplexobj(a):
                a = a * (1 + 1j)
            check_eig(a, eig(a))
            check_schur(a, form(a))


def test_rows_and_columns_of_other_sizes_are_balanced() -> None:
    a = random(5, 5)
    d = 10.0 ** np.arange(-6, 4, 2)
    w, *_ = run(lambda b, a: ops.eig(b, a), a * d[:, None] / d)
    exact = np.sort_complex(np.linalg.eigvals(a))
    np.testing.assert_allclose(np.sort_complex(w), exact, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-38, 1e38])
def test_eig_of_any_size(size: float) -> None:
    a = random(4, 4)
    a = (a / np.abs(a).max() / 4).astype(np.float32)
    w, _, v, good = run(lambda b, a: ops.eig(b, a), a * np.float32(size))
    exact = np.sort_complex(np.linalg.eigvals(a))
    np.testing.assert_allclose(np.sort_complex(w / np.float32(size)), exact, atol=1e-5)
    assert good
    assert np.isfinite(v).all()


def test_matrices_that_are_not_finite_have_nan() -> None:
    a = random(2, 3, 3)
    a[0, 2, 1] = np.inf
    for f in (both, schur):
        *found, good = run(f, a)
        assert good.tolist() == [False, True]
        assert all(np.isnan(x[0]).all() for x in found)
        assert all(np.isfinite(x[1]).all() for x in found)


def test_nothing() -> None:
    for f, count in ((both, 3), (schur, 3)):
        *found, good = run(f, np.zeros((2, 0, 0)))
        assert good.tolist() == [True, True]
        assert len(found) == count
        assert all(x.size == 0 for x in found)
    assert [x.shape for x in run(both, np.zeros((0, 3, 3)))] == [(0, 3), *[(0, 3, 3)] * 2, (0,)]


def test_schur_of_open_sizes() -> None:
    fn = compiled(schur, random(2, 3, 3), open_sizes=True)
    for shape in ((2, 3, 3), (1, 1, 1), (4, 2, 2), (2, 6, 6)):
        a = random(*shape)
        check_schur(a, fn(a))


@pytest.mark.slow
def test_eig_of_open_sizes() -> None:
    fn = compiled(both, random(2, 3, 3), open_sizes=True)
    for shape in ((2, 3, 3), (1, 1, 1), (4, 2, 2), (2, 6, 6)):
        a = random(*shape)
        check_eig(a, fn(a))


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_hessenberg(n: int, dtype: Any) -> None:
    a = random(2, n, n, dtype=dtype)

    def f(b: GraphBuilder, a: Parts) -> Sequence[Any]:
        packed, taus = ops.hessenberg(b, a)
        return packed, ops.product_of_reflections(b, packed, taus, a[0].shape[-1], 1)

    packed, q = run(f, a)
    unitary(q)
    near(q @ np.triu(packed, -1) @ adjoint(q), a, a)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 5)])
def test_lu(shape: tuple[int, ...], dtype: Any) -> None:
    a = random(*shape, dtype=dtype)
    k = min(shape[-2:])
    packed, pivots, place = run(lambda b, a: ops.lu(b, a), a)
    low = np.tril(packed[..., :k], -1) + np.eye(shape[-2], k)
    assert np.abs(low).max() <= 1.5  # of complex numbers the root of 2 at most
    back, wanted = low @ np.triu(packed[..., :k, :]), a.copy()
    for at in np.ndindex(shape[:-2]):
        for i, p in enumerate(pivots[at]):
            wanted[at][[i, p]] = wanted[at][[p, i]]
    near(back, wanted, a)
    assert (place == k).all()


def test_lu_of_singular_matrices_and_small_pivots() -> None:
    a = np.stack([np.zeros((3, 3)), np.diag([1, 0, 2]), np.eye(3) * 1e-44]).astype(np.complex64)
    packed, _, place = run(lambda b, a: ops.lu(b, a), a)
    assert place.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(packed, a)


def test_what_are_no_square_matrices() -> None:
    b = GraphBuilder()
    x = b.input(tensor((3, 4), f64))
    for build in (ops.eig, ops.schur, ops.hessenberg):
        with pytest.raises(CompileError, match="no square matrices"):
            build(b, (x,))
    with pytest.raises(CompileError, match="no matrices"):
        ops.lu(b, (b.input(tensor((3,), f64)),))
