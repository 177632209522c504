"""PJRT_LoadedExecutable_Execute: a call of a program."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ferrule.api.jax.pjrt.buffers import Buffer
from ferrule.api.jax.pjrt.events import ready
from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.programs import Loaded, Program
from ferrule.api.jax.pjrt.table import STRUCTS, function
from ferrule.api.jax.pjrt.texts import numbers_at

_OPTIONS = STRUCTS["PJRT_ExecuteOptions"]


def _donated(place: int | None, program: Program, handles: list[int]) -> list[int]:
    """The arguments that the caller gives up: those of the program, but for what the options say.
    Raises Failure where one is given twice.
    """
    kept = list[int]()
    if place:
        options = _OPTIONS.from_address(place)
        count = options.num_non_donatable_input_indices
        kept = numbers_at(options.non_donatable_input_indices, count)
    found = [k for k in program.donated if k not in kept]
    for k in found:
        if handles.count(handles[k]) > 1:
            message = f"argument {k} is donated, and is another argument as well"
            raise Failure("INVALID_ARGUMENT", message)
    return found


def _whole(y: Any) -> Any:
    """A result, C-contiguous; a token is an empty one."""
    return np.empty(0, np.bool_) if y is None else np.ascontiguousarray(y).reshape(y.shape)


@function("PJRT_LoadedExecutable_Execute")
def _execute(args: Any) -> None:
    """The call is over when the function returns, so that all events are ready. Memory of a donated
    argument is given up, and not used for a result.
    """
    loaded = HANDLES.get(args.executable, Loaded)
    program = loaded.live
    if args.num_devices != 1:
        raise Failure("INVALID_ARGUMENT", f"a call for {args.num_devices} devices; there is one")
    (given,) = numbers_at(args.argument_lists, 1, ctypes.c_size_t)
    handles = numbers_at(given, args.num_args, ctypes.c_size_t)
    if len(handles) != len(program.inputs):
        message = f"{len(handles)} arguments for a program of {len(program.inputs)}"
        raise Failure("INVALID_ARGUMENT", message)
    buffers = [HANDLES.get(h, Buffer) for h in handles]
    donated = _donated(args.options, program, handles)
    feed = {name: b.array for name, b in zip(program.inputs, buffers) if name is not None}
    made = iter(program.session.run(None, feed))
    for k in donated:
        buffers[k].delete()
    results = [
        HANDLES.new(Buffer(loaded.client, _whole(None if name is None else next(made)), kind))
        for name, kind in zip(program.outputs, program.kinds, strict=True)
    ]
    (out,) = numbers_at(args.output_lists, 1, ctypes.c_size_t)
    for place, handle in enumerate(results):
        ctypes.c_size_t.from_address(out + place * ctypes.sizeof(ctypes.c_size_t)).value = handle
    if args.device_complete_events:
        ctypes.c_size_t.from_address(args.device_complete_events).value = ready()
