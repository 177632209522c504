"""ferrule: an AI compiler in Python: tensor programs to machine code, on numpy and llvmlite."""

from __future__ import annotations

import importlib
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
    from ferrule.api import elements
    from ferrule.api.operators import define_operator
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
    "define_operator",
    "elements",
    "get_num_threads",
    "jit",
    "nn",
    "reset_counters",
    "set_num_threads",
]


_LAZY = {
    "InferenceSession": "ferrule.api.session",
    "define_operator": "ferrule.api.operators",
    "elements": "ferrule.api.elements",
}


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ferrule' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if name == "elements" else getattr(module, name)
