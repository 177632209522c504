"""Op: what an operator's definition is made of.

An operator is one block: `define(name, infer, meaning, compute)`, or one of the shorter forms here.
Its builder function is called as `ops.name(b, *values, **attributes)` and emits a node.

    define          any operator
    elementwise     one Expr of the operands' elements, broadcast as in NumPy
    operator_of_elements    the same as a decorator, which makes the builder function as well
    element, at     how a Compute rule reads an operand ...
    stage, folded   ... and defines a result

f16 and bf16 are computed in f32: `element` loads an operand's element converted, `stage` and
`folded` convert back what they store. Meanings get bf16 as f32 and f16 as float16, which `upcast`
widens; what they return is rounded to the result's dtype by the interpreter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType
from ferrule.base.errors import CompileError, VerifyError
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, cast, load
from ferrule.ir.graph import (
    OPDEFS,
    Attrs,
    ComputeContext,
    ComputeRule,
    GraphBuilder,
    InferRule,
    MeaningRule,
    OpDef,
    RequireRule,
    Shape,
    StampRule,
    TensorType,
    Value,
)
from ferrule.ir.simplify import equal
from ferrule.ir.system import Access, Compute, Monoid, Reduce, Stage, substitute_stage

Array = NDArray[Any]
Index = tuple[Expr, ...]


def define(
    name: str,
    infer: InferRule,
    meaning: MeaningRule,
    compute: ComputeRule,
    doc: str = "",
    requires: RequireRule | None = None,
    stamp: StampRule | None = None,
) -> None:
    """Register the operator `name`. Raises CompileError if there is one already.

    The stages of `compute` may share axes: each gets its own here.
    """
    if name in OPDEFS:
        raise CompileError(f"the operator {name!r} is defined already")

    def rule(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        return _apart(ctx, compute(ctx, ins, outs, attrs))

    OPDEFS[name] = OpDef(name, infer, meaning, rule, doc=doc, requires=requires, stamp=stamp)


def _apart(ctx: ComputeContext, stages: list[Stage]) -> list[Stage]:
    """`stages` with axes that an earlier one has renamed."""
    seen: set[Expr] = set()
    out = []
    for st in stages:
        shared = [a for a in st.compute.all_axes if a in seen]
        if shared:
            fresh = ctx.axes(a.extent for a in shared)
            st = substitute_stage(st, dict(zip(shared, fresh, strict=True)))
        seen.update(st.compute.all_axes)
        out.append(st)
    return out


# ---- Compute rules -------------------------------------------------------------------------------


def element(buf: Buf, *idx: Expr) -> Expr:
    """An element of `buf`, in the dtype that it is computed in."""
    return cast(load(buf, *idx), buf.dtype.compute)


def stage(
    out: Buf,
    axes: Index,
    value: Expr,
    fold: Reduce | None = None,
    where: Expr | None = None,
    index: Index | None = None,
) -> Stage:
    """`out[index] = value` at each point of `axes`, folded by `fold`; `index` is `axes` by default.

    The value is converted to the dtype of `out`. With a fold the conversion is not part of the
    value: the target must have the dtype that is folded in (else, use `folded`).
    """
    if fold is None:
        value = cast(value, out.dtype)
    target = Access(out, axes if index is None else index)
    return Stage(out.name, (target,), Compute(axes, (value,), fold, where))


def folded(
    ctx: ComputeContext,
    out: Buf,
    axes: Index,
    value: Expr,
    over: Index,
    monoid: Monoid,
    where: Expr | None = None,
    index: Index | None = None,
) -> list[Stage]:
    """`out[index]` = the fold of `value` over the axes `over`, at each point of `axes`.

    Goes by way of an f32 buffer where `out` is f16 or bf16. `index` is `axes` by default.
    """
    fold = Reduce(over, monoid)
    if out.dtype == value.dtype:
        return [stage(out, axes, value, fold, where, index)]
    wide = ctx.buf("wide", (a.extent for a in axes), value.dtype)
    return [
        stage(wide, axes, value, fold, where),
        stage(out, axes, load(wide, *axes), index=index),
    ]


def at(buf: Buf, axes: Index) -> Index:
    """The index of `buf`'s element at the point `axes` of a shape that it broadcasts to."""
    return at_shape(buf.shape, axes)


def at_shape(shape: Shape, axes: Index) -> Index:
    """The index into an operand of `shape` at the point `axes` of a shape it broadcasts to."""
    lead = len(axes) - len(shape)
    return tuple(ZERO if equal(s, ONE) else a for s, a in zip(shape, axes[lead:], strict=True))


# ---- type rules ----------------------------------------------------------------------------------


def broadcast(shapes: Iterable[Shape]) -> Shape:
    """The shape that all of `shapes` broadcast to, as in NumPy.

    Raises CompileError where two sizes do not fit: symbolic sizes must be provably equal.
    """
    given = tuple(shapes)
    rank = max((len(s) for s in given), default=0)
    out: list[Expr] = []
    for d in range(rank):
        size = ONE
        for s in given:
            k = d - (rank - len(s))
            if k < 0 or equal(s[k], ONE):
                continue
            if size is not ONE and not equal(size, s[k]):
                shown = " and ".join(show_shape(x) for x in given)
                raise CompileError(
                    f"shapes {shown} do not broadcast: dimension {d} is {size} and {s[k]}"
                )
            size = s[k]
        out.append(size)
    return tuple(out)


def show_shape(shape: Shape) -> str:
    """A shape as messages show it."""
    return f"[{', '.join(map(str, shape))}]"


