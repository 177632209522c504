"""The tables of the ONNX frontend: (domain, operator, since version) -> rule.

    @onnx("Squeeze", since=13, static=(1,))
    def _squeeze(cx, x, axes=None): ...

A *graph rule* gets a context and the operands as Values (None where one is left out) and returns a
Value, or a tuple for several results. The operands at the positions `static` must be known while
building, and come as arrays: of integers, or of sizes (an object array that may hold Exprs) where
the rule allows `sizes`. A rule that can't handle its operands raises UnsupportedError.

    @host("NonZero")
    def _nonzero(cx, x): ...

A *host rule* does the same on NumPy arrays, at run time where a result's size depends on data or
where no compiled code has the dtype, and while building where all operands are known.

The rule of the greatest `since` that is not above the model's version holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, from_numpy
from ferrule.base.errors import InputTypeError, UnsupportedError
from ferrule.frontend.onnx.model import Array, Op
from ferrule.ir.expr import Expr
from ferrule.ir.graph import GraphBuilder, Value

Int: TypeAlias = int  # the names of both are methods of Attributes
Float: TypeAlias = float

MICROSOFT = "com.microsoft"
ML = "ai.onnx.ml"


@dataclass(frozen=True)
class Rule:
    """How an operator is built or run, from the version `since` on. Known operands are folded where
    `folds` says so.
    """

    since: int
    build: Callable[..., Any]
    static: frozenset[int] = frozenset()
    sizes: bool = False
    folds: bool = True


Table = dict[tuple[str, str], list[Rule]]

GRAPH: Table = {}
HOST: Table = {}


def onnx(
    *names: str,
    since: int = 1,
    static: Sequence[int] = (),
    domain: str = "",
    sizes: bool = False,
    folds: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a graph rule for operators of a domain."""
    rule = partial(Rule, since, static=frozenset(static), sizes=sizes, folds=folds)
    return _register(GRAPH, names, domain, rule)


def host(
    *names: str, since: int = 1, domain: str = "", folds: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a host rule; `folds`: equal operands give equal results, so known ones are run
    while building.
    """
    return _register(HOST, names, domain, partial(Rule, since, folds=folds))


def _register(
    table: Table, names: Sequence[str], domain: str, make: Callable[..., Rule]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        rule = make(build=build)
        for name in names:
            others = [r for r in table.get((domain, name), ()) if r.since != rule.since]
            table[domain, name] = sorted([*others, rule], key=lambda r: r.since)
        return build

    return register


def rule_for(table: Table, domain: str, name: str, version: int) -> Rule | None:
    """The rule that holds for an operator of a version; None if there is none."""
    rules = table.get((domain, name), ())
    at = bisect_right([r.since for r in rules], version)
    return rules[at - 1] if at else None


def is_known(domain: str, name: str, version: int) -> bool:
    """Whether there is a rule of either kind."""
    return any(rule_for(t, domain, name, version) is not None for t in (GRAPH, HOST))


class Assume(Exception):
    """A rule needs a dim to be at most `limit`: the graph is built again under that fact, which is
    checked at each run.
    """

    def __init__(self, dim: Expr, limit: int) -> None:
        super().__init__(f"{dim} <= {limit}")
        self.dim, self.limit = dim, limit


# ---- what rules see ------------------------------------------------------------------------------


class Attributes:
    """A node's attributes, read by type."""

    def __init__(self, op: Op) -> None:
        self.op = op

    @property
    def version(self) -> Int:
        """The version of the operator's domain that the model was written for."""
        return self.op.version

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return name in self.op.attrs

    def int(self, name: str, default: Int | None = None) -> Int:
        """An integer; UnsupportedError where it is not given and has no default."""
        return Int(self._get(name, default, Int))

    def float(self, name: str, default: Float | None = None) -> Float:
        """A float, as the f32 that it is in the model."""
        return Float(self._get(name, default, Float))

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        return str(self._get(name, default, str))

    def ints(self, name: str, default: Sequence[Int] | None = None) -> tuple[Int, ...]:
        """Integers."""
        return tuple(self._get(name, default, tuple))

    def floats(self, name: str, default: Sequence[Float] | None = None) -> tuple[Float, ...]:
        """Floats."""
        return tuple(self._get(name, default, tuple))

    def texts(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Strings."""
        return tuple(self._get(name, default, tuple))

    def get(self, name: str) -> Any:
        """Whatever is given, None if nothing is."""
        return self.op.attrs.get(name)

    def wants(self, result: Int) -> bool:
        """Whether the model reads a result of the node."""
        return result < len(self.op.outputs) and bool(self.op.outputs[result])

    def _get(self, name: str, default: Any, kind: type) -> Any:
        value = self.op.attrs.get(name, default)
        if value is None:
            raise UnsupportedError(f"the attribute {name!r} is missing")
        if kind is tuple and isinstance(value, int | float | str):
            value = (value,)
        fits = isinstance(value, (int, float) if kind in (int, float) else (kind, list))
        if not fits:
            raise UnsupportedError(f"the attribute {name!r} must be {kind.__name__}: {value!r}")
        return value


class Context(Attributes):
    """What a graph rule sees besides its operands: the builder and the node, `array`, which makes a
    Value of an array that the rule computed, and `known`, the operands that are arrays.
    """

    def __init__(
        self, b: GraphBuilder, op: Op, array: Callable[[Array], Value],
        known: Mapping[int, Array] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(op)
        self.b, self.array, self.known = b, array, known or {}

    def within(self, b: GraphBuilder) -> Context:
        """The same inside of a body that `b` builds."""
        return Context(b, self.op, self.array, self.known)

    def scalar(self, x: float | int | Expr, dtype: DType) -> Value:
        """A number or a size as a value of rank 0."""
        if isinstance(x, Expr):
            return ops.cast(self.b, ops.scalar(self.b, x), dtype)
        return ops.full(self.b, (), x, dtype)


def dtype_of(dtype: np.dtype[Any] | type) -> DType:
    """The DType of a NumPy dtype. Raises UnsupportedError for one that compiled code lacks."""
    try:
        return from_numpy(dtype)
    except (InputTypeError, TypeError):
        raise UnsupportedError(f"tensors of {np.dtype(dtype)} are not supported here") from None


def is_compiled(dtype: np.dtype[Any] | None) -> bool:
    """Whether compiled code has tensors of this dtype."""
    try:
        return dtype is not None and bool(dtype_of(dtype))
    except UnsupportedError:
        return False


def numpy_of(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype that stands for a DType in models: that of `ml_dtypes` for bf16."""
    if dtype.name == "bf16":
        import ml_dtypes  # a dependency of the onnx package

        return np.dtype(ml_dtypes.bfloat16)
    return dtype.numpy


def element_type(code: int) -> np.dtype[Any]:
    """The NumPy dtype of an element type as attributes write it. Raises UnsupportedError."""
    from onnx import helper

    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, TypeError):
        raise UnsupportedError(f"there is no element type number {code}") from None


def integers(x: Array) -> tuple[int, ...]:
    """A known operand as Python ints. Raises UnsupportedError where one is symbolic."""
    flat = np.asarray(x).ravel().tolist()
    if any(isinstance(v, Expr) for v in flat):
        raise UnsupportedError("a number that must be known is symbolic")
    return tuple(int(v) for v in flat)


def sizes(x: Array) -> tuple[int | Expr, ...]:
    """A known operand as ints and Exprs."""
    return tuple(v if isinstance(v, Expr) else int(v) for v in np.asarray(x).ravel().tolist())
