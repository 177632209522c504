"""A jaxpr in parts: what ferrule runs, and between them the equations that XLA does.

An equation stays with XLA where it has effects, calls Python, is one of `LEFT`, or decomposes
matrices of more rows than `ROWS` says, and so does a loop around one. Functions of `jax.jit` around
one are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, DropVar, jaxprs_in_params, no_effects

LEFT = frozenset({
    "tridiagonal", "geqp3",
    "pure_callback", "io_callback", "debug_callback", "debug_print", "infeed", "outfeed",
    "psum", "all_gather", "all_to_all", "ppermute", "pmax", "pmin", "axis_index", "shard_map",
})  # fmt: skip
ROWS = {
    "eig": 4, "schur": 4, "eigh": 16, "svd": 32, "lu": 32, "qr": 64, "geqrf": 64,
    "householder_product": 64, "hessenberg": 64,
}  # fmt: skip
"""Up to how many rows a decomposition is about as fast as XLA's call of LAPACK, which works on
blocks of columns; measured in f32 with AVX-512 and one thread (`benchmarks/decompositions.py`).
"""
_OPENED = ("jit", "pjit", "closed_call")

Run = Callable[[ClosedJaxpr, Sequence[Any]], Sequence[Any]]


def foreign(program: ClosedJaxpr) -> list[str]:
    """The names of the primitives that make equations stay with XLA, each once."""
    return list(dict.fromkeys(n for e in program.jaxpr.eqns for n in _foreign_in(e)))


def _foreign_in(eqn: Any) -> list[str]:
    name = str(eqn.primitive.name)
    if name in LEFT or _is_large(eqn, name):
        return [name]
    inner = [n for j in jaxprs_in_params(eqn.params) for e in j.eqns for n in _foreign_in(e)]
    return inner or ([name] if eqn.effects else [])


def _is_large(eqn: Any, name: str) -> bool:
    """Whether an equation decomposes matrices of many rows; a size that is open is not many."""
    if name not in ROWS:
        return False
    sizes = eqn.invars[0].aval.shape[-2:]
    return any(isinstance(n, int) and n > ROWS[name] for n in sizes)


def run_parts(program: ClosedJaxpr, xs: Sequence[Any], run: Run) -> list[Any]:
    """What a jaxpr gives, with `run` for the parts that are not foreign."""
    opened = jax.make_jaxpr(lambda *ys: _opened(program.jaxpr, program.consts, ys))(*xs)
    jaxpr = opened.jaxpr
    env = _begun(jaxpr, opened.consts, xs)
    known = {v for v, c in zip(jaxpr.constvars, opened.consts) if not isinstance(c, Tracer)}
    parts = _parts(jaxpr.eqns)
    for k, part in enumerate(parts):
        rest = [*(v for p in parts[k + 1 :] for e in p for v in e.invars), *jaxpr.outvars]
        wanted = {v for v in rest if not _is_number(v)}
        inner = _alone(jaxpr, part, wanted, known)
        held, values = _read(env, inner.constvars), _read(env, inner.invars)
        if _foreign_in(part[0]):
            found: Sequence[Any] = jax.core.eval_jaxpr(inner, held, *values)
        else:
            found = run(ClosedJaxpr(inner, held), values)
        env.update(zip(inner.outvars, found))
    return _read(env, jaxpr.outvars)


def _begun(jaxpr: Any, consts: Sequence[Any], xs: Sequence[Any]) -> dict[Any, Any]:
    return {**dict(zip(jaxpr.constvars, consts)), **dict(zip(jaxpr.invars, xs))}


def _is_number(v: Any) -> bool:
    return hasattr(v, "val")


def _read(env: dict[Any, Any], atoms: Sequence[Any]) -> list[Any]:
    return [v.val if _is_number(v) else env[v] for v in atoms]


def _parts(eqns: Sequence[Any]) -> list[list[Any]]:
    """Equations in their order, a foreign one by itself."""
    parts: list[list[Any]] = []
    for e in eqns:
        if parts and not _foreign_in(e) and not _foreign_in(parts[-1][0]):
            parts[-1].append(e)
        else:
            parts.append([e])
    return parts


def _alone(jaxpr: Any, eqns: Sequence[Any], wanted: set[Any], known: set[Any]) -> Any:
    """The jaxpr of some equations of another, which gives those variables that are wanted; those
    that are known are its constants.
    """
    made = [v for e in eqns for v in e.outvars]
    own = set(made)
    read = (v for e in eqns for v in e.invars if not _is_number(v))
    ins = list(dict.fromkeys(v for v in read if v not in own))
    return jaxpr.replace(
        constvars=[v for v in ins if v in known], invars=[v for v in ins if v not in known],
        outvars=[v for v in made if v in wanted], eqns=list(eqns), effects=no_effects,
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )  # fmt: skip


def _opened(jaxpr: Any, consts: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
    """What a jaxpr gives, with functions around foreign equations opened."""
    env = _begun(jaxpr, consts, xs)
    for e in jaxpr.eqns:
        if e.primitive.name in _OPENED and _foreign_in(e):
            inner = e.params.get("jaxpr") or e.params["call_jaxpr"]
            found = _opened(inner.jaxpr, inner.consts, _read(env, e.invars))
            env.update(zip(e.outvars, found))
        else:
            part = _alone(jaxpr, [e], {v for v in e.outvars if not isinstance(v, DropVar)}, set())
            found = jax.core.eval_jaxpr(part, (), *_read(env, part.invars))
            env.update(zip(part.outvars, found))
    return _read(env, jaxpr.outvars)
