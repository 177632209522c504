"""`ferrule.jit`: a plain Python function over NumPy arrays, compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferrule.base.dtype import from_numpy
from ferrule.base.errors import GuardError, InputError
from ferrule.compile import CompiledGraph, compile_graph
from ferrule.frontend.trace import trace
from ferrule.ir.expr import Expr, const, dim
from ferrule.ir.graph import TensorType
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]


class Jitted:
    """A function that is compiled when it is called with new dtypes or shapes.

    With `dynamic`, sizes of two and more are symbolic, and those that are equal at the first call
    stay equal: one program serves all sizes that keep this, and a call that breaks it compiles
    again.
    """

    def __init__(self, fn: Callable[..., Any], dynamic: bool = False):
        functools.update_wrapper(self, fn)
        self._fn, self._dynamic = fn, dynamic
        self._programs: dict[Any, list[tuple[CompiledGraph, NumpyCallable, Any]]] = {}

    def __call__(self, *arrays: Any) -> Any:
        """The function's value. Arguments are arrays or numbers; the result's structure is the
        function's.
        """
        given = [x if isinstance(x, np.ndarray) else np.asarray(x) for x in arrays]
        key = tuple((x.dtype, x.ndim if self._dynamic else x.shape) for x in given)
        known = self._programs.setdefault(key, [])
        for _, run, structure in known:
            try:
                return _structured(run(*given), structure)
            except (GuardError, InputError):
                continue
        known.append(self._compile(given))
        return _structured(known[-1][1](*given), known[-1][2])

    def explain(self) -> str:
        """What the kernels of each program compiled so far hold, and why neighbours were not
        joined.
        """
        return "\n\n".join(c.explain() for known in self._programs.values() for c, _, _ in known)

    def _compile(self, arrays: Sequence[Array]) -> tuple[CompiledGraph, NumpyCallable, Any]:
        types = [
            TensorType(tuple(self._size(n) for n in x.shape), from_numpy(x.dtype)) for x in arrays
        ]
        graph, structure, captured = trace(self._fn, types, self._fn.__name__)
        compiled = compile_graph(graph)
        if captured:
            compiled.executable.bind([(x.ctypes.data, x) for x in captured])
        return compiled, NumpyCallable(compiled.executable), structure

    def _size(self, n: int) -> Expr:
        return dim(f"n{n}", 2) if self._dynamic and n >= 2 else const(n)


def _structured(results: tuple[Array, ...], structure: Any) -> Any:
    if structure is None:
        return results[0]
    return structure(*results) if hasattr(structure, "_fields") else structure(results)


def jit(fn: Callable[..., Any] | None = None, *, dynamic: bool = False) -> Any:
    """Compile a function over NumPy arrays; a decorator, with or without arguments.

        @ferrule.jit(dynamic=True)
        def normalise(x): return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)

    Raises UnsupportedError for a NumPy function that can't be traced and InputError where Python
    needs a value.
    """
    return Jitted(fn, dynamic) if fn is not None else lambda f: Jitted(f, dynamic)
