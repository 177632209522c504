"""`ferrule.jax.jit`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax

from ferrule.api.jax.primitive import call

F = TypeVar("F", bound=Callable[..., Any])
_Numbers = int | Iterable[int] | None
_Names = str | Iterable[str] | None


def jit(
    f: F | None = None,
    *,
    static_argnums: _Numbers = None,
    static_argnames: _Names = None,
    donate_argnums: _Numbers = None,
    donate_argnames: _Names = None,
) -> Any:
    """`f` compiled by ferrule, as `jax.jit(f)` is by XLA: a function of trees of arrays, which is
    traced and compiled for each combination of shapes, dtypes and static arguments. Without `f`, a
    decorator.

    The result is a function of `jax.jit`, in which the whole of `f` is one call of ferrule's
    machine code. Functions made of it by `jax.grad`, `jax.vmap` and the like are so too. What
    ferrule lacks runs in XLA, with a warning that names it, or raises UnsupportedError with the
    setting `strict`. Donated arguments are taken and left as they are.
    """
    if f is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames,
            donate_argnums=donate_argnums, donate_argnames=donate_argnames,
        )  # fmt: skip
    function, name = f, getattr(f, "__name__", type(f).__name__)

    def whole(*args: Any, **kwargs: Any) -> Any:
        return _called(function, name, args, kwargs)

    functools.update_wrapper(whole, function)
    return jax.jit(whole, static_argnums=static_argnums, static_argnames=static_argnames)


def _called(f: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
    """What `f` gives, in a trace of JAX's: all leaves that it does not trace are static."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    traced = [isinstance(x, jax.core.Tracer) for x in leaves]
    trees: list[Any] = []

    def of_arrays(*xs: Any) -> Any:
        rest = iter(xs)
        own = [next(rest) if t else x for x, t in zip(leaves, traced)]
        a, k = jax.tree.unflatten(tree, own)
        found, out = jax.tree.flatten(f(*a, **k))
        trees.append(out)
        return found

    given = [x for x, t in zip(leaves, traced) if t]
    program = jax.make_jaxpr(of_arrays)(*given)
    return jax.tree.unflatten(trees[-1], call(program, name, given))
