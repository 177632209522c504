"""The meaning of Kernel: grid points in any order, each with scratch of its own that starts out
poisoned.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.interp.dims import shape_of
from ferrule.ir.interp.expr import Env, eval_expr, eval_int
from ferrule.ir.interp.memory import Memory
from ferrule.ir.interp.system import run_stage
from ferrule.ir.kernel import Branch, Item, Kernel, SerialLoop
from ferrule.ir.system import Stage

Array = NDArray[Any]
Rng = np.random.Generator


def run_kernel(
    kernel: Kernel,
    buffers: dict[str, Array],
    dims: Mapping[str, int] | None = None,
    shuffle: Rng | None = None,
) -> None:
    """Runs `kernel` on `buffers` (storage arrays by name, changed in place).

    Grid points run in an order drawn from `shuffle` (a fixed seed without it). Raises VerifyError
    for an access out of bounds and for grid points that are not independent, RunIndexError for a
    wrong `bounded` index.
    """
    memory = Memory(buffers, owners={})
    _run(kernel, memory, dims or {}, shuffle or np.random.default_rng(0))


def grid_points(grid: tuple[Expr, ...], env: Env, rng: Rng) -> list[dict[Expr, int]]:
    """The points of a grid, shuffled."""
    ranges = [range(eval_int(a.extent, env)) for a in grid]
    points = [dict(zip(grid, p, strict=True)) for p in product(*ranges)]
    return [points[k] for k in rng.permutation(len(points))]


def _run(kernel: Kernel, memory: Memory, dims: Mapping[str, int], rng: Rng) -> None:
    env = Env(dims, {}, memory)
    for point in grid_points(kernel.grid, env, rng):
        memory.point += 1
        _items(kernel.body, kernel.scratch, env.bind(point))
    memory.point += 1


def _items(body: tuple[Item, ...], scratch: tuple[Buf, ...], env: Env) -> None:
    for b in scratch:
        env.memory.allocate(b, shape_of(b, env.dims))
    for item in body:
        if isinstance(item, SerialLoop):
            for i in range(eval_int(item.axis.extent, env)):
                _items(item.body, item.scratch, env.bind({item.axis: i}))
        elif isinstance(item, Branch):
            if eval_expr(item.cond, env):
                _items(item.body, (), env)
        elif isinstance(item, Stage):
            run_stage(item, env)
    for b in scratch:
        env.memory.release(b)
