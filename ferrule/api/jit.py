"""`ferrule.jit`: a plain Python function over NumPy arrays, compiled."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from ferrule.api.stablehlo import stablehlo
from ferrule.base.dtype import from_numpy
from ferrule.base.errors import InputError, InputTypeError
from ferrule.frontend.numpy.trace import Argument, Output, Trace, Traced, trace
from ferrule.frontend.numpy.tree import (
    Branch,
    Leaf,
    Static,
    Structure,
    flatten,
    leaf_names,
    unflatten,
)
from ferrule.ir.expr import Expr, const, dim
from ferrule.ir.graph import TensorType
from ferrule.ir.source import Given, Made, Source
from ferrule.pipeline.compile import CompiledGraph, compile_graph
from ferrule.runtime.arrays import NumpyCallable

Array = np.ndarray[Any, Any]
Axes = Iterable[int] | Mapping[int, str]
Dynamic = bool | Mapping[str, Axes]


@dataclass(frozen=True)
class Specialization:
    """A function compiled for one kind of call; without code where no result depends on arrays.
    `single`: its result is its one output as it is.
    """

    trace: Trace
    compiled: CompiledGraph | None
    run: NumpyCallable | None
    single: bool = False

    def __call__(self, arrays: Sequence[Array]) -> Any:
        outputs = () if self.run is None else self.run(*arrays)
        if self.single:
            return outputs[0]
        leaves = (_result(outputs, r) for r in self.trace.results)
        return unflatten(self.trace.structure, leaves)

    def accepts(self, arrays: Sequence[Array]) -> bool:
        """Whether the program was compiled for arrays of these shapes."""
        if self.compiled is None:
            return True
        try:
            self.compiled.signature.plan(tuple([a.shape for a in arrays]))
        except InputError:
            return False
        return True


def _result(outputs: tuple[Array, ...], result: Any) -> Any:
    if not isinstance(result, Output):
        return result
    array = outputs[result.index]
    return array if array.dtype == result.dtype else array.view(result.dtype)


class Jitted:
    """A function that is compiled when it is called with new dtypes, shapes or static values.

    May be called from many threads at once. Called with the traced arrays of another compiled
    function, it becomes a part of that one.
    """

    def __init__(
        self, fn: Callable[..., Any], dynamic: Dynamic = False, static: tuple[str, ...] = ()
    ):
        functools.update_wrapper(self, fn)
        self._fn, self._dynamic, self._static = fn, dynamic, static
        self._name = getattr(fn, "__name__", type(fn).__name__)
        self._signature = _signature(fn)
        self._parameters = tuple(self._signature.parameters)
        for name in (*static, *(dynamic if isinstance(dynamic, Mapping) else ())):
            if name not in self._parameters:
                raise InputError(
                    f"static_argnames and dynamic name parameters of {self._name}, and {name!r} "
                    f"is none of ({', '.join(self._parameters)})"
                )
        self._programs: dict[Any, list[Specialization]] = {}
        self._recent: dict[Any, Specialization] = {}
        self._lock = threading.RLock()

    def __reduce__(self) -> Any:
        """As a plain function: by its name where it is found there; what was compiled stays."""
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else self._made_of(self._fn)

    def __copy__(self) -> Jitted:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Jitted:
        if isinstance(self.__reduce__(), str):
            return self
        make, arguments = self._made_of(copy.deepcopy(self._fn, memo))
        return make(*arguments)

    def _made_of(self, fn: Callable[..., Any]) -> tuple[type[Jitted], tuple[Any, ...]]:
        return Jitted, (fn, self._dynamic, self._static)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's value, in the function's structure; its arrays are new, those of rank 0
        too. Raises what the function raises, and InputTypeError for arguments that are neither
        arrays, numbers, plain Python values nor containers of these.
        """
        plain = None
        if not kwargs:
            plain = tuple([(x.dtype, x.shape) for x in args if type(x) is np.ndarray])
            program = self._recent.get(plain) if len(plain) == len(args) else None
            if program is not None:
                return program(args)
        leaves: list[Any] = []
        call = self._flattened(args, kwargs, leaves)
        if any(isinstance(x, Traced) for x in leaves):
            return self._fn(*args, **kwargs)
        arrays = [_array(x) for x in leaves]
        kinds = [_kind(x, a) for x, a in zip(leaves, arrays)]
        exact: Any = plain
        if plain is None or len(plain) != len(args):
            exact = (call, tuple(kinds), tuple([a.shape for a in arrays]))
        program = self._recent.get(exact)
        if program is None:
            program = self._program(call, kinds, arrays)
            if len(self._recent) >= _REMEMBERED:
                self._recent.clear()
            self._recent[exact] = program
        return program(arrays)

    @property
    def programs(self) -> int:
        """How many programs have been compiled so far."""
        return sum(map(len, self._programs.values()))

    @property
    def executables(self) -> tuple[Any, ...]:
        """The programs compiled and loaded so far."""
        known = [p for programs in list(self._programs.values()) for p in programs]
        return tuple(p.compiled.executable for p in known if p.compiled is not None)

    def explain(self) -> str:
        """What the kernels of each program compiled so far hold, and why neighbours were not
        joined.
        """
        known = [p for programs in list(self._programs.values()) for p in programs]
        return "\n\n".join(p.compiled.explain() for p in known if p.compiled is not None)

    def stablehlo(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
    ) -> str:
        """The one program that was compiled so far as StableHLO text, with arrays from outside of
        the function as constants, or in the file `weights` (safetensors) and as arguments behind
        the inputs. `sizes` are numbers for the symbolic sizes. Raises InputError where none or
        several programs were compiled, and what `ferrule.api.stablehlo.stablehlo` raises.
        """
        return stablehlo(self, sizes, weights=weights)

    def source(self, name: str) -> Source:
        """The one program that was compiled so far, as a function whose arguments and results are
        the arrays among those of a call. Raises InputError where none or several were.
        """
        known = [p for programs in list(self._programs.values()) for p in programs]
        if len(known) != 1 or known[0].compiled is None:
            shown = "; ".join(_shown(p) for p in known if p.compiled is not None)
            raise InputError(
                f"{self._name} must have one program, which its first call compiles; it has "
                f"{shown or 'none'}"
            )
        graph, captured = known[0].trace.graph, known[0].trace.captured
        results = [r for r in known[0].trace.results if isinstance(r, Output)]
        made = (Made(f"output{k}", r.index) for k, r in enumerate(results))
        params = zip((v.name for v in graph.params), captured, strict=True)
        return Source(
            name, graph, tuple(v.name for v in graph.inputs),
            tuple(map(Given, range(len(graph.inputs)))), tuple(made), tuple(params),
        )  # fmt: skip

    # -- the arguments of a call --

    def _flattened(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
    ) -> Structure:
        """The structure of (positional, keyword) arguments; static ones are part of it."""
        if kwargs or self._static:
            bound = self._signature.bind(*args, **kwargs)
            for name in self._static:
                if name in bound.arguments:
                    bound.arguments[name] = Static(bound.arguments[name])
            args, kwargs = bound.args, bound.kwargs
        positional = [flatten(x, leaves, _is_leaf, self._called(i)) for i, x in enumerate(args)]
        named = [flatten(x, leaves, _is_leaf, k) for k, x in kwargs.items()]
        return Branch(
            tuple,
            (),
            (Branch(tuple, (), tuple(positional)), Branch(dict, tuple(kwargs), tuple(named))),
        )

    def _called(self, i: int) -> str:
        """The name of positional argument `i`."""
        return self._parameters[i] if i < len(self._parameters) else f"argument {i}"

    def _names(self, call: Structure) -> list[tuple[str, str]]:
        """(its parameter, what Python calls it) for each leaf."""
        assert isinstance(call, Branch)
        positional, named = call.children
        assert isinstance(positional, Branch)
        assert isinstance(named, Branch)
        roots = [
            *((self._called(i), s) for i, s in enumerate(positional.children)),
            *zip(named.keys, named.children),
        ]
        return [(root, name) for root, s in roots for name in leaf_names(s, root)]

    # -- programs --

    def _program(self, call: Structure, kinds: list[Any], arrays: list[Array]) -> Specialization:
        """The program for a call, compiled where none that is known fits."""
        axes = self._axes(call, arrays)
        sizes = [
            tuple(None if d in names else n for d, n in enumerate(a.shape))
            for a, names in zip(arrays, axes)
        ]
        key = (call, tuple(kinds), tuple(sizes))
        with self._lock:
            known = self._programs.setdefault(key, [])
            for program in known:
                if program.accepts(arrays):
                    return program
            types = [
                TensorType(
                    tuple(_size(n, names.get(d)) for d, n in enumerate(a.shape)),
                    from_numpy(a.dtype),
                )
                for a, names in zip(arrays, axes)
            ]
            arguments = [
                Argument(name, t, k if isinstance(k, type) else None)
                for (_, name), t, k in zip(self._names(call), types, kinds)
            ]
            known.append(_compiled(self._fn, arguments, call, self._name))
            return known[-1]

    def _axes(self, call: Structure, arrays: list[Array]) -> list[Mapping[int, str]]:
        """The symbolic axes of each leaf, and the names of their sizes ("" is by the size)."""
        if isinstance(self._dynamic, bool):
            return [dict.fromkeys(range(a.ndim), "") if self._dynamic else {} for a in arrays]
        names = self._names(call)
        axes: list[Mapping[int, str]] = [
            _named_axes(self._dynamic.get(root, ()), a.ndim, name)
            for (root, name), a in zip(names, arrays)
        ]
        _check_named([name for _, name in names], arrays, axes)
        return axes