def same_dtype(name: str, types: tuple[TensorType, ...]) -> DType:
    """The operands' one dtype. Raises CompileError where they differ."""
    if len({t.dtype for t in types}) != 1:
        raise CompileError(
            f"{name} takes operands of one dtype, got {show_types(types)}; insert a cast"
        )
    return types[0].dtype


def check_kind(name: str, t: TensorType, accepts: str) -> None:
    """CompileError unless the kind of `t`'s dtype is among `accepts` (of "f", "i", "u", "b")."""
    if t.dtype.kind not in accepts:
        kinds = {"f": "floats", "i": "signed integers", "u": "unsigned integers", "b": "bool"}
        takes = ", ".join(kinds[k] for k in accepts)
        raise CompileError(f"{name} is defined on {takes}, got {t}")


def show_types(types: Iterable[TensorType]) -> str:
    """Operand types as messages show them."""
    return ", ".join(map(str, types))


def normal_axis(name: str, axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises CompileError outside -rank..rank-1."""
    if not -rank <= axis < rank:
        raise CompileError(f"{name}: axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


def normal_axes(name: str, axes: Iterable[int] | int | None, rank: int) -> tuple[int, ...]:
    """`axes` counted from the front, sorted; None is all of them.

    Raises CompileError for an axis out of range or given twice.
    """
    if axes is None:
        return tuple(range(rank))
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    out = tuple(sorted(normal_axis(name, a, rank) for a in given))
    if len(set(out)) != len(out):
        raise CompileError(f"{name}: an axis is given twice in {given}")
    return out


# ---- sums of products of integers ----------------------------------------------------------------


def check_bound(name: str, dtype: DType, attrs: Attrs) -> None:
    """CompileError unless the attribute `bound`, where there is one, is that of integers.

    It is a fact of a sum of products: for each result, the sizes |x * w| of its terms come to
    `bound` or less together, and so does any part of the sum. It stands there for passes, which may
    choose a dtype by it.
    """
    if attrs.get("bound") is not None and not (dtype.is_int and attrs["bound"] >= 0):
        raise CompileError(f"{name}: a bound is that of a sum of integers, got {dtype.name}")


def within_bound(
    name: str, attrs: Attrs, x: Array, w: Array, sums: Callable[[Array, Array], Array]
) -> None:
    """VerifyError unless the sums of products of `x` and `w` keep the bound that `attrs` tell."""
    bound = attrs.get("bound")
    if bound is None:
        return
    largest = sums(*(np.abs(a.astype(np.int64)) for a in (x, w))).max(initial=0)
    if largest > bound:
        raise VerifyError(f"{name}: terms come to {largest}, and its bound is {bound}")


# ---- elementwise operators -----------------------------------------------------------------------


def elementwise(
    name: str,
    value: Callable[..., Expr],
    meaning: Callable[..., Array],
    *,
    result: DType | None = None,
    accepts: str = "fiub",
) -> None:
    """Define an operator whose elements are `value(*elements, **attributes)`.

    `meaning` takes arrays (f16 and bf16 as f32) and the same attributes; `result` is the result's
    dtype, that of the operands by default; `accepts` lists the kinds of dtype it takes.
    """

    def infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
        dtype = same_dtype(name, types)
        check_kind(name, types[0], accepts)
        return TensorType(broadcast(t.shape for t in types), result or dtype)

    def apply(arrays: tuple[Array, ...], attrs: Attrs) -> Array:
        return meaning(*map(upcast, arrays), **attrs)

    def compute(
        ctx: ComputeContext, ins: tuple[Buf, ...], outs: tuple[Buf, ...], attrs: Attrs
    ) -> list[Stage]:
        axes = ctx.axes(outs[0].shape)
        elements = [element(b, *at(b, axes)) for b in ins]
        return [stage(outs[0], axes, value(*elements, **attrs))]

    define(name, infer, apply, compute)


def operator_of_elements(
    meaning: Callable[..., Array], *, result: DType | None = None, accepts: str = "fiub"
) -> Callable[[Callable[..., Expr]], Callable[..., Value]]:
    """Decorates the value of an elementwise operator, and gives its builder function:

        @operator_of_elements(lambda x, slope: np.where(x > 0, x, x * slope), accepts="f")
        def leaky_relu(x: Expr, slope: float = 0.01) -> Expr: ..

        ops.leaky_relu(b, x, 0.1)

    The operator has the function's name and docstring. Parameters without a default are operands,
    the others attributes, which are given by place or by name, and converted to the type of their
    default. `meaning`, `result` and `accepts` are those of `elementwise`.
    """

    def decorate(value: Callable[..., Expr]) -> Callable[..., Value]:
        name, signature = value.__name__, inspect.signature(value)
        defaults = {
            p.name: p.default for p in signature.parameters.values() if p.default is not p.empty
        }
        elementwise(name, value, meaning, result=result, accepts=accepts)

        def build(b: GraphBuilder, *given: Any, **named: Any) -> Value:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            found = bound.arguments
            attrs = {n: _like(found.pop(n), default) for n, default in defaults.items()}
            out: Value = b.emit(name, *found.values(), **attrs)
            return out

        build.__name__, build.__doc__ = name, value.__doc__
        return build

    return decorate


def _like(x: Any, default: Any) -> Any:
    """An attribute as the type of its default; None and other defaults leave it as it is."""
    return type(default)(x) if isinstance(default, float) and x is not None else x


def upcast(x: Array) -> Array:
    """f16 as f32, anything else as it is: for meanings."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
