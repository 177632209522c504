"""Small ONNX models, and what ONNX's own evaluator says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ferrule.api.session import InferenceSession

Shapes = Mapping[str, tuple[Any, Sequence[Any] | None]]


def node(kind: str, inputs: str, outputs: str, **attrs: Any) -> NodeProto:
    """A node with operands and results as words; "_" is one that is left out."""
    names = [["" if n == "_" else n for n in text.split()] for text in (inputs, outputs)]
    return helper.make_node(kind, *names, **attrs)


def body(
    nodes: Sequence[NodeProto], inputs: Shapes, outputs: Shapes,
    constants: Mapping[str, Any] | None = None,
) -> Any:  # fmt: skip
    """A graph; inputs and outputs are name: (dtype, shape)."""
    held = [numpy_helper.from_array(np.asarray(x), n) for n, x in (constants or {}).items()]
    ports = [[_port(n, *t) for n, t in side.items()] for side in (inputs, outputs)]
    return helper.make_graph(list(nodes), "tested", *ports, held)


def _port(name: str, dtype: Any, shape: Sequence[Any] | None) -> Any:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, code, shape)


def model(
    nodes: Sequence[NodeProto], inputs: Shapes, outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None, opset: int = 21,
    domains: Mapping[str, int] | None = None, dtype: Any = np.float32,
) -> ModelProto:  # fmt: skip
    """A model whose outputs are of unknown shape."""
    graph = body(nodes, inputs, dict.fromkeys(outputs, (dtype, None)), constants)
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(d, v) for d, v in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(proto: ModelProto, **feed: Any) -> list[Any]:
    """The outputs on ferrule."""
    return InferenceSession(proto).run(None, feed)


def check(proto: ModelProto, rtol: float = 1e-5, **feed: Any) -> InferenceSession:
    """The session, after its outputs were compared with the reference evaluator's."""
    session = InferenceSession(proto)
    expected = ReferenceEvaluator(proto).run(None, dict(feed))
    for mine, theirs in zip(session.run(None, feed), expected, strict=True):
        assert mine.dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-6)
    return session


def programs(session: InferenceSession) -> int:
    """How many programs a session compiled."""
    return len(session._runner.programs)


def random(*shape: int, seed: int = 0) -> Any:
    """Normal numbers in f32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
