"""Views: operators whose every result element is one element of the operand.

    out[i..] = x[map(i..)]

Below Graph there are no views, so an operator here is nothing but its index map, and `define_view` makes the definition
from three rules: the result's shape, the index map, and the meaning in NumPy. An index that is not shown to lie in the
operand (a symbolic slice, say) is `bounded`: the run reports it instead of reading elsewhere.

`reshape` matches dims in groups of equal size, so that [B, S, 768] -> [B, S, 12, 64] is x[b, s, h*64 + d]: axes that a
reshape leaves alone stay bare.
"""
from __future__ import annotations

from builtins import slice as span
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import CompileError
from ferrule.ir.compute import Stage
from ferrule.ir.expr import (
    ONE,
    ZERO,
    Buf,
    Expr,
    as_index,
    bounded,
    ceildiv,
    const,
    load,
    maximum,
    minimum,
    product,
)
from ferrule.ir.graph import (
    Attrs,
    ComputeContext,
    GraphBuilder,
    Shape,
    TensorType,
    Value,
    tensor,
)
from ferrule.ir.simplify import equal, prove_nonneg, simplify

Size = Expr | int
Array = NDArray[Any]
