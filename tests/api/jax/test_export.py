"""`ferrule.jax.export`, and files that `jax.export` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule

jax = pytest.importorskip("jax", minversion="0.10")

import jax.numpy as jnp  # noqa: E402
from jax import export as jax_export  # noqa: E402

import ferrule.jax  # noqa: E402

W = jax.random.normal(jax.random.key(0), (16, 8))


def f(p: dict[str, Any], x: Any) -> Any:
    return {"y": jnp.tanh(x @ W) * p["scale"], "n": (x > 0).sum(-1)}


def want(n: int) -> tuple[Any, Any, Any]:
    x = jax.random.normal(jax.random.key(n), (n, 16))
    scale = jnp.arange(8.0)
    return np.asarray(scale), np.asarray(x), jax.tree.leaves(f({"scale": scale}, x))


def check(session: Any, n: int) -> None:
    scale, x, expected = want(n)
    for got, y in zip(session(scale, x), expected, strict=True):
        np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-6)


def test_a_function_runs_without_jax() -> None:
    scale, x, _ = want(5)
    check(ferrule.jax.export(f)({"scale": scale}, x), 5)
    check(ferrule.jax.export(ferrule.jax.jit(f))({"scale": scale}, x), 5)


def test_sizes_that_differ_and_a_file(tmp_path: Path) -> None:
    scale, x, _ = want(5)
    session = ferrule.jax.export(f, dynamic=(None, "b, 16"))({"scale": scale}, x)
    ferrule.save(tmp_path / "f.ferrule", session)
    loaded = ferrule.load(tmp_path / "f.ferrule")
    for n in (5, 1, 33):
        check(session, n)
        check(loaded, n)


def test_a_file_that_jax_wrote(tmp_path: Path) -> None:
    scale, x, _ = want(5)
    specs = jax_export.symbolic_args_specs(({"scale": scale}, x), (None, "b, ..."))
    made = jax_export.export(jax.jit(f))(*specs)
    (tmp_path / "f.jax").write_bytes(made.serialize())
    session = ferrule.compile(tmp_path / "f.jax")
    for n in (2, 7):
        check(session, n)


def test_ferrule_inside_is_part_of_the_program() -> None:
    inner = ferrule.jax.jit(lambda x: jnp.tanh(x) * 2)
    x = jax.random.normal(jax.random.key(1), (3, 4))
    session = ferrule.jax.export(lambda x: inner(x).sum(0))(x)
    np.testing.assert_allclose(session(np.asarray(x)), (jnp.tanh(x) * 2).sum(0), rtol=1e-5)
