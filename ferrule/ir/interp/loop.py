"""The meaning of Loop: statements run one by one; a LANES loop runs once, its axis an array of all
lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Expr
from ferrule.ir.interp.dims import shape_of
from ferrule.ir.interp.expr import Env, eval_expr, eval_index, eval_int
from ferrule.ir.interp.kernel import grid_points
from ferrule.ir.interp.memory import Memory
from ferrule.ir.interp.system import combine, flatten, fold_last, merge
from ferrule.ir.kernel import Kind
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store, While
from ferrule.ir.system import Monoid

Array = NDArray[Any]
_ALL = np.asarray(True)


def run_function(
    function: Function,
    buffers: dict[str, Array] | Sequence[Array],
    dims: Mapping[str, int] | None = None,
    shuffle: np.random.Generator | None = None,
) -> None:
    """Runs every grid point of `function` on `buffers`: storage arrays by name, or in the order of
    its `bufs`; those it writes are changed in place. Raises VerifyError for an access out of bounds
    or between grid points, RunIndexError for a wrong `bounded` index.
    """
    if not isinstance(buffers, dict):
        buffers = {b.name: a for b, a in zip(function.bufs, buffers, strict=True)}
    run_points(
        function, Memory(buffers, owners={}), dims or {}, shuffle or np.random.default_rng(0)
    )


def run_points(
    function: Function, memory: Memory, dims: Mapping[str, int], rng: np.random.Generator
) -> None:
    """Runs the grid in an order drawn from `rng`."""
    env = Env(dims, {}, memory)
    for point in grid_points(function.grid, env, rng):
        memory.point += 1
        _block(function.body, env.bind(point), _ALL, None)
    memory.point += 1


def _block(body: tuple[Stmt, ...], env: Env, mask: Array, lane: Expr | None) -> None:
    """Runs statements at the points of `mask`: one, or one for each lane of the axis `lane`."""
    alive = []
    for s in body:
        if isinstance(s, Alloc):
            env.memory.allocate(s.buf, shape_of(s.buf, env.dims))
            alive.append(s.buf)
        elif isinstance(s, For):
            _loop(s, env, mask, lane)
        elif isinstance(s, If):
            cond = eval_expr(s.cond, env, mask)
            for branch, taken in ((s.body, mask & cond), (s.orelse, mask & ~cond)):
                if branch and taken.any():
                    _block(branch, env, taken, lane)
        elif isinstance(s, While):
            while env.memory.read(s.flag, (), None):
                _block(s.body, env, mask, lane)
        elif isinstance(s, Store):
            _store(s, env, mask, lane)
    for b in alive:
        env.memory.release(b)


def _loop(s: For, env: Env, mask: Array, lane: Expr | None) -> None:
    lo, hi = eval_int(s.lo, env), eval_int(s.hi, env)
    if s.kind is not Kind.LANES:
        for i in range(lo, hi):
            _block(s.body, env.bind({s.axis: i}), mask, lane)
        return
    if lane is not None:
        raise VerifyError(f"the LANES loop over {s.axis.name} stands inside that over {lane.name}")
    if lo < hi:
        lanes = env.bind({s.axis: np.arange(lo, hi)})
        _block(s.body, lanes, np.broadcast_to(mask, (hi - lo,)), s.axis)


def _store(s: Store, env: Env, mask: Array, lane: Expr | None) -> None:
    within = None if mask is _ALL else mask
    values = tuple(eval_expr(v, env, within) for v in s.values)
    if s.monoid is None:
        places, flat = flatten(s.targets, env, values, mask)
        for (buf, _), idx, value in zip(s.targets, places, flat, strict=True):
            env.memory.write(buf, idx, value)
    elif any(lane in i.axes for _, idx in s.targets for i in idx):
        places, flat = flatten(s.targets, env, values, mask)
        merge(s.monoid, s.targets, env.memory, places, flat)
    else:
        _fold_lanes(s, s.monoid, env, mask, values)


def _fold_lanes(s: Store, monoid: Monoid, env: Env, mask: Array, values: tuple[Array, ...]) -> None:
    """Folds the values of the active lanes (without lanes: the value) into one place."""
    at = [tuple(eval_index(i, env) for i in idx) for _, idx in s.targets]
    shape = np.broadcast_shapes(mask.shape, *(v.shape for v in values))
    active = np.broadcast_to(mask, shape).reshape(-1)
    lanes = tuple(np.broadcast_to(v, shape).reshape(-1)[active] for v in values)
    old = tuple(env.memory.read(b, i, None) for (b, _), i in zip(s.targets, at, strict=True))
    new = combine(monoid, old, fold_last(monoid, lanes))
    for (buf, _), idx, value in zip(s.targets, at, new, strict=True):
        env.memory.write(buf, idx, value)
