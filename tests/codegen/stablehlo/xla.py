"""StableHLO text on XLA, for tests: verified by jaxlib's MLIR, compiled and run on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import bf16
from ferrule.ir.graph import Graph

Array = NDArray[Any]


def verify(text: str) -> None:
    """Raises MLIRError where the text is malformed or breaks a rule."""
    from jax.interpreters import mlir
    from jaxlib.mlir import ir

    with mlir.make_ir_context():
        assert ir.Module.parse(text).operation.verify()


def run(graph: Graph, text: str, arrays: Sequence[Array]) -> list[Array]:
    """The results of `text` for arrays in storage form, in storage form."""
    import jax
    from jax.extend.backend import get_backend
    from jaxlib import xla_client
    from ml_dtypes import bfloat16

    verify(text)
    client, options = get_backend("cpu"), xla_client.CompileOptions()
    devices = xla_client.DeviceList(tuple(client.devices()[:1]))
    with jax.enable_x64(True):
        given = [
            jax.device_put(a.view(bfloat16) if v.dtype is bf16 else a)
            for v, a in zip((*graph.inputs, *graph.params), arrays)
        ]
        found = client.compile_and_load(text.encode(), devices, options).execute_sharded(given)
    out = [np.asarray(x[0]) for x in found.disassemble_into_single_device_arrays()]
    return [x.view(np.uint16) if x.dtype == bfloat16 else x for x in out]
