"""PJRT_LoadedExecutable_Execute: a call of a program."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ferrule.api.jax.pjrt.buffers import Buffer
from ferrule.api.jax.pjrt.events import ready
from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.programs import Loaded
from ferrule.api.jax.pjrt.table import STRUCTS, function
from ferrule.api.jax.pjrt.texts import numbers_at

_OPTIONS = STRUCTS["PJRT_ExecuteOptions"]


def _not_donated(place: int | None) -> list[int]:
    """The arguments that stay the caller's, whatever the program says."""
    if not place:
        return []
    options = _OPTIONS.from_address(place)
    count = options.num_non_donatable_input_indices
    return numbers_at(options.non_donatable_input_indices, count)


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
    given_buffers = [HANDLES.get(h, Buffer) for h in handles]
    arrays = [b.array for b in given_buffers]
    made = program.session.run(None, dict(zip(program.inputs, arrays)))
    kept = _not_donated(args.options)
    for k in program.donated:
        if k not in kept:
            given_buffers[k].delete()
    buffers = [
        HANDLES.new(Buffer(loaded.client, np.ascontiguousarray(y).reshape(y.shape), kind))
        for y, kind in zip(made, program.kinds, strict=True)
    ]
    (out,) = numbers_at(args.output_lists, 1, ctypes.c_size_t)
    for place, handle in enumerate(buffers):
        ctypes.c_size_t.from_address(out + place * ctypes.sizeof(ctypes.c_size_t)).value = handle
    if args.device_complete_events:
        ctypes.c_size_t.from_address(args.device_complete_events).value = ready()
