"""The table of the TensorFlow frontend: the name of an operator -> its rule.

    @rule("Square")
    def _square(cx, x): ...

    @rule("TopKV2", outputs=("values", "indices"))
    def _top_k(cx, x, k): ...

A rule gets a context and the operands, and gives a value, or a tuple of several. `outputs` names
the results of operators that have several by name, in order. A value is one of

    Value        a tensor of the graph
    Variable     the handle of a variable
    TensorList   tensors in order, of one shape
    Text         strings, which no rule computes with

A rule that cannot handle what it is given raises UnsupportedError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.frontend.tensorflow.model import Element, Function, Node
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Value

Known: TypeAlias = "NDArray[Any]"
"""The numbers of a small tensor: each an int, a float, a bool, an Expr over sizes, or None for one
that only a run can tell."""


@dataclass(frozen=True)
class Variable:
    """The handle of a variable, by the node that makes it."""

    node: str


@dataclass(frozen=True)
class Text:
    """Strings."""


@dataclass(frozen=True)
class TensorList:
    """Tensors in order. `tensor` has them as rows; it is None while nothing but their number
    `size`, their dtype, and what is known of their `shape` is known: -1 for a size that is not.
    """

    tensor: Value | None
    size: Any
    dtype: DType
    shape: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Row:
    """In the body of a loop, a list that is read at the place of the step: what is there."""

    value: Value


@dataclass(frozen=True)
class Made:
    """In the body of a loop, a list that is written at the place of the step: what is put there.
    """

    value: Value | None = None


Val: TypeAlias = "Value | Variable | TensorList | Text | Row | Made"
Build = Callable[..., Any]
MISSING: Any = object()


@dataclass(frozen=True, eq=False)
class Context:
    """What a rule sees beside the operands.

    `partly` gives the numbers of a tensor where some follow from constants and sizes, else None;
    `tell` says what the numbers of a tensor are; `call` builds a function of the program; `param`
    makes a tensor of an array, `read` one of a variable.
    """

    b: GraphBuilder
    node: Node
    partly: Callable[[Any], Known | None]
    tell: Callable[[Value, Known], Value]
    call: Callable[[str, GraphBuilder, Sequence[Val]], tuple[Any, ...]]
    function: Callable[[str], Function]
    param: Callable[[NDArray[Any], DType], Value]
    read: Callable[[Variable], Value]

    def attr(self, name: str, default: Any = MISSING) -> Any:
        """An attribute. Raises UnsupportedError where the program leaves it out."""
        found = self.node.attrs.get(name)
        if found is None:
            if default is MISSING:
                raise UnsupportedError(f"{self.node.op} without {name}")
            return default
        return found

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a string."""
        found = self.attr(name, default)
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found)

    def dtype(self, name: str, default: Any = MISSING) -> DType:
        """An attribute that is an element type. Raises CompileError for another."""
        found = self.attr(name, default)
        if not isinstance(found, Element | DType):
            raise CompileError(f"{name} is no element type: {found!r}")
        return found.dtype if isinstance(found, Element) else found

    def known(self, v: Any) -> Known | None:
        """The numbers of a tensor where all of them are known, else None."""
        found = self.partly(v)
        return None if found is None or any(n is None for n in found.flat) else found

    def numbers(self, v: Any, what: str = "a shape") -> list[Any]:
        """The numbers of a tensor: ints and Exprs. Raises UnsupportedError where data decide them.
        """
        found = self.known(v)
        if found is None:
            raise UnsupportedError(f"{what} that depends on data")
        return list(found.reshape(-1).tolist())

    def ints(self, v: Any, what: str = "axes") -> list[int]:
        """The numbers of a tensor, constants. Raises UnsupportedError where they are none."""
        found = self.numbers(v, what)
        if not all(isinstance(n, int) for n in found):
            raise UnsupportedError(f"{what} that depend on sizes")
        return found


@dataclass(frozen=True)
class Rule:
    """How an operator is built, and the names of its results where these have several names."""

    build: Build
    outputs: tuple[str, ...] = ()


RULES: dict[str, Rule] = {}


def rule(*names: str, outputs: tuple[str, ...] = ()) -> Callable[[Build], Build]:
    """Register a rule for operators."""

    def register(build: Build) -> Build:
        RULES.update((name, Rule(build, outputs)) for name in names)
        return build

    return register


def as_known(values: Any) -> Known:
    """An array of numbers and Exprs."""
    out = np.empty(np.shape(values), object)
    out[...] = values
    return out


def tensor_of(v: Any) -> Value:
    """A value that must be a tensor. Raises UnsupportedError for another."""
    if not isinstance(v, Value):
        raise UnsupportedError(f"it is given {type(v).__name__}, no tensor")
    return v


def flat(vals: Sequence[Any]) -> tuple[Value, ...]:
    """The tensors that values consist of. Raises UnsupportedError for one that is no tensor."""
    out = []
    for v in vals:
        tensor = v.tensor if isinstance(v, TensorList) else v
        if not isinstance(tensor, Value):
            raise UnsupportedError(f"a loop or a branch hands on {v}, no tensor")
        out.append(tensor)
    return tuple(out)


def like(vals: Sequence[Any], tensors: Sequence[Value]) -> tuple[Any, ...]:
    """Values of the same kinds as `vals`, which consist of these tensors."""
    return tuple(
        list_of(t) if isinstance(v, TensorList) else t for v, t in zip(vals, tensors, strict=True)
    )


def list_of(rows: Value) -> TensorList:
    """The rows of a tensor as a list."""
    size: Expr = rows.shape[0]
    return TensorList(rows, size.value if size.is_const else size, rows.dtype, rows.shape[1:])
