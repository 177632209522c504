"""Trace: a plain Python function over NumPy arrays as a Graph, with no framework.

    @ferrule.jit
    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

The function runs once on `Traced` arrays, which record what is done to them. NumPy's own functions
work on these through the protocols `__array_ufunc__` (NEP 13) and `__array_function__` (NEP 18):
UFUNCS and FUNCTIONS below are the whole table of what is understood; anything else is an
UnsupportedError that names it. Python control flow runs while tracing, so it may depend on shapes
and not on values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, boolean, from_numpy, i64, promote
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.ir.expr import Expr
from ferrule.ir.graph import Graph, GraphBuilder, TensorType, Value

Operand = Any
_SMALL = 64


class Traced:
    """An array that records. Its shape holds ints, and Exprs where a size is symbolic."""

    __slots__ = ("builder", "captured", "value")
    __array_priority__ = 1000

    def __init__(
        self,
        builder: GraphBuilder,
        value: Value,
        captured: list[tuple[Value, np.ndarray[Any, Any]]],
    ):
        self.builder, self.value, self.captured = builder, value, captured

    @property
    def shape(self) -> tuple[Expr | int, ...]:
        return tuple(int(s.attr) if s.is_const else s for s in self.value.shape)

    @property
    def ndim(self) -> int:
        return self.value.rank

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype.numpy

    @property
    def T(self) -> Traced:
        return self.transpose()

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Operand, **kwargs: Any
    ) -> Traced:
        rule = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or rule is None or kwargs:
            extra = f" with {', '.join(kwargs)}" if kwargs else ""
            raise UnsupportedError(
                f"numpy.{ufunc.__name__}.{method}{extra} cannot be traced; the table is "
                "ferrule.frontend.trace.UFUNCS"
            )
        return rule(self, *inputs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        rule = FUNCTIONS.get(func.__name__)
        if rule is None:
            raise UnsupportedError(
                f"numpy.{func.__name__} cannot be traced; the table is "
                "ferrule.frontend.trace.FUNCTIONS"
            )
        return rule(*args, **kwargs)

    def __bool__(self) -> bool:
        raise InputError(
            "the value of a traced array is not known while tracing: use numpy.where, not `if`"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise InputError("a traced array has no values yet: this function cannot be traced")

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d array")
        size = self.shape[0]
        if isinstance(size, Expr):
            raise InputError(f"the length {size} is symbolic while tracing: use .shape[0]")
        return size

    # -- methods, by the functions below --

    def reshape(self, *shape: Any) -> Traced:
        return _reshape(
            self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        )

    def transpose(self, *axes: Any) -> Traced:
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        return _transpose(self, given or None)

    def astype(self, dtype: Any) -> Traced:
        return self.wrap(ops.cast(self.builder, self.value, from_numpy(np.dtype(dtype))))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _reduce("mean")(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _reduce("reduce_max")(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _reduce("reduce_min")(self, axis, keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Traced:
        return _var(self, axis, keepdims, ddof)

    def std(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Traced:
        return _std(self, axis, keepdims, ddof)

    def wrap(self, value: Value) -> Traced:
        return Traced(self.builder, value, self.captured)

    def __neg__(self) -> Traced:
        return UFUNCS["negative"](self, self)

    def __invert__(self) -> Traced:
        return UFUNCS["invert"](self, self)

    def __abs__(self) -> Traced:
        return UFUNCS["absolute"](self, self)

    def __getitem__(self, index: Any) -> Traced:
        return _index(self, index if isinstance(index, tuple) else (index,))


def _lift(like: Traced, x: Operand, dtype: DType | None = None) -> Value:
    """An operand as a value: a traced array, a Python number (of the other operand's dtype), or an
    array, which becomes a constant where it is small and a parameter where it isn't.
    """
    if isinstance(x, Traced):
        return x.value
    if isinstance(x, Expr):
        return ops.scalar(like.builder, x)
    if isinstance(x, bool | int | float):
        kind = dtype or like.value.dtype
        if isinstance(x, float) and not kind.is_float:
            kind = from_numpy(np.dtype(np.float32))
        return ops.full(like.builder, (), x, kind)
    array = np.asarray(x)
    if array.size <= _SMALL:
        return ops.constant(like.builder, array)
    for value, known in like.captured:
        if known is array:
            return value
    value = like.builder.param(
        TensorType(ops.full(like.builder, array.shape, 0, i64).shape, from_numpy(array.dtype))
    )
    like.captured.append((value, np.ascontiguousarray(array)))
    return value


def _promoted(like: Traced, operands: Sequence[Operand]) -> list[Value]:
    """The operands in their common dtype; Python numbers do not widen it within their kind."""
    strong = [
        from_numpy(np.asarray(x).dtype) if not isinstance(x, Traced) else x.value.dtype
        for x in operands
        if not isinstance(x, bool | int | float)
    ]
    dtype = strong[0]
    for d in strong[1:]:
        dtype = promote(dtype, d)
    if any(isinstance(x, float) for x in operands) and not dtype.is_float:
        dtype = from_numpy(np.dtype(np.float64))
    return [ops.cast(like.builder, _lift(like, x, dtype), dtype) for x in operands]


def _elementwise(name: str, floats: bool = False) -> Callable[..., Traced]:
    def apply(like: Traced, *operands: Operand) -> Traced:
        values = _promoted(like, operands)
        if floats and not values[0].dtype.is_float:
            values = [ops.cast(like.builder, v, from_numpy(np.dtype(np.float64))) for v in values]
        return like.wrap(getattr(ops, name)(like.builder, *values))

    return apply


UFUNCS: dict[str, Callable[..., Traced]] = {
    **{
        n: _elementwise(n)
        for n in ("add", "abs", "sign", "floor", "ceil", "trunc", "minimum", "maximum")
    },
    **{
        n: _elementwise(n, floats=True)
        for n in (
            "sqrt",
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "hypot",
        )
    },
    "subtract": _elementwise("sub"),
    "multiply": _elementwise("mul"),
    "divide": _elementwise("div", floats=True),
    "true_divide": _elementwise("div", floats=True),
    "floor_divide": _elementwise("floordiv"),
    "remainder": _elementwise("mod"),
    "fmod": _elementwise("rem"),
    "power": _elementwise("pow"),
    "negative": _elementwise("neg"),
    "absolute": _elementwise("abs"),
    "square": _elementwise("square"),
    "reciprocal": _elementwise("reciprocal", floats=True),
    "rint": _elementwise("round"),
    "arcsin": _elementwise("asin", True),
    "arccos": _elementwise("acos", True),
    "arctan": _elementwise("atan", True),
    "arcsinh": _elementwise("asinh", True),
    "arccosh": _elementwise("acosh", True),
    "arctanh": _elementwise("atanh", True),
    "arctan2": _elementwise("atan2", True),
    "equal": _elementwise("eq"),
    "not_equal": _elementwise("ne"),
    "less": _elementwise("lt"),
    "less_equal": _elementwise("le"),
    "greater": _elementwise("gt"),
    "greater_equal": _elementwise("ge"),
    "logical_and": _elementwise("logical_and"),
    "logical_or": _elementwise("logical_or"),
    "logical_not": _elementwise("logical_not"),
    "bitwise_and": _elementwise("bitwise_and"),
    "bitwise_or": _elementwise("bitwise_or"),
    "bitwise_xor": _elementwise("bitwise_xor"),
    "invert": _elementwise("bitwise_not"),
    "left_shift": _elementwise("shl"),
    "right_shift": _elementwise("shr"),
    "isnan": _elementwise("isnan"),
    "isinf": _elementwise("isinf"),
    "isfinite": _elementwise("isfinite"),
    "matmul": _elementwise("matmul"),
}


def _operator(name: str, swap: bool = False) -> Callable[[Traced, Operand], Traced]:
    def apply(self: Traced, other: Operand) -> Traced:
        return UFUNCS[name](self, other, self) if swap else UFUNCS[name](self, self, other)

    return apply


for _method, _name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}.items():
    setattr(Traced, f"__{_method}__", _operator(_name))
    setattr(Traced, f"__r{_method}__", _operator(_name, swap=True))
for _method, _name in {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}.items():
    setattr(Traced, f"__{_method}__", _operator(_name))


# ---- functions -----------------------------------------------------------------------------------


def _axes(axis: Any) -> tuple[int, ...] | None:
    return None if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)


def _reduce(name: str) -> Callable[..., Traced]:
    def apply(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
        return x.wrap(getattr(ops, name)(x.builder, x.value, _axes(axis), keepdims=keepdims))

    return apply


def _sum(x: Traced, axis: Any = None, keepdims: bool = False) -> Traced:
    wide = x.value if x.value.dtype.is_float else ops.cast(x.builder, x.value, i64)
    return x.wrap(ops.reduce_sum(x.builder, wide, _axes(axis), keepdims=keepdims))


def _var(x: Traced, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Traced:
    return x.wrap(ops.var(x.builder, x.value, _axes(axis), correction=ddof, keepdims=keepdims))


def _std(x: Traced, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Traced:
    return x.wrap(ops.sqrt(x.builder, _var(x, axis, keepdims, ddof).value))


def _arg(name: str) -> Callable[..., Traced]:
    def apply(x: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        return x.wrap(getattr(ops, name)(x.builder, x.value, axis, keepdims=keepdims))

    return apply


def _reshape(x: Traced, shape: Any, **_: Any) -> Traced:
    given = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if -1 in [s for s in given if isinstance(s, int)]:
        known: Any = 1
        whole: Any = 1
        for s in given:
            known = known * s if not (isinstance(s, int) and s == -1) else known
        for s in x.shape:
            whole = whole * s
        rest = whole // known
        given = tuple(rest if isinstance(s, int) and s == -1 else s for s in given)
    return x.wrap(ops.reshape(x.builder, x.value, given))


def _transpose(x: Traced, axes: Any = None) -> Traced:
    return x.wrap(
        ops.transpose(
            x.builder, x.value, tuple(axes) if axes is not None else tuple(range(x.ndim))[::-1]
        )
    )


def _swapaxes(x: Traced, a: int, b: int) -> Traced:
    order = list(range(x.ndim))
    order[a], order[b] = order[b], order[a]
    return _transpose(x, order)


def _where(c: Operand, a: Operand, b: Operand) -> Traced:
    like = next(t for t in (c, a, b) if isinstance(t, Traced))
    values = (
        _promoted(like, [a, b])
        if not all(isinstance(t, bool | int | float) for t in (a, b))
        else [ops.full(like.builder, (), t, from_numpy(np.dtype(np.float64))) for t in (a, b)]
    )
    return like.wrap(
        ops.select(like.builder, ops.cast(like.builder, _lift(like, c), boolean), *values)
    )


def _concatenate(arrays: Sequence[Operand], axis: int = 0) -> Traced:
    like = next(t for t in arrays if isinstance(t, Traced))
    return like.wrap(ops.concat(like.builder, _promoted(like, list(arrays)), axis))


def _stack(arrays: Sequence[Operand], axis: int = 0) -> Traced:
    like = next(t for t in arrays if isinstance(t, Traced))
    return like.wrap(ops.stack(like.builder, _promoted(like, list(arrays)), axis))


def _expand_dims(x: Traced, axis: int) -> Traced:
    shape = list(x.shape)
    shape.insert(axis if axis >= 0 else axis + x.ndim + 1, 1)
    return _reshape(x, tuple(shape))


def _clip(x: Traced, lo: Any = None, hi: Any = None) -> Traced:
    return x.wrap(ops.clamp(x.builder, x.value, lo, hi))


def _einsum(spec: str, *operands: Operand) -> Traced:
    like = next(t for t in operands if isinstance(t, Traced))
    return like.wrap(ops.einsum(like.builder, spec, *_promoted(like, operands)))


def _broadcast_to(x: Traced, shape: Any) -> Traced:
    return x.wrap(ops.expand(x.builder, x.value, tuple(shape)))


def _cumsum(x: Traced, axis: int | None = None) -> Traced:
    if axis is None:
        x, axis = _reshape(x, (-1,)), 0
    return x.wrap(ops.cumsum(x.builder, x.value, axis))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "mean": _reduce("mean"),
    "max": _reduce("reduce_max"),
    "amax": _reduce("reduce_max"),
    "min": _reduce("reduce_min"),
    "amin": _reduce("reduce_min"),
    "prod": _reduce("reduce_prod"),
    "any": _reduce("reduce_any"),
    "all": _reduce("reduce_all"),
    "var": _var,
    "std": _std,
    "argmax": _arg("argmax"),
    "argmin": _arg("argmin"),
    "reshape": _reshape,
    "transpose": _transpose,
    "swapaxes": _swapaxes,
    "where": _where,
    "concatenate": _concatenate,
    "stack": _stack,
    "expand_dims": _expand_dims,
    "clip": _clip,
    "einsum": _einsum,
    "broadcast_to": _broadcast_to,
    "dot": lambda a, b: a @ b if isinstance(a, Traced) else b.__rmatmul__(a),
    "cumsum": _cumsum,
    "squeeze": lambda x, axis=None: _squeeze(x, axis),
    "tril": lambda x, k=0: x.wrap(ops.tril(x.builder, x.value, k)),
    "triu": lambda x, k=0: x.wrap(ops.triu(x.builder, x.value, k)),
}


def _squeeze(x: Traced, axis: Any = None) -> Traced:
    drop = _axes(axis)
    dims = (
        [a % x.ndim for a in drop]
        if drop is not None
        else [d for d, s in enumerate(x.shape) if s == 1]
    )
    return _reshape(x, tuple(s for d, s in enumerate(x.shape) if d not in dims))


def _index(x: Traced, index: tuple[Any, ...]) -> Traced:
    """Basic indexing (ints, slices, None, Ellipsis) and one integer array along one axis."""
    if Ellipsis in [i for i in index if not isinstance(i, Traced | np.ndarray)]:
        at = next(k for k, i in enumerate(index) if i is Ellipsis)
        fill = x.ndim - sum(1 for i in index if i is not None and i is not Ellipsis)
        index = (*index[:at], *([slice(None)] * fill), *index[at + 1 :])
    b, value, d = x.builder, x.value, 0
    for i in index:
        if i is None:
            value = _expand_dims(x.wrap(value), d).value
            d += 1
        elif isinstance(i, slice):
            if i != slice(None):
                value = _slice(x.wrap(value), d, i)
            d += 1
        elif isinstance(i, int | Expr):
            size = x.wrap(value).shape[d]
            value = ops.select_index(b, value, d, i + size if isinstance(i, int) and i < 0 else i)
        else:
            value = ops.take(b, value, _lift(x, i), d, wrap=True)
            d += np.ndim(i) if not isinstance(i, Traced) else i.ndim
    return x.wrap(value)


def _slice(x: Traced, d: int, i: slice) -> Value:
    size = x.shape[d]
    start: Any
    stop: Any
    step = 1 if i.step is None else i.step
    if step < 0:
        raise UnsupportedError("a slice with a negative step cannot be traced: use numpy.flip")
    if isinstance(size, int):
        start, stop, step = i.indices(size)
        stop = max(start, stop)
    else:
        start, stop = (0 if i.start is None else i.start), (size if i.stop is None else i.stop)
        start, stop = (size + v if isinstance(v, int) and v < 0 else v for v in (start, stop))
    starts: list[Any] = [0] * x.ndim
    stops: list[Any] = list(x.shape)
    steps = [1] * x.ndim
    starts[d], stops[d], steps[d] = start, stop, step
    return ops.slice(x.builder, x.value, tuple(starts), tuple(stops), tuple(steps))


def trace(
    fn: Callable[..., Any], types: Sequence[TensorType], name: str
) -> tuple[Graph, Any, list[np.ndarray[Any, Any]]]:
    """(graph of `fn`, the structure of its result, the arrays that it captured as parameters).

    The structure is None for one array, else the tuple or list type.
    """
    builder = GraphBuilder(name)
    captured: list[tuple[Value, np.ndarray[Any, Any]]] = []
    result = fn(*(Traced(builder, builder.input(t), captured) for t in types))
    several = result if isinstance(result, tuple | list) else (result,)
    for r in several:
        if not isinstance(r, Traced):
            raise InputError(
                f"{name} must return arrays made from its arguments, got {type(r).__name__}"
            )
    graph = builder.build([r.value for r in several])
    return (
        graph,
        type(result) if isinstance(result, tuple | list) else None,
        [array for _, array in captured],
    )
