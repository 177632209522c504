"""The peers: each makes a model ready to be called, with its best settings.

Equal for all: f32 (no bf16, no tf32), the same number of threads, the same inputs, weights as
constants, gradients off in the whole process (switching them off is no part of a call). What a
timed call is:

- eager, inductor, ferrule: the PyTorch module, or what `torch.compile` gave for it, called on
  tensors; outputs are fresh tensors. So the time holds Dynamo's guards.
- inductor: freezing on, which folds constants and packs weights. (`max-autotune` would add minutes
  of compilation for each model.)
- onnxruntime: all graph optimisations, inputs and outputs bound beforehand, so that no NumPy
  conversion is timed. Its workers stop spinning at the end of each run, else they would slow the
  peer that is measured next.
- openvino: latency hint, one stream, f32 hint, input tensors shared and set beforehand.
- ferrule-dynamic: ferrule compiled once for sizes that are symbols, by `mark_dynamic`.
- ferrule-direct and ferrule-direct-dynamic: `ferrule.compile`, without Dynamo.

`compile_seconds` is the time until the first result exists: capture or export, compilation, and
one run. `own_seconds` is the compiler's own share of it, where it can be told apart from PyTorch's
capture or the export to ONNX.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.models import Model

Inputs = tuple[Tensor, ...]

OPSET = 23
"""The first ONNX opset with an Attention operator: both readers are faster with it than with 20."""


class Unavailable(Exception):
    """This peer cannot run here; the message says why."""


@dataclass(frozen=True)
class Ready:
    """A model made ready by a peer: `call` runs it, `result` gives the output of a run."""

    call: Callable[[], object]
    result: Callable[[], Tensor]
    compile_seconds: float
    own_seconds: float | None = None
    kernels: int | None = None


class Case:
    """A built model, with what several peers share: the reference result and the ONNX file."""

    def __init__(self, model: Model, seed: int, threads: int, folder: Path) -> None:
        self.model = model
        self.module, self.inputs = model(seed)
        self.threads = threads
        self.folder = folder
        self.reference: Tensor = self.module(*self.inputs)

    @cached_property
    def onnx(self) -> tuple[Path, float]:
        """The exported file and the seconds its export took."""
        path = self.folder / f"{self.model.name}.onnx"
        start = time.perf_counter()
        export_onnx(self.module, self.inputs, path)
        return path, time.perf_counter() - start

    def relative_error(self, result: Tensor) -> float:
        """The largest difference from eager over the largest eager value; inf for NaN."""
        reference = self.reference.double()
        if result.shape != reference.shape:
            return float("inf")
        scale = reference.abs().max().item() or 1.0
        error = (result.double() - reference).abs().max().item() / scale
        return error if error == error else float("inf")


def export_onnx(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """Write `module` as one ONNX file, by PyTorch's exporter, or its older one where that fails."""
    try:
        program = torch.onnx.export(module, inputs, dynamo=True, opset_version=OPSET, verbose=False)
        assert program is not None
        program.save(str(path), external_data=False)
    except torch.onnx.errors.OnnxExporterError:
        torch.onnx.export(module, inputs, str(path), dynamo=False)


def eager(case: Case) -> Ready:
    """PyTorch without a compiler."""
    return _torch_ready(case.module, case.inputs)


def inductor(case: Case) -> Ready:
    """TorchInductor with frozen weights."""
    options = {"freezing": True}
    return _torch_ready(
        torch.compile(case.module, backend="inductor", options=options), case.inputs
    )


def onnxruntime(case: Case) -> Ready:
    """ONNX Runtime's CPU provider on the exported model."""
    ort = _imported("onnxruntime")
    path, export_seconds = case.onnx
    start = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for spec, value in zip(session.get_inputs(), case.inputs):
        binding.bind_cpu_input(spec.name, value.contiguous().numpy())
    binding.bind_output(session.get_outputs()[0].name, "cpu")

    def call() -> None:
        session.run_with_iobinding(binding)

    def result() -> Tensor:
        call()
        return torch.from_numpy(binding.get_outputs()[0].numpy())

    call()
    own = time.perf_counter() - start
    return Ready(call, result, export_seconds + own, own)


