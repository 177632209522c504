"""`ferrule inspect`: what a model holds, what is not supported, and its kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper

from ferrule.base import config
from ferrule.cli.main import main
from tests.cli.models import port, product, save, unary


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache")):
        yield


def test_a_model_is_described(tmp_path: Path, capsys) -> None:
    assert main(["inspect", product(tmp_path / "m.onnx")]) == 0
    assert capsys.readouterr().out == (
        "operator sets: ai.onnx 18\n"
        "producer: by hand\n"
        "inputs:\n"
        "  x  tensor(float) [n, 3]\n"
        "outputs:\n"
        "  y      tensor(float) [n, 4]\n"
        "  out/z  tensor(float) [n, 3]\n"
        "parameters: 12 in 1 tensors, 48 B\n"
        "operators: 3\n"
        "  Add     1\n"
        "  MatMul  1\n"
        "  Relu    1\n"
        "not supported: none\n"
    )


def test_what_is_not_supported_is_named_with_the_reason(tmp_path: Path, capsys) -> None:
    model = unary(tmp_path / "m.onnx", "Frob", TensorProto.FLOAT, [2], mine=1)
    assert main(["inspect", model]) == 0
    said = capsys.readouterr().out
    assert "not supported:\n  mine::Frob (1): no meaning in ferrule" in said
    assert main(["inspect", model, "--kernels"]) == 1
    assert "mine.Frob" in capsys.readouterr().err


def test_inner_graphs_are_counted(tmp_path: Path, capsys) -> None:
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [helper.make_node(f, ["x", "one"], ["r"]) for f in ("Add", "Sub")]
    branches = [helper.make_graph([n], n.op_type, [], [port("r", [1])], [one]) for n in nodes]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    model = save(
        tmp_path / "m.onnx",
        [node],
        [port("c", [], TensorProto.BOOL), port("x", [1])],
        [port("y", [1])],
    )
    assert main(["inspect", model]) == 0
    said = capsys.readouterr().out
    assert "operators: 3\n  Add  1\n  If   1\n  Sub  1\n" in said
    assert "parameters: 2 in 2 tensors, 8 B" in said


def test_kernels_are_listed(tmp_path: Path, capsys) -> None:
    assert main(["inspect", product(tmp_path / "m.onnx"), "--kernels", "--shape", "x=5,3"]) == 0
    said = capsys.readouterr().out
    assert "input x: float32 [5, 3], at random" in said
    assert "program model: 2 kernels\n  kernel " in said
    assert "in NumPy: none" in said


def test_operators_that_run_in_numpy_are_listed(tmp_path: Path, capsys) -> None:
    model = save(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("NonZero", ["r"], ["y"])],
        [port("x", [4])],
        [port("y", [1, "k"], TensorProto.INT64)],
    )
    assert main(["inspect", model, "--kernels"]) == 0
    assert "in NumPy: NonZero" in capsys.readouterr().out
