"""Operators of users as nodes of a custom domain."""

from __future__ import annotations

from typing import Any

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.table import GRAPH, Context, onnx
from ferrule.ir.graph import Value
from ferrule.ops.own import ElementOperator


def register(own: ElementOperator, domain: str, kind: str) -> None:
    """Let nodes of this domain and type be the operator. A node's attributes are the operator's, by
    name and of their types.
    """

    @onnx(kind, domain=domain)
    def _rule(cx: Context, *operands: Value | None) -> Value:
        if len(operands) != len(own.operands) or None in operands:
            names = ", ".join(own.operands)
            raise UnsupportedError(f"it takes {len(own.operands)} operands: {names}")
        unknown = sorted(cx.op.attrs.keys() - own.defaults.keys())
        if unknown:
            known = ", ".join(own.defaults) or "none"
            raise UnsupportedError(
                f"it has no attribute {unknown[0]!r}; the attributes of {own.name} are: {known}"
            )
        values = [x for x in operands if x is not None]
        given = {n: _read(x, own.defaults[n]) for n, x in cx.op.attrs.items()}
        return own.build(cx.b, *values, **given)


def forget(domain: str, kind: str) -> None:
    """Undo `register`."""
    GRAPH.pop((domain, kind), None)


def _read(x: Any, default: Any) -> Any:
    """An attribute as the operator takes it, which checks its type; ONNX has integers for bools."""
    if isinstance(default, tuple):
        return tuple(_read(e, default[0]) for e in x) if isinstance(x, list | tuple) else x
    return bool(x) if isinstance(default, bool) and x in (0, 1) else x
