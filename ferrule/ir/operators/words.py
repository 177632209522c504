"""Words: products of bytes, which machines sum in fours.

    word(a, b, c, d)   four bytes (i8 or u8), the first one lowest, as an i32
    dot4(x, y)         sum over i of byte i of x, unsigned, times byte i of y, signed; wraps
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import i32
from ferrule.ir.operators.operator import Operator

Array = NDArray[Any]


def _word(*parts: Array) -> Any:
    lanes = np.broadcast_arrays(*parts)
    return np.ascontiguousarray(np.stack(lanes, -1)).view("<i4")[..., 0]


def _dot4(x: Array, y: Array) -> Any:
    x, y = np.broadcast_arrays(x, y)
    unsigned, signed = (
        np.ascontiguousarray(v)[..., None].view(f"{kind}1").astype(np.int32)
        for v, kind in ((x, "u"), (y, "i"))
    )
    return (unsigned * signed).sum(-1, dtype=np.int32)


WORDS = (
    Operator("word", 4, ints=_word, result=i32, bits=8),
    Operator("dot4", 2, ints=_dot4, bits=32),
)
