"""Strides of results where PyTorch's shape functions tell others than its kernels give.

The kernels of some operators make their result row-major or channels-last, whichever their operand
suggests; the shape functions that tracing asks keep the operand's strides, or take it for
row-major. What follows in the graph takes its strides from there, so it is asked again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensor

_SUGGESTED = frozenset(
    {
        "aten.batch_norm.default",
        "aten.native_batch_norm.default",
        "aten._native_batch_norm_legit.default",
        "aten._native_batch_norm_legit.no_stats",
        "aten._native_batch_norm_legit_no_training.default",
        "aten.roll.default",
        "aten.channel_shuffle.default",
        "aten.native_channel_shuffle.default",
    }
)  # whose first result lies as the first operand suggests


def correct_strides(graph: Any) -> None:
    """Gives the nodes of an FX graph values with the strides that eager PyTorch's have."""
    changed: set[Any] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if str(node.target) in _SUGGESTED:
            right = _suggested(node)
        elif changed.isdisjoint(node.all_input_nodes):
            continue
        else:
            right = _again(node)
        if right is not None and _strides(right) != _strides(node.meta["val"]):
            node.meta["val"] = right
            changed.add(node)


def _suggested(node: Any) -> Any:
    """The value of a node whose first result lies as its first operand suggests."""
    x, value = node.args[0].meta["val"], node.meta["val"]
    if str(node.target) == "aten.roll.default" and not node.args[2:]:
        return None  # along no dims it is flattened, and row-major
    first, *others = value if isinstance(value, tuple | list) else (value,)
    format = suggest_memory_format(x)
    if first.is_contiguous(memory_format=format):
        return None
    with x.fake_mode:
        right = torch.empty_like(first, memory_format=format)
    return type(value)((right, *others)) if isinstance(value, tuple | list) else right


def _again(node: Any) -> Any:
    """The value of a node for the values that its operands have now; None where it has none."""
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    mode = next((v.fake_mode for v in _tensors(node.all_input_nodes)), None)
    if mode is None:
        return None
    try:
        with mode, torch.no_grad():
            return node.target(*args, **kwargs)
    except (RuntimeError, ValueError):  # a view of other strides than tracing took for granted
        return None


def _tensors(nodes: Any) -> list[Any]:
    values = [n.meta.get("val") for n in nodes]
    flat = [x for v in values for x in (v if isinstance(v, tuple | list) else (v,))]
    return [x for x in flat if isinstance(x, FakeTensor)]


def _strides(value: Any) -> list[Any]:
    several = value if isinstance(value, tuple | list) else (value,)
    return [x.stride() if isinstance(x, torch.Tensor) else None for x in several]
