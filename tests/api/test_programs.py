"""StableHLO programs as sessions: from files, on the command line, in artifacts."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import ferrule
from ferrule.api.programs import ProgramSession
from ferrule.base.errors import InputError, InputTypeError, UnsupportedError
from ferrule.cli.main import main

TEXT = """func.func @main(%a: tensor<?x8xf32>, %w: tensor<8x4xf32>) -> tensor<?x4xf32> {
  %0 = stablehlo.dot_general %a, %w, contracting_dims = [1] x [0]
    : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}"""
COMPLEX = """func.func @main(%x: tensor<3xcomplex<f32>>) -> tensor<3xcomplex<f32>> {
  %0 = stablehlo.multiply %x, %x : tensor<3xcomplex<f32>>
  return %0 : tensor<3xcomplex<f32>>
}"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.mlir"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_every_way_in(file: Path) -> None:
    x, w = np.ones((5, 8), np.float32), np.ones((8, 4), np.float32)
    made = (
        ferrule.compile(file), ferrule.compile(str(file)), ferrule.InferenceSession(file),
        ferrule.compile(file.read_bytes()),
    )  # fmt: skip
    for session in made:
        assert isinstance(session, ProgramSession)
        (y,) = session.run(None, {"arg0": x, "arg1": w})
        np.testing.assert_array_equal(y, x @ w)
        np.testing.assert_array_equal(session(x[:2], w), (x @ w)[:2])
        assert [p.name for p in session.get_inputs()] == ["arg0", "arg1"]
        assert [(p.name, p.shape) for p in session.get_outputs()] == [("result0", (None, 4))]
        assert session.kernels >= 1
        assert "kernel" in session.explain()


def test_arguments_that_do_not_fit(file: Path) -> None:
    session = ferrule.compile(file)
    x, w = np.ones((5, 8), np.float32), np.ones((8, 4), np.float32)
    with pytest.raises(InputError, match="'arg1'"):
        session(x)
    with pytest.raises(InputError, match="no input 'x'"):
        session.run(None, {"x": x})
    with pytest.raises(InputError, match="no output 'y'"):
        session.run(["y"], {"arg0": x, "arg1": w})
    with pytest.raises(InputError):
        session(np.ones((5, 7), np.float32), w)
    with pytest.raises(InputTypeError):
        session(x.astype(np.float64), w)


def test_complex_arrays_go_in_and_out(tmp_path: Path) -> None:
    session = ferrule.compile(COMPLEX.encode())
    x = np.array([1 + 2j, -1j, 3], np.complex64)
    found = session(x)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, x * x)
    with pytest.raises(UnsupportedError, match="complex"):
        session.save(tmp_path / "m.ferrule")


def test_copies(file: Path) -> None:
    session = ferrule.compile(file)
    x, w = np.ones((2, 8), np.float32), np.ones((8, 4), np.float32)
    for other in (copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        np.testing.assert_array_equal(other(x, w), x @ w)


def test_artifacts(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.ferrule"
    ferrule.compile(file).save(path)
    x, w = np.ones((5, 8), np.float32), np.ones((8, 4), np.float32)
    (y,) = ferrule.load(path).run(None, {"arg0": x, "arg1": w})
    np.testing.assert_array_equal(y, x @ w)


def test_the_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(file), "--random", "--shape", "arg0=7,8"]) == 0
    assert "output result0: float32 [7, 4]" in capsys.readouterr().out
    assert main(["profile", str(file), "--budget", "0.01"]) == 0
    capsys.readouterr()
    file.write_text(TEXT.replace("dot_general", "dot_strange"), encoding="utf-8")
    assert main(["run", str(file), "--random"]) != 0
    assert "m.mlir:2:" in capsys.readouterr().err
