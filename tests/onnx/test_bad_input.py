"""Malformed models and data: a clear error, never a crash or a huge allocation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ferrule.api.session import InferenceSession
from ferrule.base.errors import CompileError, FerruleError, InputError, ParseError
from tests.onnx.tools import body, model, node, random, run

F, I = np.float32, np.int64


def sample() -> onnx.ModelProto:
    """A model of a few kinds of nodes."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f v b", "y", transB=1),
    ]
    constants = {"w": random(4, 3, 3, 3), "v": random(5, 4), "b": random(5)}
    return model(nodes, {"x": (F, [1, 3, 8, 8])}, ["y"], constants)


SAMPLE = sample().SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 7, len(SAMPLE) // 3, len(SAMPLE) // 2, len(SAMPLE) - 1])
def test_a_truncated_file_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(SAMPLE[:size])
    with pytest.raises(FerruleError):
        InferenceSession(path)


def test_a_file_that_is_missing_or_none(tmp_path: Path) -> None:
    for source in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(InputError, match="can't be read"):
            InferenceSession(source)
    with pytest.raises(InputError, match="path, bytes or a ModelProto"):
        InferenceSession(17)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_a_damaged_byte_gives_a_model_or_an_error(place: int, change: int) -> None:
    data = bytearray(SAMPLE)
    data[place] ^= change
    try:
        s = InferenceSession(bytes(data))
        s.run(None, {p.name: random(1, 3, 8, 8) for p in s.get_inputs()})
    except FerruleError:
        pass


def test_a_cycle_is_named() -> None:
    nodes = [node("Add", "x b", "a", name="first"), node("Neg", "a", "b")]
    with pytest.raises(InputError, match="cycle"):
        InferenceSession(model(nodes, {"x": (F, [2])}, ["a"]))


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [node("Neg", "a", "y"), node("Exp", "x", "a")]
    x = random(3)
    np.testing.assert_allclose(run(model(nodes, {"x": (F, [3])}, ["y"]), x=x)[0], -np.exp(x),
                               rtol=1e-6)  # fmt: skip


def test_values_from_nowhere_and_made_twice() -> None:
    with pytest.raises(InputError, match="no value called 'z'"):
        InferenceSession(model([node("Add", "x z", "y")], {"x": (F, [2])}, ["y"]))
    twice = [node("Neg", "x", "y"), node("Exp", "x", "y")]
    with pytest.raises(InputError, match="'y' twice"):
        InferenceSession(model(twice, {"x": (F, [2])}, ["y"]))


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 20], [-3], [5]])
def test_a_tensor_with_fewer_bytes_than_its_shape_says(dims: list[int]) -> None:
    proto = model([node("Add", "x w", "y")], {"x": (F, [2])}, ["y"], {"w": random(2)})
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ParseError, match="'w'"):
        InferenceSession(proto)


def test_an_absurd_size_is_refused_before_memory_is_taken() -> None:
    nodes = [node("ConstantOfShape", "s", "z"), node("Add", "x z", "y")]
    huge = {"s": np.array([1 << 40, 1 << 10])}
    with pytest.raises(CompileError, match="memory"):
        InferenceSession(model(nodes, {"x": (F, [1])}, ["y"], huge))
    expand = [node("Expand", "x s", "z"), node("Neg", "z", "y")]
    with pytest.raises(CompileError, match="memory"):
        InferenceSession(model(expand, {"x": (F, [1])}, ["y"], huge))


@pytest.mark.parametrize("kind", ["Tile", "OneHot"])
def test_an_absurd_repetition_of_constants_is_refused(kind: str) -> None:
    constants = {"c": np.zeros(4, F), "r": np.array([1 << 45]), "d": I(1 << 45),
                 "i": np.zeros(4, I), "v": np.array([0, 1], F)}  # fmt: skip
    operands = {"Tile": "c r", "OneHot": "i d v"}[kind]
    nodes = [node(kind, operands, "z"), node("Add", "x z", "y")]
    with pytest.raises(CompileError, match="memory"):
        InferenceSession(model(nodes, {"x": (F, [1])}, ["y"], constants))