_REMEMBERED = 1024


def _shown(program: Specialization) -> str:
    """A program by the types that it takes."""
    return f"({', '.join(str(v.type) for v in program.trace.graph.inputs)})"


def _array(leaf: Any) -> Array:
    if isinstance(leaf, np.ma.MaskedArray | np.matrix):
        raise InputTypeError(
            f"an argument is a {type(leaf).__name__}, whose rules are not those of arrays: pass "
            "numpy.asarray(x), or its data and its mask as two arrays"
        )
    return np.asarray(leaf)


def _kind(leaf: Any, array: Array) -> Any:
    """What promotion sees of an argument: int or float of a Python number, else the dtype."""
    return type(leaf) if type(leaf) in (int, float) else array.dtype


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except ValueError:
        return inspect.Signature()


def _is_leaf(x: Any) -> bool:
    """Whether an argument is an array or a number: what a program is given on each call."""
    if isinstance(x, np.ndarray | np.generic | Traced):
        return True
    if isinstance(x, int | float | complex):
        return not isinstance(x, bool | Enum)
    return hasattr(x, "__array__") and not isinstance(x, type)


def _named_axes(given: Axes, rank: int, name: str) -> dict[int, str]:
    """Axes counted from the front, with the names of their sizes."""
    pairs = given.items() if isinstance(given, Mapping) else ((d, "") for d in given)
    out = {}
    for d, size in pairs:
        if not -rank <= d < rank:
            raise InputError(f"dynamic: axis {d} is out of bounds for {name}, of rank {rank}")
        out[d % rank] = size
    return out


