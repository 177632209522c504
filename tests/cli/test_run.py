"""`ferrule run`: inputs from files and at random, what is printed and saved, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto

from ferrule.base import config
from ferrule.cli.main import main
from ferrule.cli.run import parts_of, save, summary
from tests.cli.models import WEIGHT, broken, picky, product, unary

X = np.array([[1, 2, 3], [-4, 5, 0.5]], np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache")):
        yield


@pytest.fixture
def file(tmp_path: Path) -> str:
    return product(tmp_path / "m.onnx")


def array(folder: Path, x: np.ndarray, name: str = "x.npy") -> str:
    np.save(folder / name, x)
    return str(folder / name)


def test_outputs_are_printed_and_saved(file: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "new" / "results"
    given = f"x={array(tmp_path, X)}"
    assert main(["run", file, "--input", given, "--output", str(folder), "--threads", "1"]) == 0
    wanted = np.maximum(X @ WEIGHT, 0)
    assert sorted(p.name for p in folder.iterdir()) == ["out_z.npy", "y.npy"]
    np.testing.assert_allclose(np.load(folder / "y.npy"), wanted, rtol=1e-6)
    np.testing.assert_array_equal(np.load(folder / "out_z.npy"), X + X)
    said = capsys.readouterr().out
    assert "output out/z: float32 [2, 3]; min -8, max 10, mean 2.5; first 2 4 6 -8 .." in said
    assert "at random" not in said


@pytest.mark.parametrize("option", ["x={}", "{}"])
def test_npz_files_are_read_by_name(option: str, file: str, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "in.npz", x=X)
    assert main(["run", file, "--input", option.format(tmp_path / "in.npz")]) == 0
    assert "float32 [2, 3]" in capsys.readouterr().out


def test_random_inputs_tell_the_sizes_and_repeat_with_the_seed(file: str, capsys) -> None:
    said = []
    for seed in ("3", "3", "4"):
        assert main(["run", file, "--random", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert "input x: float32 [1, 3], at random; sizes taken: n = 1" in said[0]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("command", [["run", "--random"], ["bench", "--budget", "0.1"]])
def test_made_up_sizes_that_a_model_refuses(command: list[str], tmp_path: Path, capsys) -> None:
    file = picky(tmp_path / "picky.onnx")
    assert main([command[0], file, *command[1:]]) == 1
    said = capsys.readouterr().err
    assert "these sizes were made up, and the model may need others" in said
    assert "input x: batch = 1, n = 16; give them as in --shape x=1,512" in said
    assert main([command[0], file, *command[1:], "--shape", "x=1,512"]) == 0
    assert main([command[0], file, *command[1:], "--shape", "x=1,16"]) == 1
    assert "made up" not in capsys.readouterr().err


def test_a_shape_makes_up_an_input(file: str, capsys) -> None:
    assert main(["run", file, "--shape", "x=5,3"]) == 0
    assert "output y: float32 [5, 4]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(TensorProto.INT64, 0, 1), (TensorProto.UINT8, 0, 255), (TensorProto.INT8, -128, 127),
     (TensorProto.BOOL, 0, 1), (TensorProto.FLOAT16, -9, 9), (TensorProto.BFLOAT16, -9, 9),
     (TensorProto.DOUBLE, -9, 9)],
)  # fmt: skip
def test_random_values_fit_the_dtype(kind: int, low: int, high: int, tmp_path: Path) -> None:
    model = unary(tmp_path / "m.onnx", "Identity", kind, [4000])
    assert main(["run", model, "--random", "--output", str(tmp_path / "out")]) == 0
    got = np.load(tmp_path / "out" / "y.npy")
    assert got.shape == (4000,)
    if got.dtype.kind != "V":  # bfloat16, which .npy files have no name for
        assert low <= got.min() < got.max() <= high
        assert kind not in (TensorProto.UINT8, TensorProto.INT8) or got.max() == high


def test_saved_bfloat16_is_read_again(tmp_path: Path, capsys) -> None:
    model = unary(tmp_path / "m.onnx", "Relu", TensorProto.BFLOAT16, [6])
    assert main(["run", model, "--random", "--output", str(tmp_path)]) == 0
    assert main(["run", model, "--input", f"x={tmp_path / 'y.npy'}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert next(line for line in said if line.startswith("output")) == said[-1]


@pytest.mark.parametrize("command", ["run", "bench", "inspect"])
def test_what_is_no_model_is_said_in_one_line(command: str, tmp_path: Path, capsys) -> None:
    for path, message in broken(tmp_path):
        assert main([command, path]) == 1, path
        said = capsys.readouterr().err
        assert message in said
        assert said.startswith("ferrule: ")
        assert said.count("\n") == 1, said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "x (tensor(float) [n, 3]); give each as --input NAME=FILE.npy"),
        (["--input", "x={wide}"], "axis 1 must be 3, not 4"),
        (["--input", "x={whole}"], "array of int64"),
        (["--input", "q={good}"], "no input 'q'; its inputs are: x"),
        (["--input", "x=nothing.npy"], "'nothing.npy' can't be read: No such file"),
        (["--input", "x={model}"], "no NumPy arrays"),
        (["--input", "x={pairs}"], "no array 'x'; it holds: other"),
        (["--input", "x={good}", "--input", "x={good}"], "given twice"),
        (["--input", "x={good}", "--shape", "x=2,3"], "given by a file"),
        (["--shape", "x=2,4"], "axis 1 must be 3, not 4"),
        (["--shape", "x=2"], "rank 1"),
        (["--shape", "q=2"], "no input 'q'"),
        (["--shape", "x=9000000000000,3"], "smaller sizes with --shape"),
        (["--random", "--output", "{model}"], "File exists"),
    ],
)
def test_wrong_inputs_are_refused(arguments, message, file, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "pairs.npz", other=X)
    places = {
        "good": array(tmp_path, X),
        "wide": array(tmp_path, np.zeros((2, 4), np.float32), "wide.npy"),
        "whole": array(tmp_path, np.zeros((2, 3), np.int64), "whole.npy"),
        "pairs": str(tmp_path / "pairs.npz"),
        "model": file,
    }
    assert main(["run", file, *(a.format(**places) for a in arguments)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_an_operator_that_is_not_known_is_named(tmp_path: Path, capsys) -> None:
    model = unary(tmp_path / "m.onnx", "Frob", TensorProto.FLOAT, [2], mine=1)
    assert main(["run", model, "--random"]) == 1
    assert "mine.Frob" in capsys.readouterr().err


def test_an_input_of_any_rank_needs_a_shape(tmp_path: Path, capsys) -> None:
    model = unary(tmp_path / "m.onnx", "Relu", TensorProto.FLOAT, None)
    assert main(["run", model, "--random"]) == 1
    assert "--shape" in capsys.readouterr().err
    assert main(["run", model, "--shape", "x=2,2"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["m", "--input", "x"], ["m", "--input", "=f.npy"], ["m", "--shape", "x=a,b"],
     ["m", "--shape", "3,4"], ["m", "--shape", "x=-1"], ["m", "--seed", "-1"],
     ["m", "--threads", "0"], ["m", "--nothing"]],
)  # fmt: skip
def test_a_senseless_command_line_ends_with_2(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 2
    assert "usage: ferrule" in capsys.readouterr().err


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch) -> None:
    def fail(file, *_, **__) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="full"):
        save(tmp_path, [("y", X)])
    assert list(tmp_path.iterdir()) == []


def test_names_of_files_are_safe_and_differ(tmp_path: Path) -> None:
    save(tmp_path, [("../a", X), ("/../a", X), ("a b", X), ("a/b", X)])
    assert len(list(tmp_path.glob("*.npy"))) == 4
    assert not list(tmp_path.parent.glob("*.npy"))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.float32(2.5), "float32 []; min 2.5, max 2.5, mean 2.5; first 2.5"),
        (np.zeros((0, 3), np.float32), "float32 [0, 3]"),
        (np.array([1, -7], np.int64), "int64 [2]; min -7, max 1, mean -3; first 1 -7"),
        (np.array([True, False]), "bool [2]; min 0, max 1, mean 0.5; first True False"),
        (np.array(["a"], object), "string [1]; first 'a'"),
        (np.array([np.inf, 1]), "float64 [2]; min 1, max inf, mean inf; 1 not finite; first inf 1"),
    ],
)
def test_summaries(x: np.ndarray, text: str) -> None:
    assert summary(np.asarray(x)) == text


def test_sequences_are_shown_item_by_item() -> None:
    found = list(parts_of("s", [np.zeros(1), [np.ones(2)], None]))
    assert [name for name, _ in found] == ["s.0", "s.1.0", "s.2"]
    assert found[-1][1] is None
