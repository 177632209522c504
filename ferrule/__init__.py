"""ferrule: an AI compiler in Python: tensor programs to machine code, on numpy and llvmlite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrule import nn
from ferrule.api import compile
from ferrule.api.jit import jit
from ferrule.base.errors import (
    CompileError,
    FerruleError,
    GuardError,
    InputError,
    ParseError,
    RunError,
    UnsupportedError,
    VerifyError,
)
from ferrule.base.version import VERSION as __version__
from ferrule.runtime.counters import counters, reset_counters
from ferrule.runtime.pool import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from ferrule.api.session import InferenceSession

__all__ = [
    "CompileError",
    "FerruleError",
    "GuardError",
    "InferenceSession",
    "InputError",
    "ParseError",
    "RunError",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "compile",
    "counters",
    "get_num_threads",
    "jit",
    "nn",
    "reset_counters",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    """InferenceSession, which is imported when it is asked for."""
    if name == "InferenceSession":
        from ferrule.api.session import InferenceSession

        return InferenceSession
    raise AttributeError(f"module 'ferrule' has no attribute {name!r}")
