"""Sorts: their meaning against NumPy and PyTorch, and what compiled code makes of it on each level
of instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferrule import ops
from ferrule.base import config
from ferrule.base.dtype import (
    ALL,
    DType,
    bf16,
    f32,
    from_numpy,
    from_storage,
    i32,
    i64,
    to_storage,
    u8,
)
from ferrule.base.errors import CompileError, FerruleError
from ferrule.ir.expr import Expr, arg, both, call, cast, compare, dim, either, eq, lt, substitute
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.interp.order import comes_before, permutation
from ferrule.ir.orders import ASCENDING, DESCENDING, total
from ferrule.ir.system import Order
from ferrule.ir.text import parse, to_text
from ferrule.lower.radix import key, key_of
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import supports
from tests.long import LONG

torch = pytest.importorskip("torch")
Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
RNG = np.random.default_rng(6)
INF, NAN = float("inf"), float("nan")
TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, NAN, 1.0, -1.0, INF, -INF, 1e-40, -1e-40]


def numbers(dtype: DType, *shape: int) -> Array:
    """Few different values, special ones among them, in storage form."""
    if dtype.is_bool:
        return RNG.random(shape) < 0.5
    if not dtype.is_float:
        ends = [dtype.min, dtype.max, 0, 1, dtype.max - 1, dtype.min + 1, dtype.max // 2]
        return RNG.choice(np.array(ends, dtype.numpy), shape)
    x = RNG.integers(-9, 9, shape) / 4
    at = RNG.random(shape)
    for k, s in enumerate(SPECIAL):
        x[(at > k / 24) & (at < (k + 1) / 24)] = s
    return to_storage(x.astype(np.float32 if dtype == bf16 else dtype.numpy), dtype)


def of_torch(x: Array, dtype: DType) -> Any:
    return torch.from_numpy(x).view(torch.bfloat16) if dtype == bf16 else torch.from_numpy(x)


def graph_of(build: Any, operands: list[tuple[tuple[Any, ...], DType]]) -> Graph:
    b = GraphBuilder("sort")
    out = build(b, *(b.input(tensor(s, d)) for s, d in operands))
    return b.build([out] if isinstance(out, Value) else list(out))


def compiled(
    build: Any, arrays: list[Array], dtypes: list[DType], target: str, symbolic: bool
) -> list[Array]:
    """What code for `target` makes of `arrays`."""
    sizes = {n: dim(f"n{n}") for a in arrays for n in a.shape}
    operands = [
        (tuple(sizes[n] if symbolic else n for n in a.shape), d)
        for a, d in zip(arrays, dtypes, strict=True)
    ]
    graph = graph_of(build, operands)
    code = compile_graph(graph, config.settings(target=target)).executable
    return list(NumpyCallable(code)(*arrays))


def same(found: Array, expected: Array) -> None:
    """Equal bits, but for which NaN it is."""
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if found.dtype.kind == "f":
        signs = [np.signbit(x) | np.isnan(x) for x in (found, expected)]
        np.testing.assert_array_equal(*signs)


# ---- meaning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_meaning_is_torchs(axis: int, descending: bool, check: Check) -> None:
    for dtype in (f32, i32):
        x = numbers(dtype, 4, 7, 5)
        values, places = check(lambda b, x: ops.sort(b, x, axis, descending), x)
        theirs = torch.sort(torch.from_numpy(x), dim=axis, descending=descending, stable=True)
        np.testing.assert_array_equal(values, theirs.values.numpy())
        np.testing.assert_array_equal(places, theirs.indices.numpy())


def test_the_first_ones(check: Check) -> None:
    x = numbers(f32, 3, 9)
    for k in (0, 1, 4, 9):
        values, places = check(lambda b, x, k=k: ops.top_k(b, x, k), x)
        order = torch.sort(torch.from_numpy(x), dim=1, descending=True, stable=True)
        np.testing.assert_array_equal(values, order.values[:, :k].numpy())
        np.testing.assert_array_equal(places, order.indices[:, :k].numpy())
        least, _ = check(lambda b, x, k=k: ops.top_k(b, x, k, 1, largest=False), x)
        np.testing.assert_array_equal(least, np.sort(x, 1)[:, :k])


def lexicographic(*dtypes: DType) -> Expr:
    """By the first operands, and where these are equal by the next ones, from above."""
    n = len(dtypes)
    found: Expr | None = None
    for k in reversed(range(n)):
        x, y = arg(k, dtypes[k]), arg(n + k, dtypes[k])
        mine = lt(x, y) if k % 2 == 0 else lt(y, x)
        found = mine if found is None else either(mine, both(eq(x, y), found))
    assert found is not None
    return found


def test_any_order_of_tuples(check: Check) -> None:
    a, c = (RNG.integers(0, 3, (5, 11)).astype(np.int32) for _ in range(2))
    d = RNG.standard_normal((5, 11)).astype(np.float32)
    order = lexicographic(i32, i32, f32)
    found = check(lambda b, *v: ops.sort_together(b, v, 1, order), a, c, d)
    for row in range(5):
        place = np.lexsort((d[row], -c[row], a[row]))
        for ours, x in zip(found, (a, c, d), strict=True):
            np.testing.assert_array_equal(ours[row], x[row][place])


def test_an_order_by_one_operand_of_two_is_stable(check: Check) -> None:
    """The last of |x| first: what is equal stays as it was."""
    x = RNG.integers(-3, 4, (2, 40)).astype(np.float32)
    order = compare("lt", call("abs", arg(3, f32)), call("abs", arg(1, f32)))
    y = np.broadcast_to(np.arange(40, dtype=np.float32), x.shape).copy()
    places, values = check(lambda b, y, x: ops.sort_together(b, (y, x), 1, order), y, x)
    expected = np.argsort(-np.abs(x), axis=1, kind="stable")
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, 1))


@pytest.mark.parametrize("order", [ASCENDING, DESCENDING])
@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_the_standard_orders_are_those_of_numpy(dtype: DType, order: Any) -> None:
    """As the merge sort of the interpreter puts them."""
    x = from_storage(numbers(dtype, 3, 50), dtype)
    place = permutation(order((dtype,)), (x,))
    expected = np.argsort(x, axis=1, kind="stable")
    if order is DESCENDING:
        expected = 49 - np.argsort(x[:, ::-1], axis=1, kind="stable")[:, ::-1]
    np.testing.assert_array_equal(place, expected)


def test_what_does_not_fit_is_refused() -> None:
    b = GraphBuilder("bad")
    x, y, z = (b.input(tensor(s, d)) for s, d in (((3, 4), f32), ((3, 5), f32), ((3, 4), i32)))
    less = lt(arg(0, f32), arg(1, f32))
    for wrong, match in (
        (lambda: ops.sort(b, x, 2), "axis 2 is out of range"),
        (lambda: ops.sort_together(b, (x, y), 1), "operands of one shape"),
        (lambda: ops.sort_together(b, (x,), 1, "upwards"), "is none of ascending, descending"),
        (lambda: ops.sort_together(b, (z,), 1, Order((f32,), less)), "by an order of f32"),
        (lambda: ops.top_k(b, x, 5), "the first 5 of 4"),
        (lambda: ops.top_k(b, x, -1), "the first -1 of 4"),
    ):
        with pytest.raises(CompileError, match=match):
            wrong()


def test_a_scalar_is_in_order(check: Check) -> None:
    x = np.float32(2.5)
    assert check(lambda b, x: ops.sort(b, x, -1), x) == [2.5, 0]
    assert check(lambda b, x: ops.sort_values(b, x, 0), x) == [2.5]


def test_a_graph_with_an_order_reads_back() -> None:
    order = lexicographic(i32, f32)
    operands = [((3, dim("n")), i32), ((3, dim("n")), f32)]
    graph = graph_of(lambda b, *v: ops.sort_together(b, v, 1, order, keep=2), operands)
    assert 'by (i32, f32) $0 < $2 | $0 == $2 & $3 < $1' in to_text(graph)
    assert parse(to_text(graph)) == graph


# ---- compiled ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_code_sorts_each_dtype(dtype: DType, target: str) -> None:
    def build(b: GraphBuilder, x: Value) -> list[Value]:
        return [v for descending in (False, True) for v in ops.sort(b, x, 1, descending)]

    graph = graph_of(build, [((3, dim("n")), dtype)])
    run = NumpyCallable(compile_graph(graph, config.settings(target=target)).executable)
    for n in (13, 77, 170):
        x = numbers(dtype, 3, n)
        for ours, right in zip(run(x), run_graph(graph, [x]), strict=True):
            kind = dtype if ours.dtype != np.int64 else i64
            same(from_storage(ours, kind), from_storage(right, kind))


# Around the lengths of runs, and of rows that go by radix.
LENGTHS = [0, 1, 2, 3, 15, 16, 17, 33, 63, 64, 65, 79, 80, 100, 129, 159, 160, 255, 1000, 5000]


def rows_and_columns(b: GraphBuilder, x: Value, y: Value, z: Value) -> list[Value]:
    found = zip((x, y, z), (1, 0, 0), (False, True, False), strict=True)
    return [v for x, axis, descending in found for v in ops.sort(b, x, axis, descending)]


def check_rows_and_columns(run: Any, n: int, dtype: DType) -> None:
    arrays = [numbers(dtype, *shape) for shape in ((2, n), (n, 3), (n,))]
    shapes = [(a.shape, dtype) for a in arrays]
    meant = run_graph(graph_of(rows_and_columns, shapes), arrays)
    for ours, right in zip(run(*arrays), meant, strict=True):
        same(ours, right)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", LENGTHS)
def test_code_sorts_rows_and_columns_of_each_length(n: int, target: str) -> None:
    shapes = [(s, f32) for s in ((2, n), (n, 3), (n,))]
    graph = graph_of(rows_and_columns, shapes)
    code = compile_graph(graph, config.settings(target=target)).executable
    check_rows_and_columns(NumpyCallable(code), n, f32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, i64, u8], ids=lambda d: d.name)
def test_code_sorts_rows_and_columns_of_any_length(dtype: DType, target: str) -> None:
    n = dim("n")
    graph = graph_of(rows_and_columns, [(s, dtype) for s in ((2, n), (n, 3), (n,))])
    run = NumpyCallable(compile_graph(graph, config.settings(target=target)).executable)
    for size in LENGTHS:
        check_rows_and_columns(run, size, dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("n", [60, 3000])
def test_what_is_sorted_is_computed_once(n: int, symbolic: bool, target: str) -> None:
    """And moved with its key, whether that is computed or not."""
    x, y = RNG.standard_normal((2, 2, n)).astype(np.float32)

    def build(b: GraphBuilder, x: Value, y: Value) -> Any:
        made = ops.relu(b, ops.mul(b, x, x)), ops.neg(b, y), x
        return ops.sort_together(b, made, 1, "descending")

    meant = run_graph(graph_of(build, [((2, n), f32)] * 2), [x, y])
    found = compiled(build, [x, y], [f32, f32], target, symbolic)
    for ours, right in zip(found, meant, strict=True):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize("descending", [False, True])
def test_long_rows_of_few_values(descending: bool) -> None:
    """Of most digits all keys have the same: there nothing moves."""
    for x in (np.zeros(2000, np.int64), np.full(2000, NAN, np.float32),
              RNG.integers(-2, 3, 2000), RNG.integers(0, 2, 2000) * 2**40,
              RNG.choice(np.array([0.0, -0.0, NAN, -NAN], np.float32), 2000)):  # fmt: skip
        dtype = from_numpy(x.dtype)
        build = lambda b, x: ops.sort(b, x, 0, descending)  # noqa: E731
        meant = run_graph(graph_of(build, [((2000,), dtype)]), [x])
        values, places = compiled(build, [x], [dtype], "host", False)
        np.testing.assert_array_equal(places, meant[1])
        same(values, meant[0])


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_keys_are_in_the_order_of_their_elements(dtype: DType) -> None:
    x = from_storage(numbers(dtype, 300), dtype)
    for order in (ASCENDING((dtype,)), DESCENDING((dtype,))):
        key = key_of(arg(0, dtype), order is not ASCENDING((dtype,)))
        keys = np.broadcast_to(eval_expr(key, Env(args=(x,))), x.shape)
        before = comes_before(order, (x[:, None],), (x,))
        np.testing.assert_array_equal(keys[:, None] < keys, before)


@pytest.mark.parametrize("dtype", [d for d in ALL if d.is_float], ids=lambda d: d.name)
def test_the_total_order_tells_zeros_and_nan_of_both_signs_apart(dtype: DType) -> None:
    rising = [-NAN, -INF, -2.0, -0.0, 0.0, 2.0, INF, NAN]
    wide = np.array(rising, np.float64 if dtype.bits == 64 else np.float32)
    wide[0] = np.copysign(wide[0], -1)
    x = np.tile(to_storage(wide, dtype), 30)[RNG.permutation(240)]
    order = lt(total(arg(2, dtype)), total(arg(0, dtype)))  # from above
    build = lambda b, *v: ops.sort_together(b, v, 0, order)  # noqa: E731
    arrays, dtypes = [x, np.arange(240)], [dtype, i64]
    meant = run_graph(graph_of(build, [((240,), d) for d in dtypes]), arrays)
    for symbolic in (False, True):
        for ours, right in zip(
            compiled(build, arrays, dtypes, "host", symbolic), meant, strict=True
        ):
            np.testing.assert_array_equal(ours, right)
    signs = np.signbit(from_storage(meant[0], dtype).astype(np.float64))
    np.testing.assert_array_equal(signs, np.arange(240) >= 120)


def test_orders_that_have_keys() -> None:
    x, y = arg(0, i32), arg(2, i32)
    p, q = arg(1, f32), arg(3, f32)
    assert key(Order((i32, f32), lt(x, y))) is key_of(x, False)
    assert key(Order((i32, f32), lt(y, x))) is key_of(x, True)
    assert key(Order((i32, f32), lt(total(p), total(q)))) is key_of(total(p), False)
    for none in (lt(p, q), lt(x, x), lt(x, y + 1), either(lt(x, y), lt(p, q)), lt(x + y, y + x)):
        assert key(Order((i32, f32), none)) is None


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("symbolic", [False, True])
def test_code_sorts_tuples_by_any_order(symbolic: bool, target: str) -> None:
    dtypes = [i32, f32, from_numpy(np.dtype(bool))]
    for n in (1, 9, 300):
        arrays = [RNG.integers(0, 3, (2, n)).astype(np.int32),
                  RNG.integers(0, 4, (2, n)).astype(np.float32),
                  RNG.random((2, n)) < 0.5]  # fmt: skip
        other = {arg(2, i32): arg(3, i32), arg(3, f32): arg(4, f32)}  # of three operands
        order = substitute(lexicographic(i32, f32), other)
        build = lambda b, *v, o=order: ops.sort_together(b, v, 1, o)  # noqa: E731
        meant = run_graph(graph_of(build, [((2, n), d) for d in dtypes]), arrays)
        for ours, right in zip(
            compiled(build, arrays, dtypes, target, symbolic), meant, strict=True
        ):
            np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("dtype", [f32, i64], ids=lambda d: d.name)
@pytest.mark.parametrize("n", [1, 40, 79, 333, 3000])
def test_code_finds_the_first_ones(n: int, dtype: DType, symbolic: bool, target: str) -> None:
    x = numbers(dtype, 3, n)

    def build(b: GraphBuilder, x: Value) -> list[Value]:
        counts = sorted({0, 1, min(n, 5), n // 2, n})
        each = [ops.top_k(b, x, k, 1, largest) for k in counts for largest in (True, False)]
        return [v for pair in each for v in pair]

    meant = run_graph(graph_of(build, [((3, n), dtype)]), [x])
    found = compiled(build, [x], [dtype], target, symbolic)
    for ours, right in zip(found, meant, strict=True):
        same(ours, right)


@pytest.mark.parametrize("n", [200, 1500])
def test_the_first_of_many_equal_ones_are_those_in_front(n: int) -> None:
    """Also where many more have the highest digit of the last one that is wanted."""
    x = np.repeat(np.array([1.0, 3.0, 2.0, NAN, 2.5], np.float32), n // 5)[RNG.permutation(n)]
    for k in (1, n // 5, n // 5 + 1, n // 2 - 1):
        values, places = compiled(lambda b, x, k=k: ops.top_k(b, x, k), [x], [f32], "host", False)
        expected = torch.sort(torch.from_numpy(x), descending=True, stable=True)
        np.testing.assert_array_equal(places, expected.indices[:k].numpy())
        same(values, expected.values[:k].numpy())


def test_the_first_ones_of_too_few_are_refused_at_the_call() -> None:
    graph = graph_of(lambda b, x: ops.top_k(b, x, 5), [((3, dim("n")), f32)])
    run = NumpyCallable(compile_graph(graph).executable)
    run(np.zeros((3, 5), np.float32))
    with pytest.raises(FerruleError, match="5 <= n"):
        run(np.zeros((3, 4), np.float32))


def test_sorts_between_other_operators() -> None:
    """What they read is computed as it is read, and what reads them follows in the same kernel."""
    x = RNG.standard_normal((6, 50)).astype(np.float32)

    def build(b: GraphBuilder, x: Value) -> Value:
        values, places = ops.sort(b, ops.softmax(b, x, 1), 1, descending=True)
        kept = ops.le(b, ops.cumsum(b, values, 1), ops.full(b, (), 0.9, f32))
        return ops.take_along_axis(b, ops.cast(b, kept, f32), ops.argsort(b, places, 1), 1)

    for symbolic in (False, True):
        (found,) = compiled(build, [x], [f32], "host", symbolic)
        (meant,) = run_graph(graph_of(build, [((6, 50), f32)]), [x])
        np.testing.assert_array_equal(found, meant)


@settings(max_examples=60 * LONG, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1.0]), max_size=70),
    st.booleans(),
)
def test_rows_are_permuted_stably(row: list[float], descending: bool) -> None:
    x = np.array(row, np.float32)
    values, places = RUNNERS[descending](x)
    theirs = torch.sort(torch.from_numpy(x), descending=descending, stable=True)
    np.testing.assert_array_equal(places, theirs.indices.numpy())
    np.testing.assert_array_equal(values.view(np.int32), x[places].view(np.int32))


RUNNERS = [
    NumpyCallable(
        compile_graph(graph_of(lambda b, x, d=d: ops.sort(b, x, 0, d), [((dim("n"),), f32)]))
        .executable
    )
    for d in (False, True)
]


def test_an_order_that_is_none_permutes_all_the_same() -> None:
    """What comes before what is up to the order; no place is lost and none is read outside."""
    always = compare("eq", cast(arg(0, f32), f32), arg(0, f32))
    x = np.arange(100, dtype=np.float32)
    for order in (always, compare("ne", arg(0, f32), arg(1, f32))):
        (found,) = compiled(
            lambda b, x, o=order: ops.sort_together(b, (x,), 0, o)[0], [x], [f32], "host", True
        )
        np.testing.assert_array_equal(np.sort(found), x)
