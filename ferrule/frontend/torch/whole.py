"""Recurrent layers kept whole while PyTorch traces: shapes alone, no step is run.

PyTorch finds the shapes of a recurrent layer's results by running its steps on tensors without
data. That takes time for each step, and makes the length of the sequence a constant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

LAYERS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextlib.contextmanager
def recurrent_layers_whole() -> Iterator[None]:
    """A context in which recurrent layers on tensors without data give results of the right shapes
    and do nothing else.
    """
    key, table = torch._C.DispatchKey, torch._decomp.decomposition_table
    ops = [getattr(torch.ops.aten, name).input for name in LAYERS]
    saved = [(op, dict(op.py_kernels), table[op]) for op in ops]
    for op, kernels, run in saved:
        table[op] = partial(_shapes, run)
        for k in (key.Autograd, key.CompositeImplicitAutograd, key.Meta):
            if k in kernels:
                op.py_kernels[k] = partial(_shapes, kernels[k])
        op._dispatch_cache.clear()
    try:
        yield
    finally:
        for op, kernels, run in saved:
            table[op] = run
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()


def _shapes(
    run: Callable[..., Any], x: Any, hx: Any, params: Any, biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    """Empty results of a layer; of `run` for tensors with data."""
    if not isinstance(x, FakeTensor):
        return run(x, hx, params, biases, layers, dropout, train, bidirectional, batch_first)
    states = (hx,) if isinstance(hx, torch.Tensor) else tuple(hx)
    batch, steps = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
    y = x.new_empty((steps, batch, states[0].shape[2] * (2 if bidirectional else 1)))
    ends = (s.new_empty(s.shape) for s in states)
    return (y.transpose(0, 1) if batch_first else y, *ends)
