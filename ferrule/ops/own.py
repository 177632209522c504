"""Own: operators that users define, element by element.

    scaled = ElementOperator("scaled", lambda x, by: x * by, lambda x, by: x * by, ("x",),
                             {"by": 2.0})
    scaled.define()
    scaled.build(b, x, by=3.0)

The value is called with arguments in place of elements, once for each combination of dtypes and
attributes; what it gives is the operator's formula. The result's dtype, the equations and the
stamp all follow from the formula, so that none of them can differ from another.

What `ferrule.define_operator` adds is in `ferrule.api.operators`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, boolean, from_storage, to_storage
from ferrule.base.errors import CompileError, FerruleError, InputError, InputTypeError
from ferrule.ir.expr import Buf, Expr, arg, const, like, substitute, walk
from ferrule.ir.graph import (
    OPDEFS,
    Attrs,
    ComputeContext,
    GraphBuilder,
    TensorType,
    Value,
    tensor,
)
from ferrule.ir.system import Stage
from ferrule.ir.verify.expr import fault_of
from ferrule.ops.op import (
    Array,
    at,
    broadcast,
    check_kind,
    define,
    element,
    same_dtype,
    stage,
    upcast,
)

OWN: dict[str, ElementOperator] = {}
"""The operators that users have defined, by name."""


@dataclass(frozen=True, eq=False)
class ElementOperator:
    """An operator of elements. `operands` are the names of its operands, `defaults` its attributes:
    each a bool, an int, a float, a str or a tuple of one of these.

    `value` takes Exprs and the attributes and gives an Expr; `meaning` takes arrays (f16 and bf16
    as f32) and the attributes; `accepts` lists the kinds of dtype it takes.
    """

    name: str
    value: Callable[..., Any]
    meaning: Callable[..., Any]
    operands: tuple[str, ...]
    defaults: Mapping[str, Any]
    accepts: str = "fiub"
    doc: str = ""
    _formulas: dict[Any, Expr] = field(default_factory=dict)

    def define(self) -> None:
        """Make it the operator of its name. Raises InputError for the name of one of ferrule's."""
        if self.name in OPDEFS and self.name not in OWN:
            raise InputError(f"{self.name} is an operator of ferrule itself: choose another name")
        OPDEFS.pop(self.name, None)
        define(
            self.name, self._infer, self._apply, self._compute, doc=self.doc, stamp=self._stamp
        )
        OWN[self.name] = self

    def build(self, b: GraphBuilder, /, *values: Value, **attributes: Any) -> Value:
        """Emit a node. Attributes that are not given have their defaults. Raises InputTypeError for
        attributes that do not fit, and CompileError for operands that do not.
        """
        out: Value = b.emit(self.name, *values, **self.complete(attributes))
        return out

    def run(
        self, arrays: Sequence[Array], dtype: DType, attributes: Mapping[str, Any]
    ) -> tuple[Array, DType]:
        """What the meaning gives for real values (bf16 as f32) of operands of `dtype`, rounded to
        the result's dtype, and that dtype. Raises CompileError for operands that do not fit and
        InputError for a result of another shape than it should have.
        """
        attrs = self.complete(attributes)
        types = tuple(tensor(x.shape, dtype) for x in arrays)
        expected = self._infer(types, attrs)
        with np.errstate(all="ignore"):
            out = np.asarray(self._apply(tuple(arrays), attrs))
        shape = tuple(s.value for s in expected.shape)
        if out.shape != shape:
            raise InputError(
                f"{self.name}: its meaning gave an array of shape {out.shape}, and should give "
                f"{shape}, a number for each element"
            )
        return from_storage(to_storage(out, expected.dtype), expected.dtype), expected.dtype

    # ---- attributes ------------------------------------------------------------------------------

    def complete(self, given: Mapping[str, Any]) -> Attrs:
        """All attributes, each of the type of its default. Raises InputTypeError."""
        for name in given:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise InputTypeError(
                    f"{self.name} has no attribute {name!r}; its attributes are: {known}"
                )
        return {
            name: as_type_of(default, given.get(name, default), f"{self.name}: {name}")
            for name, default in self.defaults.items()
        }

    def _complete(self, attrs: Mapping[str, Any]) -> Attrs:
        """The same for the attributes of a node, whose errors are CompileErrors."""
        try:
            return self.complete(attrs)
        except InputTypeError as error:
            raise CompileError(str(error)) from None

    # ---- the formula and what follows from it ----------------------------------------------------

    def formula(self, dtype: DType, attrs: Mapping[str, Any]) -> Expr:
        """The operator's value for elements of `dtype`, as an Expr over `arg(0)`, `arg(1)`, ..

        Raises CompileError for what the value raises, and where it gives no number of its operands.
        """
        complete = self._complete(attrs)
        key = (dtype, repr(sorted(complete.items())))  # repr: 0.0 is not -0.0, and 1 not True
        found = self._formulas.get(key)
        if found is None:
            found = self._formulas[key] = self._evaluated(dtype, complete)
        return found

    def result(self, dtype: DType, attrs: Mapping[str, Any]) -> DType:
        """The result's dtype for operands of `dtype`: theirs, unless the formula has another."""
        found = self.formula(dtype, attrs).dtype
        return dtype if found == dtype.compute else found

    def _evaluated(self, dtype: DType, attrs: Attrs) -> Expr:
        args = tuple(arg(i, dtype.compute) for i in range(len(self.operands)))
        try:
            out = self.value(*args, **attrs)
            if isinstance(out, bool | int | float) and not isinstance(out, np.generic):
                out = const(out, boolean) if isinstance(out, bool) else like(out, args[0])
        except FerruleError:
            raise
        except Exception as error:
            raise CompileError(
                f"{self.name} of {dtype} elements: {type(error).__name__}: {error} (its value is "
                "made by arithmetic and the functions of ferrule.elements)"
            ) from error
        fault = _fault(out, args)
        if fault is not None:
            raise CompileError(f"{self.name} of {dtype} elements: {fault}")
        assert isinstance(out, Expr)
        return out

    def _infer(self, types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        if len(types) != len(self.operands):
            raise CompileError(
                f"{self.name} takes {len(self.operands)} operands ({', '.join(self.operands)}), "
                f"not {len(types)}"
            )
        dtype = same_dtype(self.name, types)
        check_kind(self.name, types[0], self.accepts)
        return TensorType(broadcast(t.shape for t in types), self.result(dtype, attrs))

    def _apply(self, arrays: tuple[Array, ...], attrs: Attrs) -> Array:
        out: Array = self.meaning(*map(upcast, arrays), **self._complete(attrs))
        return out

    def _compute(
        self, ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        dtype = ins[0].dtype
        elements = {
            arg(i, dtype.compute): element(b, *at(b, axes)) for i, b in enumerate(ins)
        }
        return [stage(outs[0], axes, substitute(self.formula(dtype, attrs), elements))]

    def _stamp(self, types: tuple[TensorType, ...], attrs: Attrs) -> str:
        """The formula, each node once: as text it could be too long for one that shares parts."""
        places: dict[Expr, int] = {}
        lines = []
        for n in walk(self.formula(types[0].dtype, attrs)):
            lines.append(f"{n.op} {n.attr!r} {n.dtype} {[places[a] for a in n.args]}")
            places[n] = len(places)
        return "; ".join(lines)


def _fault(out: Any, args: tuple[Expr, ...]) -> str | None:
    """Why `out` is no value of an operator of `args`; None if it is one."""
    if not isinstance(out, Expr):
        return f"its value is a {type(out).__name__}, and should be made of its operands"
    for n in walk(out):
        if not n.args and n.op != "const" and n not in args:
            return f"its value has {n} in it, which is none of its operands"
    return fault_of(out)


def as_type_of(default: Any, x: Any, what: str) -> Any:
    """An attribute's value as the type of its default. Raises InputTypeError, which begins with
    `what`.
    """
    try:
        if isinstance(default, tuple):
            if isinstance(x, str | Expr):
                raise TypeError
            return tuple(as_type_of(default[0], e, what) for e in x)
        if isinstance(default, bool) and isinstance(x, bool | np.bool_):
            return bool(x)
        if isinstance(default, int) and not isinstance(default, bool):
            return operator.index(x)
        if isinstance(default, float) and not isinstance(x, str | bytes):
            return float(x)
        if isinstance(default, str) and isinstance(x, str):
            return str(x)
    except (TypeError, ValueError, OverflowError):
        pass
    kind = type(default[0] if isinstance(default, tuple) else default).__name__
    wanted = f"a tuple of {kind}" if isinstance(default, tuple) else f"a value of type {kind}"
    raise InputTypeError(f"{what}: expected {wanted}, got {x!r}")