def openvino(case: Case) -> Ready:
    """OpenVINO's CPU device on the exported model."""
    ov = _imported("openvino")
    path, export_seconds = case.onnx
    start = time.perf_counter()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(case.threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    for index, value in enumerate(case.inputs[: len(compiled.inputs)]):
        request.set_input_tensor(index, ov.Tensor(value.contiguous().numpy(), shared_memory=True))

    def call() -> None:
        request.infer()

    def result() -> Tensor:
        call()
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    call()
    own = time.perf_counter() - start
    return Ready(call, result, export_seconds + own, own)


def ferrule(case: Case) -> Ready:
    """ferrule through `torch.compile`, for the shapes of the inputs."""
    return _ferrule_ready(case, dynamic=False)


def ferrule_dynamic(case: Case) -> Ready:
    """ferrule through `torch.compile`, with symbolic sizes."""
    if case.model.dynamic is None:
        raise Unavailable("not a row for symbolic sizes")
    return _ferrule_ready(case, dynamic=True)


def ferrule_direct(case: Case) -> Ready:
    """ferrule's own entry, without Dynamo and its guards."""
    return _direct_ready(case, None)


def ferrule_direct_dynamic(case: Case) -> Ready:
    """The same with symbolic sizes."""
    marked = case.model.dynamic or ()
    return _direct_ready(case, tuple(dict.fromkeys(a, torch.export.Dim.DYNAMIC) for a in marked))


PEERS: dict[str, Callable[[Case], Ready]] = {
    "eager": eager,
    "inductor": inductor,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ferrule": ferrule,
    "ferrule-dynamic": ferrule_dynamic,
    "ferrule-direct": ferrule_direct,
    "ferrule-direct-dynamic": ferrule_direct_dynamic,
}


def _torch_ready(
    function: Callable[..., Tensor], inputs: Inputs, start: float | None = None
) -> Ready:
    """A PyTorch callable after its first call, the compile time counted from `start`."""
    start = time.perf_counter() if start is None else start

    def call() -> Tensor:
        return function(*inputs)

    call()
    return Ready(call, call, time.perf_counter() - start)


def _ferrule_ready(case: Case, dynamic: bool) -> Ready:
    package = _ferrule_package()
    inner = torch._dynamo.lookup_backend("ferrule")

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        """A function of its own, so that Dynamo keeps its code apart from the other entry's."""
        return inner(graph, inputs)

    before = package.counters()
    # As for Inductor, `dynamic` is not given: either value makes Dynamo change its settings and
    # change them back on every call, which takes it 10 us.
    compiled = torch.compile(case.module, backend=backend)
    start = time.perf_counter()
    with torch._dynamo.config.patch(specialize_float=True):
        compiled(*(_marked(case) if dynamic else case.inputs))
        ready = _torch_ready(compiled, case.inputs, start)
    after = package.counters()
    own, kernels = (
        after[name] - before[name] if name in after else None
        for name in ("compile_seconds", "kernels")
    )
    return Ready(ready.call, ready.result, ready.compile_seconds, own, kernels)


def _direct_ready(case: Case, dynamic_shapes: tuple[dict[int, Any], ...] | None) -> Ready:
    package = _ferrule_package()
    start = time.perf_counter()
    compiled = package.compile(case.module, case.inputs, dynamic_shapes=dynamic_shapes)
    ready = _torch_ready(compiled, case.inputs, start)
    return Ready(ready.call, ready.result, ready.compile_seconds, kernels=compiled.kernels)


def _marked(case: Case) -> Inputs:
    """Copies of the inputs, of which those axes are marked that are to be symbols."""
    copies = tuple(x.clone() for x in case.inputs)
    for x, axes in zip(copies, case.model.dynamic or ()):
        torch._dynamo.mark_dynamic(x, list(axes))
    return copies


def _ferrule_package() -> Any:
    package = _imported("ferrule")
    if not callable(getattr(package, "compile", None)):
        raise Unavailable("ferrule has no compile() yet")
    return package


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed: {error}") from error
