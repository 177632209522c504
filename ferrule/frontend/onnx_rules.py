"""All rules of the ONNX frontend: importing this fills the tables."""

from __future__ import annotations

from ferrule.frontend import (
    onnx_arith,
    onnx_attention,
    onnx_contrib,
    onnx_control,
    onnx_data,
    onnx_host,
    onnx_index,
    onnx_loop,
    onnx_math,
    onnx_ml,
    onnx_ml_features,
    onnx_ml_linear,
    onnx_ml_scores,
    onnx_ml_trees,
    onnx_nn,
    onnx_quant,
    onnx_reduce,
    onnx_resize,
    onnx_rnn,
    onnx_rnn_bytes,
    onnx_signal,
    onnx_small,
    onnx_text,
    onnx_view,
)
from ferrule.frontend.onnx_run import CONTROL
from ferrule.frontend.onnx_table import is_known

MODULES = (
    onnx_arith,
    onnx_attention,
    onnx_contrib,
    onnx_control,
    onnx_data,
    onnx_host,
    onnx_index,
    onnx_loop,
    onnx_math,
    onnx_ml,
    onnx_ml_features,
    onnx_ml_linear,
    onnx_ml_scores,
    onnx_ml_trees,
    onnx_nn,
    onnx_quant,
    onnx_reduce,
    onnx_resize,
    onnx_rnn,
    onnx_rnn_bytes,
    onnx_signal,
    onnx_small,
    onnx_text,
    onnx_view,
)


def known(domain: str, name: str, version: int) -> bool:
    """Whether ferrule has a rule of its own for an operator."""
    return is_known(domain, name, version) or (not domain and name in CONTROL)
