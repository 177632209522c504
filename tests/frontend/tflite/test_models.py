"""Models that TensorFlow's converter wrote, against what LiteRT computed. TensorFlow is not needed.
"""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.api.saved_model import read_saved
from ferrule.base.errors import InputError
from ferrule.cli.main import main
from ferrule.frontend.tensorflow.convert import convert
from ferrule.frontend.tflite.rules import LITE
from ferrule.frontend.tflite.writer import BUILDERS
from tests.frontend.tflite.programs import NAMES, arrays, model

TOLERANCE = 2e-5


def close(found: Any, wanted: Any, spread: float = 0.0) -> None:
    """Floats are near; integers are the same where kernels of LiteRT agree, else as near as they.
    """
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, TOLERANCE, max(TOLERANCE, spread))
    else:
        apart = np.abs(found.astype(np.int64) - wanted.astype(np.int64))
        assert apart.max(initial=0) <= spread


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_litert(name: str) -> None:
    given, wanted, spread = arrays(name)
    session = ferrule.InferenceSession(model(name))
    names = [p.name for p in session.get_inputs()]
    for found, own, apart in zip(session.run(None, dict(zip(names, given))), wanted, spread):
        close(found, own, apart)
    assert len(session.get_outputs()) == len(wanted)
    assert "tensorflow" not in sys.modules


def test_one_program_serves_all_batches() -> None:
    given, (wanted,), _ = arrays("cnn_float")
    session = ferrule.compile(model("cnn_float"))
    for n in (1, 2):
        close(session(given[0][:n]), wanted[:n])
    assert isinstance(session.get_inputs()[0].shape[0], str)
    assert len(session.executables) == 1


def graph_of(name: str) -> Any:
    saved = read_saved(model(name))
    assert saved is not None
    return convert(saved.program, saved.signature, saved.array, "main", LITE).graph


@pytest.mark.parametrize("name", ["conv_SAME_11_int8", "dense_int8", "depthwise_11_int8"])
def test_products_of_bytes_are_summed_as_integers(name: str) -> None:
    products = [n for n in graph_of(name).nodes if n.op in ("conv", "dot_general")]
    assert len(products) == 1
    assert {v.dtype.name for v in (*products[0].inputs, *products[0].outputs)} == {"i32"}
    assert products[0].attributes["bound"] is not None


@pytest.mark.parametrize("name", ["conv_SAME_11_dynamic", "dense_dynamic"])
def test_floats_are_rounded_for_weights_of_bytes(name: str) -> None:
    products = [n for n in graph_of(name).nodes if n.op in ("conv", "dot_general")]
    assert [n.outputs[0].dtype.name for n in products] == ["i32"]


def test_a_loop_that_counts_is_a_loop_over_rows() -> None:
    assert [n.op for n in graph_of("lstm_float").nodes if n.op in ("loop", "while")] == ["loop"] * 2


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_needs_no_file(again: Any, tmp_path: Path) -> None:
    given, (wanted,), _ = arrays("cnn_int8")
    file = tmp_path / "cnn.tflite"
    file.write_bytes(model("cnn_int8"))
    session = ferrule.InferenceSession(file)
    copied = again(session)
    file.unlink()
    close(copied(*given), wanted)


def test_a_signature_is_chosen_by_name() -> None:
    given, (wanted,), _ = arrays("cnn_float")
    session = ferrule.InferenceSession(model("cnn_float"), signature="serving_default")
    close(session(*given), wanted)
    with pytest.raises(InputError, match="no signature 'other'; it has serving_default"):
        ferrule.InferenceSession(model("cnn_float"), signature="other")


def test_a_shape_may_be_fixed() -> None:
    given, (wanted,), _ = arrays("cnn_float")
    name = ferrule.InferenceSession(model("cnn_float")).get_inputs()[0].name
    session = ferrule.InferenceSession(model("cnn_float"), shapes={name: given[0].shape})
    close(session(*given), wanted)
    with pytest.raises(InputError, match="must be 2"):
        session(given[0][:1])


def test_the_command_line_runs_builds_and_inspects(tmp_path: Path, capsys: Any) -> None:
    given, (wanted,), _ = arrays("cnn_int8")
    file, built = tmp_path / "cnn.tflite", tmp_path / "cnn.ferrule"
    file.write_bytes(model("cnn_int8"))
    (port,) = ferrule.InferenceSession(file).get_inputs()
    np.save(tmp_path / "x.npy", given[0])
    assert main(["build", str(file), "-o", str(built), "--target", "x86-64"]) == 0
    (found,) = ferrule.load(built).run(None, {port.name: given[0]})
    close(found, wanted)
    arguments = ["--input", f"{port.name}={tmp_path / 'x.npy'}", "--output", str(tmp_path)]
    assert main(["run", str(file), *arguments]) == 0
    assert "int8 [2, 10]" in capsys.readouterr().out
    assert main(["inspect", str(file)]) == 0
    told = capsys.readouterr().out
    for line in ("signatures: serving_default", "tfl.CONV_2D.BYTES", "not supported: none"):
        assert line in told


def test_the_documentation_lists_the_operators() -> None:
    text = (Path(__file__).parents[3] / "docs/tensorflow.md").read_text(encoding="utf-8")
    count, listed = text.partition(" builtin operators are read:")[::2]
    assert re.findall(r"`(\w+)`", listed.partition("## Operators")[0]) == sorted(BUILDERS)
    assert count.endswith(f"\n{len(BUILDERS)}")