def _check_named(names: list[str], arrays: list[Array], axes: Sequence[Mapping[int, str]]) -> None:
    """InputError where one name stands for two sizes."""
    seen: dict[str, tuple[int, str]] = {}
    for name, a, given in zip(names, arrays, axes):
        for d, size in given.items():
            known, where = seen.setdefault(size, (a.shape[d], f"axis {d} of {name}"))
            if size and known != a.shape[d]:
                raise InputError(
                    f"the size {size!r} is {known} along {where} and {a.shape[d]} along axis {d} "
                    f"of {name}: expected equal sizes, as `dynamic` names them"
                )


def _size(n: int, name: str | None) -> Expr:
    """A size of an argument: a constant, or symbolic, and then by its name or by its value."""
    if name:
        return dim(name, 1) if n else const(n)
    return const(n) if name is None or n < 2 else dim(f"n{n}", 2)


def _compiled(
    fn: Callable[..., Any], arguments: Sequence[Argument], call: Structure, name: str
) -> Specialization:
    traced = trace(fn, arguments, call, name)
    if not traced.graph.outputs:
        return Specialization(traced, None, None)
    compiled = compile_graph(traced.graph)
    if traced.captured:
        compiled.executable.bind([(x.ctypes.data, x) for x in traced.captured])
    whole = isinstance(traced.structure, Leaf) and traced.results[0].dtype.kind != "V"
    return Specialization(traced, compiled, NumpyCallable(compiled.executable), whole)


def jit(
    fn: Callable[..., Any] | None = None,
    *,
    dynamic: Dynamic = False,
    static_argnames: str | Iterable[str] = (),
) -> Any:
    """Compile a function over NumPy arrays; a decorator, with or without arguments.

        @ferrule.jit(dynamic={"x": [0]}, static_argnames="axis")
        def normalise(x, axis=-1):
            return (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)

    Arguments and results are arrays, Python numbers, and tuples, lists and dicts of these. The
    function runs once for each combination of dtypes, shapes and static values, and is compiled;
    its results have the dtypes that NumPy would give. bool, str, None and defaults that are not
    given are static; `static_argnames` makes others so, which then must be hashable. Arrays from
    outside of the function are constants, copied when it is compiled.

    With `dynamic=True`, sizes of two and more are symbolic, and those that are equal at the first
    call stay equal: one program serves all sizes that keep this, and a call that breaks it compiles
    again. A mapping says which axes of which arguments are: `{"x": [0, 1]}`, or with names,
    `{"x": {0: "batch"}, "y": {0: "batch"}}`, where equal names alone make equal sizes, of one and
    more.

    Raises UnsupportedError for a NumPy function that can't be traced and where Python needs the
    value of an array, InputError for arguments that cannot be.
    """
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    if fn is None:
        return lambda f: Jitted(f, dynamic, names)
    return Jitted(fn, dynamic, names)
