"""If, Loop, Scan, sequences, and results whose sizes depend on data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ferrule.api.session import InferenceSession
from ferrule.base.errors import FerruleError
from tests.onnx.tools import body, check, model, node, programs, random, run

F, I, B = np.float32, np.int64, np.bool_


def branches(captured: str = "x") -> dict[str, Any]:
    """Two branches that read a value from outside."""
    out = {"r": (F, None)}
    return {
        "then_branch": body([node("Exp", captured, "r")], {}, out),
        "else_branch": body([node("Neg", captured, "r")], {}, out),
    }


def test_if_on_data_runs_one_branch() -> None:
    nodes = [
        node("ReduceSum", "x", "total", keepdims=0),
        node("Greater", "total zero", "c"),
        node("If", "c", "r", **branches()),
        node("Add", "r x", "y"),
    ]
    proto = model(nodes, {"x": (F, [3])}, ["y"], {"zero": F(0)})
    s = InferenceSession(proto)
    for x in (np.ones(3, F), -np.ones(3, F)):
        expected = (np.exp(x) if x.sum() > 0 else -x) + x
        np.testing.assert_allclose(s.run(None, {"x": x})[0], expected, rtol=1e-6)


def test_if_on_shapes_is_decided_while_building() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Size", "s", "rank"),
        node("Equal", "rank two", "c"),
        node("If", "c", "r", **branches()),
        node("Add", "r x", "y"),
    ]
    proto = model(nodes, {"x": (F, ["N", 3])}, ["y"], {"two": I(2)})
    s, x = InferenceSession(proto), random(2, 3)
    np.testing.assert_allclose(s.run(None, {"x": x})[0], np.exp(x) + x, rtol=1e-6)
    assert programs(s) == 1


def loop_body() -> Any:
    """(i, go, v) -> (v below 100, v * 2 + w), and each v."""
    nodes = [
        node("Add", "v v", "twice"),
        node("Add", "twice w", "next"),
        node("ReduceMax", "next", "top", keepdims=0),
        node("Less", "top limit", "on"),
        node("Identity", "next", "row"),
    ]
    inputs = {"i": (I, []), "go": (B, []), "v": (F, [2])}
    outputs = {"on": (B, []), "next": (F, [2]), "row": (F, [2])}
    return body(nodes, inputs, outputs, {"limit": F(100)})


def test_loop_stops_by_data_and_by_count() -> None:
    nodes = [node("Loop", "n c x", "last rows", body=loop_body())]
    inputs = {"x": (F, [2]), "w": (F, [2]), "n": (I, []), "c": (B, [])}
    proto = model(nodes, inputs, ["last", "rows"])
    x, w = np.array([1, 2], F), np.array([1, 0], F)
    for n in (1, 3, 50):
        check(proto, x=x, w=w, n=I(n), c=B(True))
    last, rows = run(proto, x=x, w=w, n=I(50), c=B(True))
    assert len(rows) == 6
    assert run(proto, x=x, w=w, n=I(0), c=B(True))[1].shape == (0, 2)
    np.testing.assert_array_equal(rows[-1], last)


def test_a_loop_body_is_compiled_once_for_a_shape() -> None:
    proto = model(
        [node("Loop", "n c x", "last rows", body=loop_body())],
        {"x": (F, [2]), "w": (F, [2]), "n": (I, []), "c": (B, [])}, ["last"],
    )  # fmt: skip
    s = InferenceSession(proto)
    s.run(None, {"x": np.zeros(2, F), "w": np.zeros(2, F), "n": I(20), "c": B(True)})
    assert programs(s) == 1


def test_a_state_that_grows_is_compiled_twice_at_most() -> None:
    inner = body(
        [node("Identity", "go", "on"), node("Concat", "v w", "next", axis=0)],
        {"i": (I, []), "go": (B, []), "v": (F, [None])}, {"on": (B, []), "next": (F, [None])},
    )  # fmt: skip
    proto = model(
        [node("Loop", "n _ x", "y", body=inner)],
        {"x": (F, [2]), "w": (F, [2]), "n": (I, [])}, ["y"],
    )  # fmt: skip
    s, x, w = InferenceSession(proto), random(2), random(2, seed=1)
    (y,) = s.run(None, {"x": x, "w": w, "n": I(9)})
    np.testing.assert_array_equal(y, np.concatenate([x, *[w] * 9]))
    assert programs(s) == 2


def test_scan_in_both_directions() -> None:
    inner = body(
        [node("Add", "s e", "t"), node("Identity", "t", "out")],
        {"s": (F, [2]), "e": (F, [2])}, {"t": (F, [2]), "out": (F, [2])},
    )  # fmt: skip
    for turned in (0, 1):
        n = node("Scan", "s0 x", "last rows", body=inner, num_scan_inputs=1,
                 scan_input_directions=[turned], scan_output_directions=[turned])  # fmt: skip
        proto = model([n], {"s0": (F, [2]), "x": (F, [5, 2])}, ["last", "rows"])
        s0, x = random(2), random(5, 2)
        last, rows = run(proto, s0=s0, x=x)
        steps = x[::-1] if turned else x
        expected = s0 + np.cumsum(steps, 0)
        np.testing.assert_allclose(last, expected[-1], rtol=1e-5)
        wanted = expected[::-1] if turned else expected
        np.testing.assert_allclose(rows, wanted, rtol=1e-5, atol=1e-6)


def test_sizes_that_depend_on_data() -> None:
    nodes = [
        node("NonZero", "x", "places"),
        node("Transpose", "places", "rows"),
        node("GatherND", "x rows", "values"),
        node("Shape", "values", "count"),
        node("ConstantOfShape", "count", "zeros"),
        node("Add", "values zeros", "y"),
        node("Relu", "y", "z"),
    ]
    proto = model(nodes, {"x": (F, ["N", 3])}, ["z"])
    s = InferenceSession(proto)
    for seed in range(3):
        x = np.maximum(random(4, 3, seed=seed), 0)
        np.testing.assert_array_equal(s.run(None, {"x": x})[0], x[x != 0])
    assert s.explain().endswith("in NumPy: NonZero")
    before = programs(s)
    s.run(None, {"x": x})
    assert programs(s) == before


def test_reshape_by_an_input() -> None:
    proto = model([node("Reshape", "x s", "y")], {"x": (F, [6]), "s": (I, [2])}, ["y"])
    s, x = InferenceSession(proto), random(6)
    for shape in ([2, 3], [3, -1], [1, 6]):
        y = s.run(None, {"x": x, "s": np.array(shape)})[0]
        np.testing.assert_array_equal(y, x.reshape(shape))


def test_topk_unique_and_compress() -> None:
    x = np.array([[3, 1, 2, 3], [1, 1, 5, 0]], F)
    check(model([node("TopK", "x k", "v i", axis=1)], {"x": (F, [2, 4])}, ["v"],
                {"k": np.array([2])}), x=x)  # fmt: skip
    check(model([node("Unique", "x", "y")], {"x": (F, [2, 4])}, ["y"]), x=x)
    keep = np.array([True, False, True, False])
    proto = model([node("Compress", "x c", "y", axis=1)], {"x": (F, [2, 4]), "c": (B, [4])}, ["y"])
    check(proto, x=x, c=keep)


def test_sequences_pass_through() -> None:
    nodes = [
        node("SplitToSequence", "x", "parts", axis=0),
        node("SequenceAt", "parts one", "row"),
        node("SequenceLength", "parts", "n"),
        node("Exp", "row", "y"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
         helper.make_tensor_value_info("n", TensorProto.INT64, [])],
        [helper.make_tensor("one", TensorProto.INT64, [], [1])],
    )  # fmt: skip
    x = random(3, 2)
    y, n = run(helper.make_model(graph), x=x)
    np.testing.assert_allclose(y, np.exp(x[1:2]), rtol=1e-6)
    assert n == 3


def test_an_index_outside_fails_in_the_run() -> None:
    proto = model([node("Gather", "x i", "y")], {"x": (F, [3]), "i": (I, [2])}, ["y"])
    s = InferenceSession(proto)
    with pytest.raises(FerruleError, match="index"):
        s.run(None, {"x": random(3), "i": np.array([0, 7])})