def test_a_range_without_end_is_refused() -> None:
    n = node("Range", "a b d", "y")
    inputs = {k: (I, []) for k in "abd"}
    proto = model([n], inputs, ["y"], dtype=I)
    for d in (0, 1):
        with pytest.raises(FerruleError):
            run(proto, a=I(0), b=I(1 << 60), d=I(d))


def test_shapes_that_do_not_fit_name_the_node() -> None:
    n = node("MatMul", "x w", "y", name="product")
    proto = model([n], {"x": (F, [2, 3])}, ["y"], {"w": random(4, 5)})
    with pytest.raises(CompileError, match="product"):
        InferenceSession(proto)


# ---- external data -------------------------------------------------------------------------------


def external(folder: Path, location: str, **entries: str) -> Path:
    """A model whose weight lies in another file."""
    proto = model([node("Mul", "x w", "y")], {"x": (F, [4])}, ["y"], {"w": random(4)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


def test_external_data_is_read(tmp_path: Path) -> None:
    w = random(4)
    path = external(tmp_path / "m", "w.bin", offset="8", length="16")
    (tmp_path / "m" / "w.bin").write_bytes(bytes(8) + w.tobytes())
    x = random(4, seed=1)
    np.testing.assert_array_equal(InferenceSession(path)(x), x * w)


@pytest.mark.parametrize("where", ["../w.bin", "/etc/passwd", "", "link.bin", "a/../../w.bin"])
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "w.bin").write_bytes(random(4).tobytes())
    path = external(tmp_path / "m", where)
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(InputError, match="outside"):
        InferenceSession(path)


@pytest.mark.parametrize(
    "entries", [{"offset": "4"}, {"length": "1000000"}, {"offset": "-4"}, {"offset": "many"}]
)
def test_external_data_that_is_too_short(tmp_path: Path, entries: dict[str, Any]) -> None:
    path = external(tmp_path / "m", "w.bin", **entries)
    (tmp_path / "m" / "w.bin").write_bytes(random(4).tobytes())
    with pytest.raises(FerruleError):
        InferenceSession(path)


def test_external_data_needs_the_models_path(tmp_path: Path) -> None:
    path = external(tmp_path / "m", "w.bin")
    with pytest.raises(InputError, match="can't be read"):
        InferenceSession(path)
    with pytest.raises(InputError, match="give the model's path"):
        InferenceSession(path.read_bytes())


def test_a_function_that_calls_itself_is_refused() -> None:
    proto = model([node("Mine", "x", "y", domain="f")], {"x": (F, [2])}, ["y"], domains={"f": 1})
    inner = helper.make_node("Mine", ["a"], ["b"], domain="f")
    proto.functions.append(
        helper.make_function("f", "Mine", ["a"], ["b"], [inner], [helper.make_opsetid("f", 1)])
    )
    with pytest.raises(FerruleError):
        InferenceSession(proto)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("wrong", [None, 3])
def test_a_branch_that_is_no_graph_is_refused(known: bool, wrong: int | None) -> None:
    branch = body([node("Neg", "x", "a")], {}, {"a": (F, [2])})
    attrs = {"then_branch": branch} | ({} if wrong is None else {"else_branch": wrong})
    inputs = {"x": (F, [2])} | ({} if known else {"flag": (np.bool_, [])})
    constants = {"flag": np.array(False)} if known else {}
    proto = model([node("If", "flag", "y", **attrs)], inputs, ["y"], constants)
    feed = {"x": random(2)} | ({} if known else {"flag": np.array(False)})
    with pytest.raises(FerruleError, match="else_branch"):
        InferenceSession(proto).run(None, feed)


@pytest.mark.parametrize("kind", ["Loop", "Scan", "SequenceMap"])
def test_a_loop_without_a_body_is_refused(kind: str) -> None:
    attrs = {"num_scan_inputs": 1} if kind == "Scan" else {}
    operands = {"Loop": "n _ x", "Scan": "x", "SequenceMap": "s"}[kind]
    nodes = [node("SequenceConstruct", "x x", "s"), node(kind, operands, "y", **attrs)]
    proto = model(nodes, {"x": (F, [2])}, ["y"], {"n": I(2)})
    with pytest.raises(FerruleError, match="'body' is missing"):
        InferenceSession(proto).run(None, {"x": random(2)})
