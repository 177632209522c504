"""The meaning of whole programs as kernels, and as code with calls: each buffer of the program is
an array of its own, and what runs, runs in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import VerifyError
from ferrule.ir.calls import Call, Functions, Interface, Kernels, Scheduled
from ferrule.ir.expr import Buf
from ferrule.ir.interp.dims import Arrays, infer_dims, named_arrays, shape_of
from ferrule.ir.interp.kernel import run_kernel
from ferrule.ir.interp.loop import run_function
from ferrule.ir.interp.memory import poison

Array = NDArray[Any]
Code = Callable[[dict[str, Array], Mapping[str, int]], None]
Step = tuple[Code, Sequence[Buf], Sequence[Buf]]
"""Code that changes arrays by name, its formal buffers, and the actual ones."""


def run_kernels(
    level: Kernels, inputs: Arrays, params: Arrays = (), dims: Mapping[str, int] | None = None
) -> list[Array]:
    """The outputs of `level`, in storage form: `prepare` runs, then `main`.

    `inputs` and `params` are storage arrays by name or in order. Raises InputError and GuardError
    for arrays that do not fit, RunIndexError for a wrong index, VerifyError for a defect.
    """
    steps = [(partial(run_kernel, k), k.globals, k.globals) for k in level.kernels]
    return _run(level.interface, steps, inputs, params, dims)


def run_scheduled(
    level: Scheduled, inputs: Arrays, params: Arrays = (), dims: Mapping[str, int] | None = None
) -> list[Array]:
    """The same of scheduled kernels and the calls of them."""
    code = {k.name: (partial(run_kernel, k), k.globals) for k in level.kernels}
    steps = [(*_known(code, c), c.args) for c in (*level.prepare, *level.main)]
    return _run(level.interface, steps, inputs, params, dims)


def run_functions(
    level: Functions, inputs: Arrays, params: Arrays = (), dims: Mapping[str, int] | None = None
) -> list[Array]:
    """The same of functions and the calls of them."""
    code = {f.name: (partial(run_function, f), f.bufs) for f in level.functions}
    steps = [(*_known(code, c), c.args) for c in (*level.prepare, *level.main)]
    return _run(level.interface, steps, inputs, params, dims)


def _known(code: Mapping[str, tuple[Code, Sequence[Buf]]], c: Call) -> tuple[Code, Sequence[Buf]]:
    if c.function not in code:
        raise VerifyError(f"{c.function} is called and nothing defines it")
    return code[c.function]


def _run(
    face: Interface,
    steps: Sequence[Step],
    inputs: Arrays,
    params: Arrays,
    dims: Mapping[str, int] | None,
) -> list[Array]:
    given = {**named_arrays(face.inputs, inputs), **named_arrays(face.params, params)}
    values = infer_dims((*face.inputs, *face.params), given, dims)
    arrays = {name: a.copy() for name, a in given.items()}
    used = [b for _, _, actual in steps for b in actual]
    for b in (*face.outputs, *used):
        if b.name not in arrays:
            arrays[b.name] = poison(shape_of(b, values), b.dtype)
    for run, formal, actual in steps:
        run({f.name: arrays[b.name] for f, b in zip(formal, actual, strict=True)}, values)
    return [np.asarray(arrays[b.name]) for b in face.outputs]
