"""PJRT_Event: ready from the beginning, since a call ends when its work is done."""

from __future__ import annotations

import ctypes
from typing import Any

from ferrule.api.jax.pjrt.handles import HANDLES
from ferrule.api.jax.pjrt.table import function

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class Event:
    """What has happened."""


def ready() -> int:
    """The handle of an event."""
    return HANDLES.new(Event())


@function("PJRT_Event_Destroy")
def _destroy(args: Any) -> None:
    HANDLES.free(args.event)


@function("PJRT_Event_IsReady")
def _is_ready(args: Any) -> None:
    HANDLES.get(args.event, Event)
    args.is_ready = True


@function("PJRT_Event_Error")
@function("PJRT_Event_Await")
def _no_error(args: Any) -> None:
    HANDLES.get(args.event, Event)


@function("PJRT_Event_OnReady")
def _on_ready(args: Any) -> None:
    HANDLES.get(args.event, Event)
    _CALLBACK(args.callback)(None, args.user_arg)
