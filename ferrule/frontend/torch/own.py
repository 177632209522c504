"""Operators of users as custom operators of PyTorch, `torch.ops.ferrule.NAME`.

In eager mode such an operator is its meaning in NumPy. To a compiler it is one node, whose rule
(`table.own_rule`) makes it a node of the graph, so it is fused like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes

from ferrule.base.dtype import to_storage
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.torch.run import torch_dtype
from ferrule.frontend.torch.table import dtype_of
from ferrule.ops.own import ElementOperator

_KINDS = {bool: "bool", int: "int", float: "float", str: "str"}


def register(own: ElementOperator) -> Any:
    """The OpOverload of an operator, registered with torch.library in place of an earlier one of
    the name.
    """

    def eager(*operands: torch.Tensor, **attributes: Any) -> torch.Tensor:
        return _run(own, operands, attributes)

    def fake(*operands: torch.Tensor, **attributes: Any) -> torch.Tensor:
        dtype = own.result(dtype_of(operands[0].dtype), attributes)
        shape = torch.broadcast_tensors(*operands)[0].shape
        return operands[0].new_empty(shape, dtype=torch_dtype(dtype))

    made = torch.library.custom_op(
        f"ferrule::{own.name}", eager, mutates_args=(), device_types="cpu", schema=_schema(own)
    )
    made.register_fake(fake)
    return getattr(torch.ops.ferrule, own.name).default


def _schema(own: ElementOperator) -> str:
    """The operator's schema. Attributes have no defaults in it: PyTorch leaves out of a graph what
    equals a default, and -0.0 equals 0.0.
    """
    given = [f"Tensor {name}" for name in own.operands]
    named = [f"{_kind(default)} {name}" for name, default in own.defaults.items()]
    return f"({', '.join([*given, '*', *named] if named else given)}) -> Tensor"


def _kind(default: Any) -> str:
    if isinstance(default, tuple):
        return f"{_KINDS[type(default[0])]}[]"
    return _KINDS[type(default)]


def together(operands: Sequence[Any]) -> list[torch.Tensor]:
    """Operands, of which one is a tensor, as tensors of the dtype that they promote to."""
    first = next(x for x in operands if isinstance(x, torch.Tensor))
    if all(isinstance(x, torch.Tensor) and x.dtype == first.dtype for x in operands):
        return list(operands)
    given = [
        x if isinstance(x, torch.Tensor | int | float) else torch.as_tensor(x) for x in operands
    ]
    kind = ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT
    dtype = elementwise_dtypes(*given, type_promotion_kind=kind)[1]
    return [
        x.to(dtype)
        if isinstance(x, torch.Tensor)
        else torch.full((), x, dtype=dtype, device=first.device)
        for x in given
    ]


def _run(
    own: ElementOperator, operands: Sequence[torch.Tensor], attributes: Mapping[str, Any]
) -> torch.Tensor:
    """The operator's meaning, as a new contiguous tensor."""
    dtypes = {x.dtype for x in operands}
    if len(dtypes) > 1:
        shown = ", ".join(map(str, dtypes))
        raise UnsupportedError(f"ferrule::{own.name} takes tensors of one dtype, got {shown}")
    arrays = [_real(x.detach()) for x in operands]
    out, dtype = own.run(arrays, dtype_of(operands[0].dtype), attributes)
    storage = to_storage(out, dtype)
    made = torch.empty(out.shape, dtype=torch_dtype(dtype))
    plain = torch.from_numpy(storage.copy())
    made.copy_(plain.view(torch.bfloat16) if dtype.name == "bf16" else plain)
    return made


def _real(x: torch.Tensor) -> Any:
    """The values of a tensor, those of bfloat16 as f32."""
    return (x.float() if x.dtype == torch.bfloat16 else x.resolve_neg()).numpy()
