"""`ferrule.jax.jit` against `jax.jit`: values, derivatives, batches, what is compiled and what XLA
is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base import config, log

jax = pytest.importorskip("jax", minversion="0.10")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import ferrule.jax  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ferrule.reset_counters()
    log._warned.clear()


def normal(seed: int, *shape: int) -> Any:
    return jax.random.normal(jax.random.key(seed), shape)


def check(f: Callable[..., Any], *args: Any, native: bool = True, tolerance: float = 1e-5) -> None:
    """`ferrule.jax.jit(f)` gives what `jax.jit(f)` does, all of it by ferrule if `native`."""
    got, want = ferrule.jax.jit(f)(*args), jax.jit(f)(*args)
    same(got, want, tolerance)
    assert bool(ferrule.counters()["fallbacks"]) != native


def same(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert jax.typeof(x) == jax.typeof(y)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        wide = np.complex128 if jnp.iscomplexobj(y) else np.float64
        a, b = (np.asarray(v).astype(wide) for v in (x, y))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def layer(p: dict[str, Any], x: Any) -> Any:
    return jnp.tanh(x @ p["w"] + p["b"])


def params(seed: int = 0) -> dict[str, Any]:
    return {"w": normal(seed, 8, 4), "b": normal(seed + 1, 4)}


def loss(p: dict[str, Any], x: Any) -> Any:
    return (layer(p, x) ** 2).mean()


# ---- values --------------------------------------------------------------------------------------


def test_trees_go_in_and_come_out() -> None:
    check(lambda p, x: {"y": layer(p, x), "rest": [p["w"], None, (x.sum(), 3.0)]},
          params(), normal(2, 5, 8))  # fmt: skip


def test_dtypes() -> None:
    x = normal(0, 4, 6)
    check(lambda x: x.astype(jnp.bfloat16) * 2, x)
    check(lambda x: (x > 0, x.astype(jnp.int8), x.astype(jnp.float16)), x)
    check(lambda x: (x + 1j * x, jnp.fft.fft(x)), x)
    check(lambda z: z * z, x + 2j * x)
    check(lambda m: ~m, x > 0)


def test_a_key_is_an_argument_and_a_result() -> None:
    check(lambda k: (jax.random.split(k, 3), jax.random.normal(k, (4,))), jax.random.key(7))


def test_numbers_of_python_are_weak() -> None:
    check(lambda x, n: (x * n, n + 1), normal(0, 3), 2.0)


def test_nothing_to_compute_is_not_run() -> None:
    x = normal(0, 3)
    check(lambda x: (x, 1.0), x)
    assert ferrule.counters()["kernels"] == 0


def test_sizes_of_zero() -> None:
    check(lambda x: (x * 2, x.sum(1)), jnp.zeros((3, 0)))


def test_loops_and_branches() -> None:
    x = normal(0, 6, 8)
    check(lambda x: lax.scan(lambda c, y: (c + y, c * y), jnp.zeros(8), x), x)
    check(lambda x: lax.while_loop(lambda c: jnp.abs(c).sum() < 100, lambda c: c * 2, x), x)
    check(lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x), True, x)


def test_factors_of_matrices() -> None:
    a = normal(0, 3, 5, 5)
    check(lambda a: jnp.linalg.qr(a), a, tolerance=1e-4)
    check(lambda a: lax.linalg.lu(a), a, tolerance=1e-4)
    check(lambda a: jnp.linalg.cholesky(a @ a.mT + jnp.eye(5)), a, tolerance=1e-4)
    check(lambda a, y: jnp.linalg.solve(a, y), a, normal(1, 3, 5, 2), tolerance=1e-3)


def test_random_bits_of_both_generators() -> None:
    for kind in ("threefry2x32", "rbg"):
        check(lambda k: jax.random.uniform(k, (5, 3)), jax.random.key(3, impl=kind))


def test_keywords_and_static_arguments() -> None:
    seen = []

    @partial(ferrule.jax.jit, static_argnums=(1,), static_argnames=("power",))
    def f(x: Any, mode: str, power: int = 2) -> Any:
        seen.append(mode)
        return x**power if mode == "power" else x

    x = normal(0, 4)
    same(f(x, "power", power=3), x**3)
    same(f(x, "none"), x)
    f(x, "power", power=3)
    assert seen == ["power", "none"]


def test_donated_arguments_are_taken() -> None:
    f = ferrule.jax.jit(lambda x, y: x + y, donate_argnums=(0,))
    same(f(jnp.ones(3), jnp.ones(3)), jnp.ones(3) + 1)


# ---- how it runs ---------------------------------------------------------------------------------


def target_in(f: Any, *args: Any) -> int:
    """How many of ferrule's targets a function calls."""
    return int(f.lower(*args).as_text().count("@ferrule_"))


