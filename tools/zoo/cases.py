"""All cases, and what the process that they are forked from has to have imported."""

from __future__ import annotations

import importlib

from tools.zoo.case import Case

_WARM = (
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.generation",
    "torch._dynamo",
    "torch.export",
    "ferrule.pipeline.compile",
    "ferrule.frontend.torch.backend",
    "ferrule.frontend.torch.module",
)


def cases() -> list[Case]:
    """Every case of the zoo."""
    from tools.zoo import databases
    from tools.zoo.onnx_files import onnx_files
    from tools.zoo.table import ARCHITECTURES

    return [
        *ARCHITECTURES,
        *databases.modules(),
        *databases.higher_order(),
        *databases.examples(),
        *onnx_files(),
    ]


def warm() -> None:
    """Import once what every case needs; starts no thread, so that forking is safe."""
    import torch

    torch.set_num_threads(1)
    for name in _WARM:
        importlib.import_module(name)
