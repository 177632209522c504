"""TensorFlow Lite files for tests, with what LiteRT computed (`tools/make_tflite_models.py`)."""

from __future__ import annotations

import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "models.tar.xz"


@cache
def held() -> dict[str, bytes]:
    """The files by name."""
    with tarfile.open(FILE) as archive:
        entries = [(e.name, archive.extractfile(e)) for e in archive]
        return {name: file.read() for name, file in entries if file is not None}


NAMES = tuple(sorted(n.removesuffix(".tflite") for n in held() if n.endswith(".tflite")))


def model(name: str) -> bytes:
    """A model's file."""
    return held()[f"{name}.tflite"]


def arrays(name: str) -> tuple[list[Any], list[Any], list[float]]:
    """(inputs, outputs, how far kernels of LiteRT are apart for each output)."""
    found = np.load(io.BytesIO(held()[f"{name}.npz"]))
    given, made, spread = (
        [found[f"{stem}{k}"] for k in range(sum(n.startswith(stem) for n in found))]
        for stem in ("in", "out", "spread")
    )
    return given, made, [float(x) for x in spread]
