"""Traced: the array that a function is given while it is traced, and how NumPy dispatches to it.

    UFUNCS     numpy ufunc -> builder over values in the dtypes that the ufunc resolves to
    FUNCTIONS  numpy function -> rule over Traced arrays, numbers and NumPy arrays
    MAKERS     numpy function with like= -> rule over the tape and its other arguments

Result dtypes are NumPy's own: a ufunc is asked which loop it would run (`resolve_dtypes`, NEP 50),
so a Python number is `weak` here as it is there. Arithmetic on weak numbers alone stays weak.

An array may be written in place (`y[1:] = z`, `y += 1`) unless it is an argument, whose memory is
the caller's. A view reads its base anew after a write, so aliases behave as in NumPy.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import DType, bf16, from_numpy
from ferrule.base.errors import InputError, InputTypeError, UnsupportedError
from ferrule.ir.expr import Expr, as_index, compare
from ferrule.ir.graph import GraphBuilder, TensorType, Value
from ferrule.ir.simplify import equal, simplify

Array = np.ndarray[Any, Any]
Operand = Any
Read = Callable[[Value], Value]
Write = Callable[[Value, Value], Value]

UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
MAKERS: dict[str, Callable[..., Any]] = {}
REFUSED: dict[str, str] = {}
_METHODS = (
    "all any argmax argmin argsort clip copy cumprod cumsum diagonal dot flatten max mean min prod "
    "ravel repeat round squeeze std sum swapaxes take trace var view"
)
_SMALL = 64


class Tape:
    """What one trace writes to: the graph's builder, and arrays from outside of the function.

    Each of `captured` is (its parameter, the array that the function refers to, a copy of it).
    """

    def __init__(self, name: str):
        self.builder = GraphBuilder(name)
        self.captured: list[tuple[Value, Array, Array]] = []

    def wrap(self, value: Value) -> Traced:
        """A value of the graph as a new array."""
        return Traced(self, value)

    def constant(self, array: Array) -> Value:
        """An array from outside: written into the program where it is small, else a parameter."""
        dtype = from_numpy(array.dtype)
        if array.size <= _SMALL:
            return ops.constant(self.builder, array, dtype)
        for value, known, _ in self.captured:
            if known is array:
                return value
        shape = tuple(as_index(n) for n in array.shape)
        value = self.builder.param(TensorType(shape, dtype))
        self.captured.append((value, array, np.array(array, order="C")))
        return value

    def lift(self, x: Operand, dtype: np.dtype[Any] | None = None) -> Value:
        """An operand as a value, in `dtype` if one is given."""
        wanted = None if dtype is None else from_numpy(dtype)
        x = as_operand(x)
        if isinstance(x, Traced):
            if x.tape is not self:
                raise InputError(
                    "a traced array was kept from an earlier call of the function; return it and "
                    "pass it as an argument instead"
                )
            value = x.value
        elif isinstance(x, bool | int | float):
            return _number(self.builder, x, wanted or from_numpy(np.asarray(x).dtype))
        else:
            value = self.constant(x)
        return value if wanted is None else ops.cast(self.builder, value, wanted)


def _number(b: GraphBuilder, x: float | int | bool, dtype: DType) -> Value:
    if dtype.is_int and not dtype.min <= x <= dtype.max:
        raise InputError(f"the Python number {x} is out of range for {dtype.numpy}; use astype")
    return ops.full(b, (), x, dtype)


class Traced:
    """An array that records what is done to it. Its shape holds ints, and Sizes where symbolic."""

    __slots__ = ("_base", "_read", "_seen", "_value", "_write", "argument", "tape", "weak")
    __array_priority__ = 1000
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, tape: Tape, value: Value | None, weak: type | None = None, argument: str = ""
    ):
        self.tape, self._value, self.weak, self.argument = tape, value, weak, argument
        self._base: Traced | None = None
        self._read: Read | None = None
        self._write: Write | None = None
        self._seen: Value | None = None

    # -- what it is --

    @property
    def value(self) -> Value:
        """The value of the graph that the array has now."""
        if self._base is not None and self._read is not None:
            base = self._base.value
            if base is not self._seen:
                self._value, self._seen = self._read(base), base
        assert self._value is not None
        return self._value

    @property
    def b(self) -> GraphBuilder:
        return self.tape.builder

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(size_of(self.tape, s) for s in self.value.shape)

    @property
    def ndim(self) -> int:
        return self.value.rank

    @property
    def size(self) -> Any:
        out: Any = 1
        for n in self.shape:
            out = out * n
        return out

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self.value.dtype)

    @property
    def itemsize(self) -> int:
        return self.value.dtype.size

    @property
    def T(self) -> Traced:
        return self.transpose()

    @property
    def mT(self) -> Traced:
        out: Traced = FUNCTIONS["swapaxes"](self, -1, -2)
        return out

    def __repr__(self) -> str:
        return f"Traced({self.value.type})"

    # -- new arrays, views, writes --

    def wrap(self, value: Value) -> Traced:
        """A value of the same graph as a new array."""
        return Traced(self.tape, value)

    def viewed(self, read: Read, write: Write | None = None) -> Traced:
        """A view: `read` gives its value from this array's, `write` this array's value after
        the view was given a new one.
        """
        out = Traced(self.tape, None)
        out._base, out._read, out._write = self, read, write
        return out

    def assign(self, value: Value) -> None:
        """Gives the array another value of the same type. Raises InputError for an argument and
        UnsupportedError for a view that cannot be written through.
        """
        if self.argument and self._base is None:
            raise InputError(
                f"the argument {self.argument} would be changed in place, and arguments of a "
                f"compiled function are not: work on a copy, {self.argument} = "
                f"{self.argument}.copy()"
            )
        if self._base is None:
            self._value = value
        elif self._write is None:
            raise UnsupportedError(
                "writing through this view cannot be traced: index the array itself, "
                "as in x[:, 0] = y"
            )
        else:
            self._base.assign(self._write(self._base.value, value))

    def __setitem__(self, index: Any, new: Operand) -> None:
        FUNCTIONS["__setitem__"](self, index, new)

    def __getitem__(self, index: Any) -> Traced:
        out: Traced = FUNCTIONS["__getitem__"](self, index)
        return out

    # -- NumPy's protocols --

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Operand, **given: Any) -> Any:
        kwargs = {k: v for k, v in given.items() if v is not None and not _default(k, v)}
        if method != "__call__":
            return FUNCTIONS["__ufunc_method__"](ufunc, method, *inputs, **kwargs)
        unknown = sorted(kwargs.keys() - {"dtype", "casting"})
        if unknown:
            raise UnsupportedError(
                f"numpy.{ufunc.__name__} with {', '.join(unknown)} cannot be traced; "
                f"assign its result instead, or choose with numpy.where"
            )
        return call_ufunc(ufunc, inputs, **kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        name = f"{func.__module__}.{func.__name__}".removeprefix("numpy.")
        if name in MAKERS:
            given = {k: v for k, v in kwargs.items() if not _default(k, v)}
            return MAKERS[name](self.tape, *args, **given)
        return call_function(name, args, {k: v for k, v in kwargs.items() if v is not np._NoValue})

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS.split():
            return lambda *args, **kwargs: call_function(name, (self, *args), kwargs)
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a traced array has no attribute {name!r}")
        own = f"ndarray.{name}"
        why = refusal(own if own in REFUSED else name)
        raise UnsupportedError(f"numpy.{own} cannot be traced{why}")

    # -- where Python wants values --

    def __bool__(self) -> bool:
        raise UnsupportedError(
            "`if`, `while`, `and`, `or` and `not` need the value of an array, which is not known "
            "while tracing: choose with numpy.where(condition, a, b), combine with & | ~, or make "
            "the argument static with static_argnames"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            "NumPy asked for the values of a traced array, which are not known while tracing: "
            "numpy.asarray of it is not needed, and functions that take a list want numpy.stack. "
            "Make arrays that are filled in the function with like=: numpy.zeros(shape, like=x)"
        )

    def _no_number(self, what: str) -> UnsupportedError:
        which = f"the argument {self.argument}" if self.argument else "an array"
        static = f"static_argnames={self.argument!r}" if self.argument else "static_argnames"
        return UnsupportedError(
            f"{what} needs the value of {which}, which is not known while tracing: convert with "
            "astype, call numpy's functions instead of those of math, fill arrays that are made "
            f"with like=, or make the argument static with ferrule.jit(.., {static})"
        )

    def __float__(self) -> float:
        raise self._no_number("float()")

    def __int__(self) -> int:
        raise self._no_number("int()")

    def __complex__(self) -> complex:
        raise self._no_number("complex()")

    def __index__(self) -> int:
        raise self._no_number("a size, an axis or range()")

    def item(self, *args: Any) -> Any:
        raise self._no_number("item()")

    def tolist(self) -> Any:
        raise self._no_number("tolist()")

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d array")
        size = self.shape[0]
        if isinstance(size, Size):
            raise InputError(f"len() needs the size {size}, which is symbolic: use .shape[0]")
        return int(size)

    def __iter__(self) -> Iterator[Traced]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        if isinstance(self.shape[0], Size):
            raise InputError(
                f"iteration over an axis of the symbolic size {self.shape[0]}: a loop is unrolled "
                "while tracing, so its length must be known; work on whole arrays"
            )
        return (self[i] for i in range(len(self)))

    # -- methods whose arguments are not those of the function --

    def reshape(self, *shape: Any, **kwargs: Any) -> Traced:
        given = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        out: Traced = call_function("reshape", (self, given), kwargs)
        return out

    def transpose(self, *axes: Any) -> Traced:
        given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        out: Traced = FUNCTIONS["transpose"](self, given or None)
        return out

    def astype(self, dtype: Any, copy: bool = True) -> Traced:
        """The array converted; always a new one."""
        return self.wrap(ops.cast(self.b, self.value, from_numpy(np.dtype(dtype))))

    def fill(self, value: Operand) -> None:
        self[...] = value


class Size(Traced):
    """A symbolic size: arithmetic with integers gives sizes, anything else 0-d arrays."""

    __slots__ = ("expr",)

    def __init__(self, tape: Tape, expr: Expr):
        super().__init__(tape, None, weak=int)
        self.expr = expr

    @property
    def value(self) -> Value:
        return ops.scalar(self.b, self.expr)

    def __repr__(self) -> str:
        return str(self.expr)

    def __bool__(self) -> bool:
        return self.decide("ne", 0)

    def __index__(self) -> int:
        raise UnsupportedError(
            f"the value of the symbolic size {self} is not known while tracing: make arrays of "
            "this size with numpy.zeros_like(x, shape=..), or numpy.ones, full, arange or eye "
            "with like=x; for a loop over it, compile with this size static (see `dynamic`)"
        )

    def __neg__(self) -> Any:
        return size_of(self.tape, -self.expr)

    def decide(self, name: str, other: Any) -> bool:
        """Whether a comparison with an integer or a size holds. Raises InputError where that is
        not known while tracing.
        """
        mine, its = self.expr, expr_of(other)
        if name in ("eq", "ne") and equal(mine, its):
            return name == "eq"
        known = simplify(compare(name, mine, its))
        if not known.is_const:
            raise InputError(
                f"a comparison of the size {self} with {other} is not known while tracing, since "
                "the size is symbolic: compile with this size static (see `dynamic`)"
            )
        return bool(known.attr)


def size_of(tape: Tape, expr: Expr) -> int | Size:
    """A size of the graph as Python sees it."""
    expr = simplify(expr)
    return int(expr.attr) if expr.is_const else Size(tape, expr)


def expr_of(size: Any) -> Expr:
    """An integer or a Size as an Expr. Raises InputError for anything else."""
    return size.expr if isinstance(size, Size) else as_index(operator.index(size))


# ---- operands ------------------------------------------------------------------------------------


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype of a traced array; for bf16 that of ml_dtypes, which the caller has."""
    return np.dtype("bfloat16") if dtype == bf16 else dtype.numpy


