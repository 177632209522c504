"""Folds by a body: against loops over the specification's formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ferrule import ops
from ferrule.base.dtype import boolean, f32, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import dim
from ferrule.ir.graph import GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph
from ferrule.ir.text import parse, to_text
from ferrule.ops import body as bodies
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
Check = Callable[..., list[Array]]
RNG = np.random.default_rng(23)


def given(*shape: int, dtype: Any = np.float32) -> Array:
    if np.dtype(dtype).kind == "f":
        return RNG.standard_normal(shape).astype(dtype)
    return RNG.integers(-9, 9, shape).astype(dtype)


def argmax_body(b: GraphBuilder, v: Value, i: Value, w: Value, k: Value) -> Any:
    """As JAX writes it: NaN is the greatest, and of equal ones the first is found."""
    greater = ops.gt(b, v, w)
    wins = ops.logical_or(b, greater, ops.ne(b, v, v)) if v.dtype.is_float else greater
    tie = ops.logical_and(b, ops.eq(b, v, w), ops.lt(b, i, k))
    return ops.select(b, wins, v, w), ops.select(b, ops.logical_or(b, wins, tie), i, k)


def graph_of(body: Any, *dtypes: Any) -> Any:
    return bodies.body_graph(GraphBuilder(), "test", [*dtypes, *dtypes], body)


# ---- map -----------------------------------------------------------------------------------------


def test_map_applies_a_body_to_elements(check: Check) -> None:
    x, y = given(3, 4), given(4)

    def body(b: GraphBuilder, x: Value, y: Value) -> Any:
        return ops.add(b, ops.mul(b, x, y), 1), ops.lt(b, x, y)

    product, less = check(lambda b, x, y: ops.map(b, (x, y), body), x, y)
    np.testing.assert_allclose(product, x * y + 1, rtol=1e-6)
    np.testing.assert_array_equal(less, x < y)


# ---- what is known of bodies ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [f32, i64, boolean])
def test_standard_monoids_are_known_by_their_form(dtype: Any) -> None:
    for name, build in (("any", ops.bitwise_or), ("all", ops.bitwise_and)):
        if not dtype.is_float:
            assert bodies.names(graph_of(build, dtype)) == (name,)
    assert bodies.names(graph_of(lambda b, x, y: y, dtype)) == ("last",)
    assert bodies.names(graph_of(lambda b, x, y: ops.min(b, y, x), dtype)) == (
        ("all",) if dtype.is_bool else ("min",)
    )


def test_bodies_of_several_values_are_known_one_by_one() -> None:
    both = graph_of(lambda b, x, i, y, k: (ops.add(b, x, y), ops.max(b, i, k)), f32, i64)
    assert bodies.names(both) == ("sum", "max")
    crossed = graph_of(lambda b, x, i, y, k: (ops.add(b, x, k), ops.add(b, i, y)), f32, f32)
    assert bodies.names(crossed) is None


def test_choices_by_comparison_may_be_made_in_any_order() -> None:
    assert bodies.any_order(graph_of(argmax_body, f32, i64))
    assert bodies.any_order(graph_of(argmax_body, i64, i64))

    def first_wins(b: GraphBuilder, v: Value, i: Value, w: Value, k: Value) -> Any:
        stays = ops.ge(b, v, w)
        return ops.select(b, stays, v, w), ops.select(b, stays, i, k)

    assert not bodies.any_order(graph_of(first_wins, f32, i64))  # of equal values the order decides
    assert not bodies.any_order(graph_of(ops.sub, f32))
    assert not bodies.any_order(graph_of(lambda b, x, y: y, f32))


def test_bodies_are_functions_of_scalars() -> None:
    b = GraphBuilder()
    x, zero = b.input(tensor((3, 4), f32)), ops.scalar(b, 0.0, f32)
    with pytest.raises(CompileError, match="takes f32, f32 and gives bool"):
        ops.reduce(b, (x,), (zero,), (0,), ops.lt)
    with pytest.raises(CompileError, match="which gives f32"):
        ops.reduce(b, (x,), (zero,), (0,), lambda n, p, q: ops.reshape(
            n, ops.reduce_sum(n, ops.stack(n, (p, q), 0)), ()))  # fmt: skip


# ---- reduce --------------------------------------------------------------------------------------

BODIES: dict[str, tuple[Any, Any, float]] = {
    "sum": (ops.add, lambda o, x: o + x, 0),
    "sum_of_three": (ops.add, lambda o, x: o + x, 3),
    "max": (ops.max, np.maximum, -np.inf),
    "min_of_zero": (ops.min, np.minimum, 0),
    "serial": (lambda b, o, x: ops.sub(b, ops.mul(b, o, 0.5), x), lambda o, x: o * 0.5 - x, 1),
    "last": (lambda b, o, x: x, lambda o, x: x, 7),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("axes", [(1,), (0, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("name", BODIES)
def test_reduce(name: str, axes: Any, dtype: Any, check: Check) -> None:
    build, step, start = BODIES[name]
    x, init = given(3, 4, 5, dtype=dtype), np.array(start, dtype)
    rtol = 1e-2 if dtype is np.float16 else 1e-5
    (out,) = check(
        lambda b, x, i: ops.reduce(b, (x,), (i,), axes, build), x, init, rtol=rtol, atol=rtol
    )
    rows = np.moveaxis(x.astype(np.float64), axes, range(len(axes)))
    rows = rows.reshape(-1, *[n for d, n in enumerate(x.shape) if d not in axes])
    expected = np.full(rows.shape[1:], start, np.float64)
    for row in rows:
        expected = step(expected, row)
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol)


def test_sums_from_zero_are_sums() -> None:
    b = GraphBuilder()
    x, zero = b.input(tensor((3, 4), f32)), ops.scalar(b, 0.0, f32)
    ops.reduce(b, (x,), (zero,), (0,), ops.add)
    assert [n.op for n in b.nodes] == ["full", "reduce_sum"]
    spread = ops.reshape(b, ops.expand(b, zero, (1,)), ())
    ops.reduce(b, (x,), (spread,), (1,), ops.add)
    assert b.nodes[-1].op == "reduce_sum"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_argmax_bodies(dtype: Any, compiled: Check) -> None:
    x = (given(6, 40, dtype=np.int8) // 3).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x[2, 7] = x[2, 9] = np.nan
        x[3] = -np.inf
    low = -np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min

    def build(b: GraphBuilder, x: Value, low: Value) -> Any:
        places = ops.iota(b, x.shape, 1)
        return ops.reduce(b, (x, places), (low, ops.scalar(b, 0)), (1,), argmax_body)

    best, place = compiled(build, x, np.array(low, dtype))
    np.testing.assert_array_equal(place, x.argmax(1))
    np.testing.assert_array_equal(best, x.max(1).astype(best.dtype))


@pytest.mark.parametrize("name", ["sum_of_three", "serial"])
def test_reduce_compiled(name: str, compiled: Check) -> None:
    build, _, start = BODIES[name]
    compiled(
        lambda b, x, i: ops.reduce(b, (x,), (i,), (1,), build), given(4, 37),
        np.array(start, np.float32),
    )  # fmt: skip


def test_reduce_of_bools_and_of_bits(check: Check) -> None:
    x, bits = RNG.random((4, 5)) < 0.5, given(4, 5, dtype=np.int32)

    def build(b: GraphBuilder, x: Value, bits: Value) -> Any:
        no, ones, none = ops.scalar(b, False, x.dtype), ops.scalar(b, -1, bits.dtype), (1,)
        zero = ops.scalar(b, 0, bits.dtype)
        return (
            *ops.reduce(b, (x,), (no,), none, ops.logical_or),
            *ops.reduce(b, (x,), (no,), none, ops.logical_xor),
            *ops.reduce(b, (bits,), (ones,), none, ops.bitwise_and),
            *ops.reduce(b, (bits,), (zero,), none, ops.bitwise_xor),
        )

    some, odd, common, apart = check(build, x, bits)
    np.testing.assert_array_equal(some, x.any(1))
    np.testing.assert_array_equal(odd, x.sum(1) % 2 == 1)
    np.testing.assert_array_equal(common, np.bitwise_and.reduce(bits, 1))
    np.testing.assert_array_equal(apart, np.bitwise_xor.reduce(bits, 1))


@pytest.mark.parametrize("body", ["sum_of_three", "serial"])
def test_no_elements_leave_what_a_fold_begins_with(body: str, check: Check) -> None:
    build, _, start = BODIES[body]
    x = np.zeros((3, 0), np.float32)
    (out,) = check(
        lambda b, x, i: ops.reduce(b, (x,), (i,), (1,), build), x, np.array(start, np.float32)
    )
    np.testing.assert_array_equal(out, [start] * 3)

    def both(b: GraphBuilder, x: Value, low: Value) -> Any:
        places = ops.iota(b, x.shape, 1)
        return ops.reduce(b, (x, places), (low, ops.scalar(b, 4)), (1,), argmax_body)

    best, place = check(both, x, np.array(2.0, np.float32))
    np.testing.assert_array_equal([best, place], [[2] * 3, [4] * 3])


# ---- windows -------------------------------------------------------------------------------------

# window, strides, base dilations, window dilations, padding; of x[5, 7]
WINDOWS: dict[str, Any] = {
    "plain": ((2, 3), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "padded": ((3, 3), (2, 1), (1, 1), (1, 1), ((1, 1), (2, 0))),
    "dilated": ((2, 2), (1, 2), (1, 1), (2, 3), ((0, 1), (1, 1))),
    "spread": ((2, 3), (4, 1), (2, 3), (3, 1), ((2, 1), (0, 0))),
    "cropped": ((2, 2), (1, 1), (2, 1), (1, 1), ((-1, -2), (1, -3))),
    "none": ((9, 1), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "points": ((1, 1), (2, 3), (1, 2), (1, 1), ((1, 0), (0, 0))),
}


def windows(x: Array, init: float, name: str) -> Array:
    """The padded elements of each window, in a last dim."""
    window, strides, base, dilations, padding = WINDOWS[name]
    wide = [(n - 1) * k + 1 for n, k in zip(x.shape, base)]
    apart = np.full(wide, init, np.float64)
    apart[tuple(slice(None, None, k) for k in base)] = x
    around = np.pad(apart, 20, constant_values=init)
    cut = (slice(20 - lo, 20 + n + hi) for n, (lo, hi) in zip(wide, padding))
    padded = around[tuple(cut)]
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilations)]
    count = [max((n - r) // s + 1, 0) for n, r, s in zip(padded.shape, reach, strides)]
    out = np.zeros((*count, int(np.prod(window))))
    for p in np.ndindex(*count):
        first = [i * s for i, s in zip(p, strides)]
        own = tuple(slice(f, f + r, d) for f, r, d in zip(first, reach, dilations))
        out[p] = padded[own].ravel()
    return out


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", WINDOWS)
def test_reduce_window(name: str, body: str, check: Check) -> None:
    build, step, start = BODIES[body]
    window, strides, base, dilations, padding = WINDOWS[name]
    x = given(5, 7)
    (out,) = check(
        lambda b, x, i: ops.reduce_window(
            b, (x,), (i,), build, window, strides, base, dilations, padding
        ),
        x, np.array(start, np.float32), rtol=1e-5, atol=1e-6, symbolic=name != "none",
    )  # fmt: skip
    rows = windows(x, start, name)
    expected = np.full(rows.shape[:-1], start, np.float64)
    for r in range(rows.shape[-1]):
        expected = step(expected, rows[..., r])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", ["sum", "max", "serial"])
@pytest.mark.parametrize("name", ["padded", "spread", "cropped"])
def test_windows_compiled(name: str, body: str, compiled: Check) -> None:
    build, _, start = BODIES[body]
    window, strides, base, dilations, padding = WINDOWS[name]

    def folded(b: GraphBuilder, x: Value) -> Any:
        init = ops.scalar(b, float(start), f32)
        return ops.reduce_window(b, (x,), (init,), build, window, strides, base, dilations, padding)

    compiled(folded, given(5, 7))


def test_windows_of_two_operands(compiled: Check) -> None:
    x = given(5, 7)

    def build(b: GraphBuilder, x: Value) -> Any:
        low, none = ops.scalar(b, -np.inf, f32), ops.scalar(b, 10**6)
        places = ops.reshape(b, ops.iota(b, (x.shape[0] * x.shape[1],), 0), x.shape)
        window, padding = (3, 3), ((1, 1), (1, 1))
        return ops.reduce_window(
            b, (x, places), (low, none), argmax_body, window, padding=padding
        )

    best, place = compiled(build, x)
    np.testing.assert_array_equal(x.ravel()[place], best.astype(np.float32))
    padded = np.pad(x, 1, constant_values=-np.inf)
    rows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(5, 7, 9)
    np.testing.assert_array_equal(best.astype(np.float32), rows.max(-1))


RUNNING = {
    "cumsum": (ops.add, 0, np.cumsum), "cumprod": (ops.mul, 1, np.cumprod),
    "running_max": (ops.max, -np.inf, np.maximum.accumulate),
    "running_min": (ops.min, np.inf, np.minimum.accumulate),
}  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", RUNNING)
def test_running_folds_are_scans(name: str, reverse: bool, compiled: Check) -> None:
    body, start, meaning = RUNNING[name]
    x = given(3, 6)

    def build(b: GraphBuilder, x: Value) -> Any:
        n = x.shape[1]
        ends = (0, n - 1) if reverse else (n - 1, 0)
        init = ops.scalar(b, float(start), f32)
        return ops.reduce_window(b, (x,), (init,), body, (1, n), padding=((0, 0), ends))

    b = GraphBuilder()
    build(b, b.input(tensor((3, dim("n", lo=1)), f32)))
    assert [n.op for n in b.nodes] == ["full", name]
    (out,) = compiled(build, x)
    flipped = x[:, ::-1] if reverse else x
    expected = meaning(flipped.astype(np.float64), axis=1)
    np.testing.assert_allclose(out, expected[:, ::-1] if reverse else expected, rtol=1e-6)


# ---- select_and_scatter --------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["ge", "gt", "le"])
@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [((3, 1), (2, 1), ((0, 1), (0, 0))), ((2, 2), (2, 2), ((0, 0), (0, 0))),
     ((3, 3), (1, 2), ((1, 1), (2, 1)))],
)  # fmt: skip
def test_select_and_scatter(
    window: Any, strides: Any, padding: Any, select: str, compiled: Check
) -> None:
    x = given(4, 6, dtype=np.int8).astype(np.float32)  # with equal elements
    count = [(n + lo + hi - w) // s + 1
             for n, w, s, (lo, hi) in zip(x.shape, window, strides, padding)]  # fmt: skip
    source = given(*count)
    (out,) = compiled(
        lambda b, x, s, i: ops.select_and_scatter(
            b, x, s, i, getattr(ops, select), ops.add, window, strides, padding
        ),
        x, source, np.array(0.5, np.float32), symbolic=False,
    )  # fmt: skip
    stays = {"ge": np.greater_equal, "gt": np.greater, "le": np.less_equal}[select]
    expected = np.full(x.shape, 0.5)
    for p in np.ndindex(*count):
        chosen = None
        for k in np.ndindex(*window):
            at = tuple(i * s + j - lo for i, s, j, (lo, _) in zip(p, strides, k, padding))
            if all(0 <= a < n for a, n in zip(at, x.shape)):
                chosen = at if chosen is None or not stays(x[chosen], x[at]) else chosen
        expected[chosen] += source[p]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_the_example_of_the_specification(check: Check) -> None:
    x = np.array([[1, 5], [2, 5], [3, 6], [4, 4]])
    (out,) = check(
        lambda b, x, s, i: ops.select_and_scatter(
            b, x, s, i, ops.ge, ops.add, (3, 1), (2, 1), ((0, 1), (0, 0))
        ),
        x, np.array([[5, 6], [7, 8]]), np.array(0), symbolic=False,
    )  # fmt: skip
    np.testing.assert_array_equal(out, [[0, 0], [0, 0], [5, 14], [7, 0]])


def test_a_search_for_nan_finds_the_first(compiled: Check) -> None:
    """JAX's body keeps the left one of two NaN: it may be folded in any order by the places."""

    def keeps_left(b: GraphBuilder, v: Value, i: Value, w: Value, k: Value) -> Any:
        stays = ops.logical_or(b, ops.gt(b, v, w), ops.isnan(b, v))
        tie = ops.logical_and(b, ops.eq(b, v, w), ops.lt(b, i, k))
        return ops.select(b, stays, v, w), ops.select(b, ops.logical_or(b, stays, tie), i, k)

    assert bodies.any_order(graph_of(keeps_left, f32, i64))
    x = given(3, 70)
    x[0, [5, 13, 21, 69]] = x[1, [40, 42]] = np.nan

    def build(b: GraphBuilder, x: Value) -> Any:
        inits = ops.scalar(b, -np.inf, f32), ops.scalar(b, 0)
        return ops.reduce(b, (x, ops.iota(b, x.shape, 1)), inits, (1,), keeps_left)

    _, place = compiled(build, x)
    np.testing.assert_array_equal(place, x.argmax(1))


