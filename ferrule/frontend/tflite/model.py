"""TensorFlow Lite files as plain data.

    Lite      = subgraphs, of which others are called by the first, and signatures
    Operator  = its name in the schema ("CONV_2D"), its options by name, places of tensors
    Tensor    = dtype by name ("INT8"), shape (-1 for an unknown size), data, scales

A quantised tensor stands for scale * (x - zero point).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TYPES: Mapping[str, tuple[int, str]] = {
    "FLOAT32": (1, "<f4"), "FLOAT64": (2, "<f8"), "INT32": (3, "<i4"), "UINT8": (4, "<u1"),
    "INT16": (5, "<i2"), "INT8": (6, "<i1"), "STRING": (7, ""), "INT64": (9, "<i8"),
    "BOOL": (10, "?"), "BFLOAT16": (14, "<u2"), "UINT16": (17, "<u2"), "FLOAT16": (19, "<f2"),
    "UINT32": (22, "<u4"), "UINT64": (23, "<u8"), "INT4": (6, "<i1"), "COMPLEX64": (8, ""),
    "RESOURCE": (20, ""), "VARIANT": (21, ""), "COMPLEX128": (18, ""),
}  # fmt: skip
"""Names of element types -> their numbers in TensorFlow, and the form of their data. A byte of an
INT4 tensor's data has two of its elements, which are bytes of their own once they are read."""


@dataclass(frozen=True, eq=False)
class Quant:
    """Scales and zero points: one for all, or one for each slice of an axis."""

    scale: Array
    zero: Array
    axis: int = 0

    @property
    def one(self) -> bool:
        """Whether there is one scale."""
        return self.scale.size == 1

    @property
    def number(self) -> int:
        """The zero point of all elements."""
        return int(self.zero.flat[0])

    @property
    def factor(self) -> float:
        """The scale of all elements."""
        return float(self.scale.flat[0])

    def along(self, values: Array, rank: int) -> Array:
        """Scales or zero points as they broadcast with a tensor of a rank."""
        if self.one:
            return values.reshape(())
        shape = [1] * rank
        shape[self.axis] = values.size
        return values.reshape(shape)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a subgraph; `data` is what it holds where that is known."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: Array | None = None
    quant: Quant | None = None
    variable: bool = False

    @property
    def code(self) -> int:
        """The number of its element type in TensorFlow."""
        return TYPES.get(self.type, (-1, ""))[0]


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator; a tensor of -1 is left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SubGraph:
    """A function: its inputs and outputs are places of tensors."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, eq=False)
class Entry:
    """A signature: the subgraph that it calls, and the names of inputs and outputs by tensor."""

    subgraph: int
    inputs: Mapping[int, str]
    outputs: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Lite:
    """A file."""

    subgraphs: tuple[SubGraph, ...]
    entries: Mapping[str, Entry] = field(default_factory=dict)


def single(scale: float, zero: int = 0) -> Quant:
    """One scale and zero point for all."""
    return Quant(np.array([scale], np.float32), np.array([zero], np.int64))
