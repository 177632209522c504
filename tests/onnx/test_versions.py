"""Operators whose meaning changed between versions, against ONNX's own evaluator or NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession
from tests.onnx.tools import check, model, node, random, run

F = np.float32
X = random(2, 3, 4)


@pytest.mark.parametrize(
    ("opset", "nodes", "constants"),
    [
        (11, [node("Squeeze", "u", "y", axes=[0])], {}),
        (13, [node("Squeeze", "u a", "y")], {"a": np.array([0])}),
        (11, [node("ReduceSum", "x", "y", axes=[-1], keepdims=0)], {}),
        (13, [node("ReduceSum", "x a", "y", keepdims=0)], {"a": np.array([-1])}),
        (13, [node("ReduceMean", "x", "y", axes=[1])], {}),
        (18, [node("ReduceMean", "x a", "y")], {"a": np.array([1])}),
        (9, [node("Slice", "x", "y", axes=[1, 2], starts=[1, -3], ends=[9, -1])], {}),
        (13, [node("Slice", "x s e a t", "y")],
         {"s": np.array([-1, 0]), "e": np.array([-9, 9]), "a": np.array([1, 2]),
          "t": np.array([-1, 2])}),
        (13, [node("Split", "x p", "y z", axis=2)], {"p": np.array([1, 3])}),
        (11, [node("Pad", "x p v", "y")], {"p": np.array([0, 1, 0, 0, 0, 2]), "v": F(7)}),
        (13, [node("Pad", "x p", "y", mode="reflect")], {"p": np.array([0, 1, 2, 0, 1, 1])}),
        (11, [node("Clip", "x lo", "y")], {"lo": F(-0.5)}),
        (13, [node("Softmax", "x", "y", axis=1)], {}),
        (13, [node("ArgMax", "x", "f", axis=1, select_last_index=1),
              node("Cast", "f", "y", to=1)], {}),
    ],
)  # fmt: skip
def test_versions(opset: int, nodes: list[Any], constants: dict[str, Any]) -> None:
    shaped = [node("Reshape", "x wide", "u"), *nodes]
    wide = {"wide": np.array([1, 2, 3, 4])}
    proto = model(shaped, {"x": (F, [2, 3, 4])}, ["y"], {**constants, **wide}, opset=opset)
    check(proto, x=X)


def test_softmax_before_13_takes_all_axes_from_one_on() -> None:
    (y,) = run(model([node("Softmax", "x", "y", axis=1)], {"x": (F, [2, 3, 4])}, ["y"], opset=11),
               x=X)  # fmt: skip
    e = np.exp(X - X.max((1, 2), keepdims=True))
    np.testing.assert_allclose(y, e / e.sum((1, 2), keepdims=True), rtol=1e-5)


def test_clip_before_11_has_attributes() -> None:
    n = node("Clip", "x", "y", min=-0.25, max=0.5)
    (y,) = run(model([n], {"x": (F, [2, 3, 4])}, ["y"], opset=6), x=X)
    np.testing.assert_array_equal(y, np.clip(X, F(-0.25), F(0.5)))


def test_add_before_7_broadcasts_at_an_axis() -> None:
    b = random(3)
    n = node("Add", "x b", "y", axis=1, broadcast=1)
    (y,) = run(model([n], {"x": (F, [2, 3, 4])}, ["y"], {"b": b}, opset=6), x=X)
    np.testing.assert_array_equal(y, X + b[:, None])


def test_upsample_and_resize_agree() -> None:
    x, scales = random(1, 2, 3, 4), np.array([1, 1, 2, 3], F)
    inputs = {"x": (F, [1, 2, 3, 4])}
    up = model([node("Upsample", "x s", "y")], inputs, ["y"], {"s": scales}, opset=9)
    n = node("Resize", "x _ s", "y", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor")  # fmt: skip
    down = model([n], inputs, ["y"], {"s": scales}, opset=13)
    np.testing.assert_array_equal(run(up, x=x)[0], run(down, x=x)[0])
    np.testing.assert_array_equal(run(up, x=x)[0], x.repeat(2, 2).repeat(3, 3))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [0.3, 0.5, 0.7, 1.2, 2.0, 2.7])
def test_resize_10_rounds_up_where_it_shrinks(mode: str, scale: float) -> None:
    ort = pytest.importorskip("onnxruntime")
    x, scales = random(1, 1, 2, 39), np.array([1, 1, 1, scale], F)
    proto = model([node("Resize", "x s", "y", mode=mode)], {"x": (F, [1, 1, 2, 39])}, ["y"],
                  {"s": scales}, opset=10)  # fmt: skip
    options = ort.SessionOptions()
    options.log_severity_level = 4
    theirs = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    np.testing.assert_allclose(run(proto, x=x)[0], theirs[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
@pytest.mark.parametrize("pads", [[-2, 2], [-4, 4], [1, -3], [2, -1], [-1, -1], [-1, 9]])
def test_padding_after_cropping(mode: str, pads: list[int]) -> None:
    ort = pytest.importorskip("onnxruntime")
    x = np.arange(5, dtype=F)
    for shape in ([5], ["n"]):
        proto = model([node("Pad", "x p", "y", mode=mode)], {"x": (F, shape)}, ["y"],
                      {"p": np.array(pads)}, opset=19)  # fmt: skip
        try:
            theirs = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
        except Exception:  # reflected more often than once after cropping
            continue
        np.testing.assert_array_equal(run(proto, x=x)[0], theirs[0])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("how", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("sizes", [[1, 2, 7, 5], [1, 2, 2, 9]])
def test_resize(mode: str, how: str, sizes: list[int]) -> None:
    n = node("Resize", "x _ _ s", "y", mode=mode, coordinate_transformation_mode=how)
    proto = model([n], {"x": (F, [1, 2, 4, 6])}, ["y"], {"s": np.array(sizes)}, opset=19)
    check(proto, rtol=1e-4, x=random(1, 2, 4, 6))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("steps", "with_lengths"), [(4, False), (4, True), (37, True)])
def test_recurrent_layers(kind: str, direction: str, steps: int, with_lengths: bool) -> None:
    ort = pytest.importorskip("onnxruntime")
    gates, d = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], 2 if direction == "bidirectional" else 1
    constants = {
        "w": random(d, gates * 5, 3), "r": random(d, gates * 5, 5), "b": random(d, gates * 10),
    }  # fmt: skip
    names = "x w r b l" if with_lengths else "x w r b"
    n = node(kind, names, "y h", hidden_size=5, direction=direction)
    if with_lengths:
        constants["l"] = np.array([steps, 2], np.int32)
    proto = model([n], {"x": (F, ["T", 2, 3])}, ["y", "h"], constants, opset=14)
    s, x = InferenceSession(proto), random(steps, 2, 3)
    theirs = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for mine, other in zip(s.run(None, {"x": x}), theirs.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_row_without_steps_has_states_of_zero(kind: str, steps: int) -> None:
    ort = pytest.importorskip("onnxruntime")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    more = " c" if kind == "LSTM" else ""
    constants = {"w": random(1, gates * 5, 3), "r": random(1, gates * 5, 5),
                 "h": np.ones((1, 3, 5), F)}  # fmt: skip
    if more:
        constants["c"] = np.ones((1, 3, 5), F)
    n = node(kind, f"x w r _ l h{more}", f"y yh{more and ' yc'}", hidden_size=5)
    outputs = ["y", "yh", *(["yc"] if more else [])]
    inputs = {"x": (F, [steps, 3, 3]), "l": (np.int32, [3])}
    proto = model([n], inputs, outputs, constants, opset=14)
    feed = {"x": random(steps, 3, 3), "l": np.array([steps, 0, 1], np.int32)}
    theirs = ort.InferenceSession(proto.SerializeToString()).run(None, feed)
    for mine, other in zip(run(proto, **feed), theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_and_float16() -> None:
    from ml_dtypes import bfloat16

    for dtype in (np.float16, bfloat16):
        n = node("Add", "x w", "y")
        x, w = (random(5, seed=i).astype(dtype) for i in (0, 1))
        proto = model([n], {"x": (dtype, [5])}, ["y"], {"w": w}, dtype=dtype)
        (y,) = run(proto, x=x)
        assert y.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(y.astype(F), (x + w).astype(F))


def test_four_bit_weights_are_unpacked_once() -> None:
    from ml_dtypes import int4

    w = np.arange(-8, 8).reshape(4, 4).astype(int4)
    nodes = [node("DequantizeLinear", "w s", "f", axis=0), node("MatMul", "x f", "y")]
    constants = {"w": w, "s": np.array([1, 2, 3, 4], F)}
    proto = model(nodes, {"x": (F, [2, 4])}, ["y"], constants)
    x = random(2, 4)
    expected = x @ (w.astype(F) * np.array([[1], [2], [3], [4]], F))
    np.testing.assert_allclose(run(proto, x=x)[0], expected, rtol=1e-5, atol=1e-5)


def test_functions_of_the_model_are_expanded() -> None:
    from onnx import helper

    proto = model([node("Twice", "x", "y", domain="f", by=3.0)], {"x": (F, [2])}, ["y"],
                  domains={"f": 1})  # fmt: skip
    constant = helper.make_node("Constant", [], ["c"])
    attribute = constant.attribute.add(name="value_float", type=1, ref_attr_name="by")
    assert attribute.ref_attr_name == "by"
    product = helper.make_node("Mul", ["a", "c"], ["b"])
    proto.functions.append(
        helper.make_function("f", "Twice", ["a"], ["b"], [constant, product],
                             [helper.make_opsetid("", 21)], ["by"])
    )  # fmt: skip
    np.testing.assert_array_equal(run(proto, x=np.array([1, 2], F))[0], np.array([3, 6], F))
