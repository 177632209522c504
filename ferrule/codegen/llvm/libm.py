"""Calls of the C library's mathematics, one a lane: for the functions and dtypes that have no
formula of their own.

Symbols are resolved by whatever loads the object code; every libm has them.
"""

from __future__ import annotations

from ferrule.base.errors import UnsupportedError
from ferrule.codegen.llvm.builder import Builder, Val

_SAME = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
    "atanh erf erfc lgamma pow atan2 nextafter hypot"
)
NAMES = {**{op: op for op in _SAME.split()}, "rem": "fmod"}


def call_libm(b: Builder, op: str, vals: list[Val]) -> Val:
    """`op` on floats by its libm function. Raises UnsupportedError if there is none."""
    name = NAMES.get(op)
    if name is None:
        raise UnsupportedError(f"codegen has no {op} of {vals[0].type}: it must be lowered before")
    vals_, width, level = b.even(*vals)
    type = vals_[0].type
    callee = name + ("f" if type == "float" else "")
    b.declares[callee] = f"declare {type} @{callee}({', '.join([type] * len(vals_))}) #1"

    def lane(k: int) -> Val:
        operands = ", ".join(f"{type} {b.extract(v, k).text}" for v in vals_)
        return b.pure(f"call {type} @{callee}({operands}) #1", type, 0, level)

    return b.gather([lane(k) for k in range(width)]) if width else lane(0)
