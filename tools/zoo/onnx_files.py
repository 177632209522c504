"""The ONNX models of `tools.onnx_models` that were downloaded, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from tools.onnx_models import MODELS, OnnxModel
from tools.zoo.case import Call, Case, Program

SEED = 5


def onnx_files() -> list[Case]:
    """A case for each model that lies in the folder."""
    return [Case(m.name, "onnx", partial(_model, m)) for m in MODELS if m.path.is_file()]


def _model(model: OnnxModel) -> Iterator[Program]:
    import onnxruntime

    import ferrule

    rng = np.random.default_rng(SEED)
    calls = tuple(Call((), _tensors(model.feed(rng, *size))) for size in model.sizes)
    theirs = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    ways = {"InferenceSession": lambda: _run(ferrule.InferenceSession(model.path))}
    yield Program(_run(theirs), calls, ways=ways, tolerance=model.tolerance)


def _tensors(feed: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(x)) for name, x in feed.items()}


def _run(session: Any) -> Callable[..., list[torch.Tensor]]:
    """A session as a function of tensors."""

    def run(**feed: torch.Tensor) -> list[torch.Tensor]:
        results = session.run(None, {name: x.numpy() for name, x in feed.items()})
        return [torch.from_numpy(np.array(r)) for r in results]

    return run
