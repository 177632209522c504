"""Programs as callables on NumPy arrays: what is accepted, what is refused and how, and memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ferrule.base.artifact import Compiled, DimSource, Guard, TensorSpec
from ferrule.base.errors import GuardError, InputError, InputTypeError
from ferrule.runtime.arrays import NumpyCallable, OutputPool, address
from ferrule.runtime.cpu import load
from ferrule.runtime.signature import Signature

F32 = np.dtype(np.float32)


@pytest.fixture(scope="module")
def call(double: Compiled) -> NumpyCallable:
    return NumpyCallable(load(double))


def test_outputs_have_the_shape_that_the_dims_give(call: NumpyCallable) -> None:
    for n in (3, 100_000, 5):
        x = np.arange(n, dtype=np.float32)
        (y,) = call(x)
        assert y.dtype == F32
        np.testing.assert_array_equal(y, 2 * x)


def test_inputs_need_be_neither_contiguous_nor_aligned_nor_writable(call: NumpyCallable) -> None:
    x = np.arange(40, dtype=np.float32)
    np.testing.assert_array_equal(call(x[::2])[0], 2 * x[::2])
    np.testing.assert_array_equal(call(x[::-1])[0], 2 * x[::-1])
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32)
    np.testing.assert_array_equal(call(shifted)[0], 2 * x)
    np.testing.assert_array_equal(call(np.broadcast_to(np.float32(3), 4))[0], np.full(4, 6.0))


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        ((), InputError, r"double takes 1 input\(s\), \(x\), not 0"),
        ((np.zeros(3, F32),) * 2, InputError, "not 2"),
        ((np.zeros(3),), InputTypeError, r"has dtype f32, not float64; .*astype\(numpy.float32"),
        ((np.zeros(3, ">f4"),), InputTypeError, "not >f4"),
        (([1.0],), InputTypeError, "must be a NumPy array of dtype f32 and rank 1, not list"),
        ((2.0,), InputTypeError, "rank 1, not float"),
        ((np.zeros((3, 1), F32),), InputError, r"has rank 1 \[n\], not rank 2 \[3, 1\]"),
        ((np.zeros(0, F32),), GuardError, r"n >= 1 .*\(the batch must not be empty\).* n = 0"),
    ],
)
def test_inputs_that_do_not_fit(
    call: NumpyCallable, inputs: tuple[object, ...], kind: type[InputError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(*inputs)


def test_python_numbers_for_inputs_of_rank_0(code: Compiled) -> None:
    call = NumpyCallable(load(code))
    assert call(0) == ()
    assert call(np.int32(0)) == ()
    with pytest.raises(IndexError, match="index 7"):
        call(1)
    with pytest.raises(InputTypeError, match="not float"):
        call(0.0)
    with pytest.raises(InputError, match=r"too large|out of bounds"):
        call(1 << 40)


def signature(**fields: object) -> Signature:
    return Signature(Compiled("f", "k", b"", params=(), **fields))  # type: ignore[arg-type]


def test_equal_dims_and_arithmetic_on_dims() -> None:
    s = signature(
        inputs=(TensorSpec("a", "f32", ("n", "m")), TensorSpec("b", "f32", ("2*n + 1", "m"))),
        outputs=(TensorSpec("c", "f32", ("n*m", "max(n, m)", 3)),),
        dims=(DimSource("n", 0, 0), DimSource("m", 0, 1)),
        guards=(Guard("n % m == 0"),),
    )
    plan = s.plan(((4, 2), (9, 2)))
    assert (plan.dims, plan.outputs) == ((4, 2), ((8, 4, 3),))
    assert s.plan(((4, 2), (9, 2))) is plan
    with pytest.raises(InputError, match=r"input b of f: axis 0 must be 9 = 2\*n \+ 1 with n = 4"):
        s.plan(((4, 2), (8, 2)))
    with pytest.raises(InputError, match="axis 1 must be 2 = m with n = 4, m = 2, not 5"):
        s.plan(((4, 2), (9, 5)))
    with pytest.raises(GuardError, match="n % m == 0, which does not hold for n = 5, m = 2"):
        s.plan(((5, 2), (11, 2)))
    with pytest.raises(GuardError):
        s.plan(((5, 0), (11, 0)))


def test_a_size_out_of_its_range_names_input_axis_and_range() -> None:
    s = signature(
        inputs=(TensorSpec("a", "f32", (3, "n")), TensorSpec("k", "i64", ())),
        outputs=(TensorSpec("y", "f32", ("k // n",)),),
        dims=(DimSource("n", 0, 1, 1, 64), DimSource("k", 1, None)),
    )
    assert s.plan(((3, 64), ()), {1: 128}).outputs == ((2,),)
    for n in (0, 65):
        with pytest.raises(GuardError, match=f"input a of f: axis 1 must be 1 to 64, got {n}; "):
            s.plan(((3, n), ()), {1: 128})
    with pytest.raises(InputError, match="input k of f must be at least 0, got -1"):
        s.plan(((3, 64), ()), {1: -1})


def test_a_dim_that_is_an_integer_input() -> None:
    s = signature(
        inputs=(TensorSpec("x", "f32", (4,)), TensorSpec("k", "i64", ())),
        outputs=(TensorSpec("y", "f32", ("k", 4)),),
        dims=(DimSource("k", 1, None),),
    )
    assert s.scalars == (1,)
    assert s.plan(((4,), ()), {1: 3}).outputs == ((3, 4),)
    assert s.plan(((4,), ()), {1: 5}).outputs == ((5, 4),)


def test_address_is_where_the_data_is() -> None:
    for x in (np.zeros(3), np.zeros((4, 4))[1:, 2:], np.array(5), np.zeros(0), np.ones(9)[::-1]):
        assert address(x) == x.ctypes.data


def test_large_outputs_are_aligned_and_reused_when_free(call: NumpyCallable) -> None:
    x = np.ones(1 << 18, np.float32)
    (first,) = call(x)
    place = address(first)
    assert place % 64 == 0
    del first
    (again,) = call(x)
    assert address(again) == place


@pytest.mark.parametrize("hold", [lambda y: y, lambda y: y[5:7], lambda y: memoryview(y[::2])])
def test_memory_that_somebody_holds_is_not_reused(hold: object) -> None:
    pool = OutputPool()
    first = pool.empty((1 << 18,), F32)
    first[:] = 7
    held = hold(first)  # type: ignore[operator]
    place = address(first)
    del first
    others = [pool.empty((1 << 18,), F32) for _ in range(10)]
    assert all(address(y) != place for y in others)
    for y in others:
        y[:] = 1
    assert np.asarray(held)[0] == 7
    assert len({address(y) for y in others}) == 10


def test_pools_do_not_keep_every_size() -> None:
    pool = OutputPool()
    sizes = [pool.empty((n << 16,), F32).size for n in (1, 2, 30, 7, 100, 1)]
    assert sizes == [n << 16 for n in (1, 2, 30, 7, 100, 1)]
    assert len(pool._owners) <= 4


def test_concurrent_calls_get_memory_of_their_own(call: NumpyCallable) -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        x = np.full(20_000, seed, np.float32)
        for _ in range(100):
            (y,) = call(x)
            if not (y == 2 * seed).all():
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