def as_operand(x: Operand) -> Traced | Array | bool | int | float:
    """An operand as a traced array, a NumPy array or a Python number.

    Lists of traced arrays are stacked. Raises InputTypeError for what is no operand.
    """
    if isinstance(x, Traced | np.ndarray):
        return x
    if isinstance(x, bool | int | float) and not isinstance(x, np.generic):
        return x
    if isinstance(x, list | tuple) and any(map(_holds_traced, x)):
        out: Traced = FUNCTIONS["stack"]([as_operand(y) for y in x])
        return out
    array = np.asarray(x)
    if array.dtype.kind not in "fiubV":
        raise InputTypeError(
            f"a value of type {type(x).__name__} (NumPy dtype {array.dtype}) cannot be combined "
            "with a traced array: expected arrays or numbers, real or bool"
        )
    return array


def _holds_traced(x: Any) -> bool:
    return isinstance(x, Traced) or (isinstance(x, list | tuple) and any(map(_holds_traced, x)))


def kind_of(x: Operand) -> Any:
    """What NumPy's promotion sees of an operand: a dtype, or int or float for a weak number."""
    x = as_operand(x)
    if isinstance(x, Traced):
        return x.weak or x.dtype
    if isinstance(x, np.ndarray):
        return x.dtype
    return np.dtype(bool) if isinstance(x, bool) else type(x)


