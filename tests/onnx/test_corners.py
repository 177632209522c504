"""Operators at the ends of what they take, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper  # noqa: E402

F = np.float32
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def model(node: Any, inputs: dict[str, tuple[int, list[Any]]], known: dict[str, Any]) -> bytes:
    """A model of one node; `known` are its constants."""
    values = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()]
    constants = [numpy_helper.from_array(np.asarray(x), n) for n, x in known.items()]
    outputs = [helper.make_empty_tensor_value_info(n) for n in node.output]
    graph = helper.make_graph([node], "g", values, outputs, constants)
    opsets = [helper.make_opsetid("", 21)]
    return bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )


def agree(made: bytes, feed: dict[str, Any]) -> None:
    expected = ort.InferenceSession(made).run(None, feed)
    for x, y in zip(InferenceSession(made).run(None, feed), expected, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize(
    ("x", "indices", "source"),
    [
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ([3, 6], ["c", "d"], ["c", "d"]),
        ([3, "b"], [1, "d"], [1, "d"]),
        ([3, 6], [1, 4], ["e", "f"]),
    ],
)
def test_scatter_of_sizes_that_have_to_fit(
    x: list[Any], indices: list[Any], source: list[Any], reduction: str
) -> None:
    node = helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=0, reduction=reduction)
    made = model(node, {"x": (FLOAT, x), "i": (INT, indices), "u": (FLOAT, source)}, {})
    feed = {"x": np.ones((3, 6), F), "i": np.array([[0, 1, 2, 0]])}
    agree(made, {**feed, "u": np.array([[1, 2, 3, 4]], F)})


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [6, 6, 3, 4], [1, 1, 6, 6]])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_boxes_without_area(mode: str, box: list[int]) -> None:
    sizes = {"output_height": 2, "output_width": 2, "sampling_ratio": 0, "mode": mode}
    node = helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], **sizes)
    made = model(node, {"x": (FLOAT, [1, 1, 9, 9]), "r": (FLOAT, [1, 4]), "b": (INT, [1])}, {})
    x = np.arange(81, dtype=F).reshape(1, 1, 9, 9)
    agree(made, {"x": x, "r": np.array([box], F), "b": np.zeros(1, np.int64)})


@pytest.mark.parametrize("given", [{}, {"align_corners": 1}])
@pytest.mark.parametrize("size", [[2, 1, 3, 4], [2, 1, 2, 3, 4]])
def test_functions_have_the_defaults_of_their_attributes(
    size: list[int], given: dict[str, int]
) -> None:
    n, k = size[0], len(size) - 2
    node = helper.make_node("AffineGrid", ["t", "s"], ["y"], **given)
    made = model(node, {"t": (FLOAT, [n, k, k + 1])}, {"s": np.array(size)})
    agree(made, {"t": np.random.default_rng(0).standard_normal((n, k, k + 1)).astype(F)})


@pytest.mark.parametrize("n", [0, 1, 7])
def test_nothing_is_quantised_to_nothing(n: int) -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    agree(model(node, {"x": (FLOAT, ["n"])}, {}), {"x": np.linspace(-1, 2, n, dtype=F)})
