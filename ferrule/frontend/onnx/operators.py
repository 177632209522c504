"""All rules of the ONNX frontend: importing this fills the tables."""

from __future__ import annotations

from ferrule.frontend.onnx.rules import arith as onnx_arith
from ferrule.frontend.onnx.rules import attention as onnx_attention
from ferrule.frontend.onnx.rules import contrib as onnx_contrib
from ferrule.frontend.onnx.rules import control as onnx_control
from ferrule.frontend.onnx.rules import data as onnx_data
from ferrule.frontend.onnx.rules import host as onnx_host
from ferrule.frontend.onnx.rules import index as onnx_index
from ferrule.frontend.onnx.rules import loop as onnx_loop
from ferrule.frontend.onnx.rules import math as onnx_math
from ferrule.frontend.onnx.rules import ml as onnx_ml
from ferrule.frontend.onnx.rules import ml_features as onnx_ml_features
from ferrule.frontend.onnx.rules import ml_linear as onnx_ml_linear
from ferrule.frontend.onnx.rules import ml_scores as onnx_ml_scores
from ferrule.frontend.onnx.rules import ml_trees as onnx_ml_trees
from ferrule.frontend.onnx.rules import nn as onnx_nn
from ferrule.frontend.onnx.rules import quant as onnx_quant
from ferrule.frontend.onnx.rules import reduce as onnx_reduce
from ferrule.frontend.onnx.rules import resize as onnx_resize
from ferrule.frontend.onnx.rules import rnn as onnx_rnn
from ferrule.frontend.onnx.rules import rnn_bytes as onnx_rnn_bytes
from ferrule.frontend.onnx.rules import signal as onnx_signal
from ferrule.frontend.onnx.rules import small as onnx_small
from ferrule.frontend.onnx.rules import text as onnx_text
from ferrule.frontend.onnx.rules import view as onnx_view
from ferrule.frontend.onnx.run import CONTROL
from ferrule.frontend.onnx.table import is_known

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
