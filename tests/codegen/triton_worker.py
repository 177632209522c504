"""Runs generated Triton modules in Triton's CPU interpreter, in a process of its own: Triton reads
TRITON_INTERPRET when it is imported, and another test may have imported it without.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def start() -> None:
    """What the process does first."""
    os.environ["TRITON_INTERPRET"] = "1"


def launch(path: str, arrays: list[tuple[Array, str]], dims: list[int]) -> list[Array]:
    """The arrays (with the names of their dtypes) after `launch` of the module at `path`."""
    import torch

    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tensors = [torch.from_numpy(a.copy()) for a, _ in arrays]
    views = [
        t.view(torch.bfloat16) if name == "bf16" else t
        for t, (_, name) in zip(tensors, arrays, strict=True)
    ]
    with np.errstate(all="ignore"):
        module.launch(*views, *dims)
    return [t.numpy() for t in tensors]
