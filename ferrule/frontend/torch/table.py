"""The table of the PyTorch frontend: ATen operator -> builder.

    @aten("add.Tensor", "add.Scalar")
    def _add(cx, x, y, alpha=1): ...

A rule gets a context and the operator's arguments: tensors as Values, symbolic sizes as Exprs,
everything else as it is in the FX graph. It returns a Value, or a tuple of Values for several
results; the driver converts each to the dtype that ATen gives it. A rule that can't handle its
arguments raises UnsupportedError, and the operator runs in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ferrule import ops
from ferrule.base.dtype import DType, boolean, f32, f64, from_name, i64
from ferrule.base.errors import UnsupportedError
from ferrule.ir.expr import ONE, Expr
from ferrule.ir.graph import GraphBuilder, TensorType, Value
from ferrule.ir.simplify import simplify
from ferrule.ops.own import ElementOperator

Number = int | float | bool
Scalar = Number | Expr
Operand = Value | Scalar

_GREATEST = {
    "f16": 65504.0,
    "bf16": (2 - 2.0**-7) * 2.0**127,
    "f32": (2 - 2.0**-23) * 2.0**127,
    "f64": math.inf,
}  # what a finite number may be
ATEN: dict[str, Callable[..., Any]] = {}
HIGHER: dict[str, Callable[..., Any]] = {}
"""Rules of operators that call graphs of their own, by name."""

_DTYPES = {
    "torch.float32": "f32",
    "torch.float64": "f64",
    "torch.float16": "f16",
    "torch.bfloat16": "bf16",
    "torch.int8": "i8",
    "torch.int16": "i16",
    "torch.int32": "i32",
    "torch.int64": "i64",
    "torch.uint8": "u8",
    "torch.uint16": "u16",
    "torch.uint32": "u32",
    "torch.uint64": "u64",
    "torch.bool": "bool",
}


def aten(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a rule for the ATen overloads `names` (without the leading "aten.") or of prims."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            ATEN[name if name.startswith("prims.") else f"aten.{name}"] = rule
        return rule

    return register


def own_rule(own: ElementOperator) -> None:
    """Register the rule of a user's operator, which PyTorch has as `torch.ops.ferrule.NAME`."""
    ATEN[f"ferrule.{own.name}.default"] = lambda cx, /, *values, **attributes: own.build(
        cx.b, *values, **attributes
    )


def dtype_of(torch_dtype: Any) -> DType:
    """The DType of a torch dtype. Raises UnsupportedError for one that ferrule does not have
    (complex, 8-bit floats).
    """
    name = _DTYPES.get(str(torch_dtype))
    if name is None:
        raise UnsupportedError(f"tensors of {torch_dtype} are not supported")
    return from_name(name)


@dataclass(frozen=True)
class Context:
    """What a rule sees of its node: the builder, the results' types, the operands' common dtype,
    and what the first operand is a view of: all of the memory that it lies in, with the order of
    dims there and the place of the operand's first element (None where that is not known).
    """

    b: GraphBuilder
    results: tuple[TensorType, ...]
    common: Callable[[], DType]
    memory: Callable[[], tuple[Value, tuple[int, ...], int | Expr] | None]

    @property
    def dtype(self) -> DType:
        """The dtype of the first result."""
        return self.results[0].dtype

    @property
    def shape(self) -> tuple[Expr, ...]:
        """The shape of the first result."""
        return self.results[0].shape

    def value(self, x: Operand, dtype: DType | None = None) -> Value:
        """An operand as a Value of `dtype` (of its own dtype where None is given)."""
        if isinstance(x, Value):
            return x if dtype is None else ops.cast(self.b, x, dtype)
        if isinstance(x, Expr):
            out = ops.scalar(self.b, x)
            return out if dtype is None else ops.cast(self.b, out, dtype)
        kind = dtype or (i64 if isinstance(x, int) else f32)
        if isinstance(x, float) and not kind.is_float:
            return ops.cast(self.b, ops.full(self.b, (), x, f64), kind)
        return ops.full(self.b, (), x, kind)

    def fitting(self, x: Operand, dtype: DType) -> Value:
        """The same for a number that PyTorch refuses beyond the range of `dtype` (`must_fit`)."""
        must_fit(x, dtype)
        return self.value(x, dtype)


def must_fit(x: Any, dtype: DType) -> None:
    """Raises UnsupportedError for a number that PyTorch does not convert to `dtype`: left to
    PyTorch, the operator says so.
    """
    if isinstance(x, int | float) and not _fits(x, dtype):
        raise UnsupportedError(f"PyTorch does not convert {x!r} to {dtype.name}")


def _fits(x: Number, dtype: DType) -> bool:
    """Whether PyTorch converts a number to `dtype` "without overflow": unsigned integers may be
    given by their negatives.
    """
    if dtype.is_bool:
        return True
    if dtype.is_float:
        return not math.isfinite(x) or abs(x) <= _GREATEST[dtype.name]
    if isinstance(x, float):
        return dtype.min <= x <= dtype.max
    return (-dtype.max if dtype.kind == "u" else dtype.min) <= x <= dtype.max


def truth(cx: Context, x: Value) -> Value:
    """Where x is not 0, as bools."""
    return ops.cast(cx.b, x, boolean)


def product(sizes: Sequence[Expr]) -> Expr:
    """How many elements a shape has."""
    out = ONE
    for s in sizes:
        out = out * s
    return simplify(out)


def pair(x: int | Sequence[int] | None, n: int, default: int = 0) -> tuple[int, ...]:
    """An argument of n spatial dims that may be given once for all, or be empty."""
    if x is None or (not isinstance(x, int) and len(x) == 0):
        return (default,) * n
    values = (x,) if isinstance(x, int) else tuple(x)
    return values * n if len(values) == 1 else values


def axes_of(dims: Any) -> tuple[int, ...] | None:
    """Reduced dims as ATen gives them: None and [] are all of them."""
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return None
    return (dims,) if isinstance(dims, int) else tuple(dims)
