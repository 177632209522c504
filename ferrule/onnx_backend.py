"""The standard ONNX backend interface: `onnx.backend.base.Backend` on ferrule.

import ferrule.onnx_backend as backend
outputs = backend.prepare(model).run([x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from ferrule.api.session import InferenceSession, read_onnx
from ferrule.base.errors import UnsupportedError


class FerruleRep(BackendRep):
    """A prepared model."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, for inputs in order, by name, or a single one."""
        names = [p.name for p in self.session.get_inputs()]
        if isinstance(inputs, Mapping):
            feed = dict(inputs)
        else:
            several = inputs if isinstance(inputs, list | tuple) else [inputs]
            feed = dict(zip(names, several))
        outputs = self.session.run(None, feed)
        fields = [p.name for p in self.session.get_outputs()]
        return namedtupledict("Outputs", fields)(*outputs)


class FerruleBackend(Backend):
    """What `onnx.backend.test` drives."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the model's operators are known and its device is the CPU."""
        try:
            read_onnx(model)
        except UnsupportedError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> FerruleRep:
        """The model, compiled as far as that can be done before a run."""
        if not cls.supports_device(device):
            raise UnsupportedError(f"ferrule runs ONNX models on the CPU, not on {device}")
        return FerruleRep(InferenceSession(model))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Prepare and run."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node, on arrays in the order of its operands that are given."""
        import numpy as np

        names = [n for n in node.input if n]
        arrays = [np.asarray(x) for x in inputs]
        ports = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in zip(names, arrays)
        ]
        results = [helper.make_empty_tensor_value_info(n) for n in node.output if n]
        graph = helper.make_graph([node], "node", ports, results)
        versions = kwargs.get("opset_version")
        opsets = None if versions is None else [helper.make_opsetid(node.domain, versions)]
        model = (
            helper.make_model(graph, opset_imports=opsets) if opsets else (helper.make_model(graph))
        )
        return cls.run_model(model, dict(zip(names, arrays)), device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU."""
        return device.split(":")[0].upper() == "CPU"


prepare = FerruleBackend.prepare
run_model = FerruleBackend.run_model
run_node = FerruleBackend.run_node
supports_device = FerruleBackend.supports_device
is_compatible = FerruleBackend.is_compatible
