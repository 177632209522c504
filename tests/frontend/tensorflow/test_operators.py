"""Operators and control written down node by node, against NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.tensorflow.model import Element
from ferrule.frontend.tensorflow.table import RULES
from tests.frontend.tensorflow.programs import (
    BOOL,
    F32,
    I32,
    called,
    const,
    converted,
    function,
    node,
    program,
    results,
)

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def one(op: str, arrays: dict[str, Any], constants: dict[str, Any], **attrs: Any) -> Any:
    """What an operator makes of arrays of unknown sizes, and of constants behind them."""
    kinds = {"f": F32, "i": I32, "b": BOOL}
    inputs = {
        k: (kinds[np.asarray(x).dtype.kind], (-1,) * np.ndim(x)) for k, x in arrays.items()
    }
    nodes = [const(k, x, np.asarray(x).dtype if np.size(x) else np.int32)
             for k, x in constants.items()]  # fmt: skip
    nodes = [const(k, np.asarray(x, np.int32)) if np.asarray(x).dtype == np.int64 else n
             for n, (k, x) in zip(nodes, constants.items())]  # fmt: skip
    made = node("y", op, *arrays, *constants, **attrs)
    return results(program(inputs, [*nodes, made], ["y"]), *arrays.values())[0]


@pytest.mark.parametrize(
    ("begin", "end", "steps", "masks", "wanted"),
    [
        ([0, 1], [0, 0], [1, 1], {"begin": 1, "end": 3}, X[:, 1:]),
        ([0, -1], [0, 0], [1, 1], {"begin": 1, "end": 1, "shrink_axis": 2}, X[:, -1]),
        ([0, 0], [0, 0], [1, -1], {"ellipsis": 1, "begin": 2, "end": 2}, X[..., ::-1]),
        ([0, 0, 1], [0, 0, 3], [1, 1, 1], {"new_axis": 1, "ellipsis": 2}, X[None, ..., 1:3]),
        ([1, 0], [2, 0], [1, 1], {"shrink_axis": 1, "new_axis": 2}, X[1, None]),
        ([0, -3, 3], [9, -1, 0], [1, 1, -1], {}, X[0:9, -3:-1, 3:0:-1]),
        ([0, 0, 0], [2, 3, 4], [1, 2, 3], {}, X[:, ::2, ::3]),
    ],
)
def test_strided_slices(begin: Any, end: Any, steps: Any, masks: Any, wanted: Any) -> None:
    attrs = {f"{k}_mask": v for k, v in masks.items()}
    found = one("StridedSlice", {"x": X}, {"b": begin, "e": end, "s": steps}, **attrs)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("op", "constants", "attrs", "wanted"),
    [
        ("Reshape", {"s": [-1, 4]}, {}, X.reshape(-1, 4)),
        ("Transpose", {"p": [2, 0, 1]}, {}, X.transpose(2, 0, 1)),
        ("Sum", {"a": [-1]}, {"keep_dims": True}, X.sum(-1, keepdims=True)),
        ("Mean", {"a": [0, 2]}, {}, X.mean((0, 2))),
        ("ArgMax", {"a": 1}, {}, X.argmax(1)),
        ("Tile", {"n": [1, 2, 1]}, {}, np.tile(X, (1, 2, 1))),
        ("Pad", {"p": [[0, 0], [1, 0], [0, 2]]}, {}, np.pad(X, ((0, 0), (1, 0), (0, 2)))),
        ("MirrorPad", {"p": [[0, 0], [1, 1], [0, 2]]}, {"mode": b"SYMMETRIC"},
         np.pad(X, ((0, 0), (1, 1), (0, 2)), "symmetric")),
        ("GatherV2", {"i": [[2, 0]], "a": 1}, {}, X[:, [[2, 0]]]),
        ("ExpandDims", {"a": -1}, {}, X[..., None]),
        ("Squeeze", {}, {}, X),
        ("Cumsum", {"a": 2}, {"exclusive": True}, X.cumsum(2) - X),
        ("ReverseV2", {"a": [1]}, {}, X[:, ::-1]),
        ("Shape", {}, {}, np.array(X.shape, np.int32)),
    ],
)  # fmt: skip
def test_operators_of_a_tensor_of_unknown_sizes(
    op: str, constants: Any, attrs: Any, wanted: Any
) -> None:
    found = one(op, {"x": X}, constants, **attrs)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted)


def test_sizes_are_followed_through_arithmetic() -> None:
    """reshape(x, [shape(x)[0] * shape(x)[1] // 2, 2 * shape(x)[2]]) for all sizes."""
    nodes = [
        node("shape", "Shape", "x"), const("zero", [0]), const("one", [1]), const("two", [2]),
        const("three", [3]), const("c", 2),
        node("n", "StridedSlice", "shape:output:0", "zero", "one", "one", shrink_axis_mask=1),
        node("m", "StridedSlice", "shape:output:0", "one", "two", "one", shrink_axis_mask=1),
        node("k", "StridedSlice", "shape:output:0", "two", "three", "one", shrink_axis_mask=1),
        node("nm", "Mul", "n", "m"), node("half", "FloorDiv", "nm", "c"),
        node("k2", "Mul", "k", "c"), node("new", "Pack", "half", "k2"),
        node("y", "Reshape", "x", "new"),
    ]  # fmt: skip
    p = program({"x": (F32, (4, -1, -1))}, nodes, ["y"])
    made = converted(p)
    assert str(made.graph.outputs[0].shape[0]) == "d_x_1 * 2"
    x = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    np.testing.assert_array_equal(results(p, x)[0], x.reshape(10, 4))


def test_sizes_that_must_be_equal_become_one() -> None:
    nodes = [node("y", "AddV2", "a", "b")]
    p = program({"a": (F32, (-1, 3)), "b": (F32, (-1, -1))}, nodes, ["y"])
    a, b = converted(p).graph.inputs
    assert a.shape == b.shape
    assert b.shape[1].value == 3


def test_operators_without_a_rule_are_listed_with_counts() -> None:
    f = function("f", ["a"], [node("q", "Bar", "a"), node("r", "Bar", "q")], "r:output:0")
    nodes = [
        node("u", "Foo", "x"), node("v", "PartitionedCall", "u", f=called(f)),
        node("unused", "Other", "x"), node("y", "Relu", "v"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"^ferrule has no meaning for Bar \(2\), Foo$"):
        converted(program({"x": (F32, (2,))}, nodes, ["y"], [f]))


def test_programs_that_write_into_variables_are_refused() -> None:
    nodes = [
        node("v", "VarHandleOp"), node("w", "AssignVariableOp", "v", "x"),
        node("y", "Relu", "x", "^w"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"writes into its variables \(AssignVariableOp\)"):
        converted(program({"x": (F32, (2,))}, nodes, ["y"]))


def test_inputs_that_are_no_tensors_of_numbers_are_named() -> None:
    nodes = [node("y", "Relu", "x")]
    with pytest.raises(UnsupportedError, match="'x' is of string, and no numbers"):
        converted(program({"x": (Element(7), (2,))}, nodes, ["y"]))
    with pytest.raises(UnsupportedError, match="the input 'x' is of any rank"):
        converted(program({"x": (F32, None)}, nodes, ["y"]))


def test_attributes_that_do_not_fit_are_told_with_the_operator() -> None:
    nodes = [node("y", "PartitionedCall", "x", f=3)]
    with pytest.raises(CompileError, match=r"^PartitionedCall 'y' of 1 operands does not fit: "):
        converted(program({"x": (F32, (2,))}, nodes, ["y"]))


def test_an_error_names_the_operator_once() -> None:
    f = function("f", ["a", "b"], [node("m", "MatMul", "a", "b")], "m:product:0")
    p = program(
        {"x": (F32, (2, 3)), "z": (F32, (2, 3))}, [node("y", "PartitionedCall", "x", "z",
         f=called(f))], ["y"], [f],
    )  # fmt: skip
    with pytest.raises(CompileError, match=r"^MatMul 'm': "):
        converted(p)


def test_a_program_that_reads_what_it_makes_is_refused() -> None:
    nodes = [node("a", "Relu", "b"), node("b", "Relu", "a")]
    with pytest.raises(CompileError, match="reads what it makes"):
        converted(program({}, nodes, ["a"]))
    with pytest.raises(CompileError, match="no value 'gone'"):
        converted(program({}, [node("a", "Relu", "gone")], ["a"]))


# ---- control -------------------------------------------------------------------------------------


def loop(limit: str, body: list[Any], *out: str) -> Any:
    """A loop of states i, n, x, list, as long as i < `limit`, and what is behind it."""
    names = ["i", "n", "x", "l"]
    go = function("go", names, [node("less", "Less", "i", limit)], "less:z:0")
    inner = [const("one", 1), node("next", "AddV2", "i", "one:output:0"), *body]
    step = function("step", names, inner, "next:z:0", "n", *out)
    nodes = [
        const("zero", 0), const("shape", [-1]), const("count", 3),
        node("list", "TensorListReserve", "shape", "count", element_dtype=F32),
        node("loop", "While", "zero", "n", "x", "list", cond=called(go), body=called(step)),
        node("rows", "TensorListStack", "loop:3", "shape"),
    ]  # fmt: skip
    return nodes, [go, step]


SET = [
    node("w", "Mul", "x", "x"),
    node("s", "TensorListSetItem", "l", "i", "w:z:0"),
]


def test_a_loop_that_counts_to_a_number_is_one_of_rows() -> None:
    body = [const("three", 3), *SET]
    nodes, functions = loop("n", body, "w:z:0", "s:output_handle:0")
    nodes = [const("n", 3), *nodes]
    p = program({"x": (F32, (-1,))}, nodes, ["loop:2", "rows", "loop:0"], functions)
    assert [n.op for n in converted(p).graph.nodes].count("loop") == 1
    x = np.array([1.0, 0.5], np.float32)
    last, rows, i = results(p, x)
    np.testing.assert_allclose(last, x**8)
    np.testing.assert_allclose(rows, [x**2, x**4, x**8])
    assert i == 3


def test_a_loop_that_counts_to_a_number_of_a_run_is_a_while() -> None:
    nodes, functions = loop("n", SET, "w:z:0", "s:output_handle:0")
    p = program({"x": (F32, (-1,)), "n": (I32, ())}, nodes, ["loop:2", "rows"], functions)
    assert "while" in [n.op for n in converted(p).graph.nodes]
    x = np.array([1.0, 0.5], np.float32)
    last, rows = results(p, x, np.int32(2))
    np.testing.assert_allclose(last, x**4)
    np.testing.assert_allclose(rows, [x**2, x**4, 0 * x])


def test_a_branch_is_chosen_by_data_or_at_once() -> None:
    f = function("f", ["x"], [node("a", "Neg", "x")], "a:y:0")
    g = function("g", ["x"], [node("a", "Square", "x")], "a:y:0")
    branches = {"then_branch": called(f), "else_branch": called(g)}
    p = program(
        {"c": (BOOL, ()), "x": (F32, (-1,))}, [node("y", "If", "c", "x", **branches)], ["y"], [f, g]
    )
    x = np.array([3.0], np.float32)
    assert results(p, np.array(True), x)[0] == -3
    assert results(p, np.array(False), x)[0] == 9
    nodes = [const("c", False, np.bool_), node("y", "If", "c", "x", **branches)]
    at_once = program({"x": (F32, (-1,))}, nodes, ["y"], [f, g])
    assert "case" not in [n.op for n in converted(at_once).graph.nodes]
    assert results(at_once, x)[0] == 9


def test_a_function_may_not_call_itself() -> None:
    f = function("f", ["x"], [node("a", "PartitionedCall", "x", f=called(function("f", [], [])))],
                 "a:output:0")  # fmt: skip
    p = program({"x": (F32, (2,))}, [node("y", "PartitionedCall", "x", f=called(f))], ["y"], [f])
    with pytest.raises(UnsupportedError, match="more than 100 calls deep"):
        converted(p)


def test_a_constant_is_a_literal_or_a_param() -> None:
    x = np.arange(100, dtype=np.float32)
    nodes = [const("c", x, np.float32), const("d", [1, 2]), node("y", "AddV2", "x", "c")]
    p = program({"x": (F32, (100,))}, nodes, ["y", "d"])
    (held,) = converted(p).params
    np.testing.assert_array_equal(held, x)
    y, d = results(p, x)
    np.testing.assert_array_equal(y, 2 * x)
    np.testing.assert_array_equal(d, [1, 2])


def test_the_documentation_lists_the_operators() -> None:
    text = (Path(__file__).parents[3] / "docs/tensorflow.md").read_text(encoding="utf-8")
    listed = text.partition("have a rule:")[2]
    assert re.findall(r"`(\w+)`", listed) == sorted(RULES)
    assert f"{len(RULES)} have a rule" in text
