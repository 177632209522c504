"""`ferrule tune`: a model, the database's files, and messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ferrule.base import config
from ferrule.cli.main import main
from ferrule.tune.database import Database, default_path

onnx = pytest.importorskip("onnx")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache"), tuning_db=None, tuning=True):
        yield


def model(path: Path, rows: int | str = 8) -> str:
    """relu(x @ w), saved."""
    h = onnx.helper
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["c"]), h.make_node("Relu", ["c"], ["y"])],
        "model",
        [h.make_tensor_value_info("x", 1, [rows, 32])],
        [h.make_tensor_value_info("y", 1, [rows, 24])],
        [onnx.numpy_helper.from_array(np.ones((32, 24), np.float32), "w")],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9), path)
    return str(path)


@pytest.mark.parametrize("rows", [8, "n"])
def test_a_model_is_tuned_and_listed(rows: int | str, tmp_path: Path, capsys) -> None:
    file = model(tmp_path / "m.onnx", rows)
    assert main(["tune", file, "--trials", "2", "--time-budget", "60"]) == 0
    assert "1 operators tuned" in capsys.readouterr().out
    assert main(["tune", "--list"]) == 0
    assert "n=24 k=32" in capsys.readouterr().out
    assert main(["tune", file, "--trials", "2"]) == 0
    assert "1 known before" in capsys.readouterr().out


def test_the_database_goes_to_another_place(tmp_path: Path, capsys) -> None:
    main(["tune", model(tmp_path / "m.onnx"), "--trials", "1"])
    assert main(["tune", "--export", str(tmp_path / "out.sqlite")]) == 0
    with config.override(cache_dir=str(tmp_path / "other")):
        assert main(["tune", "--merge", str(tmp_path / "out.sqlite")]) == 0
        assert len(Database(default_path(config.settings())).records()) == 1
    assert "1 records" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "name a model"), (["nothing.onnx"], "nothing.onnx"), (["--merge", "nothing"], "there is"),
     (["--export", "out.sqlite"], "there is no tuning database")],
)  # fmt: skip
def test_what_is_wrong_is_said(arguments, message: str, capsys) -> None:
    assert main(["tune", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["m", "--trials", "0"], ["m", "--time-budget", "-1"], ["m", "--time-budget", "x"]]
)
def test_a_senseless_command_line_is_refused(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", *arguments])
    assert ended.value.code == 2
    assert "must be" in capsys.readouterr().err
