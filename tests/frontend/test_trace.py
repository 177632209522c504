"""The tracing frontend against NumPy: every entry of its tables as machine code, promotion,
indexing, writing in place, and what it refuses.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ferrule
from ferrule.base.dtype import i64
from ferrule.base.errors import InputError, InputTypeError, UnsupportedError
from ferrule.frontend.numpy.array import REFUSED, Tape, Traced, call_ufunc, common_dtype, kind_of
from ferrule.frontend.numpy.trace import FUNCTIONS, MAKERS, UFUNCS
from ferrule.ir.expr import const
from ferrule.ir.graph import TensorType
from tests.frontend.trace_cases import FAMILIES, Call

X = np.arange(20, dtype=np.float32).reshape(4, 5)


def _leaves(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple | list) else [x]


def check(calls: dict[str, Call], args: tuple[Any, ...], dynamic: bool = False) -> None:
    """Each call must give what NumPy gives, in the same dtype and shape; all in one program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = {n: c(*args) for n, c in calls.items()}
    compiled = ferrule.jit(lambda *xs: {n: c(*xs) for n, c in calls.items()}, dynamic=dynamic)
    found = compiled(*args)
    for name, want in expected.items():
        for ours, theirs in zip(_leaves(found[name]), _leaves(want), strict=True):
            ours, theirs = np.asarray(ours), np.asarray(theirs)
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
            near = 2e-3 if ours.dtype == np.float16 else 2e-5
            np.testing.assert_allclose(ours, theirs, near, near / 10, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_functions_give_what_numpy_gives(family: str) -> None:
    check(*FAMILIES[family])


def test_every_entry_of_the_tables_has_a_case() -> None:
    names = {n.split()[0] for calls, _ in FAMILIES.values() for n in calls}
    known = {*FUNCTIONS, *MAKERS, *UFUNCS}
    missing = {n for n in known if not n.startswith("__")} - names
    assert not missing
    assert not known & REFUSED.keys()


def test_every_name_of_the_tables_is_numpys() -> None:
    for name in (*FUNCTIONS, *UFUNCS, *REFUSED):
        if name.startswith("__") or name in ("cummax", "cummin", "flatten", "view"):
            continue
        module, _, function = name.rpartition(".")
        home = getattr(np, module) if module else np
        if name not in REFUSED:
            assert hasattr(home, function), name


SYMBOLIC = {
    "ratio": lambda x: x / x.shape[0] + x.shape[1] ** 0.5,
    "slices": lambda x: [x[1:-1], x[:, ::2], x[::-1], x[: x.shape[0] // 2], x[-1], x[2:100]],
    "reshape": lambda x: [x.reshape(-1), x.reshape(x.shape[0], 1, -1), x.reshape(x.size)],
    "like": lambda x: [np.full((x.shape[0], 2), 3.0, like=x), np.arange(x.shape[0], like=x)],
    "eye": lambda x: np.eye(x.shape[0], like=x),
    "linspace": lambda x: np.linspace(0.0, x[0, 0], x.shape[1]),
    "stack": lambda x: [np.stack([x, x]), np.concatenate([x, x[:1]])],
    "write": lambda x: _written(x),
    "mean": lambda x: [x.mean(0), x.var(), x.sum() / x.size],
    "roll": lambda x: [np.roll(x, 1, 0), np.roll(x, 1), np.repeat(x, 2, 0), np.flip(x)],
    "split": lambda x: np.array_split(x, 2, 1),
}  # fmt: skip


def _written(x: Any) -> Any:
    out = np.zeros_like(x)
    out[1:] = x[:-1]
    out[0] += 2
    return out


def test_symbolic_sizes() -> None:
    check(SYMBOLIC, (X,), dynamic=True)


# ---- promotion -----------------------------------------------------------------------------------

KINDS = [np.dtype(k) for k in ("?", *"bhilBHILefd")]
BINARY = [
    np.add, np.multiply, np.true_divide, np.floor_divide, np.power, np.maximum, np.less, np.arctan2,
    np.bitwise_and, np.left_shift, np.logical_or, np.subtract, np.matmul, np.copysign,
]  # fmt: skip
operands = st.one_of(st.sampled_from(KINDS), st.sampled_from([3, 2.5, True]))


def _array(kind: Any) -> Any:
    return np.ones((2, 2), kind) if isinstance(kind, np.dtype) else kind


def _traced(tape: Tape, kind: Any) -> Any:
    if not isinstance(kind, np.dtype):
        return kind
    return Traced(tape, tape.lift(np.ones((2, 2), kind)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BINARY), operands, operands)
def test_promotion_is_numpys(ufunc: np.ufunc, left: Any, right: Any) -> None:
    tape = Tape("f")
    mine = [_traced(tape, k) for k in (left, right)]
    if not any(isinstance(x, Traced) for x in mine):
        return
    try:
        with np.errstate(all="ignore"):
            expected = ufunc(_array(left), _array(right))
    except (TypeError, ValueError):
        with pytest.raises(ferrule.FerruleError):
            call_ufunc(ufunc, tuple(mine))
        return
    found = call_ufunc(ufunc, tuple(mine))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)


shapes = st.sampled_from([((), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 3), (3,)), ((5,), ())])


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(KINDS), shapes, st.integers(0, 99))
def test_ufuncs_of_any_dtypes_and_shapes(left: Any, right: Any, shape: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(1, 6, s).astype(k) for s, k in zip(shape, (left, right), strict=True))
    calls: dict[str, Call] = {}
    for ufunc in (u for u in BINARY if u is not np.matmul):
        try:
            ufunc(x, y)
        except TypeError:
            continue
        calls[ufunc.__name__] = lambda x, y, ufunc=ufunc: ufunc(x, y)
    check(calls, (x, y))


