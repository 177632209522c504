"""Whether tensors are like those of an earlier call, told by one native call.

    like = likeness([x, y])
    like(a, b)              # of the same types, dtypes, sizes and strides, on the same device?

It asks PyTorch's own guards, those that Dynamo compiles for a graph's inputs. They tell more than
is asked (the autograd and inference modes too, and whether one tensor is given twice), so that no
means only: look closer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Like = Callable[..., bool]

_Guards: Any = getattr(torch._C._dynamo.guards, "TensorGuards", None)


def likeness(tensors: Sequence[torch.Tensor]) -> Like | None:
    """A function of as many arguments, true for tensors like these ones alone; None where there is
    none, or it could not be true even for these.
    """
    if _Guards is None or not tensors or len({id(x) for x in tensors}) < len(tensors):
        return None
    sizes = [list(x.shape) for x in tensors]
    strides = [list(x.stride()) for x in tensors]
    try:
        guards = _Guards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
        like: Like = guards.check
        return like if like(*tensors) else None
    except (TypeError, SystemError):  # a PyTorch whose guards are made otherwise
        return None
