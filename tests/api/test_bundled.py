"""Known models as C libraries. The long run is `python -m tests.api.bundled`."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.api import bundled
from tests.onnx.bundled import HERE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are ELF"),
    pytest.mark.filterwarnings("ignore"),
]


def of(name: str) -> bundled.Known:
    return next(k for k in bundled.known() if k.name == name)


@pytest.mark.parametrize("name", ["network mlp", "tiny vit"])
def test_a_library_gives_the_bits_of_an_artifact(name: str) -> None:
    assert bundled.outcome(of(name), HERE[-1:]) == "same"


def test_what_differs_is_told() -> None:
    built = of("network mlp").build()
    wrong = built._replace(expected=tuple(x + np.float32(0.5) for x in built.expected))
    one = bundled.Known("wrong", lambda: wrong)
    assert "off" in bundled.outcome(one, HERE[-1:])
