"""What JAX calls of LAPACK, compiled, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.api.programs import ProgramSession
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.stablehlo.text import read_text

Array = np.ndarray[Any, Any]
SIZES = [(4, 4), (5, 3), (3, 5), (1, 3), (3, 1), (2, 4, 3), (2, 3, 4, 4)]


ELEMENTS = {"float32": "f32", "float64": "f64", "complex64": "complex<f32>",
            "complex128": "complex<f64>"}  # fmt: skip


def kind(x: Any, element: str = "") -> str:
    element = element or ELEMENTS[str(np.asarray(x).dtype)]
    return "tensor<" + "".join(f"{n}x" for n in np.shape(x)) + element + ">"


def custom_call(name: str, gives: list[str], *arrays: Array, config: str = "") -> Any:
    """The results of @lapack_NAME_ffi."""
    takes = [kind(x) for x in arrays]
    names = [f"%x{k}" for k in range(len(arrays))]
    several = f"%0:{len(gives)}" if len(gives) > 1 else "%0"
    out = ", ".join(f"%0#{k}" for k in range(len(gives))) if len(gives) > 1 else "%0"
    text = f"""func.func @main({", ".join(f"{n}: {t}" for n, t in zip(names, takes))})
        -> ({", ".join(gives)}) {{
      {several} = stablehlo.custom_call @lapack_{name}_ffi({", ".join(names)})
        {{mhlo.backend_config = {{{config}}}}} : ({", ".join(takes)}) -> ({", ".join(gives)})
      return {out} : {", ".join(gives)}
    }}"""
    return ProgramSession(read_text(text))(*arrays)


def matrices(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def numbers(name: str, *shape: int) -> Array:
    """Matrices of the numbers that a function of LAPACK of this name takes."""
    x = matrices(*shape) + (1j * matrices(*shape, seed=1) if name[0] in "cz" else 0)
    return x.astype({"s": np.float32, "c": np.complex64}.get(name[0], x.dtype))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", ["dgetrf", "zgetrf"])
def test_lu(shape: tuple[int, ...], name: str) -> None:
    a = numbers(name, *shape)
    m, n = shape[-2:]
    k = min(m, n)
    some = np.zeros((*shape[:-2], k))
    lu, pivots, info = custom_call(
        name, [kind(a), kind(some, "i32"), kind(some[..., 0], "i32")], a
    )
    low = np.tril(lu[..., :k], -1) + np.eye(m, k)
    assert (np.abs(low) <= 1.5).all()  # of complex numbers the root of 2 at most
    back = low @ np.triu(lu[..., :k, :])
    for at in np.ndindex(shape[:-2]):
        rows = a[at].copy()
        for i, p in enumerate(pivots[at] - 1):
            rows[[i, p]] = rows[[p, i]]
        np.testing.assert_allclose(back[at], rows, atol=1e-12)
    assert not info.any()


def test_lu_of_a_singular_matrix_tells_where() -> None:
    a = np.array([[1.0, 2, 3], [2, 4, 6], [1, 0, 1]])
    a = np.stack([a, np.zeros((3, 3)), np.eye(3)])
    types = [kind(a), kind(a[..., 0], "i32"), "tensor<3xi32>"]
    assert custom_call("dgetrf", types, a)[2].tolist() == [3, 1, 0]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("names", [("dgeqrf", "dorgqr"), ("zgeqrf", "zungqr")])
def test_qr(shape: tuple[int, ...], names: tuple[str, str]) -> None:
    a = numbers(names[0], *shape)
    m, n = shape[-2:]
    k = min(m, n)
    taus = kind(np.zeros((*shape[:-2], k), a.dtype))
    packed, tau = custom_call(names[0], [kind(a), taus], a)
    q = custom_call(names[1], [kind(a[..., :k])], np.ascontiguousarray(packed[..., :k]), tau)
    np.testing.assert_allclose(q.conj().swapaxes(-1, -2) @ q - np.eye(k), 0, atol=1e-12)
    np.testing.assert_allclose(q @ np.triu(packed)[..., :k, :], a, atol=1e-12)


@pytest.mark.parametrize("lower", [True, False])
def test_cholesky_tells_which_matrix_has_none(lower: bool) -> None:
    a = matrices(3, 4, 4)
    a = a @ a.swapaxes(-1, -2) + np.eye(4)
    a[1] -= 10 * np.eye(4)
    uplo = f"uplo = {ord('L' if lower else 'U')} : ui8"
    x, info = custom_call("dpotrf", [kind(a), "tensor<3xi32>"], a, config=uplo)
    assert (info != 0).tolist() == [False, True, False]
    want = np.linalg.cholesky(a[[0, 2]])
    np.testing.assert_allclose(x[[0, 2]], want if lower else want.swapaxes(-1, -2), atol=1e-12)


@pytest.mark.parametrize("side", "LR")
@pytest.mark.parametrize("trans", "NT")
@pytest.mark.parametrize("diag", "NU")
def test_triangular_systems(side: str, trans: str, diag: str) -> None:
    a = matrices(2, 4, 4) + 4 * np.eye(4)
    y = matrices(2, 4, 3, seed=1) if side == "L" else matrices(2, 3, 4, seed=1)
    letters = {"side": side, "trans_x": trans, "diag": diag, "uplo": "U"}
    config = ", ".join(f"{k} = {ord(v)} : ui8" for k, v in letters.items())
    x = custom_call("dtrsm", [kind(y)], a, y, config=config)
    t = np.triu(a)
    if diag == "U":
        t = np.triu(a, 1) + np.eye(4)
    t = t if trans == "N" else t.swapaxes(-1, -2)
    np.testing.assert_allclose(t @ x if side == "L" else x @ t, y, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_tridiagonal_systems(batch: tuple[int, ...]) -> None:
    low, main, up = (matrices(*batch, 6, seed=s) for s in range(3))
    y = matrices(*batch, 6, 2, seed=3)
    gives = [kind(low)] * 3 + [kind(y), kind(main[..., 0], "i32")]
    *_, x, info = custom_call("dgtsv", gives, low, main, up, y)
    t = np.zeros((*batch, 6, 6))
    i = np.arange(6)
    t[..., i, i] = main
    t[..., i[1:], i[:-1]] = low[..., 1:]
    t[..., i[:-1], i[1:]] = up[..., :-1]
    np.testing.assert_allclose(t @ x, y, atol=1e-9)
    assert not info.any()


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("name", ["ssyevd", "dsyevd", "cheevd", "zheevd"])
def test_eigenvalues_of_hermitian_matrices(name: str, lower: bool) -> None:
    a = numbers(name, 2, 4, 4)
    a = a + a.conj().swapaxes(-1, -2)
    given = np.tril(a) if lower else np.triu(a)
    uplo = f"mode = 86 : ui8, uplo = {ord('L' if lower else 'U')} : ui8"
    gives = [kind(a), kind(a.real[..., 0]), "tensor<2xi32>"]
    v, w, info = custom_call(name, gives, given, config=uplo)
    eps = 50 * np.finfo(w.dtype).eps
    np.testing.assert_allclose(w, np.linalg.eigvalsh(a), atol=eps)
    np.testing.assert_allclose((v * w[:, None]) @ v.conj().swapaxes(-1, -2), a, atol=eps)
    assert not info.any()


@pytest.mark.parametrize("name", ["sgesdd", "dgesvd", "cgesvd", "zgesdd"])
@pytest.mark.parametrize("mode", "ASN")
def test_singular_values(name: str, mode: str) -> None:
    a = numbers(name, 2, 3, 4)
    wide = 4 if mode == "A" else 3
    u, vh, s = (numbers(name, *t) for t in ((2, 3, 3), (2, wide, 4), (2, 3)))
    gives = [kind(a), kind(s.real), kind(u), kind(vh), "tensor<2xi32>"]
    _, s, u, vh, info = custom_call(name, gives, a, config=f"mode = {ord(mode)} : ui8")
    eps = 50 * np.finfo(s.dtype).eps
    np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False), atol=eps)
    assert not info.any()
    assert u.shape == (2, 3, 3)
    assert vh.shape == (2, wide, 4)
    if mode != "N":
        np.testing.assert_allclose((u * s[:, None]) @ vh[:, :3], a, atol=eps)


@pytest.mark.parametrize("name", ["sgeev", "dgeev", "cgeev", "zgeev"])
@pytest.mark.parametrize("left", [True, False])
def test_eigenvalues(name: str, left: bool) -> None:
    a = numbers(name, 2, 4, 4)
    complexes = a.astype(np.result_type(a, np.complex64))
    w = [kind(a[..., 0])] * (1 if np.iscomplexobj(a) else 2)
    gives = [*w, kind(complexes), kind(complexes), "tensor<2xi32>"]
    config = f"compute_left = {ord('V' if left else 'N')} : ui8, compute_right = 86 : ui8"
    *w, u, v, info = custom_call(name, gives, a, config=config)
    values = w[0] if len(w) == 1 else w[0] + 1j * w[1]
    eps = 200 * np.finfo(a.real.dtype).eps
    np.testing.assert_allclose(a @ v, v * values[:, None], atol=eps)
    u = u.conj().swapaxes(-1, -2)
    np.testing.assert_allclose(u @ a, values[..., None] * u, atol=eps)
    assert not info.any()
    assert u.any() == left


@pytest.mark.parametrize("name", ["dgees", "zgees"])
def test_schur_form(name: str) -> None:
    a = numbers(name, 2, 4, 4)
    w = [kind(a[..., 0])] * (1 if np.iscomplexobj(a) else 2)
    gives = [kind(a), kind(a), *w, "tensor<2xi32>", "tensor<2xi32>"]
    t, z, *w, _, info = custom_call(name, gives, a, config="mode = 86 : ui8, sort = 78 : ui8")
    np.testing.assert_allclose(z @ t @ z.conj().swapaxes(-1, -2), a, atol=1e-13)
    values = w[0] if len(w) == 1 else w[0] + 1j * w[1]
    exact = np.sort_complex(np.linalg.eigvals(a))
    np.testing.assert_allclose(np.sort_complex(values), exact, atol=1e-13)
    assert not info.any()
    with pytest.raises(UnsupportedError, match="sorted"):
        custom_call(name, gives, a, config="mode = 86 : ui8, sort = 83 : ui8")


@pytest.mark.parametrize("name", ["dgehrd", "zgehrd"])
def test_hessenberg_form(name: str) -> None:
    a = numbers(name, 2, 4, 4)
    gives = [kind(a), kind(a[..., 0, 1:]), "tensor<2xi32>"]
    config = "low = 1 : i32, high = 4 : i32"
    packed, taus, info = custom_call(name, gives, a, config=config)
    orgqr = {"d": "dorgqr", "z": "zungqr"}[name[0]]
    rest = np.ascontiguousarray(packed[:, 1:, :-1])
    q = np.zeros_like(a)
    q[:, 0, 0], q[:, 1:, 1:] = 1, custom_call(orgqr, [kind(rest)], rest, taus)
    np.testing.assert_allclose(
        q @ np.triu(packed, -1) @ q.conj().swapaxes(-1, -2), a, atol=1e-13
    )
    assert not info.any()
    with pytest.raises(UnsupportedError, match="part"):
        custom_call(name, gives, a, config="low = 2 : i32, high = 4 : i32")


def test_philox_of_two_words_and_the_greatest_elements() -> None:
    text = """func.func @before(%a: tensor<f64>, %b: tensor<f64>, %i: tensor<i32>, %j: tensor<i32>)
        -> tensor<i1> {
      %0 = stablehlo.compare GT, %a, %b : (tensor<f64>, tensor<f64>) -> tensor<i1>
      stablehlo.return %0 : tensor<i1>
    }
    func.func @main(%s: tensor<2xui64>, %x: tensor<2x5xf64>)
        -> (tensor<4xui32>, tensor<2x2xf64>, tensor<2x2xi32>) {
      %r:2 = "stablehlo.rng_bit_generator"(%s) {rng_algorithm = #stablehlo<rng_algorithm PHILOX>}
        : (tensor<2xui64>) -> (tensor<2xui64>, tensor<4xui32>)
      %p = stablehlo.iota dim = 1 : tensor<2x5xi32>
      %c = stablehlo.constant dense<-1> : tensor<i32>
      %d = stablehlo.constant dense<0.0> : tensor<f64>
      %k:2 = stablehlo.custom_call @ApproxTopK(%x, %p, %d, %c) {
        called_computations = [@before],
        mhlo.backend_config = {aggregate_to_topk = true, reduction_dim = 1 : i64, top_k = 2 : i64}}
        : (tensor<2x5xf64>, tensor<2x5xi32>, tensor<f64>, tensor<i32>)
        -> (tensor<2x2xf64>, tensor<2x2xi32>)
      return %r#1, %k#0, %k#1 : tensor<4xui32>, tensor<2x2xf64>, tensor<2x2xi32>
    }"""
    x = np.array([[3.0, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    state = np.array([7 | 9 << 32, 11 | 13 << 32], np.uint64)
    words, best, places = ProgramSession(read_text(text))(state, x)
    assert words.tolist() == [1052910769, 2831635908, 4264662489, 2501791399]  # XLA's
    assert best.tolist() == [[5, 4], [9, 6]]
    assert places.tolist() == [[4, 2], [0, 2]]
