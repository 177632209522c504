"""Eigenvalues of Hermitian matrices, singular values and QR factors, compiled, against NumPy:
values, and products of what is not unique.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import f32, i32
from ferrule.base.errors import CompileError
from ferrule.ir.graph import GraphBuilder, tensor
from ferrule.ir.interp import run_graph
from ferrule.ops.numbers import Parts
from tests.ops.matrices import (
    DTYPES,
    Array,
    Build,
    adjoint,
    compiled,
    graph_of,
    hermitian,
    joined,
    near,
    parts,
    random,
    run,
    unitary,
)


def eigh(b: GraphBuilder, a: Parts) -> Sequence[Any]:
    return ops.eigh(b, a)


def check_eigh(a: Array, fn: Callable[[Array], list[Array]] | None = None) -> None:
    w, v, good = (fn or compiled(eigh, a))(a)
    assert good.all()
    assert w.dtype == a.real.dtype
    assert v.dtype == a.dtype
    near(w, np.linalg.eigvalsh(a), a)
    near((v * w[..., None, :]) @ adjoint(v), a, a)
    unitary(v)


@pytest.mark.parametrize(
    ("n", "dtype"), [*((5, t) for t in DTYPES), *((n, np.complex128) for n in (1, 2, 8))]
)
def test_eigh(n: int, dtype: Any) -> None:
    check_eigh(hermitian(n, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_eigh_of_many(dtype: Any) -> None:
    check_eigh(hermitian(6, 3, 2, dtype=dtype))


def test_eigh_of_a_larger_one() -> None:
    check_eigh(hermitian(40, dtype=np.float32))


def special(dtype: Any) -> dict[str, Array]:
    q = np.linalg.qr(random(5, 5, dtype=dtype))[0]
    repeated = (q * np.array([2, -1, 2, 2, -1])) @ adjoint(q)
    row, beside = random(5, 1, dtype=dtype), np.eye(5, k=1) + np.eye(5, k=-1)
    return {
        "zero": np.zeros((5, 5), dtype),
        "one": np.eye(5, dtype=dtype),
        "diagonal": np.diag(np.array([3, -2, 3, 0, 1])).astype(dtype),
        "repeated": ((repeated + adjoint(repeated)) / 2).astype(dtype),
        "rank 1": (row @ adjoint(row)).astype(dtype),
        "ones": np.ones((5, 5), dtype),
        "graded": np.diag([1e8, 1e4, 1, 1e-4, 1e-8]).astype(dtype) + beside,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_eigh_of_special_matrices(dtype: Any) -> None:
    some = special(dtype)
    a = np.stack([x / max(1, np.abs(x).max()) for x in some.values()]).astype(dtype)
    check_eigh(a)


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e30, 1e38])
def test_eigh_of_any_size(size: float) -> None:
    a = hermitian(4, dtype=np.float32)
    a = (a / np.abs(a).max() / 4 * np.float32(size)).astype(np.float32)
    w, v, good = run(eigh, a)
    exact = np.linalg.eigvalsh(a.astype(np.float64))
    np.testing.assert_allclose(w, exact, rtol=0, atol=size * 2e-6)
    assert good
    assert np.isfinite(v).all()
    unitary(v)


def test_eigh_reads_one_triangle() -> None:
    a = hermitian(4, dtype=np.complex128)
    for lower in (True, False):
        given = a.copy()
        given[np.triu_indices(4, 1) if lower else np.tril_indices(4, -1)] = np.nan
        given[np.arange(4), np.arange(4)] += 7j  # nor what is imaginary on the diagonal
        w, v, good = run(lambda b, a, lower=lower: ops.eigh(b, a, lower), given)
        near(w, np.linalg.eigvalsh(a), a)
        near((v * w) @ adjoint(v), a, a)
        assert good


def test_eigh_of_nothing() -> None:
    w, v, good = run(eigh, np.zeros((2, 0, 0)))
    assert (w.shape, v.shape, good.tolist()) == ((2, 0), (2, 0, 0), [True, True])
    w, v, good = run(eigh, np.zeros((0, 3, 3)))
    assert (w.shape, v.shape, good.shape) == ((0, 3), (0, 3, 3), (0,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_matrices_that_are_not_finite_have_nan(bad: float) -> None:
    a = hermitian(3, 2)
    a[0, 2, 1] = bad
    w, v, good = run(eigh, a)
    assert good.tolist() == [False, True]
    assert np.isnan(w[0]).all()
    assert np.isnan(v[0]).all()
    near(w[1], np.linalg.eigvalsh(a[1]), a[1])
    s, u, vh, good = run(svd(), a)
    assert good.tolist() == [False, True]
    assert all(np.isnan(x[0]).all() for x in (s, u, vh))
    near((u[1] * s[1]) @ vh[1], a[1], a[1])


def test_eigh_of_open_sizes() -> None:
    fn = compiled(eigh, hermitian(5, dtype=np.float32), open_sizes=True)
    for n in (1, 2, 5):
        check_eigh(hermitian(n, dtype=np.float32), fn)


def test_eigh_means_what_it_gives() -> None:
    graph, counts = graph_of(eigh, hermitian(3, dtype=np.complex128))
    a = hermitian(3, dtype=np.complex128)
    for x, y in zip(joined(run_graph(graph, parts(a)), counts), run(eigh, a)):
        np.testing.assert_allclose(x, y, atol=1e-12)


# ---- singular values -----------------------------------------------------------------------------


def svd(full_matrices: bool = False, vectors: bool = True) -> Build:
    return lambda b, a: ops.svd(b, a, full_matrices, vectors)


def check_svd(
    a: Array, full_matrices: bool = False, fn: Callable[[Array], list[Array]] | None = None
) -> None:
    s, u, vh, good = (fn or compiled(svd(full_matrices), a))(a)
    m, n = a.shape[-2:]
    k = min(m, n)
    assert good.all()
    assert s.dtype == a.real.dtype
    assert u.shape[-2:] == (m, m if full_matrices else k)
    assert vh.shape[-2:] == (n if full_matrices else k, n)
    near(s, np.linalg.svd(a, compute_uv=False), a)
    near((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, a)
    unitary(u)
    unitary(adjoint(vh))


SHAPES = [(1, 1), (4, 4), (3, 8), (1, 4), (4, 1)]


@pytest.mark.parametrize(
    ("shape", "dtype"), [*(((7, 3), t) for t in DTYPES), *((s, np.complex128) for s in SHAPES)]
)
def test_svd(shape: tuple[int, int], dtype: Any) -> None:
    check_svd(random(*shape, dtype=dtype))


@pytest.mark.parametrize("shape", [(3, 3), (6, 2), (2, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_svd_with_square_sides(shape: tuple[int, int], dtype: Any) -> None:
    check_svd(random(2, *shape, dtype=dtype), full_matrices=True)


@pytest.mark.parametrize(("dtype", "columns"), [(np.float32, 5), (np.complex128, 3)])
def test_svd_of_special_matrices(dtype: Any, columns: int) -> None:
    a = np.stack([x / max(1, np.abs(x).max()) for x in special(dtype).values()]).astype(dtype)
    check_svd(a[..., :columns], full_matrices=True)
    check_svd(adjoint(a[..., :columns]))


def test_svd_of_a_larger_one_of_half_the_rank() -> None:
    check_svd((random(40, 12) @ random(12, 30, seed=1)).astype(np.float32))


def test_svd_whose_rows_do_not_stay_in_cache() -> None:
    check_svd(random(256, 256, dtype=np.float32))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_singular_values_alone(shape: tuple[int, int]) -> None:
    a = random(2, *shape, dtype=np.complex64)
    s, u, vh, good = run(svd(vectors=False), a)
    near(s, np.linalg.svd(a, compute_uv=False), a)
    assert good.all()
    assert u.size == vh.size == 0


def test_small_singular_values_are_exact() -> None:
    a = random(6, 4) * np.array([1, 1e-4, 1e-8, 1e-12])
    s = run(svd(), a)[0]
    exact = np.linalg.svd(a, compute_uv=False)
    np.testing.assert_allclose(s, exact, rtol=1e-3)  # though the last is 1e-13 of the first


def test_svd_of_nothing() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        for full_matrices in (False, True):
            found = run(svd(full_matrices), np.zeros(shape))
            want = np.linalg.svd(np.zeros(shape), full_matrices)
            for x, y in zip(found, (want[1], want[0], want[2])):
                assert x.shape == y.shape
                assert (x == y).all()


def test_svd_of_open_sizes() -> None:
    fn = compiled(svd(), random(5, 3, dtype=np.float32), open_sizes=True)
    for shape in ((5, 3), (3, 5), (1, 4), (4, 4)):
        check_svd(random(*shape, dtype=np.float32), fn=fn)


# ---- reflections ---------------------------------------------------------------------------------


def qr(b: GraphBuilder, a: Parts) -> Sequence[Any]:
    """(the packed factors, Q with as many columns as the less of a's sizes)."""
    packed, taus = ops.reflections(b, a)
    return packed, ops.product_of_reflections(b, packed, taus, taus[0].shape[-1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (6, 3), (2, 3, 5)])
def test_qr(shape: tuple[int, ...], dtype: Any) -> None:
    a = random(*shape, dtype=dtype)
    k = min(shape[-2:])
    packed, q = run(qr, a)
    r = np.triu(packed[..., :k, :])
    near(q @ r, a, a)
    unitary(q)
    if len(shape) == 2 and shape[0] > 1:  # LAPACK's signs
        near(r, np.linalg.qr(a)[1], a)


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30, 3e38])
def test_qr_of_any_size(size: float) -> None:
    a = random(4, 3)
    a = (a / np.abs(a).max() / 4 * size).astype(np.float32)
    packed, q = run(qr, a)
    unitary(q)
    np.testing.assert_allclose(q @ np.triu(packed[:3]), a, rtol=0, atol=max(size * 2e-6, 6e-45))


def test_qr_of_zeros_and_of_what_is_triangular() -> None:
    a = np.stack([np.zeros((3, 3)), np.triu(random(3, 3)), -np.eye(3)])
    packed, q = run(qr, a)
    np.testing.assert_array_equal(q, np.broadcast_to(np.eye(3), (3, 3, 3)))
    np.testing.assert_array_equal(packed, a)


def test_what_are_no_matrices_of_floats() -> None:
    b = GraphBuilder()
    x, y = b.input(tensor((3, 4), f32)), b.input(tensor((3, 3), i32))
    with pytest.raises(CompileError, match="no square matrices"):
        ops.eigh(b, (x,))
    with pytest.raises(CompileError, match="no matrices"):
        ops.svd(b, (b.input(tensor((3,), f32)),))
    for build in (ops.eigh, ops.svd, ops.reflections):
        with pytest.raises(CompileError, match="linear algebra"):
            build(b, (y,))
