"""Trace: a plain Python function over NumPy arrays as a Graph, with no framework.

    @ferrule.jit
    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

The function runs once on `Traced` arrays, which record what is done to them. NumPy's own functions
work on these through the protocols `__array_ufunc__` (NEP 13) and `__array_function__` (NEP 18).
The tables UFUNCS and FUNCTIONS hold all that is understood; anything else is an UnsupportedError
that names it. Python control flow runs while tracing, so it may depend on shapes and not on values.

    trace_array      Traced, symbolic sizes, dispatch, dtypes        trace_operators   +, <, +=
    trace_ufuncs     UFUNCS        trace_math     functions of elements
    trace_reduce     reductions, scans, statistics                   trace_shape       views, joins
    trace_index      indexing, reading and writing                   trace_linalg      products
    trace_create     zeros_like, zeros(.., like=x)                   trace_sort        sorts
    trace_tree       arguments
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferrule.base.errors import FerruleError, InputTypeError

# These fill the tables.
from ferrule.frontend.numpy import create as trace_create
from ferrule.frontend.numpy import index as trace_index
from ferrule.frontend.numpy import linalg as trace_linalg
from ferrule.frontend.numpy import math as trace_math
from ferrule.frontend.numpy import operators as trace_operators
from ferrule.frontend.numpy import reduce as trace_reduce
from ferrule.frontend.numpy import shape as trace_shape
from ferrule.frontend.numpy import sort as trace_sort
from ferrule.frontend.numpy import ufuncs as trace_ufuncs
from ferrule.frontend.numpy.array import FUNCTIONS, MAKERS, UFUNCS, Tape, Traced
from ferrule.frontend.numpy.tree import Structure, flatten, unflatten
from ferrule.ir.graph import Graph, TensorType

__all__ = [
    "FUNCTIONS", "MAKERS", "UFUNCS", "Argument", "Output", "Trace", "Traced", "trace",
    "trace_create", "trace_index", "trace_linalg", "trace_math", "trace_operators",
    "trace_reduce", "trace_shape", "trace_sort", "trace_ufuncs",
]  # fmt: skip


Weak = type | None


@dataclass(frozen=True)
class Argument:
    """One array or number that a function is given: what Python calls it, its type, and for a
    Python number the type that makes it weak in promotion.
    """

    name: str
    type: TensorType
    weak: Weak = None


@dataclass(frozen=True)
class Output:
    """A result that is an output of the graph, with the dtype that NumPy would give it."""

    index: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Trace:
    """A function as a graph.

    `structure` is that of the result, and `results` has its leaves: an Output, or a value that
    depends on no argument. `captured` are the arrays for the graph's params.
    """

    graph: Graph
    structure: Structure
    results: tuple[Any, ...]
    captured: tuple[np.ndarray[Any, Any], ...]


def trace(
    fn: Callable[..., Any], arguments: Sequence[Argument], call: Structure, name: str
) -> Trace:
    """`fn` as a graph whose inputs are `arguments`, the leaves of the structure `call`, which is
    that of (positional arguments, keyword arguments).

    Raises UnsupportedError for what can't be traced and where Python needs a value.
    """
    tape = Tape(name)
    given = [Traced(tape, tape.builder.input(a.type), a.weak, a.name) for a in arguments]
    args, kwargs = unflatten(call, iter(given))
    leaves: list[Any] = []
    structure = flatten(_called(fn, args, kwargs), leaves, _is_result, f"the result of {name}")
    values: list[Any] = []
    results: list[Any] = []
    for leaf in leaves:
        if not isinstance(leaf, Traced):
            results.append(leaf)
            continue
        results.append(Output(len(values), leaf.dtype))
        values.append(tape.lift(leaf))
    captured = tuple(copy for _, _, copy in tape.captured)
    return Trace(tape.builder.build(values), structure, tuple(results), captured)


def _called(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The function's value; an error of ours that NumPy has put one of its own around as itself."""
    try:
        return fn(*args, **kwargs)
    except (TypeError, ValueError) as error:
        if isinstance(error.__cause__, FerruleError):
            raise error.__cause__ from None
        raise


def _is_result(x: Any) -> bool:
    if isinstance(x, Traced | np.ndarray | np.generic | int | float | complex):
        return True
    if callable(x) or isinstance(x, range):
        raise InputTypeError(f"a compiled function cannot return a {type(x).__name__}")
    return False
