"""`ferrule.jit` as a newcomer would use it: programs, arguments, results, what is compiled when."""

from __future__ import annotations

import collections
import threading
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.base.errors import InputError, InputTypeError, RunError, RunIndexError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


# ---- programs ------------------------------------------------------------------------------------


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    apart = x - x.mean(-1, keepdims=True)
    return apart / np.sqrt((apart**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def mlp(x: Any, layers: Any) -> Any:
    for i, layer in enumerate(layers):
        x = x @ layer["w"] + layer["b"]
        x = np.maximum(x, 0) if i + 1 < len(layers) else x
    return x


def attention(x: Any, p: Any) -> Any:
    q, k, v = (x @ p[name] for name in ("q", "k", "v"))
    heads = [t.reshape(*t.shape[:-1], 2, -1).swapaxes(-2, -3) for t in (q, k, v)]
    scores = np.einsum("hqd,hkd->hqk", heads[0], heads[1]) * heads[0].shape[-1] ** -0.5
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    return (softmax(scores) @ heads[2]).swapaxes(0, 1).reshape(x.shape)


def image_filter(x: Any, kernel: Any) -> Any:
    padded = np.pad(x, 1, mode="edge")
    h, w = x.shape
    return sum(padded[i : i + h, j : j + w] * kernel[i, j] for i in range(3) for j in range(3))


def kmeans_step(x: Any, centers: Any) -> Any:
    distance = ((x[:, None] - centers) ** 2).sum(-1)
    mine = distance.argmin(1)
    member = (mine[:, None] == np.arange(centers.shape[0])).astype(x.dtype)
    return member.T @ x / np.maximum(member.sum(0), 1)[:, None], mine


def black_scholes(s: Any, k: Any, t: Any, rate: float, volatility: float) -> Any:
    d1 = (np.log(s / k) + (rate + volatility**2 / 2) * t) / (volatility * np.sqrt(t))
    d2 = d1 - volatility * np.sqrt(t)
    cdf = lambda z: 1 / (1 + np.exp(-1.702 * z))  # noqa: E731
    return s * cdf(d1) - k * np.exp(-rate * t) * cdf(d2)


def n_body(x: Any, v: Any, mass: Any, dt: float) -> Any:
    apart = x[None] - x[:, None]
    weight = mass[None, :, None] / ((apart**2).sum(-1, keepdims=True) + 0.01) ** 1.5
    v = v + dt * (apart * weight).sum(1)
    return x + dt * v, v


def mandelbrot(re: Any, im: Any) -> Any:
    a, b, steps = re, im, np.zeros_like(re, dtype=np.int32)
    for _ in range(5):
        inside = a * a + b * b < 4
        steps += inside
        a, b = np.where(inside, a * a - b * b + re, a), np.where(inside, 2 * a * b + im, b)
    return steps


def gru_step(x: Any, h: Any, w: Any, u: Any) -> Any:
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    xz, xr, xn = np.split(x @ w, 3, -1)
    hz, hr, hn = np.split(h @ u, 3, -1)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h


def recurrence(x: Any) -> Any:
    out = np.zeros(x.shape, x.dtype, like=x) if not isinstance(x, np.ndarray) else np.zeros_like(x)
    out[0] = x[0]
    for i in range(1, x.shape[0]):
        out[i] = 0.5 * out[i - 1] + x[i]
    return out


PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "softmax": (softmax, (f(7, 33),)),
    "layer_norm": (layer_norm, (f(7, 33), f(33), f(33))),
    "mlp": (mlp, (f(5, 8), [{"w": f(8, 16), "b": f(16)}, {"w": f(16, 3), "b": f(3)}])),
    "attention": (attention, (f(6, 8), {"q": f(8, 8), "k": f(8, 8), "v": f(8, 8)})),
    "image_filter": (image_filter, (f(9, 11), f(3, 3))),
    "kmeans_step": (kmeans_step, (f(40, 3), f(4, 3))),
    "black_scholes": (black_scholes, (np.abs(f(9)) + 5, np.abs(f(9)) + 4, np.abs(f(9)), 0.02, 0.3)),
    "n_body": (n_body, (f(6, 3), f(6, 3), np.abs(f(6)), 0.01)),
    "mandelbrot": (mandelbrot, (f(5, 7), f(5, 7))),
    "gru_step": (gru_step, (f(4, 6), f(4, 5), f(6, 15), f(5, 15))),
    "recurrence": (recurrence, (f(5, 4),)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_give_what_numpy_gives(name: str) -> None:
    fn, args = PROGRAMS[name]
    found, expected = ferrule.jit(fn)(*args), fn(*args)
    for ours, theirs in zip(
        *(x if isinstance(x, tuple) else (x,) for x in (found, expected)), strict=True
    ):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


# ---- arguments and results -----------------------------------------------------------------------

Pair = collections.namedtuple("Pair", "first second")


def test_containers_come_and_go() -> None:
    @ferrule.jit
    def fn(tree: Any, *rest: Any, extra: Any = None) -> Any:
        a, (b, c) = tree["a"], tree["pair"]
        return {"sum": a + b, "pair": Pair(c * 2, [a, None, "text", 3]), "rest": (*rest, extra)}

    a, b, c = f(3), f(3), f(2)
    out = fn({"a": a, "pair": Pair(b, c)}, a, b, extra=c)
    np.testing.assert_allclose(out["sum"], a + b)
    assert isinstance(out["pair"], Pair)
    np.testing.assert_allclose(out["pair"].first, c * 2)
    assert out["pair"].second[1:] == [None, "text", 3]
    assert [x.shape for x in out["rest"]] == [(3,), (3,), (2,)]
    assert fn({"a": a, "pair": (b, c)})["rest"] == (None,)
    assert fn.programs == 2


def test_arguments_by_name_and_defaults() -> None:
    fn = ferrule.jit(softmax, static_argnames="axis")
    x = f(4, 6)
    for given in (fn(x), fn(x=x), fn(x, axis=-1), fn(x, -1)):
        np.testing.assert_allclose(given, softmax(x), rtol=1e-5)
    np.testing.assert_allclose(fn(x, axis=0), softmax(x, 0), rtol=1e-5)
    assert fn.programs == 3


def test_static_values_make_programs_of_their_own_by_type_too() -> None:
    fn = ferrule.jit(lambda x, flag, mode, k: x * k if flag else mode, static_argnames=["k"])
    x = f(3)
    assert fn(x, True, "m", 2).dtype == np.float32
    assert fn(x, True, "m", 2.0).dtype == np.float32
    assert fn(x.astype(np.int32), True, "m", 2).dtype == np.int32
    assert fn(x.astype(np.int32), True, "m", 2.0).dtype == np.float64
    assert fn(x, False, "m", 2) == "m"
    assert fn.programs == 5


def test_python_numbers_are_weak_and_numpys_are_not() -> None:
    fn = ferrule.jit(lambda x, s: x * s)
    x = f(3)
    assert fn(x, 2).dtype == fn(x, 2.5).dtype == np.float32
    assert fn(x, np.float64(2.5)).dtype == np.float64
    np.testing.assert_allclose(fn(x, 3), x * 3)
    assert fn.programs == 3
    np.testing.assert_array_equal(fn(np.float32(3), np.float32(2)), 6)


def test_arrays_of_any_layout_rank_and_size() -> None:
    fn = ferrule.jit(lambda x: (x * 2, x.sum(0)))
    for x in (f(6, 8).T[::2], f(4, 6)[:, ::-1], f(0, 3), f(3, 0), f(1, 1), f(5)[::2]):
        for ours, theirs in zip(fn(x), (x * 2, x.sum(0)), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    scalar = ferrule.jit(lambda x: x + 1)(np.float32(2))
    assert (scalar.shape, scalar.dtype) == ((), np.float32)


def test_results_that_are_arguments_or_constants() -> None:
    outside = f(100)
    fn = ferrule.jit(lambda x: (x, x, outside, x.shape, 2.5, x.T))
    x = f(2, 3)
    a, b, c, shape, number, turned = fn(x)
    np.testing.assert_array_equal(a, x)
    np.testing.assert_array_equal(b, x)
    np.testing.assert_array_equal(turned, x.T)
    np.testing.assert_array_equal(c, outside)
    assert (shape, number) == ((2, 3), 2.5)
    assert a is not x
    assert ferrule.jit(lambda x: x.ndim)(x) == 2


def test_arrays_from_outside_are_constants() -> None:
    weight, small = f(8, 70), np.array([1.0, -2.0], np.float32)
    fn = ferrule.jit(lambda x: (x @ weight, x[:, :2] * small, x + weight[0, 0]))
    x = f(3, 8)
    expected = (x @ weight, x[:, :2] * small, x + weight[0, 0])
    first = fn(x)
    weight[:] = 0
    for ours, again, theirs in zip(first, fn(x), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(ours, again)


def test_bfloat16_comes_and_goes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x, large = f(4, 6).astype(bfloat16), f(6, 20).astype(bfloat16)
    out = ferrule.jit(lambda x: (x * x, x.sum(1), x.astype(np.float32), x[:, :1] * large[0]))(x)
    assert [y.dtype for y in out] == [bfloat16, bfloat16, np.float32, bfloat16]
    assert ferrule.jit(lambda x: x * large[0, 0])(x).dtype == bfloat16
    whole = ferrule.jit(lambda x: x[:, :1] * large[:4])(x)
    expected = x[:, :1] * large[:4]
    np.testing.assert_array_equal(whole.astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(out[0].astype(np.float32), (x * x).astype(np.float32))
    np.testing.assert_array_equal(out[2], x.astype(np.float32))


def test_methods_and_compiled_functions_within_others() -> None:
    class Model:
        scale = 3

        @ferrule.jit(static_argnames="self")
        def __call__(self, x: Any) -> Any:
            return inner(x) * self.scale

    inner = ferrule.jit(softmax)
    x = f(4, 6)
    np.testing.assert_allclose(Model()(x), softmax(x) * 3, rtol=1e-5)
    assert inner.programs == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"k is of type object.*static_argnames"),
        ({1, 2}, r"k is of type set"),
        ([f(2), {"w": {3}}], r"k\[1\]\['w'\] is of type set"),
        (np.array(["a"]), "NumPy dtype"),
        (1j, "complex128"),
        (np.ma.array([1.0]), "MaskedArray.*its data and its mask"),
    ],
)
def test_an_argument_that_cannot_be_says_where_and_what_to_do(value: Any, message: str) -> None:
    with pytest.raises(InputTypeError, match=message):
        ferrule.jit(lambda x, k: x)(f(2), value)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InputError, match="'q' is none of"):
        ferrule.jit(lambda x: x, static_argnames="q")
    with pytest.raises(InputError, match="'y' is none of"):
        ferrule.jit(lambda x: x, dynamic={"y": [0]})
    with pytest.raises(InputError, match="axis 2 is out of bounds for x"):
        ferrule.jit(lambda x: x, dynamic={"x": [2]})(f(2))
    with pytest.raises(InputTypeError, match=r"k is static.*not hashable"):
        ferrule.jit(lambda x, k: x, static_argnames="k")(f(2), [1])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ferrule.jit(softmax)()
    with pytest.raises(InputTypeError, match="cannot return a function"):
        ferrule.jit(lambda x: softmax)(f(2))


def test_an_array_kept_from_an_earlier_call_is_refused() -> None:
    kept: list[Any] = []
    ferrule.jit(lambda x: kept.append(x) or x * 1)(f(2))
    with pytest.raises(InputError, match="kept from an earlier call"):
        ferrule.jit(lambda x: x + kept[0])(f(2))


def test_an_index_out_of_range_is_reported_when_it_runs() -> None:
    fn = ferrule.jit(lambda x, i: x[i])
    np.testing.assert_array_equal(fn(np.arange(5), np.array([-1, 0])), [4, 0])
    with pytest.raises(RunIndexError):
        fn(np.arange(5), np.array([5, 0]))


# ---- what is compiled when -----------------------------------------------------------------------


def test_each_shape_and_dtype_has_a_program() -> None:
    fn = ferrule.jit(lambda x: x * 2)
    for shape, dtype in (((3,), "f4"), ((3,), "f8"), ((4,), "f4"), ((3,), "i8"), ((3,), "f4")):
        assert fn(np.ones(shape, dtype)).dtype == np.dtype(dtype)
    assert fn.programs == 4
    assert fn.explain().count("kernel") >= 4


def test_dynamic_sizes_share_a_program_while_equal_ones_stay_equal() -> None:
    fn = ferrule.jit(lambda x, y: (x - x.mean(-1, keepdims=True)) * y, dynamic=True)
    for shape in ((5, 7), (2, 64), (33, 3)):
        x, y = f(*shape), f(shape[1])
        np.testing.assert_allclose(fn(x, y), (x - x.mean(-1, keepdims=True)) * y, atol=1e-5)
    assert fn.programs == 1
    fn(f(4, 4), f(4))
    assert fn.programs == 1
    fn(f(5, 7), f(1))
    assert fn.programs == 2


def test_an_equality_by_chance_is_compiled_again_where_it_breaks() -> None:
    fn = ferrule.jit(lambda x: x @ x.T, dynamic=True)
    for shape in ((4, 4), (4, 6), (5, 3), (6, 6)):
        x = f(*shape)
        np.testing.assert_allclose(fn(x), x @ x.T, rtol=1e-4, atol=1e-5)
    assert fn.programs == 2


def test_dynamic_axes_of_some_arguments() -> None:
    fn = ferrule.jit(lambda x, w: x @ w, dynamic={"x": [0]})
    w = f(6, 4)
    for n in (3, 5, 17):
        x = f(n, 6)
        np.testing.assert_allclose(fn(x, w), x @ w, rtol=1e-4, atol=1e-5)
    assert fn.programs == 1
    fn(f(3, 5), f(5, 4))
    assert fn.programs == 2


def test_named_sizes_serve_one_and_more_and_are_checked() -> None:
    fn = ferrule.jit(lambda p, y: p["x"] + y, dynamic={"p": {0: "n"}, "y": {-1: "n"}})
    for n in (3, 1, 8):
        x, y = f(n), f(n)
        np.testing.assert_allclose(fn({"x": x}, y), x + y)
    assert fn.programs == 1
    with pytest.raises(
        InputError, match=r"'n' is 3 along axis 0 of p\['x'\] and 4 along axis 0 of y"
    ):
        fn({"x": f(3)}, f(4))


def test_threads_compile_once() -> None:
    started = threading.Barrier(4)
    traces: list[Any] = []
    found: list[Array] = []

    def traced(x: Any) -> Any:
        traces.append(x.shape)
        return x * 2 + 1

    fn, x = ferrule.jit(traced), f(9)

    def call() -> None:
        started.wait()
        found.append(fn(x))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert traces == [(9,)]
    np.testing.assert_array_equal(found, [x * 2 + 1] * 4)


@pytest.mark.parametrize(
    ("fn", "arguments"),
    [
        (lambda a: a**-1, (np.array([1, 2]),)),
        (lambda a, b: a**b, (np.array([1, 2]), np.array([-1, 2]))),
        (lambda a: np.power(2, a), (np.array([-1, 2]),)),
        (lambda a: a ** np.int8(-2), (np.array([1, 2], np.int8),)),
    ],
)
def test_a_negative_power_of_integers_is_reported(fn: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="negative integer powers"):
        fn(*arguments)
    with pytest.raises(RunError, match="negative integer powers"):
        ferrule.jit(fn)(*arguments)


def test_other_powers_of_integers_are_numpys() -> None:
    a, b = np.array([1, -2, 3]), np.array([3, 0, 2])
    assert (ferrule.jit(lambda a, b: a**b)(a, b) == a**b).all()
    assert (ferrule.jit(lambda a: a ** np.uint8(2))(a.astype(np.uint8)) == [1, 4, 9]).all()


@pytest.mark.parametrize(
    ("fn", "shape", "other"),
    [
        (lambda a: np.split(a, 2)[1], (6,), (8,)),
        (lambda a: np.split(a, 3, -1)[1], (2, 6), (2, 9)),
        (lambda a: np.vsplit(a, 2)[0], (6, 2), (4, 2)),
        (lambda a: np.diff(a, n=3), (6,), (3,)),
        (lambda a: np.diff(a, n=3), (6,), (1,)),
        (lambda a: np.diff(a, axis=0), (6, 2), (1, 2)),
    ],
)
def test_splits_and_differences_of_any_size(
    fn: Any, shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    compiled = ferrule.jit(fn, dynamic=True)
    for s in (shape, other):
        x = np.random.default_rng(0).standard_normal(s)
        np.testing.assert_array_equal(compiled(x), fn(x))


def test_parts_that_are_not_equal_are_refused() -> None:
    compiled = ferrule.jit(lambda a: np.split(a, 2)[1], dynamic=True)
    compiled(np.ones(6))
    with pytest.raises(InputError):
        compiled(np.ones(5))
