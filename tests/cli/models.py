"""Small ONNX models and what the commands print, for the tests of run, bench and inspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[Any] = (),
    **domains: int,
) -> str:
    """A model of these nodes and ports in a file; `domains` are operator sets beside ai.onnx 18."""
    graph = helper.make_graph(nodes, "model", inputs, outputs, constants)
    sets = [helper.make_opsetid("", 18), *(helper.make_opsetid(d, v) for d, v in domains.items())]
    onnx.save(
        helper.make_model(graph, opset_imports=sets, ir_version=9, producer_name="by hand"), path
    )
    return str(path)  # fmt: skip


def port(name: str, shape: Sequence[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def product(path: Path, rows: int | str | None = "n") -> str:
    """y = relu(x @ w) for an x of [rows, 3], and a second output z = x + x."""
    return save(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"]),
         helper.make_node("Add", ["x", "x"], ["out/z"])],
        [port("x", [rows, 3])],
        [port("y", [rows, 4]), port("out/z", [rows, 3])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )  # fmt: skip


def picky(path: Path) -> str:
    """y = x for an x of [batch, n], where n must be a multiple of 512."""
    return save(
        path,
        [helper.make_node("Reshape", ["x", "rows"], ["r"]),
         helper.make_node("Reshape", ["r", "back"], ["y"])],
        [port("x", ["batch", "n"])], [port("y", None)],
        [numpy_helper.from_array(np.array([-1, 512]), "rows"),
         numpy_helper.from_array(np.array([1, -1]), "back")],
    )  # fmt: skip


def unary(path: Path, operator: str, kind: int, shape: Sequence[Any] | None, **domains: int) -> str:
    """y = operator(x)."""
    domain = next(iter(domains), "")
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    return save(path, [node], [port("x", shape, kind)], [port("y", shape, kind)], **domains)


def broken(folder: Path) -> list[tuple[str, str]]:
    """Paths that hold no model, each with what the message must hold."""
    (folder / "text.onnx").write_text("this is a text, and no model\n")
    (folder / "empty.onnx").write_bytes(b"")
    whole = Path(product(folder / "whole.onnx")).read_bytes()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    names = {"text.onnx": "no ONNX model", "empty.onnx": "no ONNX model", "cut.onnx": "ONNX model"}
    return [
        *((str(folder / name), message) for name, message in names.items()),
        (str(folder / "nothing.onnx"), "No such file"),
        (str(folder), "Is a directory"),
    ]
