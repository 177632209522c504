"""Models of the onnx package's suite as C libraries: the same bits as in an artifact.

    python -m tests.onnx.bundled --seconds 300 [--every 2]

prints the models that differ, and how many there are of each outcome.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import ferrule
from ferrule.base.cpu import architecture, supports
from ferrule.base.errors import FerruleError
from ferrule.target.cpu import PORTABLE
from tests.api.clibrary import CLibrary, Failed

HERE = [t for t, (m, level) in PORTABLE.items() if m == architecture() and supports(level)]
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


def cases() -> list[Any]:
    """All models with inputs, in a fixed order that mixes operators."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [c for kind in KINDS for c in load_model_tests(kind=kind)]
    return [found[k] for k in np.random.default_rng(0).permutation(len(found))]


def outcome(case: Any) -> str:
    """One of "same", "different", "both fail"; or the error with which it cannot be built."""
    model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            session = ferrule.compile(model)
            session.bundle(folder / "model", HERE)
            session.save(folder / "model.ferrule", HERE)
        except FerruleError as error:
            return type(error).__name__
        inputs = _inputs(case)
        ours = _by_c(folder / "model", model, inputs)
        theirs = _by_python(folder / "model.ferrule", model, inputs)
    if ours is None or theirs is None:
        return "both fail" if ours is theirs else "different"
    pairs = list(zip(ours, theirs, strict=True))
    return "same" if all(map(_equal, *zip(*pairs))) else "different"


def _inputs(case: Any) -> list[np.ndarray]:
    """The inputs in order, bf16 as uint16."""
    if case.model is not None:
        return [_array(x) for x in case.data_sets[0][0]]
    data = Path(case.model_dir) / "test_data_set_0"
    files = sorted(data.glob("input_*.pb"), key=lambda f: int(f.stem.rpartition("_")[2]))
    return [_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]


def _array(x: Any) -> np.ndarray:
    found = numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)
    found = np.require(found, requirements="C")
    return found.view(np.uint16) if found.dtype.name == "bfloat16" else found


def _by_c(folder: Path, model: Any, inputs: Sequence[np.ndarray]) -> list[Any] | None:
    library, given = CLibrary(folder), _named(model, inputs)
    handle = library.create(library.weights if library.weights.exists() else None)
    try:
        return library.run(handle, [given[s.name.decode()] for s in library.specs("input")])
    except Failed:
        return None
    finally:
        library.destroy(handle)


def _by_python(path: Path, model: Any, inputs: Sequence[np.ndarray]) -> list[Any] | None:
    loaded, given = ferrule.load(path), _named(model, inputs)
    try:
        return list(loaded.run(None, {n: given[n] for n in loaded.inputs}))
    except FerruleError:
        return None


def _named(model: Any, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    constant = {x.name for x in model.graph.initializer}
    return dict(zip((x.name for x in model.graph.input if x.name not in constant), inputs))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    same = a.shape == b.shape and a.dtype == b.dtype
    return same and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    end, found = time.monotonic() + options.seconds, collections.Counter[str]()
    for case in cases()[:: options.every]:
        if time.monotonic() > end:
            break
        result = outcome(case)
        found[result] += 1
        if result == "different":
            print(case.name)
    print(dict(found))


if __name__ == "__main__":
    main()