def test_the_whole_function_is_one_call_of_a_target() -> None:
    f = ferrule.jax.jit(loss)
    assert target_in(f, params(), normal(2, 5, 8)) == 1
    text = f.lower(params(), normal(2, 5, 8)).as_text()
    assert "dot_general" not in text


def test_one_inside_another_is_part_of_it() -> None:
    inner = ferrule.jax.jit(layer)
    p, x = params(), normal(2, 5, 8)
    check(lambda p, x: (inner(p, x) ** 2).mean(), p, x)
    assert target_in(ferrule.jax.jit(lambda p, x: inner(p, x).sum()), p, x) == 1
    f = ferrule.jax.jit(jax.grad(lambda p, x: (inner(p, x) ** 2).mean()))
    same(f(p, x), jax.grad(loss)(p, x))
    assert not ferrule.counters()["fallbacks"]


def test_it_is_a_function_of_jax() -> None:
    f = ferrule.jax.jit(loss)
    assert type(f) is type(jax.jit(loss))
    assert f.__name__ == "loss"


def test_a_program_is_made_once_for_a_shape() -> None:
    f = ferrule.jax.jit(lambda x: jnp.tanh(x) * 1.25)
    for _ in range(3):
        f(normal(0, 7, 5))
    counts = ferrule.counters()
    assert counts["compilations"] + counts["cache_hits"] == 1


def test_arrays_that_a_function_holds_are_constants() -> None:
    w = normal(0, 8, 64)
    f = ferrule.jax.jit(lambda x: x @ w)
    x = normal(1, 3, 8)
    same(f(x), x @ w)
    call = next(l for l in f.lower(x).as_text().splitlines() if "@ferrule_" in l)
    assert "(tensor<3x8xf32>)" in call


def test_values_of_a_trace_around_are_arguments() -> None:
    def f(w: Any, x: Any) -> Any:
        return ferrule.jax.jit(lambda x: jnp.tanh(x @ w))(x).sum()

    w, x = normal(0, 8, 4), normal(1, 3, 8)
    same(jax.jit(f)(w, x), jnp.tanh(x @ w).sum())
    same(jax.grad(f)(w, x), jax.grad(lambda w: jnp.tanh(x @ w).sum())(w))


