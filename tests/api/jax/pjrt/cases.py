"""Programs of JAX on ferrule's platform, each against the CPU's values or NumPy's.

    python -m tests.api.jax.pjrt.cases     a line for each: its name, and what went wrong with it

Run in a process of its own, since JAX chooses its platforms once.
"""

from __future__ import annotations

import gc
import json
import re
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

CASES: dict[str, Callable[[], None]] = {}


def case(f: Callable[[], None]) -> Callable[[], None]:
    CASES[f.__name__] = f
    return f


def refused(text: str, f: Callable[[], Any]) -> None:
    """`f` raises an error that says this, and the platform works as before."""
    import jax.numpy as jnp

    with pytest.raises(Exception, match=re.escape(text)):
        f()
    assert (jnp.arange(3) + 1).tolist() == [1, 2, 3]


def alike(f: Callable[..., Any], *args: Any, tolerance: float = 2e-6) -> None:
    """`f` gives what it gives on the CPU."""
    import jax
    import numpy as np

    (cpu,) = jax.devices("cpu")
    got = jax.jit(f)(*args)
    with jax.default_device(cpu):
        want = jax.jit(f)(*jax.device_put(args, cpu))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert x.device.platform == "ferrule", x.device
        assert jax.typeof(x) == jax.typeof(y)
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        a, b = (np.asarray(v).astype(np.result_type(v.dtype, np.float64)) for v in (x, y))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@case
def a_function() -> None:
    import jax.numpy as jnp

    alike(lambda x: x + 1, jnp.arange(4.0))
    alike(lambda x, y: (x @ y, jnp.sum(x)), jnp.ones((3, 4)), jnp.ones((4, 2)))
    alike(lambda x: x, jnp.arange(3.0))
    alike(lambda: (jnp.ones(2), jnp.zeros((0, 3))))


@case
def derivatives_and_batches() -> None:
    import jax
    import jax.numpy as jnp

    x = jnp.linspace(0.1, 1, 12).reshape(3, 4)
    alike(jax.grad(lambda x: jnp.sum(jnp.tanh(x @ x.T))), x)
    alike(jax.vmap(lambda a: jnp.dot(a, jnp.sort(a))), x)
    alike(jax.hessian(lambda a: jnp.prod(jnp.sin(a))), x[0])


@case
def control_flow() -> None:
    import jax.numpy as jnp
    from jax import lax

    x = jnp.arange(6.0)
    alike(lambda x: lax.scan(lambda c, y: (c + y, c * y), 0.0, x), x)
    alike(lambda n: lax.while_loop(lambda c: c < n, lambda c: c * 2, 1), 100)
    alike(lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x), True, x)


@case
def random_numbers() -> None:
    import jax

    for implementation in ("threefry2x32", "rbg"):
        key = jax.random.key(3, impl=implementation)
        alike(lambda k: jax.random.normal(k, (5,)), key)
        alike(lambda k: jax.random.split(k, 3), key)
        alike(lambda k: jax.random.permutation(k, 10), key)
    assert "Array" in repr(jax.random.key(0))


@case
def decompositions() -> None:
    import jax.numpy as jnp

    a = jnp.eye(4) * 3 + jnp.arange(16.0).reshape(4, 4) / 16
    alike(lambda a: (jnp.linalg.inv(a), jnp.linalg.det(a)), a, tolerance=1e-5)
    alike(lambda a: jnp.abs(jnp.linalg.qr(a)[1]), a, tolerance=1e-5)
    alike(lambda a: jnp.linalg.cholesky(a @ a.T), a, tolerance=1e-5)


@case
def all_dtypes_there_and_back() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 "
    with jax.enable_x64(True):
        for name in (names + "float64 complex64 complex128").split():
            x = np.array([[0, 1, 2], [3, 100, 1]]).astype(jnp.dtype(name))
            y = jnp.asarray(x)
            assert y.dtype == x.dtype == np.asarray(y).dtype
            np.testing.assert_array_equal(np.asarray(y), x)
            np.testing.assert_array_equal(np.asarray(jnp.flip(y, 1)), x[:, ::-1])


@case
def dtypes_that_ferrule_lacks() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    message = "ferrule has no arrays of the element type"
    refused(f"{message} S4", lambda: jax.device_put(np.ones(3, jnp.int4)))
    refused(f"{message} F8E5M2", lambda: jax.device_put(np.ones(3, jnp.float8_e5m2)))
    refused("i4 is not supported", lambda: jnp.ones(3).astype(jnp.int4))


@case
def arrays_with_strides() -> None:
    import jax.numpy as jnp
    import numpy as np

    a = np.arange(24).reshape(2, 3, 4)
    for view in (a.T, a[:, ::-1], a[::-1, ::2, 1:3], np.broadcast_to(a, (5, 2, 3, 4)), a[:0]):
        np.testing.assert_array_equal(np.asarray(jnp.asarray(view)), view)
    x = jnp.asarray(a)
    a[:] = 0  # what JAX was given is a copy
    assert x.sum() == sum(range(24))


@case
def scalars_and_weak_types() -> None:
    import jax.numpy as jnp

    assert jnp.asarray(1).weak_type
    assert (jnp.bfloat16(1) + 1).dtype == jnp.bfloat16
    assert float(jnp.float32(2.5)) == 2.5
    assert [1, 2, 3][jnp.int32(1)] == 2
    assert bool(jnp.any(jnp.array([False, True])))
    assert jnp.arange(3)[5] == 2


