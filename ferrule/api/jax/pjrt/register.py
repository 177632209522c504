"""The plugin in JAX: the platform `ferrule`."""

from __future__ import annotations

import ctypes
import functools
from collections import ChainMap
from typing import Any

from jax._src import xla_bridge
from jax._src.interpreters import mlir

from ferrule.api.jax.pjrt import (  # each fills the table
    buffers,
    client,
    errors,
    events,
    execution,
    programs,
)
from ferrule.api.jax.pjrt.table import Api

_PARTS = (buffers, client, errors, events, execution, programs)
_PRIORITY = -1  # that of the CPU is 0


def register_platform() -> None:
    """Makes the platform "ferrule" known to JAX; again, it does nothing. JAX's default stays what
    it is: `jax.config.update("jax_platforms", "ferrule")` or the variable JAX_PLATFORMS makes it
    ferrule. Raises RuntimeError where JAX has started already.
    """
    if client.NAME in xla_bridge._backend_factories:
        return
    xla_bridge.register_plugin(client.NAME, priority=_PRIORITY, c_api=_capsule())
    # what JAX lowers to LAPACK's functions on a CPU is what the frontend reads
    rules = mlir._platform_specific_lowerings
    rules[client.NAME] = ChainMap({}, rules["cpu"])
    mlir._platforms_with_donation.append(client.NAME)


@functools.cache
def _api() -> Api:
    return Api()


def _capsule() -> Any:
    """What jaxlib takes: a capsule with the address of a PJRT_Api."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return make(_api().address, b"pjrt_c_api", None)