def test_many_threads_call_it_at_once() -> None:
    f = ferrule.jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x.T), -1).sum(0))
    inputs = [normal(i, 64, 64) for i in range(4)]
    want = [np.asarray(f(x)) for x in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(20):
            if not np.array_equal(np.asarray(f(inputs[k])), want[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_target_refuses_a_wrong_number_of_buffers() -> None:
    f = ferrule.jax.jit(lambda x, y: x * y + 1)
    x = normal(0, 3)
    text = f.lower(x, x).as_text()
    target = text.split("@ferrule_")[1].split("(")[0]
    call = jax.ffi.ffi_call(f"ferrule_{target}", jax.ShapeDtypeStruct((3,), jnp.float32))
    same(call(x, x), x * x + 1)
    with pytest.raises(Exception, match="wrong number of buffers"):
        call(x)


# ---- derivatives and batches ---------------------------------------------------------------------


def test_derivatives() -> None:
    p, x = params(), normal(2, 5, 8)
    f = ferrule.jax.jit(loss)
    same(jax.grad(f)(p, x), jax.grad(loss)(p, x))
    both = jax.value_and_grad(loss, (0, 1))(p, x)
    same(jax.jit(jax.value_and_grad(f, (0, 1)))(p, x), both)
    same(jax.jvp(f, (p, x), (p, x)), jax.jvp(loss, (p, x), (p, x)))
    same(jax.hessian(f, 1)(p, x), jax.hessian(loss, 1)(p, x))
    same(jax.linearize(f, p, x)[1](p, x), jax.linearize(loss, p, x)[1](p, x))
    assert not ferrule.counters()["fallbacks"]


def test_a_derivative_is_two_calls() -> None:
    f = jax.jit(jax.grad(ferrule.jax.jit(loss)))
    text = f.lower(params(), normal(2, 5, 8)).as_text()
    assert text.count("@ferrule_") == 2
    assert "dot_general" not in text


def test_derivatives_with_integers_and_rules_of_their_own() -> None:
    @jax.custom_vjp
    def clipped(x: Any) -> Any:
        return x * 2

    clipped.defvjp(lambda x: (x * 2, x), lambda x, g: (jnp.clip(g, -0.1, 0.1) * x,))

    def f(x: Any, i: Any) -> Any:
        return clipped(jnp.take(x, i, 0)).sum(), i + 1

    x, i = normal(0, 6, 3), jnp.array([1, 4, 4])
    grad = jax.grad(f, has_aux=True)
    same(jax.grad(ferrule.jax.jit(f), has_aux=True)(x, i), grad(x, i))


def test_derivatives_through_a_scan() -> None:
    def f(w: Any, x: Any) -> Any:
        return lax.scan(lambda h, i: (jnp.tanh(h @ w + i), h), jnp.zeros(4), x)[0].sum()

    w, x = normal(0, 4, 4), normal(1, 6, 4)
    same(jax.grad(ferrule.jax.jit(f))(w, x), jax.grad(f)(w, x))
    same(ferrule.jax.jit(jax.grad(f))(w, x), jax.grad(f)(w, x))


def test_no_derivative_of_a_result_that_is_not_smooth() -> None:
    f = ferrule.jax.jit(lambda x: (x > 0).sum())
    primal, tangent = jax.jvp(f, (jnp.ones(3),), (jnp.ones(3),))
    assert int(primal) == 3
    assert tangent.dtype == jax.dtypes.float0


def test_batches() -> None:
    p, x = params(), normal(2, 5, 8)
    f = ferrule.jax.jit(loss)
    each = partial(jax.vmap, in_axes=(None, 0))
    same(each(f)(p, x), each(loss)(p, x))
    same(each(jax.grad(f))(p, x), each(jax.grad(loss))(p, x))
    same(jax.grad(lambda p: each(f)(p, x).sum())(p), jax.grad(lambda p: each(loss)(p, x).sum())(p))
    same(jax.vmap(jax.vmap(f, (None, 1)), (None, 2))(p, normal(3, 8, 2, 3)),
         jax.vmap(jax.vmap(loss, (None, 1)), (None, 2))(p, normal(3, 8, 2, 3)))  # fmt: skip
    assert not ferrule.counters()["fallbacks"]


def test_a_checkpoint_around() -> None:
    p, x = params(), normal(2, 5, 8)
    f = ferrule.jax.jit(loss)
    same(jax.grad(jax.checkpoint(lambda p: f(p, x)))(p), jax.grad(loss)(p, x))


# ---- sizes that differ ---------------------------------------------------------------------------


def test_one_program_for_all_sizes() -> None:
    f = ferrule.jax.jit(loss, dynamic=(None, "b, ..."))
    p = params()
    for n in (3, 1, 17):
        x = normal(n, n, 8)
        same(f(p, x), loss(p, x))
        same(jax.grad(f)(p, x), jax.grad(loss)(p, x))
    counts = ferrule.counters()
    assert counts["compilations"] + counts["cache_hits"] == 3  # the value, and two for the gradient
    assert not counts["fallbacks"]


def test_sizes_of_one_name_are_one_size() -> None:
    def f(x: Any) -> Any:
        best = lax.reduce_window(jnp.tanh(x), -jnp.inf, lax.max, (1, 2), (1, 2), "VALID")
        return (best**2).sum()

    grad = jax.grad(ferrule.jax.jit(f, dynamic=("b, 8",)))
    for n in (3, 5):
        same(grad(normal(n, n, 8)), jax.grad(f)(normal(n, n, 8)))
    assert not ferrule.counters()["fallbacks"]


def test_results_of_sizes_that_differ() -> None:
    f = ferrule.jax.jit(lambda x, y: (x.reshape(-1), jnp.concatenate([x, y])),
                        dynamic=("a, 4", "b, 4"))  # fmt: skip
    for a, b in ((2, 3), (5, 1), (2, 2)):
        x, y = normal(0, a, 4), normal(1, b, 4)
        same(f(x, y), (x.reshape(-1), jnp.concatenate([x, y])))


# ---- what XLA is left ----------------------------------------------------------------------------


def test_what_ferrule_lacks_runs_in_xla_between_its_programs(capfd: Any) -> None:
    a = normal(0, 5, 5)

    def f(a: Any) -> Any:
        y = jnp.tanh(a)
        jax.debug.callback(lambda total: None, y.sum())
        return jnp.exp(y).sum()

    check(f, a, native=False)
    assert ferrule.counters()["fallbacks"] == {"jax.debug_callback": 1}
    assert "debug_callback in f runs in XLA" in capfd.readouterr().err
    assert target_in(ferrule.jax.jit(f), a) == 2
    same(jax.grad(ferrule.jax.jit(f))(a), jax.grad(f)(a), 1e-4)
    same(jax.vmap(ferrule.jax.jit(f))(a[None]), f(a)[None])


def test_parts_have_constants_of_their_own() -> None:
    w, x, out = normal(0, 5, 16), normal(1, 4, 5), jax.ShapeDtypeStruct((4, 16), jnp.float32)
    f = ferrule.jax.jit(lambda x: jax.pure_callback(np.sin, out, jnp.tanh(x @ w)))
    same(f(x), jnp.sin(jnp.tanh(x @ w)))
    call = next(l for l in f.lower(x).as_text().splitlines() if "@ferrule_" in l)
    assert "(tensor<4x5xf32>)" in call


def test_calls_of_python_are_made() -> None:
    told = []

    def f(x: Any) -> Any:
        jax.debug.callback(lambda s: told.append(float(s)), x.sum())
        return jax.pure_callback(np.sin, x, x) + 1

    check(f, jnp.ones(4), native=False)
    jax.effects_barrier()
    assert told == [4.0, 4.0]


def test_axes_with_names() -> None:
    f = ferrule.jax.jit(lambda x: lax.psum(x * 2, "i"))
    same(jax.vmap(f, axis_name="i")(jnp.arange(3.0)), jnp.ones(3) * 6)


def test_what_ferrule_lacks_is_an_error_where_asked() -> None:
    with config.override(strict=True), pytest.raises(ferrule.UnsupportedError, match="tridiagonal"):
        ferrule.jax.jit(lax.linalg.tridiagonal)(jnp.eye(3))


def test_importing_ferrule_does_not_import_jax() -> None:
    import subprocess
    import sys

    code = "import sys, ferrule; assert 'jax' not in sys.modules; ferrule.jax.jit"
    subprocess.run([sys.executable, "-c", code], check=True)