@settings(max_examples=200, deadline=None)
@given(st.lists(operands, min_size=1, max_size=3))
def test_common_dtypes_are_numpys(kinds: list[Any]) -> None:
    arrays = [_array(k) for k in kinds]
    assert common_dtype(*arrays) == np.result_type(*arrays)


def test_a_number_stays_weak_through_operators_and_not_through_functions() -> None:
    tape = Tape("f")
    n = Traced(tape, tape.builder.input(TensorType((), i64)), weak=int)
    assert kind_of(-(n * 2 + 1)) is int
    assert kind_of(n / 2) is float
    assert kind_of(np.exp(n)) == np.float64
    assert kind_of(np.float32(2) * n) == np.float32


@pytest.mark.parametrize("kind", ["i1", "u1", "i8", "u8"])
def test_numbers_out_of_range_compare_as_in_python(kind: str) -> None:
    x = np.array([0, 1, np.iinfo(kind).max, np.iinfo(kind).min], kind)
    big = 1 << 70
    check(
        {
            "less": lambda x: [x < big, x > -big, x <= 300, x >= -300],
            "equal": lambda x: [x == big, x != -big, x == 1],
        },
        (x,),
    )


def test_signed_and_unsigned_compare_by_value() -> None:
    x = np.array([-1, 0, 1, 2**62], np.int64)
    y = np.array([2**64 - 1, 0, 2, 2**62], np.uint64)
    check(
        {"all": lambda x, y: [x < y, x == y, x != y, x > y, x <= y, x >= y, y < x, y >= x]}, (x, y)
    )


HALVES = {
    "sum": lambda x, y: x.sum(0),
    "mean": lambda x, y: x.mean(),
    "var": lambda x, y: x.var(1),
    "exp": lambda x, y: np.exp(x) + y,
    "max": lambda x, y: x.max(),
    "where": lambda x, y: np.where(x > 1, x, 0.5),
}


def test_half_precision() -> None:
    x, y = np.linspace(-2, 2, 12, dtype=np.float16).reshape(3, 4), np.float16(0.5)
    out = ferrule.jit(lambda x, y: {n: c(x, y) for n, c in HALVES.items()})(x, np.asarray(y))
    for name, call in HALVES.items():
        assert out[name].dtype == np.float16
        np.testing.assert_allclose(out[name], call(x, y), rtol=2e-3, atol=2e-3, err_msg=name)


