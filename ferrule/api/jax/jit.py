"""`ferrule.jax.jit`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.export
from jax.extend.core import ClosedJaxpr

from ferrule.api.jax.parts import foreign
from ferrule.api.jax.primitive import call

F = TypeVar("F", bound=Callable[..., Any])
_OWN = "__ferrule_function__"
Numbers = int | Iterable[int] | None
Names = str | Iterable[str] | None


def jit(
    f: F | None = None,
    *,
    static_argnums: Numbers = None,
    static_argnames: Names = None,
    donate_argnums: Numbers = None,
    donate_argnames: Names = None,
    dynamic: Any = None,
) -> Any:
    """`f` compiled by ferrule, as `jax.jit(f)` is by XLA: a function of trees of arrays, which is
    traced and compiled for each combination of shapes, dtypes and static arguments. Without `f`, a
    decorator.

    The result is a function of `jax.jit`, in which the whole of `f` is one call of ferrule's
    machine code. Functions made of it by `jax.grad`, `jax.vmap` and the like are so too. What
    ferrule lacks runs in XLA, with a warning that names it, or raises UnsupportedError with the
    setting `strict`. Donated arguments are taken and left as they are.

    `dynamic` tells which sizes differ from call to call, as the shapes of
    `jax.export.symbolic_args_specs`: a text for each positional argument that is not static, such
    as ("b, 16", None), or one for all. ferrule then compiles once for all of them.
    """
    if f is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames,
            donate_argnums=donate_argnums, donate_argnames=donate_argnames, dynamic=dynamic,
        )  # fmt: skip
    function, name = f, getattr(f, "__name__", type(f).__name__)
    programs: dict[Any, tuple[ClosedJaxpr, Any]] = {}

    def whole(*args: Any, **kwargs: Any) -> Any:
        found = _Call(function, name, args, kwargs)
        return found.exact() if dynamic is None else found.general(dynamic, programs)

    functools.update_wrapper(whole, function)
    setattr(whole, _OWN, function)
    return jax.jit(whole, static_argnums=static_argnums, static_argnames=static_argnames)


def function_of(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function that `jit` was given, where `f` is what it gave; else `f`."""
    found: Callable[..., Any] = getattr(getattr(f, "__wrapped__", None), _OWN, f)
    return found


class _Call:
    """A call in a trace of JAX's. All leaves that it does not trace are static."""

    def __init__(self, f: Callable[..., Any], name: str, args: Any, kwargs: Any) -> None:
        self.f, self.name, self.args = f, name, args
        self.leaves, self.tree = jax.tree.flatten((args, kwargs))
        self.given = [x for x in self.leaves if _is_traced(x)]
        self.out: Any = None  # the tree of the results of the latest trace

    def of_arrays(self, *xs: Any) -> Any:
        """The function on the arrays alone."""
        rest = iter(xs)
        args, kwargs = jax.tree.unflatten(
            self.tree, [next(rest) if _is_traced(x) else x for x in self.leaves]
        )
        found, self.out = jax.tree.flatten(self.f(*args, **kwargs))
        return found

    def exact(self) -> Any:
        """What the function gives, by a program for these sizes."""
        program = jax.make_jaxpr(self.of_arrays)(*self.given)
        return jax.tree.unflatten(self.out, call(program, self.name, self.given))

    def general(self, dynamic: Any, programs: dict[Any, tuple[ClosedJaxpr, Any]]) -> Any:
        """The same by a program for all sizes, which is one of `programs` or becomes one."""
        positional = [tuple(a) if isinstance(a, list) else a for a in self.args]
        traced = tuple(a for a in positional if any(map(_is_traced, jax.tree.leaves(a))))
        specs = jax.export.symbolic_args_specs(traced, dynamic)
        symbolic = [x for x in jax.tree.leaves(specs) if hasattr(x, "shape")]
        symbolic += [_like(x) for x in self.given[len(symbolic) :]]
        key = self._key(symbolic)
        if key not in programs:
            program = jax.make_jaxpr(self.of_arrays)(*symbolic)
            if foreign(program) or any(map(_is_traced, program.consts)):
                return self.exact()
            programs[key] = program, self.out
        program, out = programs[key]
        return jax.tree.unflatten(out, call(program, self.name, self.given))

    def _key(self, symbolic: Sequence[Any]) -> Any:
        static = tuple(x for x in self.leaves if not _is_traced(x))
        kinds = tuple((tuple(map(str, x.shape)), x.dtype) for x in symbolic)
        return self.tree, static, kinds


def _is_traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def _like(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type)
