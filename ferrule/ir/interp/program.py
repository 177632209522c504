"""The meaning of Program: one arena of bytes, so that temps which overlap in memory really do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.artifact import ALIGNMENT
from ferrule.base.errors import VerifyError
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.interp.dims import Arrays, infer_dims, named_arrays, shape_of, size
from ferrule.ir.interp.expr import Env, eval_expr
from ferrule.ir.interp.loop import run_points
from ferrule.ir.interp.memory import Memory, poison
from ferrule.ir.loop import Function
from ferrule.ir.program import Case, Placed, Program, Repeat, Row, Run, Step

Array = NDArray[Any]


def run_program(
    program: Program,
    inputs: Arrays,
    params: Arrays = (),
    dims: Mapping[str, int] | None = None,
    shuffle: np.random.Generator | None = None,
) -> list[Array]:
    """The outputs of `program`, in storage form: `prepare` runs, then `main`.

    `inputs` and `params` are storage arrays by name or in the program's order. Raises InputError
    and GuardError for arrays that do not fit, RunIndexError for a wrong index, VerifyError for a
    defect of the program.
    """
    rng = shuffle or np.random.default_rng(0)
    given = {**named_arrays(program.inputs, inputs), **named_arrays(program.params, params)}
    values = infer_dims((*program.inputs, *program.params), given, dims)
    arrays = {name: a.copy() for name, a in given.items()}
    for b in program.outputs:
        arrays[b.name] = poison(shape_of(b, values), b.dtype)
    arrays |= _arena(program.consts, size(program.const_bytes, values), values)
    functions = {f.name: f for f in program.functions}
    _steps(program.prepare, arrays | _temps(program, values), functions, values, rng)
    _steps(program.main, arrays | _temps(program, values), functions, values, rng)
    return [arrays[b.name] for b in program.outputs]


def _temps(program: Program, dims: Mapping[str, int]) -> dict[str, Array]:
    return _arena(program.temps, size(program.arena_bytes, dims), dims)


def _arena(placed: tuple[Placed, ...], total: int, dims: Mapping[str, int]) -> dict[str, Array]:
    """Views of one poisoned block of `total` bytes."""
    block = np.full(total + ALIGNMENT, 0xFF, np.uint8)
    block = block[-block.ctypes.data % ALIGNMENT :][:total]
    return {p.buf.name: _view(p.buf, block, size(p.offset, dims), dims) for p in placed}


def _view(buf: Buf, block: Array, offset: int, dims: Mapping[str, int]) -> Array:
    """`buf` at `offset` in `block`, its dimensions laid out as its layout says."""
    shape = shape_of(buf, dims)
    count = int(np.prod(shape)) * buf.dtype.size
    if offset < 0 or offset % ALIGNMENT or offset + count > block.size:
        raise VerifyError(
            f"{buf.name} takes {count} bytes at {offset}: not inside the arena of {block.size} "
            "bytes, or not aligned"
        )
    order = buf.order
    flat = block[offset : offset + count].view(buf.dtype.numpy)
    return (
        flat.reshape([shape[d] for d in order]).transpose(np.argsort(order))
        if order
        else flat.reshape(())
    )


def _steps(
    steps: tuple[Step, ...],
    arrays: dict[str, Array],
    functions: Mapping[str, Function],
    dims: Mapping[str, int],
    rng: np.random.Generator,
) -> None:
    for step in steps:
        if isinstance(step, Run):
            _run(step, arrays, functions, dims, rng)
            continue
        if isinstance(step, Repeat):
            _repeat(step, arrays, functions, dims, rng)
            continue
        if isinstance(step, Case):
            index, last = int(arrays[step.index.name]), len(step.branches) - 1
            body = step.branches[index if 0 <= index < last else last]
            _steps(body, dict(arrays), functions, dims, rng)
            continue
        for guard, body in step.branches:
            if eval_expr(guard, Env(dims)):
                _steps(body, dict(arrays), functions, dims, rng)
                break
        else:
            raise VerifyError("no variant's guard holds")


def _repeat(
    step: Repeat,
    arrays: dict[str, Array],
    functions: Mapping[str, Function],
    dims: Mapping[str, int],
    rng: np.random.Generator,
) -> None:
    """Runs a repeat, and adds the rows that it gives to `arrays`."""
    t, here = 0, {**dims, step.iteration.name: 0}
    while _goes(step, arrays, here, t):
        rows = {r.buf.name: _row(r, arrays, here, t) for r in step.rows}
        _steps(step.steps, {**arrays, **rows}, functions, here, rng)
        t += 1
        here = {**dims, step.iteration.name: t}
    arrays |= {r.buf.name: _row(r, arrays, here, t) for r in step.gives}


def _goes(step: Repeat, arrays: Mapping[str, Array], dims: Mapping[str, int], t: int) -> bool:
    """Whether iteration `t` runs."""
    if isinstance(step.until, Expr):
        return t < size(step.until, dims)
    row = next((r for r in step.rows if r.buf == step.until), None)
    return bool(arrays[step.until.name] if row is None else _row(row, arrays, dims, t))


def _row(row: Row, arrays: Mapping[str, Array], dims: Mapping[str, int], t: int) -> Array:
    """The array that a row is in iteration `t`."""
    if t == 0 and row.first is not None:
        return arrays[row.first.name]
    index, whole = size(row.index, dims), arrays[row.whole.name]
    if not 0 <= index < len(whole):
        raise VerifyError(f"{row.buf.name} is row {index} of {row.whole.name}: {len(whole)} rows")
    return whole[index, ...]


def _run(
    step: Run,
    arrays: dict[str, Array],
    functions: Mapping[str, Function],
    dims: Mapping[str, int],
    rng: np.random.Generator,
) -> None:
    for phase in step.phases:
        owners: dict[str, Array] = {}
        point = 0
        for k in rng.permutation(len(phase)):
            call = phase[k]
            function = functions[call.function]
            memory = _formal(function, call.args, arrays, owners)
            memory.point = point
            run_points(function, memory, dims, rng)
            point = memory.point


def _formal(
    function: Function, args: tuple[Buf, ...], arrays: dict[str, Array], owners: dict[str, Array]
) -> Memory:
    """The function's view of its actual arguments; owners are shared by the calls of a phase."""
    formals = [b.name for b in function.bufs]
    local, mine = {}, {}
    for name, actual in zip(formals, args, strict=True):
        array = arrays.get(actual.name)
        if array is None:
            raise VerifyError(f"{function.name} is given {actual.name}, which nothing places")
        local[name] = array
        mine[name] = owners.setdefault(actual.name, np.full(array.shape, -1, np.int64))
    return Memory(local, owners=mine)
