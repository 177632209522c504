"""Architectures of `transformers` at tiny sizes, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from tools.zoo.case import Call, Case, Program
from tools.zoo.inputs import Feed, make
from tools.zoo.tiny import tiny

SEED = 7
NOISE = 0.05
"""Added to all weights: nothing is zero or one as it is initialised, so that every bias counts."""


def architecture(
    model_type: str, feed: Feed, name: str = "", auto: str = "AutoModel", **fields: Any
) -> Case:
    """A case from a model type; `fields` are of its configuration, where the derived ones will not
    do.
    """
    return Case(
        name or model_type, "architecture", partial(_programs, model_type, feed, auto, fields)
    )


def _programs(model_type: str, feed: Feed, auto: str, fields: dict[str, Any]) -> Iterator[Program]:
    import transformers

    torch.manual_seed(SEED)
    config = tiny(model_type, **fields)
    for part in (config, *(getattr(config, p, None) for p in config.sub_configs)):
        if hasattr(part, "use_cache"):
            part.use_cache = False
    cls = getattr(transformers, auto)
    model = getattr(cls, "from_config", cls)(config).eval()
    for weight in model.parameters():
        weight.data += NOISE * torch.randn_like(weight)
    yield Program(model, tuple(Call((), make(feed, seed)) for seed in (SEED, SEED + 1)))