@case
def empty_arrays() -> None:
    import jax.numpy as jnp

    assert jnp.zeros((0, 3)).sum() == 0
    assert (jnp.zeros((3, 0)) @ jnp.zeros((0, 2))).tolist() == [[0, 0]] * 3
    assert jnp.concatenate([jnp.zeros((0, 3)), jnp.ones((2, 3))]).shape == (2, 3)


@case
def printing() -> None:
    import jax.numpy as jnp

    assert repr(jnp.arange(3.0)) == "Array([0., 1., 2.], dtype=float32)"
    assert "..." in str(jnp.arange(5000.0))


@case
def donated_arguments() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    f = jax.jit(lambda x, y: x + y, donate_argnums=0)
    x, y = jnp.arange(4.0), jnp.ones(4)
    seen = np.asarray(x)
    assert f(x, y).tolist() == [1, 2, 3, 4]
    assert x.is_deleted()
    assert not y.is_deleted()
    assert seen.tolist() == [0, 1, 2, 3]
    refused("argument 0 is donated, and is another argument as well", lambda: f(y, y))
    assert y.tolist() == [1, 1, 1, 1]


@case
def tokens() -> None:
    import jax
    import jax.numpy as jnp

    made = jax.jit(lambda x: (jax.lax.create_token(), x + 1, jax.lax.create_token()))(jnp.ones(2))
    assert made[1].tolist() == [2, 2]
    both = jax.jit(lambda t, x, u: (x * 3, jax.lax.after_all(t, u)))(made[0], made[1], made[2])
    assert both[0].tolist() == [6, 6]


@case
def a_mesh_of_one_device() -> None:
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((1,), ("x",), (AxisType.Auto,), devices=jax.devices("ferrule"))
    x = jax.device_put(jnp.arange(4.0), NamedSharding(mesh, P("x")))
    summed = jax.shard_map(
        lambda x: jax.lax.psum(x, "x"), mesh=mesh, in_specs=P("x"), out_specs=P()
    )
    assert jax.jit(summed)(x).tolist() == [0, 1, 2, 3]


@case
def deleted_arrays() -> None:
    import jax.numpy as jnp
    import numpy as np

    x = jnp.arange(3) + 1
    seen = np.asarray(x)
    x.delete()
    refused("deleted", lambda: x + 1)
    assert (jnp.arange(3) * 9).tolist() == [0, 9, 18]
    assert seen.tolist() == [1, 2, 3]


@case
def copies_and_transfers() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    ferrule, cpu = jax.devices("ferrule")[0], jax.devices("cpu")[0]
    x = jnp.arange(3)
    assert jax.device_put(x, ferrule, may_alias=False).tolist() == [0, 1, 2]
    assert jax.device_put(jax.device_put(x, cpu) + 1, ferrule).tolist() == [1, 2, 3]
    assert jnp.array(x, copy=True).tolist() == [0, 1, 2]
    assert not np.asarray(x).flags.writeable
    assert jax.block_until_ready(x).is_ready()


@case
def what_is_refused() -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import serialize_executable

    x = jnp.ones(2)
    strange = jax.ffi.ffi_call("strange", jax.ShapeDtypeStruct((2,), jnp.float32))
    refused("the custom call @strange is not supported", lambda: strange(x))
    refused("UNIMPLEMENTED", lambda: strange(x))
    refused("EmitPythonCallback", lambda: jax.jit(lambda x: jax.pure_callback(np.sin, x, x))(x))
    options = {"xla_embed_ir_in_executable": True}
    optioned = jax.jit(lambda x: x + 1, compiler_options=options)
    refused("no compiler options of XLA's: xla_embed_ir_in_executable", lambda: optioned(x))
    compiled = jax.jit(lambda x: x + 1).lower(x).compile()
    refused("PJRT_Executable_Serialize", lambda: serialize_executable.serialize(compiled))
    assert compiled.cost_analysis() is None
    assert compiled(x).tolist() == [2, 2]


@case
def an_exception_that_drops_arrays() -> None:
    """Their buffers are given up while it is on its way."""
    import jax.numpy as jnp

    def fail() -> Any:
        raise KeyError("on its way")

    for _ in range(3):
        refused("on its way", lambda: (jnp.arange(3) + 1, jnp.arange(4) * 2, fail()))


@case
def many_threads() -> None:
    import jax
    import jax.numpy as jnp

    f = jax.jit(lambda x: jnp.sum(x @ x))
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: float(f(jnp.full((8, 8), i))), range(1, 9)))
    assert got == [8**3 * i * i for i in range(1, 9)]


@case
def nothing_is_left() -> None:
    """What C gives up is forgotten here."""
    import jax
    import jax.numpy as jnp

    from ferrule.api.jax.pjrt.handles import HANDLES

    def work() -> None:
        for n in range(1, 4):
            jax.jit(lambda x: x * 2 + 1)(jnp.ones(n)).block_until_ready()
        refused("strange", lambda: jax.ffi.ffi_call("strange", jnp.ones(2))(jnp.ones(2)))
        jax.clear_caches()
        gc.collect()

    work()
    before = HANDLES.kinds()
    work()
    after = HANDLES.kinds()
    assert after.keys() == before.keys(), (before, after)
    assert not after.keys() & {"Failure", "Event"}, after
    assert all(after[k] <= before[k] for k in after), (before, after)


def main() -> None:
    import jax

    import ferrule.jax

    jax.config.update("jax_platforms", "ferrule,cpu")
    ferrule.jax.register_platform()
    ferrule.jax.register_platform()
    for name, f in CASES.items():
        try:
            f()
            said = ""
        except Exception:
            said = traceback.format_exc()
        print(json.dumps([name, said]), flush=True)


if __name__ == "__main__":
    main()
