"""The primitive of JAX that is a call of a ferrule program, with its rules.

    ys = call(program, name, xs)          # in a function that JAX traces

Its derivative is two calls: one that gives results and what the second one needs, and one that is
linear in tangents, whose transpose is a call as well. So is what it maps over a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.interpreters import partial_eval as pe

from ferrule.api.jax.parts import foreign, run_parts
from ferrule.api.jax.programs import (
    exported,
    inlines,
    is_general,
    outputs_of,
    shaped,
    strict,
    target_of,
)
from ferrule.base import log
from ferrule.base.errors import CompileError, UnsupportedError
from ferrule.runtime import counters

call_p = Primitive("ferrule")
call_p.multiple_results = True
_KEPT = 4096  # derivatives and batched forms of jaxprs


def traced(f: Callable[..., Sequence[Any]], avals: Sequence[Any]) -> ClosedJaxpr:
    """The jaxpr of a function of arrays."""
    return jax.make_jaxpr(f)(*map(shaped, avals))


def call(program: ClosedJaxpr, name: str, xs: Sequence[Any]) -> list[Any]:
    """What a jaxpr gives for these arrays, by ferrule but for what it leaves to XLA. Raises
    UnsupportedError for that with the setting `strict`.
    """
    left = foreign(program)
    if not left:
        return _native(program, name, xs)
    if strict():
        operations = ", ".join(left)
        raise UnsupportedError(f"{name} has operations that ferrule leaves to XLA: {operations}")
    for operation in left:
        log.warn(f"{operation} in {name} runs in XLA")
        counters.count_fallback(f"jax.{operation}")
    return run_parts(program, xs, lambda part, ys: _native(part, name, ys))


def _native(program: ClosedJaxpr, name: str, xs: Sequence[Any]) -> list[Any]:
    """What is known without a computation, an argument or a number, is given as it is. Constants
    that JAX traces are arguments.
    """
    program, xs = _without_tracers(program, xs)
    jaxpr = program.jaxpr
    places = dict(zip(jaxpr.invars, xs))
    smaller = _computing(program)
    made = smaller.jaxpr.outvars
    if made:
        places.update(zip(made, call_p.bind(*xs, jaxpr=smaller, name=name)))
    places.update(zip(jaxpr.constvars, program.consts))
    return [v.val if _is_number(v) else places[v] for v in jaxpr.outvars]


@functools.lru_cache(_KEPT)
def _computing(program: ClosedJaxpr) -> ClosedJaxpr:
    """A jaxpr that gives only what takes a computation, each result once."""
    jaxpr = program.jaxpr
    made = list(dict.fromkeys(v for v in jaxpr.outvars if _is_made(v, program)))
    debug = jaxpr.debug_info.with_unknown_names()
    return ClosedJaxpr(jaxpr.replace(outvars=made, debug_info=debug), program.consts)


def _is_number(v: Any) -> bool:
    return hasattr(v, "val")


def _is_made(v: Any, program: ClosedJaxpr) -> bool:
    jaxpr = program.jaxpr
    return not _is_number(v) and v not in jaxpr.invars and v not in jaxpr.constvars


def _without_tracers(program: ClosedJaxpr, xs: Sequence[Any]) -> tuple[ClosedJaxpr, Sequence[Any]]:
    jaxpr, consts = program.jaxpr, program.consts
    moved = [isinstance(c, jax.core.Tracer) for c in consts]
    if not any(moved):
        return program, xs
    fixed = [v for v, m in zip(jaxpr.constvars, moved) if not m]
    given = [v for v, m in zip(jaxpr.constvars, moved) if m]
    debug = jaxpr.debug_info.with_unknown_names()
    jaxpr = jaxpr.replace(constvars=fixed, invars=[*given, *jaxpr.invars], debug_info=debug)
    kept = [c for c, m in zip(consts, moved) if not m]
    return ClosedJaxpr(jaxpr, kept), [*(c for c, m in zip(consts, moved) if m), *xs]


@call_p.def_abstract_eval
def _abstract(*avals: Any, jaxpr: ClosedJaxpr, name: str) -> list[Any]:
    return outputs_of(jaxpr, avals)


@functools.lru_cache(_KEPT)
def _smaller(jaxpr: ClosedJaxpr, used: tuple[bool, ...]) -> tuple[ClosedJaxpr, list[bool]]:
    found, needed = pe.dce_jaxpr(jaxpr.jaxpr, used)
    return ClosedJaxpr(found, jaxpr.consts), needed


def _without_unused(used: list[bool], eqn: Any) -> Any:
    """A call without the results that nobody reads."""
    if not any(used):
        return [False] * len(eqn.invars), None
    jaxpr, needed = _smaller(eqn.params["jaxpr"], tuple(used))
    return needed, eqn.replace(
        invars=[v for v, n in zip(eqn.invars, needed) if n],
        outvars=[v for v, u in zip(eqn.outvars, used) if u],
        params={**eqn.params, "jaxpr": jaxpr},
    )


pe.dce_rules[call_p] = _without_unused


@functools.lru_cache(_KEPT)
def _jitted(jaxpr: ClosedJaxpr, name: str) -> Any:
    return jax.jit(lambda *xs: call_p.bind(*xs, jaxpr=jaxpr, name=name))


@call_p.def_impl
def _run(*xs: Any, jaxpr: ClosedJaxpr, name: str) -> Any:
    return _jitted(jaxpr, name)(*xs)


# ---- lowering ------------------------------------------------------------------------------------


def _lowered_here(ctx: Any, *operands: Any, jaxpr: ClosedJaxpr, name: str) -> Any:
    """A call of XLA's foreign function interface, or the jaxpr itself where ferrule lacks a part of
    it.
    """
    if inlines():
        return _lowered_by_xla(ctx, *operands, jaxpr=jaxpr, name=name)
    try:
        target = target_of(jaxpr, name)
    except CompileError as error:
        if strict():
            raise
        log.warn(f"{name} runs in XLA: {error}")
        counters.count_fallback(f"jax.{name}")
        return _lowered_by_xla(ctx, *operands, jaxpr=jaxpr, name=name)
    return jax.ffi.ffi_lowering(target)(ctx, *operands)


def _lowered_by_xla(ctx: Any, *operands: Any, jaxpr: ClosedJaxpr, name: str) -> Any:
    f = jaxpr_as_fun(jaxpr)
    if is_general(jaxpr):
        f = functools.partial(exported(jaxpr).call, *jaxpr.consts)
    return mlir.lower_fun(f, multiple_results=True)(ctx, *operands)


mlir.register_lowering(call_p, _lowered_by_xla)
mlir.register_lowering(call_p, _lowered_here, platform="cpu")


# ---- batches -------------------------------------------------------------------------------------


@functools.lru_cache(_KEPT)
def _batched(jaxpr: ClosedJaxpr, dims: tuple[int | None, ...], size: int) -> ClosedJaxpr:
    avals = [
        jax.ShapeDtypeStruct(
            a.shape if d is None else (*a.shape[:d], size, *a.shape[d:]), a.dtype,
            weak_type=a.weak_type,
        )
        for a, d in zip(jaxpr.in_avals, dims)
    ]  # fmt: skip
    return jax.make_jaxpr(jax.vmap(jaxpr_as_fun(jaxpr), in_axes=dims))(*avals)


def _batch(xs: Any, dims: Any, *, jaxpr: ClosedJaxpr, name: str) -> Any:
    places = tuple(d if isinstance(d, int) else None for d in dims)
    size = next(x.shape[d] for x, d in zip(xs, places) if d is not None)
    ys = call(_batched(jaxpr, places, size), name, xs)
    return ys, [0] * len(ys)


batching.primitive_batchers[call_p] = _batch


# ---- derivatives ---------------------------------------------------------------------------------


def _is_smooth(aval: Any) -> bool:
    return bool(jnp.issubdtype(aval.dtype, jnp.inexact))


def _no_tangent(x: Any) -> Any:
    return ad.Zero(jax.typeof(x).to_tangent_aval())


@functools.lru_cache(_KEPT)
def _linearized(jaxpr: ClosedJaxpr, active: tuple[bool, ...]) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """A program that gives results and then residuals, and one that makes tangents of the smooth
    results of residuals and of tangents of the active arguments.
    """
    trees: list[Any] = []
    smooth = [_is_smooth(a) for a in jaxpr.out_avals]
    whole = jaxpr_as_fun(jaxpr)

    def forward(*xs: Any) -> Any:
        def of_active(*chosen: Any) -> Any:
            rest = iter(chosen)
            ys = whole(*(next(rest) if a else x for a, x in zip(active, xs)))
            return [y for y, s in zip(ys, smooth) if s], ys

        _, linear, ys = jax.linearize(
            of_active, *(x for a, x in zip(active, xs) if a), has_aux=True
        )
        residuals, tree = jax.tree.flatten(linear)
        trees.append(tree)
        return [*ys, *residuals]

    first = traced(forward, jaxpr.in_avals)
    residuals = first.out_avals[len(jaxpr.out_avals) :]
    tangents = [x.to_tangent_aval() for a, x in zip(active, jaxpr.in_avals) if a]

    def second(*given: Any) -> Any:
        linear = jax.tree.unflatten(trees[-1], given[: len(residuals)])
        return linear(*given[len(residuals) :])

    return first, traced(second, [*residuals, *tangents])


def _jvp(xs: Any, tangents: Any, *, jaxpr: ClosedJaxpr, name: str) -> Any:
    active = tuple(not isinstance(t, ad.Zero) for t in tangents)
    if not any(_is_smooth(a) for a in jaxpr.out_avals):
        ys = call_p.bind(*xs, jaxpr=jaxpr, name=name)
        return ys, [_no_tangent(y) for y in ys]
    first, second = _linearized(jaxpr, active)
    found = call(first, name, xs)
    count = len(jaxpr.out_avals)
    ys, residuals = found[:count], found[count:]
    given = [*residuals, *(t for a, t in zip(active, tangents) if a)]
    made = iter(call(second, name, given))
    return ys, [next(made) if _is_smooth(y) else _no_tangent(y) for y in ys]


ad.primitive_jvps[call_p] = _jvp


@functools.lru_cache(_KEPT)
def _transposed(
    jaxpr: ClosedJaxpr, linear: tuple[bool, ...], given: tuple[bool, ...]
) -> ClosedJaxpr:
    """The program from the arguments that are not linear, and the cotangents that are given, to
    those of the linear arguments.
    """
    avals = jaxpr.in_avals
    known = [a for a, l in zip(avals, linear) if not l]
    unknown = [shaped(a) for a, l in zip(avals, linear) if l]
    outs = [a.to_ct_aval() for a, g in zip(jaxpr.out_avals, given) if g]
    whole = jaxpr_as_fun(jaxpr)

    def back(*xs: Any) -> Any:
        def of_linear(*chosen: Any) -> Any:
            fixed, rest = iter(xs[: len(known)]), iter(chosen)
            ys = whole(*(next(rest) if l else next(fixed) for l in linear))
            return [y for y, g in zip(ys, given) if g]

        return jax.linear_transpose(of_linear, *unknown)(list(xs[len(known) :]))

    return traced(back, [*known, *outs])


def _transpose(cotangents: Any, *xs: Any, jaxpr: ClosedJaxpr, name: str) -> Any:
    linear = tuple(ad.is_undefined_primal(x) for x in xs)
    given = tuple(not isinstance(c, ad.Zero) for c in cotangents)
    if not any(given):
        return [ad.Zero(x.aval.to_ct_aval()) if l else None for x, l in zip(xs, linear)]
    back = _transposed(jaxpr, linear, given)
    known = [x for x, l in zip(xs, linear) if not l]
    made = iter(call(back, name, [*known, *(c for c, g in zip(cotangents, given) if g)]))
    return [next(made) if l else None for l in linear]


ad.primitive_transposes[call_p] = _transpose
