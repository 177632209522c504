"""ferrule: an AI compiler in Python: tensor programs to machine code, on numpy and llvmlite.

What is here is imported when it is asked for, so that `ferrule.runtime` needs numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ferrule import jax, nn
    from ferrule.api import compile, elements
    from ferrule.api.artifacts import bundle, save
    from ferrule.api.jit import jit
    from ferrule.api.operators import define_operator
    from ferrule.api.profile import profile
    from ferrule.api.programs import InferenceSession
    from ferrule.runtime.counters import counters, reset_counters
    from ferrule.runtime.load import load
    from ferrule.runtime.pool import get_num_threads, set_num_threads

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
    "bundle",
    "compile",
    "counters",
    "define_operator",
    "elements",
    "get_num_threads",
    "jax",
    "jit",
    "load",
    "nn",
    "profile",
    "reset_counters",
    "save",
    "set_num_threads",
]

_MODULES = {"elements": "ferrule.api.elements", "jax": "ferrule.jax", "nn": "ferrule.nn"}
_FROM = {
    "InferenceSession": "ferrule.api.programs",
    "bundle": "ferrule.api.artifacts",
    "compile": "ferrule.api",
    "counters": "ferrule.runtime.counters",
    "define_operator": "ferrule.api.operators",
    "get_num_threads": "ferrule.runtime.pool",
    "jit": "ferrule.api.jit",
    "load": "ferrule.runtime.load",
    "profile": "ferrule.api.profile",
    "reset_counters": "ferrule.runtime.counters",
    "save": "ferrule.api.artifacts",
    "set_num_threads": "ferrule.runtime.pool",
}


def __getattr__(name: str) -> Any:
    """What is asked for by its name, kept from then on."""
    if name in _MODULES:
        found: Any = importlib.import_module(_MODULES[name])
    elif name in _FROM:
        found = getattr(importlib.import_module(_FROM[name]), name)
    else:
        raise AttributeError(f"module 'ferrule' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
