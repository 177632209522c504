"""`ferrule export`: models as StableHLO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from ferrule.base import config
from ferrule.base.safetensors import tensors_of
from ferrule.cli.main import main
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text
from ferrule.ir.interp import run_graph
from tests.cli.models import WEIGHT, product

X = np.array([[1, -2, 3], [0, 5, -1]], np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache")):
        yield


def test_a_model_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = product(tmp_path / "m.onnx")
    assert main(["export", model, "--to", "stablehlo", "--shape", "x=2,3"]) == 0
    text = capsys.readouterr().out
    found = convert(read_text(text))
    y, z = run_graph(found.graph, [X, *found.params])
    np.testing.assert_array_equal(y, np.maximum(X @ WEIGHT, 0))
    np.testing.assert_array_equal(z, X + X)


def test_text_and_weights_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, weights = product(tmp_path / "m.onnx", 2), tmp_path / "m.mlir", tmp_path / "w"
    command = ["export", model, "--to", "stablehlo", "-o", str(out), "--weights", str(weights)]
    assert main(command) == 0
    text = out.read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{out}: {len(text)} characters\n"
    (held,) = tensors_of(memoryview(weights.read_bytes())).values()
    np.testing.assert_array_equal(held, WEIGHT)
    assert "%x: tensor<2x3xf32>, %" in text
    assert "tensor<3x4xf32>) -> (tensor<2x4xf32>, tensor<2x3xf32>)" in text


def test_sizes_that_vary_must_be_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", product(tmp_path / "m.onnx"), "--to", "stablehlo"]) == 1
    assert "symbolic, and StableHLO is written for numbers" in capsys.readouterr().err
