"""Shapes that the model computes are known while it is built: one program with symbolic dims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.api.session import InferenceSession
from ferrule.base.errors import CompileError
from tests.onnx.tools import check, model, node, programs, random

F, I = np.float32, np.int64


def both(nodes: list[Any], constants: dict[str, Any], shape: list[Any], **options: Any) -> None:
    """Compare for two values of the dims N and M, with one program."""
    proto = model(nodes, {"x": (F, shape)}, ["y"], constants, **options)
    first, second = (
        [{"N": n, "M": m}.get(s, s) if isinstance(s, str) else s for s in shape]
        for n, m in ((2, 6), (3, 8))
    )
    s = check(proto, x=random(*first))
    again = InferenceSession(proto)
    x = random(*second)
    np.testing.assert_array_equal(s.run(None, {"x": x})[0], again.run(None, {"x": x})[0])
    check(proto, x=x)
    assert programs(s) == 1


SHAPE = [
    node("Shape", "x", "s"),
    node("Gather", "s zero", "n", axis=0),
    node("Gather", "s one", "m", axis=0),
    node("Unsqueeze", "n axis", "n1"),
    node("Unsqueeze", "m axis", "m1"),
]
NUMBERS = {"zero": I(0), "one": I(1), "two": I(2), "axis": np.array([0]), "last": np.array([-1])}


def test_reshape_by_a_computed_shape() -> None:
    nodes = [*SHAPE, node("Concat", "n1 last", "t", axis=0), node("Reshape", "x t", "y")]
    both(nodes, NUMBERS, ["N", "M", 5])


def test_split_of_heads() -> None:
    nodes = [
        *SHAPE,
        node("Div", "m two", "h"),
        node("Unsqueeze", "h axis", "h1"),
        node("Concat", "n1 pair h1 last", "t", axis=0),
        node("Reshape", "x t", "r"),
        node("Transpose", "r", "y", perm=[0, 2, 1, 3]),
    ]
    both(nodes, {**NUMBERS, "pair": np.array([2])}, ["N", 8, 5], opset=17)


def test_expand_and_where_as_exported() -> None:
    nodes = [
        *SHAPE,
        node("Concat", "minus m1", "wanted", axis=0),
        node("Equal", "wanted minus2", "free"),
        node("Where", "free ones wanted", "t"),
        node("Expand", "row t", "wide"),
        node("Add", "x wide", "y"),
    ]
    minus = {"minus": np.array([-1]), "minus2": np.array([-1, -1]), "ones": np.array([1, 1])}
    both(nodes, {**NUMBERS, **minus, "row": random(1, 1)}, ["N", "M"])


def test_range_of_positions() -> None:
    nodes = [*SHAPE, node("Range", "zero m one", "p"), node("Cast", "p", "f", to=1),
             node("Add", "x f", "y")]  # fmt: skip
    both(nodes, NUMBERS, ["N", "M"])


def test_constant_of_a_shape_and_slice_to_a_size() -> None:
    nodes = [
        *SHAPE,
        node("ConstantOfShape", "m1", "zeros"),
        node("Sub", "m1 first", "end"),
        node("Slice", "x first end last", "part"),
        node("Slice", "zeros first end", "z"),
        node("Add", "part z", "y"),
    ]
    both(nodes, {**NUMBERS, "first": np.array([1])}, ["N", "M"])


def test_split_into_halves_and_flatten() -> None:
    nodes = [node("Split", "x", "a b", axis=1, num_outputs=2), node("Flatten", "b", "y")]
    proto = model(nodes, {"x": (F, ["N", 8, 3])}, ["y", "a"])
    assert programs(check(proto, x=random(2, 8, 3))) == 1


def test_size_as_a_number() -> None:
    nodes = [node("Size", "x", "n"), node("Cast", "n", "f", to=1), node("Div", "x f", "y")]
    both(nodes, {}, ["N", "M"])


def test_a_table_cut_to_the_length_of_the_input() -> None:
    nodes = [*SHAPE, node("Slice", "table axis m1 axis", "part"), node("Add", "x part", "y")]
    proto = model(nodes, {"x": (F, ["N", "M"])}, ["y"], {**NUMBERS, "table": random(16)})
    s = check(proto, x=random(2, 5))
    check(proto, x=random(3, 16))
    assert programs(s) == 1
    with pytest.raises(CompileError, match="broadcast"):
        s.run(None, {"x": random(2, 17)})


def test_unequal_names_that_must_be_equal_are_compiled_for_each_run() -> None:
    proto = model([node("Add", "x z", "y")], {"x": (F, ["N"]), "z": (F, ["M"])}, ["y"])
    s = InferenceSession(proto)
    for n, m in ((3, 3), (1, 4), (5, 5)):
        x, z = random(n), random(m, seed=1)
        np.testing.assert_array_equal(s.run(None, {"x": x, "z": z})[0], x + z)


@pytest.mark.parametrize("shape", [[None, 3], None])
def test_unnamed_sizes_and_unknown_ranks(shape: Any) -> None:
    proto = model([node("Softmax", "x", "y")], {"x": (F, shape)}, ["y"])
    for n in (2, 5):
        check(proto, x=random(n, 3))
