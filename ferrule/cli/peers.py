"""Other runtimes that a model is compared with: the same file, inputs and number of threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.model import Array

Results = Callable[[], list[Any]]
"""A call that runs the model and gives its outputs in order, as NumPy arrays."""


def _onnxruntime(model: str, arrays: Mapping[str, Array], threads: int) -> Results:
    ort = _imported("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(arrays))


def _openvino(model: str, arrays: Mapping[str, Array], threads: int) -> Results:
    ov = _imported("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    kept = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    tensors = {name: ov.Tensor(x, shared_memory=bool(x.ndim)) for name, x in kept.items()}
    names = {name for port in compiled.inputs for name in port.get_names()}
    for name in tensors:
        if name in names:  # OpenVINO drops inputs that no operator reads
            request.set_tensor(name, tensors[name])

    def call() -> list[Any]:
        request.infer()
        return [request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))]

    return call


PEERS: dict[str, Callable[[str, Mapping[str, Array], int], Results]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def ready(peer: str, model: str, arrays: Mapping[str, Array], threads: int) -> Results:
    """A call of the model in `peer`, after a first one. Raises UnsupportedError in one line where
    the peer is not installed or refuses the model.
    """
    try:
        call = PEERS[peer](model, arrays, threads)
        call()
    except UnsupportedError:
        raise
    except Exception as error:  # a peer raises what it likes
        why = " ".join(str(error).split())
        raise UnsupportedError(f"{peer} does not run this model: {why[:200]}") from None
    return call


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UnsupportedError(f"{name} is not installed: pip install {name}") from None
