"""The meaning of Expr: `eval_expr` computes one expression at many points at once.

An axis stands for an array of its values, and arrays broadcast, so that a stage over i and j
evaluates with i as a column and j as a row. A select evaluates each branch only where it is taken:
loads elsewhere are not performed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import FAULTS, RunError, RunIndexError, VerifyError
from ferrule.ir.expr import DEEP, Expr, bottom_up, walk
from ferrule.ir.interp.index import index_function
from ferrule.ir.interp.memory import Memory
from ferrule.ir.interp.scalar import apply, convert, held, reinterpret, rounded
from ferrule.ir.operators import PROMISES

Array = NDArray[Any]
Path = frozenset[tuple[Expr, bool]]
_HERE: Path = frozenset()


@dataclass(frozen=True)
class Env:
    """What an expression may mention: dims by name, axes by node, `arg`s by number, buffers in
    memory.
    """

    dims: Mapping[str, int] = field(default_factory=dict)
    axes: Mapping[Expr, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=lambda: Memory({}))
    args: tuple[Array, ...] = ()

    def bind(self, axes: Mapping[Expr, Any]) -> Env:
        """With more axes."""
        return Env(self.dims, {**self.axes, **axes}, self.memory, self.args)


def eval_expr(e: Expr, env: Env, mask: Array | None = None) -> Array:
    """The real values of `e` (bf16 as f32), of a shape that broadcasts over the points.

    Where `mask` is false the value is unspecified and no load is performed. Raises RunIndexError
    for a `bounded` index out of range, RunError for what is not as `checked`, VerifyError for a
    load out of bounds or a name that is not bound.
    """
    return _Evaluation(env, mask).value(e, _HERE, mask)


def eval_index(e: Expr, env: Env, mask: Array | None = None) -> Any:
    """The same for an index, which may come back as a Python integer."""
    found = _quick(e, env)
    return eval_expr(e, env, mask) if found is None else found


def _quick(e: Expr, env: Env) -> Any:
    """The value of a plain index expression; None where the general evaluator must look at it."""
    function = index_function(e)
    if function is None:
        return None
    try:
        return function(env.axes, env.dims)
    except KeyError:  # an axis or dim that is not bound, which the general evaluator reports
        return None


def eval_int(e: Expr, env: Env) -> int:
    """The value of a scalar index expression."""
    return int(eval_index(e, env))


def _reads(e: Expr) -> bool:
    """Whether `e` can fail or read, so that its value depends on where it is evaluated."""
    return bottom_up(e, "reads", _reads_or_fails)


def _reads_or_fails(e: Expr) -> bool:
    return e.op == "load" or e.op in PROMISES or any(map(_reads, e.args))


class _Evaluation:
    """One evaluation: values by node and, for what reads memory, by the branches taken on the way
    to it.
    """

    def __init__(self, env: Env, mask: Array | None):
        self.env = env
        self.mask = mask
        self.done: dict[tuple[Expr, Path], Array] = {}

    def value(self, e: Expr, path: Path, mask: Array | None) -> Array:
        if not _reads(e):  # one value for all points, whatever the branch it is first met in
            path, mask = _HERE, None
        found = self.done.get((e, path))
        if found is None:
            if e.depth > DEEP:
                self.from_below(e, path, mask)
            quick = _quick(e, self.env) if e.args and e.op != "axis" else None
            found = np.asarray(self.compute(e, path, mask) if quick is None else quick)
            self.done[e, path] = found
        return found

    def from_below(self, e: Expr, path: Path, mask: Array | None) -> None:
        """Evaluates what `e` needs in any case, arguments first: no level waits for another."""

        def unknown(node: Expr) -> bool:
            at = path if _reads(node) else _HERE
            return node.op not in ("select", "axis") and (node, at) not in self.done

        for node in walk(e, unknown):
            if node is not e:
                self.value(node, path, mask)

    def compute(self, e: Expr, path: Path, mask: Array | None) -> Any:
        if e.op == "const":
            dtype = e.dtype
            if dtype.is_float:
                return rounded(np.float64(e.attr), dtype)
            return np.asarray(e.attr, dtype.numpy)
        if e.op in ("dim", "axis", "arg"):
            return self.leaf(e)
        if e.op == "select":
            return self.select(e, path, mask)
        if e.op == "load":
            return self.env.memory.read(e.attr, self.indices(e.args, path, mask), mask)
        args = [self.value(a, path, mask) for a in e.args]
        if e.op == "cast":
            with np.errstate(all="ignore"):
                return convert(args[0], e.args[0].dtype, e.dtype)
        if e.op == "bitcast":
            return reinterpret(args[0], e.args[0].dtype, e.dtype)
        if e.op == "bounded":
            return self.bounded(e, args[0], args[1], mask)
        if e.op == "checked":
            return self.checked(e, args[0], args[1], mask)
        return apply(e.op, e.args[0].dtype, args)

    def indices(self, idx: tuple[Expr, ...], path: Path, mask: Array | None) -> tuple[Any, ...]:
        found = [(_quick(i, self.env), i) for i in idx]
        return tuple(self.value(i, path, mask) if q is None else q for q, i in found)

    def leaf(self, e: Expr) -> Any:
        if e.op == "arg":
            return self.env.args[e.attr]
        found = self.env.dims.get(e.name) if e.op == "dim" else self.env.axes.get(e)
        if found is None:
            raise VerifyError(f"{e.op} {e.name} is not bound")
        return np.asarray(found, np.int64)

    def select(self, e: Expr, path: Path, mask: Array | None) -> Any:
        c, a, b = e.args
        cond = self.value(c, path, mask)
        taken = cond if mask is None else cond & mask
        refused = ~cond if mask is None else ~cond & mask
        if not np.any(refused):
            return (
                self.value(a, path | {(c, True)}, taken) if np.any(taken) else self.nothing(e, cond)
            )
        if not np.any(taken):
            return self.value(b, path | {(c, False)}, refused)
        yes = self.value(a, path | {(c, True)}, taken)
        no = self.value(b, path | {(c, False)}, refused)
        return np.where(cond, yes, no)

    def nothing(self, e: Expr, cond: Array) -> Array:
        """The value where there are no points at all."""
        return np.zeros(np.shape(cond), held(e.dtype))

    def checked(self, e: Expr, value: Array, holds: Array, mask: Array | None) -> Array:
        if np.any(~holds if mask is None else ~holds & mask):
            kind = RunIndexError if e.attr == "index" else RunError
            raise kind(f"{FAULTS[e.attr]}: {e}")
        return value

    def bounded(self, e: Expr, index: Array, extent: Array, mask: Array | None) -> Array:
        outside = (index < 0) | (index >= extent)
        wrong = outside if mask is None else outside & mask
        if np.any(wrong):
            value = np.broadcast_to(index, np.shape(wrong))[wrong].flat[0]
            size = np.broadcast_to(extent, np.shape(wrong))[wrong].flat[0]
            raise RunIndexError(
                f"index {value} is out of bounds for a dimension of size {size}: {e}"
            )
        return np.clip(index, 0, np.maximum(extent - 1, 0)) if np.any(outside) else index
