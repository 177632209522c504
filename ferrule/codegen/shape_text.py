"""Expressions over dims as text in the shape language of compiled programs (base.shapes)."""

from __future__ import annotations

from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr
from ferrule.ir.operators import OPERATORS

_INFIX = {
    **{n: op.infix[1] for n, op in OPERATORS.items() if op.infix and op.exact},
    "and": "and", "or": "or", "xor": "!=",  # of conditions
}  # fmt: skip


def extent(e: Expr) -> int | str:
    """An extent for a TensorSpec: an int where it is constant, else text."""
    return int(e.attr) if e.is_const else shape_text(e)


def shape_text(e: Expr) -> str:
    """`e` as text. Raises CompileError for what is no expression over dims."""
    if e.is_const:
        return str(int(e.attr))
    if e.op == "dim":
        return e.name
    args = [shape_text(a) for a in e.args]
    if e.op in _INFIX and (e.op != "xor" or e.dtype.is_bool):
        return f"({args[0]} {_INFIX[e.op]} {args[1]})"
    if e.op in ("min", "max"):
        return f"{e.op}({args[0]}, {args[1]})"
    if e.op == "select":
        return f"({args[1]} if {args[0]} else {args[2]})"
    if e.op == "neg":
        return f"(-{args[0]})"
    if e.op == "not" and e.dtype.is_bool:
        return f"(not {args[0]})"
    raise CompileError(f"{e.op} has no place in a shape, in {e}")
