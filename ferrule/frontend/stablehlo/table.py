"""The table of the StableHLO frontend: the name of an operation -> its rule.

    @rule("stablehlo.reverse")
    def _reverse(cx, x): ...

A rule gets a context and the operands, and gives a value, or a tuple of several. A value is one of

    Value      a tensor of the graph
    Complex    two of them: the real and the imaginary part
    Token      what orders effects, of which there are none
    Tuple      several values as one

A rule that cannot handle what it is given raises UnsupportedError. Rules of elements
(`elementwise`) are called with tensors of one shape; for complex ones there is another table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
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
from ferrule.frontend.stablehlo.module import Operation, Region, TensorType
from ferrule.ir.graph import GraphBuilder, Value

ELEMENTS: Mapping[str, DType] = {
    "i1": boolean, "i8": i8, "i16": i16, "i32": i32, "i64": i64, "ui8": u8, "ui16": u16,
    "ui32": u32, "ui64": u64, "f16": f16, "bf16": bf16, "f32": f32, "f64": f64,
    "complex<f32>": f32, "complex<f64>": f64,
}  # fmt: skip
"""The dtype of an element type; of a complex one that of its parts."""

Known: TypeAlias = "NDArray[Any]"
"""The numbers of a small integer tensor, each an int or an Expr over sizes."""


@dataclass(frozen=True)
class Complex:
    """A tensor of complex numbers, as two of one shape and dtype."""

    real: Value
    imag: Value

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.real.shape

    @property
    def rank(self) -> int:
        return self.real.rank

    @property
    def dtype(self) -> DType:
        """The dtype of the parts."""
        return self.real.dtype

    def map(self, fn: Callable[[Value], Value]) -> Complex:
        """`fn` of both parts."""
        return Complex(fn(self.real), fn(self.imag))


@dataclass(frozen=True)
class Token:
    """What orders effects."""


@dataclass(frozen=True)
class Tuple:
    """Several values as one."""

    items: tuple[Any, ...]


Val: TypeAlias = "Value | Complex | Token | Tuple"
Build = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Context:
    """What a rule sees beside the operands.

    `run(region, builder, values)` converts a region that the operation has, `run_whole` one of
    scalars on tensors; `known` gives the
    numbers of a tensor where they follow from constants and sizes, else None; `param` makes a
    tensor of an array that is too large for a literal.
    """

    b: GraphBuilder
    op: Operation
    run: Callable[[Region, GraphBuilder, Sequence[Val]], tuple[Any, ...]]
    run_whole: Callable[[Region, GraphBuilder, Sequence[Val]], tuple[Any, ...]]
    call: Callable[[str, GraphBuilder, Sequence[Val]], tuple[Any, ...]]
    known: Callable[[Any], Known | None]
    param: Callable[[NDArray[Any], DType], Value]

    def attr(self, name: str) -> Any:
        """An attribute. Raises UnsupportedError where the program leaves it out."""
        if name not in self.op.attributes:
            raise UnsupportedError(f"{self.op.name} without {name}")
        return self.op.attributes[name]

    def result(self, i: int = 0) -> TensorType:
        """The type of result `i`, which must be a tensor."""
        t = self.op.results[i].type
        if not isinstance(t, TensorType) or t.shape is None:
            raise UnsupportedError(f"{self.op.name} whose result is no tensor of a known rank")
        return t

    @property
    def dtype(self) -> DType:
        """The dtype of the first result's elements, or of the parts of complex ones."""
        return dtype_of(self.result())


@dataclass(frozen=True)
class Rule:
    """How an operation is built; `kind` is "any", or "elements" for those of elements alone."""

    build: Build
    kind: str = "any"


RULES: dict[str, Rule] = {}
COMPLEX: dict[str, Build] = {}
"""Rules of elements where an operand is complex."""


def rule(*names: str) -> Callable[[Build], Build]:
    """Register a rule for operations."""
    return _register(names, "any")


def elementwise(*names: str) -> Callable[[Build], Build]:
    """Register a rule of elements, `build(cx, *operands)`."""
    return _register(names, "elements")


def _register(names: Sequence[str], kind: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        RULES.update((name, Rule(build, kind)) for name in names)
        return build

    return register


def of_complex(*names: str) -> Callable[[Build], Build]:
    """Register the rule of elements for complex operands, which come as Complex."""

    def register(build: Build) -> Build:
        COMPLEX.update(dict.fromkeys(names, build))
        return build

    return register


def dtype_of(t: TensorType) -> DType:
    """The dtype of a type's elements. Raises UnsupportedError for one that ferrule lacks."""
    found = ELEMENTS.get(t.element)
    if found is None:
        raise UnsupportedError(f"tensors of {t.element} are not supported")
    return found


def is_complex(t: TensorType) -> bool:
    return t.element.startswith("complex")


def as_known(values: Any) -> Known:
    """An array of ints or Exprs."""
    return np.asarray(values, dtype=object)
