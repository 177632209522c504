"""Sizes: the values of symbolic dims, found from the shapes of the arrays given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import GuardError, InputError, InputTypeError
from ferrule.ir.expr import Buf, Expr, axis, dims, substitute
from ferrule.ir.interp.expr import Env, eval_int
from ferrule.ir.simplify import coefficient

Array = NDArray[Any]
Arrays = Mapping[str, Array] | Sequence[Array]


def size(e: Expr, values: Mapping[str, int]) -> int:
    """An i64 expression over dims."""
    return eval_int(e, Env(values))


def shape_of(buf: Buf, values: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of `buf` as integers."""
    return tuple(size(s, values) for s in buf.shape)


def named_arrays(bufs: Sequence[Buf], arrays: Arrays) -> dict[str, Array]:
    """`arrays` (by name, or in the order of `bufs`) by buffer name, with rank and dtype checked.
    Arrays are in storage form: uint16 for bf16. Raises InputError.
    """
    if not isinstance(arrays, Mapping):
        if len(arrays) != len(bufs):
            raise InputError(f"expected {len(bufs)} arrays, got {len(arrays)}")
        arrays = {b.name: a for b, a in zip(bufs, arrays, strict=True)}
    out = {}
    for b in bufs:
        if b.name not in arrays:
            raise InputError(f"no array is given for {b.name}")
        a = np.asarray(arrays[b.name])
        if a.ndim != len(b.shape):
            raise InputError(
                f"{b.name} has {len(b.shape)} dimensions; the array given has {a.ndim}"
            )
        if a.dtype != b.dtype.numpy:
            raise InputTypeError(f"{b.name} holds {b.dtype.name} ({b.dtype.numpy}), not {a.dtype}")
        out[b.name] = a
    return out


def infer_dims(
    bufs: Iterable[Buf], arrays: Mapping[str, Array], given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The value of each dim, from shapes that are linear in one unknown dim, and those `given`.

    Raises GuardError where the shapes disagree with each other or with a dim's facts; dims that no
    shape determines are left out.
    """
    equations = [(b, d, e, arrays[b.name].shape[d]) for b in bufs for d, e in enumerate(b.shape)]
    values = dict(given or {})
    pending, progress = equations, True
    while pending and progress:
        later = [q for q in pending if not _solve(q[2], q[3], values)]
        progress, pending = len(later) < len(pending), later
    for b, d, e, n in equations:
        unknown = any(x.name not in values for x in dims(e))
        if not unknown and size(e, values) != n:
            raise GuardError(
                f"{b.name} has size {n} in dimension {d}, where {e} = {size(e, values)} is expected"
            )
        for x in dims(e):
            check_facts(x, values)
    return values


def _solve(e: Expr, n: int, values: dict[str, int]) -> bool:
    """Whether `e` = n is settled: nothing unknown is left in it, perhaps because its one unknown
    was found.
    """
    unknown = [d for d in dims(e) if d.name not in values]
    if len(unknown) != 1:
        return not unknown
    (x,) = unknown
    slope = coefficient_of(e, x)
    if slope is None:
        return False
    rest = size(e, {**values, x.name: 0})
    factor = size(slope, values)
    if factor == 0 or (n - rest) % factor:
        return False
    values[x.name] = (n - rest) // factor
    return True


def coefficient_of(e: Expr, x: Expr) -> Expr | None:
    """c where `e` = c*x + (terms without x); None where e is not linear in the dim x."""
    stand_in = axis("\0", 1 << 62)
    return coefficient(substitute(e, {x: stand_in}), stand_in)


def check_facts(dim: Expr, values: Mapping[str, int]) -> None:
    """GuardError where the value of `dim` is outside its facts."""
    facts, value = dim.attr, values.get(dim.name)
    if value is None:
        return
    if value < facts.lo or (facts.hi is not None and value > facts.hi):
        raise GuardError(
            f"{dim.name} = {value} is outside {facts.lo}..{'' if facts.hi is None else facts.hi}"
        )
    if value % facts.multiple:
        raise GuardError(f"{dim.name} = {value} is no multiple of {facts.multiple}")
