"""SavedModels that TensorFlow wrote, against what it computed. TensorFlow is not needed."""

from __future__ import annotations

import copy
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.api.saved_model import SavedRunner, read_saved
from ferrule.base.errors import InputError
from ferrule.cli.main import main
from ferrule.frontend.tensorflow.convert import convert
from tests.frontend.tensorflow.programs import NAMES, unpack

TOLERANCE = 2e-5


def close(found: Any, wanted: Any) -> None:
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_tensorflow(name: str, tmp_path: Path) -> None:
    folder, given, wanted = unpack(name, tmp_path)
    session = ferrule.compile(folder)
    outputs = [p.name for p in session.get_outputs()]
    for key, found in zip(outputs, session.run(None, given), strict=True):
        close(found, wanted[key])
    assert sorted(outputs) == sorted(wanted)
    assert "tensorflow" not in sys.modules


def test_one_program_serves_all_batches(tmp_path: Path) -> None:
    folder, given, wanted = unpack("mlp", tmp_path)
    session = ferrule.InferenceSession(folder)
    for n in (1, 3):
        close(session(given["x"][:n]), wanted["output_0"][:n])
    assert session.get_inputs()[0].shape == ("d_x_0", 6)
    assert len(session.executables) == 1


def test_a_shape_may_be_fixed(tmp_path: Path) -> None:
    folder, given, wanted = unpack("mlp", tmp_path)
    session = ferrule.InferenceSession(folder, shapes={"x": (5, 6)})
    close(session(given["x"]), wanted["output_0"])
    with pytest.raises(InputError, match="must be 5"):
        session(given["x"][:2])


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("lstm", {"loop": 2}), ("gru", {"loop": 2}), ("bidirectional", {"loop": 3}),
        ("masked", {"loop": 1}), ("control", {"loop": 1, "while": 2, "case": 1}),
    ],
)  # fmt: skip
def test_loops_that_count_are_loops_over_rows(
    name: str, counts: dict[str, int], tmp_path: Path
) -> None:
    saved = read_saved(unpack(name, tmp_path)[0])
    assert saved is not None
    graph = convert(saved.program, saved.signature, saved.array).graph
    found = Counter(n.op for n in graph.nodes if n.op in ("loop", "while", "case"))
    assert found == counts


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_needs_no_files(again: Any, tmp_path: Path) -> None:
    folder, given, wanted = unpack("mlp", tmp_path)
    session = ferrule.InferenceSession(folder)
    for file in folder.rglob("*.*"):
        file.unlink()
    close(again(session)(given["x"]), wanted["output_0"])


def test_a_signature_is_chosen_by_name(tmp_path: Path) -> None:
    folder, given, wanted = unpack("mlp", tmp_path)
    session = ferrule.InferenceSession(folder, signature="serve")
    close(session(given["x"]), wanted["output_0"])
    with pytest.raises(InputError, match=r"no signature 'other'; it has .*serve, serving_default"):
        ferrule.InferenceSession(folder, signature="other")


def test_an_artifact_is_built_of_a_folder(tmp_path: Path) -> None:
    folder, given, wanted = unpack("lstm", tmp_path)
    out = tmp_path / "lstm.ferrule"
    assert main(["build", str(folder), "-o", str(out), "--target", "x86-64"]) == 0
    (found,) = ferrule.load(out).run(None, given)
    close(found, wanted["output_0"])


def test_the_command_line_runs_a_folder(tmp_path: Path, capsys: Any) -> None:
    folder, given, wanted = unpack("mlp", tmp_path)
    np.save(tmp_path / "x.npy", given["x"])
    arguments = ["--input", f"x={tmp_path / 'x.npy'}", "--output", str(tmp_path)]
    assert main(["run", str(folder), *arguments]) == 0
    close(np.load(tmp_path / "output_0.npy"), wanted["output_0"])
    assert "output output_0: float32 [5, 4]" in capsys.readouterr().out


def test_the_command_line_inspects_a_folder(tmp_path: Path, capsys: Any) -> None:
    folder, _, _ = unpack("lstm", tmp_path)
    assert main(["inspect", str(folder), "--kernels", "--shape", "x=1,3,5"]) == 0
    told = capsys.readouterr().out
    for line in (
        "signatures: __saved_model_init_op, serve, serving_default", "  x  tensor(float) [?, ?, 5]",
        "  While ", "not supported: none", "in NumPy: none",
    ):  # fmt: skip
        assert line in told
    assert "\nprogram lstm: " in told


def test_a_variable_that_is_missing_is_named(tmp_path: Path) -> None:
    folder, _, _ = unpack("mlp", tmp_path)
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match="has no variables, and needs 'dense/"):
        ferrule.InferenceSession(folder)


def test_a_runner_tells_its_program(tmp_path: Path) -> None:
    session = ferrule.InferenceSession(unpack("mlp", tmp_path)[0])
    assert isinstance(session._runner, SavedRunner)
    assert session.kernels > 0
    assert "kernel" in session.explain()
    assert not session.in_numpy
