"""Loop and Scan whose steps follow from sizes: loops of the program, with nothing left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from ferrule.api.session import InferenceSession
from ferrule.base.errors import CompileError, FerruleError
from tests.onnx.tools import body, check, model, node, programs, random

F, I, B = np.float32, np.int64, np.bool_
TRUE = np.array(True)


def whole(proto: ModelProto, feeds: list[dict[str, Any]], rtol: float = 1e-5) -> None:
    """Check each feed, and that one program has run them all."""
    for feed in feeds:
        s = check(proto, rtol, **feed)
        assert s.in_numpy == ()
        assert programs(s) == 1


def sums() -> Any:
    """(s, e) -> s + e, and that again."""
    return body(
        [node("Add", "s e", "t"), node("Identity", "t", "out")],
        {"s": (F, [2]), "e": (F, [2])}, {"t": (F, [2]), "out": (F, [2])},
    )  # fmt: skip


def loop(nodes: list[Any], state: Any, *rows: str, on: str = "on") -> Any:
    """A body (i, go, v) -> (on, w, rows)."""
    given = {"i": (I, []), "go": (B, []), "v": (F, state)}
    made = {on: (B, []), "w": (F, state), **dict.fromkeys(rows, (F, None))}
    return body(nodes, given, made)


ON = node("Identity", "go", "on")


@pytest.mark.parametrize("made", [0, 1])
@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize("size", [5, "N"])
def test_a_scan_goes_both_ways(size: int | str, given: int, made: int) -> None:
    n = node("Scan", "s0 x", "last rows", body=sums(), num_scan_inputs=1,
             scan_input_directions=[given], scan_output_directions=[made])  # fmt: skip
    proto = model([n], {"s0": (F, [2]), "x": (F, [size, 2])}, ["last", "rows"])
    s, s0 = InferenceSession(proto), random(2)
    for steps in (5,) if size == 5 else (5, 1, 8):
        x = random(steps, 2, seed=1)
        expected = s0 + np.cumsum(x[::-1] if given else x, 0)
        last, rows = s.run(None, {"s0": s0, "x": x})
        np.testing.assert_allclose(last, expected[-1], rtol=1e-5)
        wanted = expected[::-1] if made else expected
        np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-6)
    assert s.in_numpy == ()
    assert programs(s) == 1


def test_inputs_of_a_scan_may_go_apart() -> None:
    inner = body([node("Sub", "a b", "c")], {"a": (F, [2]), "b": (F, [2])}, {"c": (F, [2])})
    n = node("Scan", "x y", "z", body=inner, num_scan_inputs=2, scan_input_directions=[0, 1])
    proto = model([n], {"x": (F, ["N", 2]), "y": (F, ["N", 2])}, ["z"])
    s = InferenceSession(proto)
    for steps in (1, 4):
        x, y = random(steps, 2), random(steps, 2, seed=1)
        np.testing.assert_array_equal(s.run(None, {"x": x, "y": y})[0], x - y[::-1])
    assert s.in_numpy == ()


@pytest.mark.parametrize(("source", "target"), [(1, 0), (1, 1), (-1, -1), (0, -2)])
def test_axes_of_a_scan(source: int, target: int) -> None:
    n = node("Scan", "s0 x", "last rows", body=sums(), num_scan_inputs=1,
             scan_input_axes=[source], scan_output_axes=[target])  # fmt: skip
    shape = [2, "N"] if source else ["N", 2]
    proto = model([n], {"s0": (F, [2]), "x": (F, shape)}, ["last", "rows"])
    s, s0 = InferenceSession(proto), random(2)
    for steps in (3, 7):
        x = random(*(2, steps) if source else (steps, 2), seed=1)
        expected = np.moveaxis(s0 + np.cumsum(np.moveaxis(x, source, 0), 0), 0, target)
        np.testing.assert_allclose(s.run(None, {"s0": s0, "x": x})[1], expected, rtol=1e-5)
    assert s.in_numpy == ()


def test_a_recurrent_layer_as_a_scan() -> None:
    """A GRU's update with weights from outside, batch and steps symbolic."""
    nodes = [
        node("MatMul", "e w", "given"),
        node("MatMul", "h r", "own"),
        node("Add", "given own", "total"),
        node("Split", "total", "a b", axis=1, num_outputs=2),
        node("Sigmoid", "a", "z"),
        node("Tanh", "b", "n"),
        node("Sub", "h n", "d"),
        node("Mul", "z d", "part"),
        node("Add", "n part", "next"),
        node("Identity", "next", "y"),
    ]
    state = (F, ["B", 16])
    inner = body(nodes, {"h": state, "e": (F, ["B", 8])}, {"next": state, "y": state})
    n = node("Scan", "h0 x", "last rows", body=inner, num_scan_inputs=1)
    proto = model(
        [n], {"h0": state, "x": (F, ["N", "B", 8])}, ["last", "rows"],
        {"w": random(8, 32), "r": random(16, 32, seed=1) / 4},
    )  # fmt: skip
    sizes = [(1, 1), (6, 3), (9, 2)]
    whole(proto, [{"h0": random(k, 16), "x": random(n, k, 8, seed=2)} for n, k in sizes], 1e-4)