def common_dtype(*operands: Operand) -> np.dtype[Any]:
    """The dtype that arrays and numbers promote to, as numpy.result_type."""
    kinds = [kind_of(x) for x in operands]
    return np.result_type(*(k(0) if isinstance(k, type) else k for k in kinds))


def tape_of(*operands: Operand) -> Tape:
    """The tape of the first traced operand, looked for in lists too."""
    found = _first_traced(operands)
    assert found is not None, "a rule was called without a traced array"
    return found.tape


def _first_traced(x: Any) -> Traced | None:
    if isinstance(x, Traced):
        return x
    if isinstance(x, list | tuple):
        return next((t for t in map(_first_traced, x) if t is not None), None)
    return None


def traced(tape: Tape, x: Operand) -> Traced:
    """An operand as a traced array."""
    x = as_operand(x)
    return x if isinstance(x, Traced) else tape.wrap(tape.lift(x))


# ---- ufuncs --------------------------------------------------------------------------------------


def call_ufunc(
    ufunc: np.ufunc, inputs: tuple[Operand, ...], dtype: Any = None, casting: str = "same_kind"
) -> Any:
    """A ufunc of operands of which one is traced: a new array, or a tuple of them.

    Raises UnsupportedError for one without a rule and InputTypeError where NumPy has no loop.
    """
    rule = UFUNCS.get(ufunc.__name__)
    if rule is None:
        raise UnsupportedError(f"numpy.{ufunc.__name__} cannot be traced{refusal(ufunc.__name__)}")
    operands = [as_operand(x) for x in inputs]
    tape = tape_of(operands)
    kinds = [kind_of(x) for x in operands]
    loop = _loop(ufunc, kinds, dtype, casting)
    narrow = [k is int and t.kind in "iu" for k, t in zip(kinds, loop)]
    if ufunc.__name__ in _COMPARISONS and any(narrow):
        operands, loop = _comparable(operands, loop)
    values = [tape.lift(x, t) for x, t in zip(operands, loop)]
    out = rule(tape.builder, *values)
    several = out if isinstance(out, tuple) else (out,)
    results = tuple(
        tape.wrap(ops.cast(tape.builder, v, from_numpy(t)))
        for v, t in zip(several, loop[ufunc.nin :])
    )
    return results if isinstance(out, tuple) else results[0]