# ---- bodies in graphs ----------------------------------------------------------------------------


def _with_bodies(b: GraphBuilder, x: Value, k: Value) -> Any:
    """Operators with bodies in the body of a loop."""

    def body(inner: GraphBuilder, states: Any, rows: Any) -> Any:
        (total,), (row,) = states, rows
        halved = lambda n, o, u: ops.sub(n, ops.mul(n, o, 0.5), u)  # noqa: E731
        (after,) = ops.scatter_slices(
            inner, (total,), k, (ops.slice_axis(inner, row, 0, 0, 2),), halved, (), (0,), (), (),
            (0,), 1,
        )  # fmt: skip
        inits = ops.scalar(inner, -np.inf, f32), ops.scalar(inner, 0)
        places = ops.iota(inner, row.shape, 0)
        best = ops.reduce(inner, (row, places), inits, (0,), argmax_body)
        return (after,), best

    return ops.loop(b, body, 3, (ops.full(b, (5,), 1.0, f32),), (x,))


def test_bodies_in_the_bodies_of_loops() -> None:
    x, k = given(3, 6), np.array([[1], [4]])
    b = GraphBuilder()
    graph = b.build(_with_bodies(b, b.input(tensor((3, 6), f32)), b.input(tensor((2, 1), i64))))
    total, rows = np.ones(5), list[Array]()
    for row in x:
        total[[1, 4]] = total[[1, 4]] * 0.5 - row[:2]
        rows.append(total.copy())
    compiled = NumpyCallable(compile_graph(graph).executable)
    for states, best, place in (run_graph(graph, (x, k)), compiled(x, k)):
        np.testing.assert_allclose(states, rows, rtol=1e-6)
        np.testing.assert_array_equal(best, x.max(1))
        np.testing.assert_array_equal(place, x.argmax(1))


def test_bodies_are_written_and_read_as_text() -> None:
    b = GraphBuilder()
    x, k = b.input(tensor((3, 6), f32)), b.input(tensor((2, 1), i64))
    graph = b.build(_with_bodies(b, x, k))
    assert parse(to_text(graph)) == graph
