"""TensorFlow programs as plain data: what the other modules work on.

    SavedModel = nodes outside of functions, functions by name, signatures, where variables lie
    Node       = an operator, the names of its operands, attributes

Attribute values are Python ints, floats, bools, bytes, shapes (tuples of ints, -1 for unknown; None
for an unknown rank), element types (`Element`), names of functions (`Called`), tensors (NumPy
arrays, `object` for strings) and tuples of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ferrule.base.dtype import (
    DType,
    bf16,
    boolean,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)
from ferrule.base.errors import UnsupportedError

Array = NDArray[Any]
Shape = tuple[int, ...] | None

DTYPES: Mapping[int, DType] = {
    1: f32, 2: f64, 3: i32, 4: u8, 5: i16, 6: i8, 9: i64, 10: boolean, 14: bf16, 17: u16, 19: f16,
    22: u32, 23: u64,
}  # fmt: skip
STRING, RESOURCE, VARIANT = 7, 20, 21
_OTHERS = {
    7: "string", 8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16",
    16: "quint16", 18: "complex128", 20: "resource", 21: "variant", 24: "float8_e5m2",
    25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip


@dataclass(frozen=True)
class Element:
    """An element type by its number in TensorFlow's `DataType`."""

    code: int

    @property
    def name(self) -> str:
        own = DTYPES.get(self.code)
        return own.name if own else _OTHERS.get(self.code, f"type {self.code}")

    @property
    def dtype(self) -> DType:
        """The dtype. Raises UnsupportedError for one that ferrule lacks."""
        if self.code not in DTYPES:
            raise UnsupportedError(f"tensors of {self.name} are not supported")
        return DTYPES[self.code]


@dataclass(frozen=True)
class Called:
    """The name of a function."""

    name: str


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. An operand is "node:2", "node", "node:values:0", or "^node", which only says
    that it runs before.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operands(self) -> tuple[str, ...]:
        return tuple(n for n in self.inputs if not n.startswith("^"))

    @property
    def before(self) -> tuple[str, ...]:
        """The nodes that only run before this one."""
        return tuple(n[1:] for n in self.inputs if n.startswith("^"))


@dataclass(frozen=True, eq=False)
class Function:
    """A function: `arguments` are names, `results` say which value each result is, `effects` are
    nodes that run for what they do.
    """

    name: str
    arguments: tuple[str, ...]
    nodes: Mapping[str, Node]
    results: tuple[str, ...]
    effects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Port:
    """An input or output of a signature: `value` names it in the program."""

    name: str
    value: str
    element: Element
    shape: Shape

    @property
    def dtype(self) -> DType:
        """The dtype. Raises UnsupportedError, with the name, for one that ferrule lacks."""
        if self.element.code not in DTYPES:
            raise UnsupportedError(f"{self.name!r} is of {self.element.name}, and no numbers")
        return self.element.dtype


@dataclass(frozen=True)
class Signature:
    """What a program can be called as; `effects` are nodes that run for what they do."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    effects: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A program. `keys` says by which key the checkpoint has a variable, by the node that makes it.
    """

    nodes: Mapping[str, Node]
    functions: Mapping[str, Function]
    signatures: Mapping[str, Signature]
    keys: Mapping[str, str] = field(default_factory=dict)
