"""A jaxpr as a program that XLA calls: StableHLO, a graph, machine code, a target of XLA's.

What JAX's own lowering makes of a jaxpr is what ferrule reads. A target's name tells what its
program computes, so that a program of XLA's that was kept on disk finds the same one again.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import numpy as np
from jax.extend.core import ClosedJaxpr

from ferrule.base import config
from ferrule.base.artifact import Compiled
from ferrule.codegen.capi.xla import HANDLER, Place, handler_text
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.text import read_text
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime import native, pool
from ferrule.runtime.cpu import Executable


@dataclass(frozen=True, eq=False)
class _Registered:
    """What a target needs for as long as the process lives."""

    executable: Executable
    params: tuple[Any, ...]


_lock = threading.Lock()
_targets: dict[str, _Registered] = {}


@functools.lru_cache(4096)
def target_of(program: ClosedJaxpr, name: str) -> str:
    """The name of the XLA target, of the typed interface and for the platform "cpu", that computes
    a jaxpr, whose sizes may be symbols of `jax.export`. Constants of the jaxpr are params of
    ferrule's program. Raises CompileError and UnsupportedError.
    """
    arrays = [_storage(c) for c in program.consts]
    text = _stablehlo(program)
    fixed = dict(enumerate(arrays))
    made = convert(read_text(text, name), fixed=fixed, alike=_equal_sizes(program))
    compiled = compile_graph(made.graph)
    threads = pool.get_num_threads()
    target = _name(name, compiled.compiled, made.params, threads)
    with _lock:
        if target not in _targets:
            compiled.executable.bind([(p.ctypes.data, p) for p in made.params])
            _register(target, compiled.executable, made.params, threads)
            _targets[target] = _Registered(compiled.executable, made.params)
    return target


_inside: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def inlining() -> Iterator[None]:
    """What is lowered meanwhile has ferrule's programs in place of calls of them."""
    before = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(before)


def inlines() -> bool:
    """Whether a lowering is for ferrule."""
    return _inside.get()


def is_general(program: ClosedJaxpr) -> bool:
    """Whether sizes of a jaxpr are symbols."""
    return not all(isinstance(n, int) for a in program.in_avals for n in a.shape)


def _stablehlo(program: ClosedJaxpr) -> str:
    """A jaxpr as the text of a module, whose first arguments are its constants."""
    if is_general(program):
        return str(exported(program).mlir_module())
    whole, given = _whole(program)
    with inlining():
        return str(jax.jit(whole, keep_unused=True).lower(*given).as_text())


def _equal_sizes(program: ClosedJaxpr) -> dict[tuple[int, int], tuple[int, int]]:
    """Where an argument, behind the constants, has a size that is a symbol of an earlier one."""
    first: dict[str, tuple[int, int]] = {}
    found = {}
    for k, a in enumerate(program.in_avals, len(program.consts)):
        for d, n in enumerate(a.shape):
            if not isinstance(n, int) and first.setdefault(str(n), (k, d)) != (k, d):
                found[k, d] = first[str(n)]
    return found


@functools.lru_cache(4096)
def exported(program: ClosedJaxpr) -> Any:
    """A function of the constants and arguments of a jaxpr, of any sizes that fit its symbols."""
    whole, given = _whole(program)
    with inlining():
        return jax.export.export(jax.jit(whole, keep_unused=True), platforms=["cpu"])(*given)


def _whole(program: ClosedJaxpr) -> tuple[Any, list[Any]]:
    """A function of the constants and arguments of a jaxpr, and what they are."""
    count = len(program.consts)

    def whole(*xs: Any) -> Any:
        return jax.core.eval_jaxpr(program.jaxpr, xs[:count], *xs[count:])

    avals = [*map(jax.typeof, program.consts), *program.in_avals]
    return whole, [shaped(a) for a in avals]


def outputs_of(program: ClosedJaxpr, avals: Sequence[Any]) -> list[Any]:
    """What a jaxpr gives for arguments like these."""
    if not is_general(program) or all(a.shape == b.shape for a, b in zip(avals, program.in_avals)):
        return list(program.out_avals)
    given = [*map(jax.typeof, program.consts), *avals]
    found = jax.eval_shape(exported(program).call, *map(shaped, given))
    return [
        o.update(shape=a.shape, weak_type=False) for a, o in zip(found, program.out_avals)
    ]


def shaped(aval: Any) -> jax.ShapeDtypeStruct:
    """What to trace a function with, for an argument like this."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _storage(x: Any) -> Any:
    """A constant as it lies in memory."""
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    array = np.asarray(x)
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    return np.ascontiguousarray(array).reshape(array.shape)


def _name(name: str, compiled: Compiled, params: Sequence[Any], threads: int) -> str:
    content = hashlib.sha256(f"{compiled.key} {threads}".encode())
    for p in params:
        content.update(p.reshape(-1).view(np.uint8).data)
    plain = re.sub(r"\W", "_", name)[:40]
    return f"ferrule_{plain}_{content.hexdigest()[:24]}"


def _register(target: str, executable: Executable, params: Sequence[Any], threads: int) -> None:
    compiled = executable.compiled
    place = Place(
        executable.address(compiled.entry),
        executable.address(compiled.arena_bytes),
        ctypes.addressof(executable.constants),
        tuple(p.ctypes.data for p in params),
        ctypes.addressof(pool.host_table()),
        threads,
    )
    (handler,) = native.addresses(handler_text(compiled, place), [HANDLER], {})
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler), platform="cpu")


def strict() -> bool:
    """Whether what ferrule lacks is an error."""
    return bool(config.settings().strict)