@pytest.mark.parametrize("kind", ["absent", "constant", "passed"])
def test_a_loop_of_a_known_number_of_steps(kind: str) -> None:
    """Each step takes the row of its number and multiplies by it."""
    nodes = [
        node("Gather", "x i", "row", axis=0),
        node("Cast", "i", "f", to=1),
        node("Mul", "row f", "p"),
        node("Add", "v p", "w"),
        node("Neg", "w", "out"),
        ON if kind == "passed" else node("Constant", "", "on", value=numpy_helper.from_array(TRUE)),
    ]
    inner = loop(nodes, [3], "out")
    n = node("Loop", "n _ v0" if kind == "absent" else "n true v0", "last rows", body=inner)
    inputs, held = {"x": (F, [4, 3]), "v0": (F, [3])}, {"n": I(4), "true": TRUE}
    s = InferenceSession(model([n], inputs, ["last", "rows"], held))
    x, v0 = random(4, 3), random(3, seed=1)
    expected = v0 + np.cumsum(x * np.arange(4, dtype=F)[:, None], 0)
    last, rows = s.run(None, {"x": x, "v0": v0})
    np.testing.assert_allclose(last, expected[-1], rtol=1e-5)
    np.testing.assert_allclose(rows, -expected, rtol=1e-5)
    assert s.in_numpy == ()


def counted(*before: Any, nodes: list[Any]) -> ModelProto:
    """A model whose Loop runs `n` steps, which `before` makes of the shape of x."""
    n = node("Loop", "n true v0", "last rows", body=loop([*nodes, ON], [3], "out"))
    held = {"true": TRUE, "zero": I(0), "one": I(1), "start": np.array([0]), "stop": np.array([1])}
    inputs = {"x": (F, ["N", 3]), "v0": (F, [3])}
    return model([*before, n], inputs, ["last", "rows"], held)


ROWS = [
    node("Gather", "x i", "row", axis=0), node("Add", "v row", "w"), node("Exp", "w", "out"),
]  # fmt: skip


def test_a_loop_over_a_dimension() -> None:
    proto = counted(node("Shape", "x", "s"), node("Gather", "s zero", "n"), nodes=ROWS)
    whole(proto, [{"x": random(n, 3), "v0": random(3, seed=1)} for n in (1, 2, 7)])