_COMPARISONS = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"))


def _loop(ufunc: np.ufunc, kinds: list[Any], dtype: Any, casting: Any) -> tuple[Any, ...]:
    """The dtypes of the operands and results of the loop that NumPy would run."""
    extra: dict[str, Any] = {}
    if dtype is not None:
        extra["signature"] = (*[None] * ufunc.nin, *[np.dtype(dtype)] * ufunc.nout)
    given = (*kinds, *[None] * ufunc.nout)
    try:
        loop: tuple[Any, ...] = ufunc.resolve_dtypes(given, casting=casting, **extra)
    except TypeError as error:
        raise InputTypeError(f"numpy.{ufunc.__name__}: {error}") from None
    return loop


def _comparable(operands: list[Any], loop: tuple[Any, ...]) -> tuple[list[Any], tuple[Any, ...]]:
    """A Python integer that is out of the other operand's range, moved to just outside of it in a
    wider type, so that the comparison holds or not as it does with the integer itself.
    """
    narrow = from_numpy(loop[0])
    wide = np.dtype(np.int64 if narrow.bits < 64 else np.float64)
    numbers = [x for x in operands if isinstance(x, int) and not isinstance(x, bool)]
    if all(narrow.min <= x <= narrow.max for x in numbers):
        return operands, loop
    lo, hi = int(narrow.min) - 1, int(narrow.max) + 1
    if wide.kind == "f":
        lo, hi = lo * 2 - 1, hi * 2
    moved = [
        (lo if x < 0 else hi) if isinstance(x, int) and not narrow.min <= x <= narrow.max else x
        for x in operands
    ]
    return moved, (wide, wide, loop[-1])


# ---- functions -----------------------------------------------------------------------------------


def numpy_function(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a rule for the NumPy functions `names` (without the leading "numpy.")."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            FUNCTIONS[name] = rule
        return rule

    return register


def call_function(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The NumPy function `name` by its rule.

    Raises UnsupportedError for a function without a rule and for arguments that it does not take.
    """
    rule = FUNCTIONS.get(name)
    if rule is None:
        raise UnsupportedError(f"numpy.{name} cannot be traced{refusal(name)}")
    given = {k: v for k, v in kwargs.items() if not _default(k, v)}
    try:
        bound = inspect.signature(rule).bind(*args, **given)
    except TypeError as error:
        raise UnsupportedError(
            f"numpy.{name} with these arguments cannot be traced: {error}"
        ) from None
    for parameter, value in bound.arguments.items():
        if parameter in _WHOLE and isinstance(value, Traced):
            operator.index(value)
    return rule(*args, **given)


_WHOLE = ("axis", "axes", "axis1", "axis2", "k", "offset", "decimals", "source", "destination")


def _default(name: str, value: Any) -> bool:
    """Whether an argument says what is the case anyway."""
    return (name in ("out", "device", "like", "where") and value is None) or (
        (name, value if isinstance(value, str | bool) else None)
        in {("order", "C"), ("order", "K"), ("order", "A"), ("subok", True), ("subok", False),
            ("where", True)}
    )  # fmt: skip


def refusal(name: str) -> str:
    """Why a NumPy function has no rule, and what to do instead."""
    return ": " + REFUSED.get(
        name, "ferrule has no rule for it; call it outside of the compiled function"
    )