# ---- writing in place ----------------------------------------------------------------------------


def _aliases(x: Any) -> Any:
    y = x * 2
    row, turned, copied = y[1], y.T, y.copy()
    y[1, 2:] = 7
    row += 1
    turned[0] = -1
    y[:, 1] *= 2
    y[0][3] = 9
    y += row
    return y, row, turned, copied


def _masks(x: Any) -> Any:
    y = x - 8
    y[y < 0] = 0
    y[np.array([True, False, True, False])] = 5
    z = y.copy()
    z[[0, 2]] = x[1]
    z[[1, 3], [0, 4]] = np.array([1.5, 2.5])
    z[..., -1] = np.array([[1], [2], [3], [4]])[:, 0]
    z[::-2, None, 1] = 3
    return y, z


def _numbers(x: Any) -> Any:
    total, other = x.sum(), x.sum()
    kept = total
    total += 1
    item = x[0, 0]
    item += 5
    return total, kept, other, item, x[0, 0]


def _narrow(x: Any) -> Any:
    y = x.astype(np.int32)
    y += np.int8(3)
    y <<= 1
    return y


def test_writing_in_place_is_seen_by_views_as_in_numpy() -> None:
    check({"a": _aliases, "m": _masks, "n": _numbers, "i": _narrow}, (X,))


index = st.one_of(
    st.integers(-3, 2),
    st.builds(slice, *[st.one_of(st.none(), st.integers(-4, 4))] * 2,
              st.sampled_from([None, 1, 2, -1, -2])),
    st.sampled_from([None, Ellipsis, np.array([0, -1]), np.array([[1], [2]])]),
)  # fmt: skip
CUBE = np.arange(27.0).reshape(3, 3, 3)


@settings(max_examples=300, deadline=None)
@given(st.lists(index, min_size=1, max_size=4).map(tuple))
def test_any_index_gives_the_shape_that_numpy_gives(where: tuple[Any, ...]) -> None:
    tape = Tape("f")
    x = Traced(tape, tape.builder.input(TensorType((const(3),) * 3, i64)))
    try:
        expected = CUBE[where].shape
    except IndexError:
        with pytest.raises(InputError):
            x[where]
        return
    assert x[where].shape == expected


@settings(max_examples=6, deadline=None)
@given(st.lists(st.lists(index, min_size=1, max_size=3).map(tuple), min_size=8, max_size=8))
def test_any_index_reads_what_numpy_reads(places: list[Any]) -> None:
    valid = []
    for where in places:
        try:
            CUBE[where]
        except IndexError:
            continue
        valid.append(where)
    check({"read": lambda x: [x[where] for where in valid]}, (CUBE,))


# ---- what is refused -----------------------------------------------------------------------------


def _fill(x: Any) -> Any:
    out = np.zeros(3)
    out[0] = x[0, 0]
    return out


def _change(x: Any) -> Any:
    x[0] = 1
    return x


def _through_reshape(x: Any) -> Any:
    y = x * 1
    y.reshape(-1)[0] = 1
    return y


