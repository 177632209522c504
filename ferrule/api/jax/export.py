"""`ferrule.jax.export`: a function of JAX as a program that runs without JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export

from ferrule.api.jax.jit import Names, Numbers, function_of
from ferrule.api.jax.programs import inlining
from ferrule.api.programs import ProgramSession


def export(
    f: Callable[..., Any],
    *,
    static_argnums: Numbers = None,
    static_argnames: Names = None,
    dynamic: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., ProgramSession]:
    """A function that compiles `f` for arguments like those that it is given, arrays or
    `jax.ShapeDtypeStruct`, as `jax.export.export(jax.jit(f))` exports it.

    The result is a session, as `ferrule.compile` gives it for a file that `jax.export` wrote: it
    takes and gives NumPy arrays, the leaves of the trees in their order, and can be saved.
    `dynamic` is that of `ferrule.jax.jit`, and `options` are settings for the compilation. Raises
    UnsupportedError for what ferrule lacks.
    """
    jitted = jax.jit(
        function_of(f), static_argnums=static_argnums, static_argnames=static_argnames,
        keep_unused=True,
    )  # fmt: skip
    exporting = jax.export.export(jitted, platforms=["cpu"])

    def compiled(*args: Any, **kwargs: Any) -> ProgramSession:
        given = args if dynamic is None else jax.export.symbolic_args_specs(args, dynamic)
        with inlining():
            made = exporting(*given, **kwargs)
        return ProgramSession(bytes(made.mlir_module_serialized), options)

    return compiled