def test_a_loop_that_may_have_no_step() -> None:
    before = node("Shape", "x", "s"), node("Gather", "s zero", "m"), node("Sub", "m one", "n")
    s = InferenceSession(counted(*before, nodes=ROWS))
    v0 = random(3, seed=1)
    for n in (4, 1, 2):
        x = random(n, 3)
        states = v0 + np.cumsum(x, 0)[:-1]
        last, rows = s.run(None, {"x": x, "v0": v0})
        np.testing.assert_allclose(last, [v0, *states][-1], rtol=1e-5)
        np.testing.assert_allclose(rows, np.exp(states), rtol=1e-5)
    assert s.in_numpy == ()
    assert programs(s) == 1


def test_states_change_places() -> None:
    """Fibonacci's numbers, a state that no step changes, and one that is constant at first."""
    nodes = [
        node("Add", "a b", "c"), node("Add", "c k", "d"), node("Identity", "b", "e"),
        node("Identity", "k", "k2"), ON,
    ]  # fmt: skip
    t = (F, [2])
    inner = body(
        nodes, {"i": (I, []), "go": (B, []), "a": t, "b": t, "k": t},
        {"on": (B, []), "e": t, "d": t, "k2": t},
    )  # fmt: skip
    n = node("Loop", "n true a0 b0 k0", "p q r", body=inner)
    held = {"n": I(6), "true": TRUE, "a0": np.array([0, 1], F)}
    proto = model([n], {"b0": t, "k0": t}, ["p", "q", "r"], held)
    whole(proto, [{"b0": random(2), "k0": random(2, seed=1)}])


def test_a_loop_in_a_loop_and_behind_it() -> None:
    """Bodies read values and weights of all graphs around them."""
    first = [node("MatMul", "v weights", "m"), node("Tanh", "m", "t"), node("Add", "t x", "w"), ON]
    inner = loop(first, ["B", 20])
    outer = [
        node("Loop", "two true v", "u", body=inner),
        node("Add", "u weights0", "w"),
        node("ReduceSum", "w axes", "out", keepdims=0),
        ON,
    ]
    nodes = [
        node("Loop", "three true x", "y rows", body=loop(outer, ["B", 20], "out")),
        node("Loop", "two true y", "z", body=inner),
    ]
    held = {
        "true": TRUE, "two": I(2), "three": I(3), "axes": np.array([1]),
        "weights": random(20, 20) / 4, "weights0": random(20, seed=1),
    }  # fmt: skip
    proto = model(nodes, {"x": (F, ["B", 20])}, ["rows", "z"], held)
    whole(proto, [{"x": random(k, 20, seed=k)} for k in (1, 4)], 1e-4)


def test_states_of_other_types() -> None:
    nodes = [
        node("Add", "n i", "m"), node("Not", "p", "q"), node("Where", "p n m", "w"),
        node("Identity", "w", "row"), ON,
    ]  # fmt: skip
    inner = body(
        nodes, {"i": (I, []), "go": (B, []), "n": (I, [2]), "p": (B, [2])},
        {"on": (B, []), "w": (I, [2]), "q": (B, [2]), "row": (I, [2])},
    )  # fmt: skip
    n = node("Loop", "k true n0 p0", "x y z", body=inner)
    proto = model([n], {"n0": (I, [2]), "p0": (B, [2])}, ["x", "y", "z"], {"k": I(5), "true": TRUE})
    whole(proto, [{"n0": np.array([3, 4]), "p0": np.array([True, False])}])


def test_an_if_on_shapes_in_a_body() -> None:
    branches = {
        "then_branch": body([node("Exp", "v", "r")], {}, {"r": (F, None)}),
        "else_branch": body([node("Neg", "v", "r")], {}, {"r": (F, None)}),
    }
    nodes = [
        node("Shape", "v", "s"), node("Size", "s", "rank"), node("Equal", "rank one", "c"),
        node("If", "c", "e", **branches), node("Tanh", "e", "w"), ON,
    ]  # fmt: skip
    n = node("Loop", "n true x", "y", body=loop(nodes, ["N"]))
    proto = model([n], {"x": (F, ["N"])}, ["y"], {"n": I(3), "one": I(1), "true": TRUE})
    whole(proto, [{"x": random(k)} for k in (2, 9)])


