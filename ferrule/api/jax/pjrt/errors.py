"""PJRT_Error: what a function gives in place of 0."""

from __future__ import annotations

from typing import Any

from ferrule.api.jax.pjrt.handles import HANDLES, Failure
from ferrule.api.jax.pjrt.layout import PJRT_Error_Code
from ferrule.api.jax.pjrt.table import function
from ferrule.api.jax.pjrt.texts import Text


@function("PJRT_Error_Destroy")
def _destroy(args: Any) -> None:
    HANDLES.free(args.error)


@function("PJRT_Error_Message")
def _message(args: Any) -> None:
    failure = HANDLES.get(args.error, Failure)
    text = failure.__dict__.setdefault("text", Text(failure.message))
    args.message, args.message_size = text.address, text.size


@function("PJRT_Error_GetCode")
def _code(args: Any) -> None:
    args.code = PJRT_Error_Code[HANDLES.get(args.error, Failure).code]