REFUSALS: dict[str, tuple[Call, type[Exception], str]] = {
    "if": (lambda x: x if x.sum() > 0 else -x, UnsupportedError, r"`if`.*numpy\.where"),
    "float": (lambda x: float(x[0, 0]), UnsupportedError, r"float\(\).*astype"),
    "int": (lambda x: int(x[0, 0]), UnsupportedError, r"int\(\) needs the value"),
    "range": (lambda x: list(range(x[0, 0])), UnsupportedError, r"range\(\).*static_argnames"),
    "axis": (lambda x: x.sum(x[0, 0]), UnsupportedError, "an axis"),
    "item": (lambda x: x[0, 0].item(), UnsupportedError, r"item\(\)"),
    "partition": (lambda x: np.partition(x, 1), UnsupportedError, r"numpy\.partition.*sort"),
    "method": (lambda x: x.sort(), UnsupportedError, r"ndarray\.sort.*in place.*numpy\.sort"),
    "mask": (lambda x: x[x > 0], UnsupportedError, "size of the result depends on values"),
    "nonzero": (lambda x: np.nonzero(x), UnsupportedError, r"numpy\.nonzero.*numpy\.where"),
    "inverse": (lambda x: np.linalg.inv(x), UnsupportedError, r"numpy\.linalg\.inv"),
    "fft": (lambda x: np.fft.fft(x), UnsupportedError, r"numpy\.fft\.fft"),
    "unknown": (lambda x: np.unwrap(x), UnsupportedError, r"numpy\.unwrap.*no rule"),
    "ufunc": (lambda x: np.frexp(x), UnsupportedError, r"numpy\.frexp"),
    "out": (lambda x: np.add(x, x, out=x), UnsupportedError, r"numpy\.add with out"),
    "keyword": (lambda x: np.sum(x, out=x), UnsupportedError, r"numpy\.sum.*out"),
    "reduce": (lambda x: np.hypot.reduce(x), UnsupportedError, r"numpy\.hypot\.reduce"),
    "fill": (_fill, UnsupportedError, "like="),
    "list": (lambda x: np.array([x[0, 0], 1.0]), UnsupportedError, "like="),
    "argument": (_change, InputError, r"argument x would be changed in place.*x\.copy\(\)"),
    "reshaped": (_through_reshape, UnsupportedError, "index the array itself"),
    "bounds": (lambda x: x[7], InputError, "index 7 is out of bounds for an axis of size 4"),
    "rank": (lambda x: x[0, 0, 0], InputError, "an index of 3 axes"),
    "shapes": (lambda x: x + np.ones(3), ferrule.CompileError, "do not broadcast"),
    "reshape": (lambda x: x.reshape(3, -1), InputError, "cannot be reshaped"),
    "squeeze": (lambda x: x.squeeze(0), InputError, "size is not one"),
    "where": (lambda x: np.where(x > 0), UnsupportedError, "give both"),
    "complex": (lambda x: x * 2j, InputTypeError, "complex"),
    "loop": (lambda x: x & x, InputTypeError, "bitwise_and"),
    "narrow": (lambda x: x.astype(np.uint8) + 300, InputError, "300 is out of range for uint8"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_traced_is_named(name: str) -> None:
    fn, error, message = REFUSALS[name]
    with pytest.raises(error, match=message):
        ferrule.jit(fn)(X)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x if x.shape[0] > 3 else -x, "comparison of the size n4 with 3"),
        (lambda x: [row * 2 for row in x], "iteration over an axis of the symbolic size n4"),
        (lambda x: len(x) * x, "symbolic"),
        (lambda x: np.zeros(x.shape) + x, "zeros_like"),
    ],
)
def test_what_needs_a_size_that_is_symbolic_says_so(fn: Any, message: str) -> None:
    with pytest.raises(ferrule.FerruleError, match=message):
        ferrule.jit(fn, dynamic=True)(X)


def test_a_comparison_of_symbolic_sizes_that_is_known_is_a_bool() -> None:
    fn = ferrule.jit(lambda x, y: x if x.shape == y.shape and x.shape[0] > 1 else y, dynamic=True)
    np.testing.assert_array_equal(fn(X, X + 1), X)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_rest_of_a_division_has_the_sign_of_the_divisor(dtype: Any) -> None:
    x = np.array([7, -7, -0.0, 0, np.inf, 5, -5, np.nan, -1e-30, 6, -6, 1e4, 3, -3], dtype)
    y = np.array([np.inf, np.inf, 2, -2, 2, 0, 0, 1, 1e4, 3, -3, 3e-3, -np.inf, -np.inf], dtype)

    def divided(x: Any, y: Any) -> Any:
        rests = [x % y, np.remainder(x, -y), np.fmod(x, y), *divmod(x, y), x // -y]
        return [*rests, *(np.copysign(1, r) * (r == r) for r in rests)]

    with np.errstate(all="ignore"):
        for got, want in zip(ferrule.jit(divided)(x, y), divided(x, y), strict=True):
            np.testing.assert_array_equal(got, want)
