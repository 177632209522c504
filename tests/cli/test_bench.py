"""`ferrule bench`: the table, differences and peers that are not there. (No time is asserted.)"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto

from ferrule.base import config
from ferrule.base.errors import UnsupportedError
from ferrule.cli import peers
from ferrule.cli.bench import difference
from ferrule.cli.main import main
from tests.cli.models import product, unary

QUICK = ["--budget", "0.01", "--threads", "1"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    with config.override(cache_dir=str(tmp_path / "cache")):
        yield


def test_ferrule_alone_is_timed(tmp_path: Path, capsys) -> None:
    assert main(["bench", product(tmp_path / "m.onnx"), "--shape", "x=4,3", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "input x: float32 [4, 3], at random" in said
    assert "1 thread, " in said
    assert "/ ferrule" not in said


@pytest.mark.parametrize("peer", list(peers.PEERS))
def test_a_peer_stands_beside_it(peer: str, tmp_path: Path, capsys) -> None:
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed")
    assert main(["bench", product(tmp_path / "m.onnx"), "--vs", peer, *QUICK]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["ferrule"][-2] == "1.00"
    assert float(rows["ferrule"][-1]) < 1e-4
    assert rows[peer][-1] == "-"


def test_a_peer_that_is_not_installed_is_told_of(tmp_path: Path, capsys, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(peers.importlib, "import_module", missing)
    assert main(["bench", product(tmp_path / "m.onnx"), "--vs", "openvino", *QUICK]) == 0
    said = capsys.readouterr()
    assert said.err == "ferrule: left out: openvino is not installed: pip install openvino\n"
    assert "ferrule " in said.out


def test_a_peer_that_refuses_a_model_says_so_in_one_line(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setitem(peers.PEERS, "onnxruntime", refuse)
    with pytest.raises(UnsupportedError, match=r"onnxruntime does not run .*: no kernel for this"):
        peers.ready("onnxruntime", "m.onnx", {}, 1)


def test_differences() -> None:
    x = np.array([1.0, np.nan, np.inf], np.float32)
    assert difference([x], [x.copy()]) == "0"
    assert difference([x], [x + np.float32([0.5, 0, 0])]) == "0.5"
    assert difference([x], [np.array([1.0, 2.0, np.inf], np.float32)]) == "inf"
    assert difference([x], [x[:2]]) == "other shapes"
    assert difference([np.array(5)], [np.array(2)]) == "3"
    assert difference([[x]], [[x]]) == "0"
    assert difference([np.array(["a"], object)], [np.array(["b"], object)]) == "1"


@pytest.mark.parametrize(
    "arguments",
    [["m", "--vs", "tvm"], ["m", "--vs", ""], ["m", "--budget", "0"], ["m", "--budget", "x"],
     ["m", "--random"]],
)  # fmt: skip
def test_a_senseless_command_line_ends_with_2(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2


def test_a_model_that_fails_ends_with_1(tmp_path: Path, capsys) -> None:
    model = unary(tmp_path / "m.onnx", "Frob", TensorProto.FLOAT, [2], mine=1)
    assert main(["bench", model, *QUICK]) == 1
    assert "mine.Frob" in capsys.readouterr().err
