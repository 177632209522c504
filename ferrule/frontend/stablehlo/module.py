"""What a StableHLO program is after it was read, from text or from bytecode.

    module    = function..
    function  = name, argument.., result type.., region
    region    = argument.., operation..
    operation = name, operand.., result.., attributes, region..

Both forms of the text and the portable artifacts give the same values here, so that one
conversion serves all of them:

- An operation has its whole name ("stablehlo.add", "chlo.erf", "func.call"). `return` of every
  dialect is the last operation of its region.
- An operand is the name of a value, without `%`; names are unique in a function, its inner regions
  included.
- An attribute has the name that the generic form gives it, and is a `bool`, `int`, `float`, `str`,
  `TensorType`, `Constant`, a tuple of these, or a dict of them. An enumeration is the name of its
  case ("LT", "NO_TRANSPOSE"), a reference to a symbol its name without `@`. An array of integers
  (`array<i64: 1, 2>`) is a tuple. `dimension_numbers` and the like are dicts whose keys are the
  names of the specification's fields, each there with its default where the text leaves it out.

Specification: StableHLO, "Programs" and "Constants" (openxla/stablehlo, docs/spec.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorType:
    """A tensor: the name of its elements' type as MLIR writes it ("f32", "ui8", "i1",
    "complex<f32>"), and its shape, with None for a size that is not known (`?`). A tensor without a
    rank (`tensor<*xf32>`) has None for a shape.
    """

    shape: tuple[int | None, ...] | None
    element: str

    def __str__(self) -> str:
        """As MLIR writes it."""
        sizes = ("*",) if self.shape is None else ("?" if n is None else n for n in self.shape)
        return f"tensor<{'x'.join(map(str, (*sizes, self.element)))}>"


@dataclass(frozen=True)
class TokenType:
    """What orders operations with effects (`!stablehlo.token`)."""

    def __str__(self) -> str:
        return "!stablehlo.token"


@dataclass(frozen=True)
class TupleType:
    """Several values as one (`tuple<..>`)."""

    types: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.types))}>"


Type: TypeAlias = TensorType | TokenType | TupleType


@dataclass(frozen=True, eq=False)
class Constant:
    """The elements of `dense<..>`, in the shape of `type`.

    `values` is in ferrule's storage of the element type (`ferrule.base.dtype`): bf16 as the uint16
    with the same bits, i1 as bool, complex<f32> as complex64. A splat is a broadcast of one
    element, which takes no memory.
    """

    type: TensorType
    values: NDArray[Any]


@dataclass(frozen=True)
class Value:
    """A name, and the type of what it stands for."""

    name: str
    type: Type


@dataclass(frozen=True)
class Place:
    """Where something stands: a line and column of a text, counted from 1, or an offset in bytes
    into an artifact (`line` is 0 then, and `column` the offset).
    """

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}" if self.line else f"byte {self.column}"


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation; `results` are new values of the region that it stands in."""

    name: str
    operands: tuple[str, ...]
    results: tuple[Value, ...]
    attributes: Mapping[str, Any]
    regions: tuple[Region, ...]
    place: Place


@dataclass(frozen=True, eq=False)
class Region:
    """Operations in order, over values that the region is given. The last one returns."""

    arguments: tuple[Value, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, eq=False)
class Function:
    """A function of a module: its body, and the types that it returns.

    `argument_attributes` has the attributes of each argument ("jax.buffer_donor", ..), and
    `result_attributes` of each result.
    """

    name: str
    body: Region
    results: tuple[Type, ...]
    argument_attributes: tuple[Mapping[str, Any], ...] = ()
    result_attributes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Module:
    """The functions of a program by name, in their order; `main` is where it begins."""

    functions: Mapping[str, Function]