def test_a_loop_behind_what_the_host_runs_is_compiled() -> None:
    nodes = [
        node("NonZero", "x", "places"), node("Cast", "places", "p", to=1),
        node("Loop", "n true p", "y", body=loop([node("Add", "v v", "w"), ON], [1, None])),
    ]  # fmt: skip
    proto = model(nodes, {"x": (F, [4])}, ["y"], {"n": I(3), "true": TRUE})
    s = check(proto, x=np.array([0, 1, 0, 2], F))
    assert s.in_numpy == ("NonZero",)


def test_a_state_that_grows_runs_on_the_host() -> None:
    inner = loop([node("Concat", "v v", "w", axis=0), ON], [None])
    proto = model([node("Loop", "n true x", "y", body=inner)], {"x": (F, [3])}, ["y"],
                  {"n": I(4), "true": TRUE})  # fmt: skip
    assert check(proto, x=random(3)).in_numpy == ("Loop",)


def test_lengths_of_zero_and_numbers_outside() -> None:
    proto = counted(node("Shape", "x", "s"), node("Gather", "s zero", "n"), nodes=ROWS)
    s, v0 = InferenceSession(proto), random(3)
    last, rows = s.run(None, {"x": random(0, 3), "v0": v0})
    np.testing.assert_array_equal(last, v0)
    assert len(rows) == 0
    far = counted(node("Shape", "x", "s"), node("Gather", "s zero", "m"),
                  node("Add", "m one", "n"), nodes=ROWS)  # fmt: skip
    with pytest.raises(FerruleError, match="index"):
        InferenceSession(far).run(None, {"x": random(3, 3), "v0": v0})


def test_a_body_that_is_not_compiled_as_a_whole_runs_on_the_host() -> None:
    """And leaves none of its weights behind."""
    nodes = [node("MatMul", "v weights", "t"), node("NonZero", "t", "p"),
             node("Gather", "t first", "u", axis=0), node("Size", "p", "size"),
             node("Cast", "size", "f", to=1), node("Add", "u f", "w")]  # fmt: skip
    n = node("Loop", "n true x", "y", body=loop([*nodes, ON], [2, 20]))
    held = {"n": I(2), "true": TRUE, "weights": random(20, 20) / 4, "first": np.array([0, 1])}
    s = check(model([n], {"x": (F, [2, 20])}, ["y"], held), x=random(2, 20, seed=1))
    assert "Loop" in s.in_numpy


def test_states_that_would_fill_the_memory_are_not_kept() -> None:
    inner = body(
        [node("Add", "v v", "w"), node("Less", "i two", "on")],
        {"i": (I, []), "go": (B, []), "v": (F, [1000])}, {"on": (B, []), "w": (F, [1000])},
    )  # fmt: skip
    proto = model([node("Loop", "n true x", "y", body=inner)], {"x": (F, [1000])}, ["y"],
                  {"n": I(2**62), "true": TRUE, "two": I(2)})  # fmt: skip
    whole(proto, [{"x": random(1000)}])


@pytest.mark.parametrize("count", [2**40, 2**60, 2**62])
def test_rows_that_no_memory_holds_are_refused(count: int) -> None:
    inner = body(
        [node("Add", "v v", "w"), node("Identity", "go", "on"), node("Identity", "w", "row")],
        {"i": (I, []), "go": (B, []), "v": (F, [3])},
        {"on": (B, []), "w": (F, [3]), "row": (F, [3])},
    )  # fmt: skip
    proto = model([node("Loop", "n true x", "y rows", body=inner)], {"x": (F, [3])}, ["y", "rows"],
                  {"n": I(count), "true": TRUE})  # fmt: skip
    with pytest.raises(CompileError, match=f"have {count} rows, more than memory can hold"):
        InferenceSession(proto).run(None, {"x": random(3)})
