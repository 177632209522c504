"""Inputs of architectures: what each argument is, made from a seed.

TEXT                 {"input_ids": ids(2, 12), "attention_mask": mask(2, 12)}
image(64)            {"pixel_values": normal(2, 3, 64, 64)}
make(TEXT, seed=1)   the tensors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tools.zoo.tiny import IMAGE, VOCABULARY

Maker = Callable[[torch.Generator], Any]
Feed = Mapping[str, Maker]
RESERVED = 5
"""Words below are special tokens."""
UNMARKED = VOCABULARY - 4
"""Words from here on mark images and sounds in a text."""


def make(feed: Feed, seed: int) -> dict[str, Any]:
    """The tensors of a feed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: maker(generator) for name, maker in feed.items()}


def ids(*shape: int, below: int = UNMARKED, start: int = RESERVED) -> Maker:
    """Words."""
    return lambda g: torch.randint(start, below, shape, generator=g)


def normal(*shape: int) -> Maker:
    """Normal numbers."""
    return lambda g: torch.randn(shape, generator=g)


def positive(*shape: int) -> Maker:
    """Numbers between 0 and 1."""
    return lambda g: torch.rand(shape, generator=g)


def mask(*shape: int, dtype: torch.dtype = torch.int64) -> Maker:
    """Ones, but for the last two of the last row."""

    def maker(g: torch.Generator) -> torch.Tensor:
        out = torch.ones(shape, dtype=dtype)
        out[-1, -2:] = 0
        return out

    return maker


def ones(*shape: int, dtype: torch.dtype = torch.int64) -> Maker:
    """Ones."""
    return lambda g: torch.ones(shape, dtype=dtype)


def value(x: Any) -> Maker:
    """Always the same."""
    return lambda g: x.clone() if isinstance(x, torch.Tensor) else x


def boxes(*shape: int, below: int = 60) -> Maker:
    """Boxes of words on a page, as left, top, right and bottom."""

    def maker(g: torch.Generator) -> torch.Tensor:
        corner = torch.randint(0, below // 2, (*shape, 2), generator=g)
        return torch.cat([corner, corner + torch.randint(1, below // 2, (*shape, 2), generator=g)],
                         -1)  # fmt: skip

    return maker


def marked(batch: int, length: int, word: int, count: int) -> Maker:
    """Words with `count` of one kind in a row, which stand for an image or a sound."""

    def maker(g: torch.Generator) -> torch.Tensor:
        out = torch.randint(RESERVED, UNMARKED, (batch, length), generator=g)
        out[:, 1 : 1 + count] = word
        return out

    return maker


def text(batch: int = 2, length: int = 12) -> Feed:
    """Sentences, one of them shorter than the others."""
    return {"input_ids": ids(batch, length), "attention_mask": mask(batch, length)}


def image(size: int = IMAGE, channels: int = 3) -> Feed:
    """Two images."""
    return {"pixel_values": normal(2, channels, size, size)}


TEXT = text()
WORDS: Feed = {"input_ids": ids(2, 12)}
TRANSLATION: Feed = {**TEXT, "decoder_input_ids": ids(2, 7)}
PAIR: Feed = {**TEXT, **image()}
WAVE: Feed = {"input_values": normal(2, 1500)}
