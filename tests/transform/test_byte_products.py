"""Products of bytes, as each target sums them: the same integers, and dot products of bytes where
they fit.
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
from ferrule.base.cpu import supports
from ferrule.base.dtype import DType, f32, i8, i32, u8
from ferrule.base.errors import CompileError, VerifyError
from ferrule.ir.expr import dim
from ferrule.ir.graph import Graph, GraphBuilder, Value, tensor
from ferrule.ir.interp import run_graph, run_program
from ferrule.ir.text import parse, to_text
from ferrule.ir.verify import verify
from ferrule.pipeline.compile import compile_graph
from ferrule.pipeline.explain import explain
from ferrule.pipeline.passes import options_for, steps
from ferrule.pipeline.run import lowered, run
from ferrule.runtime.arrays import NumpyCallable
from ferrule.target.cpu import Target, least
from ferrule.transform.byte_products import byte_products

PLAIN = least("avx2")
DOTS = PLAIN.having("avxvnni")
TARGETS = [t for t in ("avx512", "avx2", "generic") if supports(t)]
WORDS, FLOATS, INTEGERS = "dot products of bytes", "sums in f32", "sums in i32"
BYTES = st.sampled_from([u8, i8])
Array = np.ndarray[Any, Any]


def way(graph: Graph, target: Target = DOTS) -> str:
    """How the one product of bytes is summed."""
    _, (decision,) = byte_products(graph, target)
    return decision.chosen


def numbers(v: Value, seed: int) -> Array:
    """Bytes from end to end of their range."""
    low, high = int(v.dtype.min), int(v.dtype.max)
    shape = [int(s.value) if s.is_const else 5 for s in v.shape]
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(v.dtype.numpy)


def agrees(graph: Graph, seed: int = 0) -> None:
    """What the pass makes, for each target, is sound, means the same, and is left as it is by a
    second run and behind its text.
    """
    verify(graph)
    arrays = [numbers(v, seed + i) for i, v in enumerate((*graph.inputs, *graph.params))]
    expected = run_graph(graph, arrays)
    for target in (DOTS, PLAIN):
        made, decisions = byte_products(graph, target)
        verify(made)
        assert [v.type for v in made.outputs] == [v.type for v in graph.outputs]
        for x, y in zip(run_graph(made, arrays), expected, strict=True):
            np.testing.assert_array_equal(x, y)
        assert byte_products(parse(to_text(graph)), target) == (made, decisions)
        again, _ = byte_products(parse(to_text(made)), target)
        assert to_text(again) == to_text(made)


def compiled(graph: Graph, seed: int = 0) -> None:
    """Machine code for each target gives what the graph means, and so does the program with dot
    products, which this CPU may lack, in the interpreter.
    """
    given_to = [numbers(v, seed + i) for i, v in enumerate(graph.inputs)]
    params = [numbers(v, seed + 50 + i) for i, v in enumerate(graph.params)]
    expected = run_graph(graph, [*given_to, *params])
    program = lowered(graph, "program", options_for(DOTS))
    for x, y in zip(run_program(program, given_to, params), expected, strict=True):
        np.testing.assert_array_equal(x, y)
    for target in TARGETS:
        with config.override(target=target):
            executable = compile_graph(graph).executable
        executable.bind([(w.ctypes.data, w) for w in params])
        for x, y in zip(NumpyCallable(executable)(*given_to), expected, strict=True):
            np.testing.assert_array_equal(x, y)


# ---- what is built -------------------------------------------------------------------------------


def less(b: GraphBuilder, v: Value, kind: str, axis: int) -> Value:
    """Bytes in i32 less a zero point: none, a number, a scalar, or one for each slice of `axis`."""
    wide = ops.cast(b, v, i32)
    if kind == "none":
        return wide
    if kind.lstrip("-").isdigit():
        return ops.sub(b, wide, int(kind))
    shape = [v.shape[d] if d == axis else 1 for d in range(v.rank)]
    zero = ops.cast(b, b.input(tensor([] if kind == "one" else shape, v.dtype)), i32)
    return ops.sub(b, wide, zero)


ZEROS = st.sampled_from(["none", "128", "-128", "3", "one", "each"])


def product(
    x: DType, w: DType, shape: tuple[Any, int, int] = (9, 22, 17), x_zero: str = "none",
    w_zero: str = "none", known: bool = True, first: bool = False, batch: int = 0,
    turned: bool = False, bound: int | None = None,
) -> Graph:  # fmt: skip
    """A product whose weights are perhaps known, the first operand, and transposed in i32."""
    b, (m, k, n) = GraphBuilder("product"), shape
    lead = (batch,) if batch else ()
    d = len(lead)
    left = less(b, b.input(tensor((*lead, m, k), x)), x_zero, d)
    weights = (b.param if known else b.input)(tensor((*lead, *((n, k) if turned else (k, n))), w))
    right = less(b, weights, w_zero, d + (not turned))
    if turned:
        right = ops.transpose(b, right, (*range(d), d + 1, d))
    axes = tuple(range(d))
    if first:
        out = ops.dot_general(b, right, left, (axes, axes), ((d,), (d + 1,)), bound=bound)
    else:
        out = ops.dot_general(b, left, right, (axes, axes), ((d + 1,), (d,)), bound=bound)
    return b.build([out])


def convolution(
    x: DType, w: DType, x_zero: str = "none", w_zero: str = "none", groups: int = 1,
    channels: int = 6, size: Any = 7, **attrs: Any,
) -> Graph:  # fmt: skip
    b = GraphBuilder("convolution")
    image = b.input(tensor((2, channels, size, 6), x))
    filters = b.param(tensor((12, channels // groups, 3, 3), w))
    left, right = less(b, image, x_zero, 0), less(b, filters, w_zero, 0)
    return b.build([ops.conv(b, left, right, groups=groups, **attrs)])


# ---- the same integers ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    x=BYTES, w=BYTES, x_zero=ZEROS, w_zero=ZEROS, known=st.booleans(), first=st.booleans(),
    batch=st.sampled_from([0, 2]), turned=st.booleans(), rows=st.sampled_from([1, 2, 9]),
    terms=st.sampled_from([1, 3, 8, 22]), columns=st.sampled_from([2, 17]), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_mean_the_same(
    rows: int, terms: int, columns: int, seed: int, **how: Any
) -> None:
    agrees(product(shape=(rows, terms, columns), **how), seed)


@settings(max_examples=25, deadline=None)
@given(
    x=BYTES, w=BYTES, x_zero=ZEROS, w_zero=ZEROS, groups=st.sampled_from([1, 1, 3]),
    padding=st.sampled_from([0, 1, -1, (1, 0)]), stride=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_mean_the_same(seed: int, **how: Any) -> None:
    agrees(convolution(**how), seed)


@pytest.mark.parametrize(("x", "w"), [(u8, u8), (i8, i8)])
@pytest.mark.parametrize("how", [
    {"x_zero": "one", "w_zero": "each"}, {"x_zero": "each", "w_zero": "3", "known": False},
    {"first": True}, {"batch": 3, "known": False, "x_zero": "each", "w_zero": "each"},
    {"turned": True, "shape": (3, 522, 9)}, {"shape": (1, 64, 24)}, {"shape": (dim("n"), 8, 9)},
], ids=str)  # fmt: skip
def test_compiled_products_are_exact(x: DType, w: DType, how: dict[str, Any]) -> None:
    compiled(product(x, w, **how))


@pytest.mark.parametrize("x", [u8, i8])
@pytest.mark.parametrize("how", [
    {"x_zero": "one", "w_zero": "each", "padding": 1}, {"x_zero": "each", "stride": 2},
    {"groups": 6, "x_zero": "3"}, {"size": dim("n"), "padding": 1, "x_zero": "one"},
], ids=str)  # fmt: skip
def test_compiled_convolutions_are_exact(x: DType, how: dict[str, Any]) -> None:
    compiled(convolution(x, i8, **how))


def test_a_vector_and_products_of_one_image_share_what_they_are_made_of() -> None:
    b = GraphBuilder("vector")
    x = ops.cast(b, b.input(tensor((24,), i8)), i32)
    ws = [ops.cast(b, b.param(tensor((24, 16), i8)), i32) for _ in range(2)]
    graph = b.build([ops.matmul(b, x, w) for w in (*ws, ws[0])])
    agrees(graph)
    compiled(graph)
    made, _ = byte_products(graph, DOTS)
    assert [n.op for n in made.nodes].count("add") == 1  # the raised x


# ---- where what fits -----------------------------------------------------------------------------


@pytest.mark.parametrize(("graph", "expected"), [
    (product(u8, i8), WORDS),
    (product(i8, u8, known=False), WORDS),
    (product(u8, i8, first=True), WORDS),
    (product(u8, i8, shape=(9, 22, 7)), FLOATS),  # few columns
    (product(u8, i8, shape=(9, 2, 17)), FLOATS),  # few terms
    (product(u8, i8, shape=(1, 22, 17)), WORDS),
    (product(u8, i8, shape=(1, 22, 17), w_zero="one"), WORDS),  # unknown zero
    (product(u8, i8, shape=(1, 22, 17), known=False), FLOATS),  # few rows
    (product(u8, i8, shape=(dim("n"), 22, 17), known=False), WORDS),
    (convolution(i8, i8, padding=1), WORDS),
    (convolution(i8, i8, groups=3), FLOATS),
    (convolution(u8, i8, channels=2), FLOATS),
])  # fmt: skip
def test_dot_products_of_bytes_where_they_fit(graph: Graph, expected: str) -> None:
    assert way(graph) == expected
    assert way(graph, PLAIN) == FLOATS


def functions(graph: Graph, target: Target) -> str:
    return to_text(lowered(graph, "functions", options_for(target)))


@pytest.mark.parametrize("graph", [
    product(i8, u8, x_zero="one", w_zero="each"), product(i8, i8, known=False, turned=True),
    product(u8, i8, first=True), product(u8, u8, batch=2, known=False),
    product(u8, i8, shape=(dim("n"), 12, 16), known=False), convolution(i8, u8, padding=1),
])  # fmt: skip
def test_the_instruction_is_used_where_the_target_has_it(graph: Graph) -> None:
    assert "dot4(" in functions(graph, DOTS)
    assert "dot4(" in functions(graph, least("avx512").having("avx512vnni"))
    assert "dot4(" not in functions(graph, PLAIN)
    assert "dot4(" not in functions(graph, least("generic"))


@pytest.mark.parametrize(("how", "expected"), [
    ({"shape": (9, 512, 9)}, FLOATS),  # 512 * 255 * 128 < 2^24
    ({"shape": (9, 516, 9)}, INTEGERS),
    ({"shape": (9, 516, 9), "bound": 1 << 24}, FLOATS),
    ({"shape": (9, 512, 9), "bound": 1 << 30}, FLOATS),
    ({"shape": (9, 512, 9), "w_zero": "one"}, INTEGERS),  # at a distance of up to 255
    ({"shape": (9, dim("k"), 9)}, INTEGERS),
])  # fmt: skip
def test_sums_in_floats_where_they_are_exact(how: dict[str, Any], expected: str) -> None:
    assert way(product(u8, i8, **how), PLAIN) == expected


def test_a_zero_point_of_any_integers_has_no_bound() -> None:
    b = GraphBuilder("any")
    x, zero = b.input(tensor((9, 8), u8)), b.input(tensor((), i32))
    w = ops.cast(b, b.param(tensor((8, 9), i8)), i32)
    graph = b.build([ops.matmul(b, ops.sub(b, ops.cast(b, x, i32), zero), w)])
    assert (way(graph), way(graph, PLAIN)) == (WORDS, INTEGERS)


def test_terms_known_to_be_zero_are_left_out() -> None:
    def made(*how: Any) -> list[str]:
        graph, _ = byte_products(product(*how[:2], (9, 24, 17), *how[2:]), DOTS)
        return [n.op for n in graph.nodes]

    assert "reduce_sum" not in made(u8, u8, "none", "128")
    assert "reduce_sum" not in made(i8, i8, "-128", "none")
    assert made(u8, i8, "one").count("reduce_sum") == 1
    assert made(u8, u8, "3", "3").count("reduce_sum") == 2
    assert made(u8, i8) == ["cast", "cast", "dot_general"]


def test_what_is_no_product_of_bytes_is_left_alone() -> None:
    b = GraphBuilder("others")
    x, w, f = (b.input(tensor((8, 8), d)) for d in (i32, i8, f32))
    wide = ops.cast(b, w, i32)
    twice = ops.sub(b, ops.sub(b, wide, 1), 1)
    grown = ops.sub(b, ops.reshape(b, wide, (8, 1, 8)), ops.reshape(b, wide, (8, 8, 1)))
    flat = ops.reshape(b, ops.sub(b, wide, ops.cast(b, b.input(tensor((8,), i8)), i32)), (4, 16))
    outs = [ops.matmul(b, x, wide), ops.matmul(b, f, f), ops.matmul(b, w, w),
            ops.matmul(b, twice, wide), ops.matmul(b, grown, wide),
            ops.dot_general(b, flat, flat, contract=((1,), (1,)))]  # fmt: skip
    graph = b.build(outs)
    assert byte_products(graph, DOTS) == (graph, ())


def test_zero_points_that_vary_along_a_sum_stay_in_it() -> None:
    b = GraphBuilder("terms")
    x, zero = b.input(tensor((9, 8), u8)), b.input(tensor((8,), u8))
    wide = ops.sub(b, ops.cast(b, x, i32), ops.cast(b, zero, i32))
    graph = b.build([ops.matmul(b, wide, ops.cast(b, b.param(tensor((8, 9), i8)), i32))])
    assert way(graph) == FLOATS
    agrees(graph)


# ---- loops, facts, words -------------------------------------------------------------------------


def test_weights_that_a_loop_captures_are_known_in_its_body() -> None:
    b = GraphBuilder("loop")
    xs, w = b.input(tensor((3, 1, 8), u8)), b.param(tensor((8, 8), i8))

    def body(inner: GraphBuilder, states: Any, rows: Any) -> Any:
        wide = ops.sub(inner, ops.cast(inner, rows[0], i32), 7)
        made = ops.matmul(inner, wide, ops.cast(inner, w, i32))
        return [ops.add(inner, states[0], made)], [made]

    state = ops.full(b, (1, 8), 0, i32)
    graph = b.build(ops.loop(b, body, 3, [state], [xs]))
    assert (way(graph), way(graph, PLAIN)) == (WORDS, FLOATS)
    agrees(graph)
    compiled(graph)


@pytest.mark.parametrize("build", [
    lambda b, x, w, bound: ops.matmul(b, x, w, bound=bound),
    lambda b, x, w, bound: ops.conv(
        b, ops.reshape(b, x, (1, 2, 3)), ops.reshape(b, w, (1, 2, 3)), bound=bound),
], ids=["product", "convolution"])  # fmt: skip
def test_a_bound_is_checked_by_the_interpreter(build: Callable[..., Value]) -> None:
    def graph(bound: int, dtype: DType = i32) -> Graph:
        b = GraphBuilder("bound")
        x, w = b.input(tensor((1, 6), dtype)), b.input(tensor((6, 1), dtype))
        return b.build([build(b, x, w, bound)])

    arrays = [np.array([[3, -3, 1, 0, 0, 0]], np.int32), np.ones((6, 1), np.int32)]
    assert int(run_graph(graph(7), arrays)[0].item()) == 1
    with pytest.raises(VerifyError, match="terms come to 7, and its bound is 6"):
        run_graph(graph(6), arrays)
    with pytest.raises(CompileError, match="a bound is that of a sum of integers, got f32"):
        graph(7, f32)


def test_explain_tells_the_way() -> None:
    def told(graph: Graph, target: Target) -> str:
        given = options_for(target)
        return "\n".join(explain(run(graph, steps("graph", "program", given), given)))

    graph = product(u8, i8, shape=(9, 24, 17), bound=1 << 20)
    name = graph.outputs[0].name
    assert f"{name}: dot products of bytes: the target has them" in told(graph, DOTS)
    assert f"{name}: sums in f32: the target has no dot products" in told(graph, PLAIN)
    assert "sums of at most 783360 are exact in f32" in told(graph, PLAIN)
    deep = told(product(u8, i8, shape=(9, 2000, 17)), PLAIN)
    assert "sums in i32" in deep
    assert "may come to 65280000, beyond f32" in deep


def test_what_takes_a_products_place_has_its_place_in_the_model() -> None:
    b = GraphBuilder("g")
    x, w = b.input(tensor((9, 6), i8), "x"), b.param(tensor((6, 8), i8), "w")
    b.location = "layer 3"
    graph = b.build([ops.matmul(b, ops.cast(b, x, i32), ops.cast(b, w, i32))])
    for target in (DOTS, PLAIN):
        made, _ = byte_products(graph, target)
        assert len(made.nodes) > len(graph.nodes)
        assert {n.location for n in made.nodes} == {"layer 3"}


def test_a_bound_says_nothing_of_a_zero_point_that_may_be_any_number() -> None:
    """255 - (2^24 + 1) is within the bound, and 2^24 + 1 is no f32."""
    b = GraphBuilder("g")
    x, zero, w = b.input(tensor((9, 1), u8)), b.input(tensor((), i32)), b.param(tensor((1, 8), i8))
    own = ops.sub(b, ops.cast(b, x, i32), zero)
    attributes = {"batch": ((), ()), "contract": ((1,), (0,)), "bound": 1 << 24}
    graph = b.build([b.emit("dot_general", own, ops.cast(b, w, i32), **attributes)])
    assert way(graph, PLAIN) == INTEGERS


def test_unknown_numbers_of_terms_are_told_as_such() -> None:
    b = GraphBuilder("g")
    x, w = b.input(tensor((9, dim("k")), u8)), b.param(tensor((dim("k"), 8), i8))
    graph = b.build([ops.matmul(b, ops.cast(b, x, i32), ops.cast(b, w, i32))])
    _, (decision,) = byte_products(graph, DOTS)
    assert "how many terms there are is not known" in decision.reason
