"""Decompositions of matrices in `ferrule.jax.jit`: values and products of what is not unique, by
NumPy; derivatives and batches, by XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ferrule

jax = pytest.importorskip("jax", minversion="0.10")

import jax.numpy as jnp  # noqa: E402

import ferrule.jax  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ferrule.reset_counters()


def normal(seed: int, *shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def adjoint(x: Any) -> Any:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def near(got: Any, want: Any, tolerance: float = 2e-5) -> None:
    """Whether trees of arrays are alike, and XLA ran nothing of them."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert not ferrule.counters()["fallbacks"]


def by_eigh(a: Any) -> Any:
    """The eigenvalues, and a function of the matrix."""
    w, v = jnp.linalg.eigh(a + adjoint(a))
    return w, (v * jnp.sin(w)[..., None, :]) @ adjoint(v)


def by_svd(a: Any) -> Any:
    """The singular values, and the nearest unitary matrix."""
    u, s, vh = jnp.linalg.svd(a, full_matrices=False)
    return s, u @ vh


def by_qr(a: Any) -> Any:
    q, r = jnp.linalg.qr(a)
    return jnp.abs(r), q @ adjoint(q[..., :2, :])


FUNCTIONS = [by_eigh, by_svd, by_qr]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_values(f: Callable[..., Any], dtype: Any) -> None:
    a = normal(0, 5, 5, dtype=dtype)
    near(ferrule.jax.jit(f)(a), f(a))


@pytest.mark.parametrize("f", FUNCTIONS)
def test_doubles(f: Callable[..., Any]) -> None:
    with jax.enable_x64(True):
        a = normal(0, 4, 4, dtype=jnp.complex128)
        near(ferrule.jax.jit(f)(a), f(a), 1e-13)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_gradients_and_batches(f: Callable[..., Any], dtype: Any) -> None:
    def total(f: Any, a: Any) -> Any:
        return sum((jnp.real(y) * (1 + y.size)).sum() for y in f(a))

    a = normal(1, 2, 4, 4, dtype=dtype)
    native = ferrule.jax.jit(f)
    near(jax.vmap(native)(a), f(a))
    got, want = (jax.grad(lambda a, g=g: total(g, a))(a[0]) for g in (native, f))
    near(got, want, 1e-3)


def test_what_is_made_of_them() -> None:
    a, y = normal(2, 6, 3), normal(3, 6, 2)

    def f(a: Any, y: Any) -> Any:
        x, _, rank, s = jnp.linalg.lstsq(a, y)
        return x, rank, s, jnp.linalg.pinv(a), jnp.linalg.matrix_rank(a), jnp.linalg.cond(a)

    near(ferrule.jax.jit(f)(a, y), f(a, y), 1e-4)
    solve = [lambda a, y, g=g: (g(a, y)[0] * y[:3]).sum() for g in (ferrule.jax.jit(f), f)]
    got, want = (jax.grad(g, (0, 1))(a, y) for g in solve)
    near(got, want, 1e-3)


def by_eigvals(a: Any) -> Any:
    """What does not depend on the order of eigenvalues."""
    w = jnp.linalg.eigvals(a)
    return jnp.sort_complex(w), (jnp.abs(w) ** 2).sum(-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_eigenvalues(dtype: Any) -> None:
    a = normal(5, 2, 4, 4, dtype=dtype)
    native = ferrule.jax.jit(by_eigvals)
    near(jax.vmap(native)(a), by_eigvals(a), 1e-4)
    got, want = (jax.grad(lambda a, g=g: g(a)[1])(a[0]) for g in (native, by_eigvals))
    near(got, want, 1e-3)
    w, v = ferrule.jax.jit(jnp.linalg.eig)(a)
    near(a @ v, v * w[..., None, :])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_schur_and_hessenberg_form(dtype: Any) -> None:
    a = normal(6, 4, 4, dtype=dtype)
    t, z = ferrule.jax.jit(jax.scipy.linalg.schur)(a)
    near(z @ t @ adjoint(z), a)
    def h(a):
        return jax.scipy.linalg.hessenberg(a, calc_q=True)
    near(ferrule.jax.jit(h)(a), h(a))
    near(ferrule.jax.jit(jax.scipy.linalg.sqrtm)(a), jax.scipy.linalg.sqrtm(a), 1e-4)


def test_systems_of_complex_numbers() -> None:
    a, y = normal(7, 2, 4, 4, dtype=jnp.complex64), normal(8, 2, 4, 2, dtype=jnp.complex64)
    near(ferrule.jax.jit(jnp.linalg.solve)(a, y), jnp.linalg.solve(a, y), 1e-4)
    near(ferrule.jax.jit(jnp.linalg.slogdet)(a), jnp.linalg.slogdet(a), 1e-4)


def test_matrices_that_are_not_finite() -> None:
    a = jnp.eye(3).at[2, 1].set(jnp.nan)
    for f in (jnp.linalg.eigh, jnp.linalg.svd):
        assert all(jnp.isnan(x).all() for x in ferrule.jax.jit(f)(a))


@pytest.mark.parametrize("f", [jnp.linalg.eigvalsh, jnp.linalg.cond, jnp.linalg.slogdet])
def test_what_lapack_is_faster_for_stays_with_xla(f: Callable[..., Any]) -> None:
    def left(n: int) -> int:
        a = normal(9, n, n)
        a = a + adjoint(a)
        found = ferrule.jax.jit(f)(a)
        count = sum(ferrule.counters()["fallbacks"].values())
        ferrule.reset_counters()
        near(found, f(a), 1e-3)
        return count

    assert [left(n) for n in (16, 33)] == [0, 1]


def test_sizes_of_zero() -> None:
    for f in (jnp.linalg.eigh, jnp.linalg.svd, jnp.linalg.qr):
        near(ferrule.jax.jit(f)(jnp.zeros((0, 0))), f(jnp.zeros((0, 0))))


@pytest.mark.parametrize("f", FUNCTIONS)
def test_any_number_of_matrices(f: Callable[..., Any]) -> None:
    made = ferrule.jax.jit(f, dynamic="b, 3, 3")
    for n in (1, 4):
        near(made(normal(4, n, 3, 3)), f(normal(4, n, 3, 3)))
