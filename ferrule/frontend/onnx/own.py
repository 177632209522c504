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
        given = {n: _read(cx, n, default) for n, default in own.defaults.items()}
        return own.build(cx.b, *values, **given)


def forget(domain: str, kind: str) -> None:
    """Undo `register`."""
    GRAPH.pop((domain, kind), None)


def _read(cx: Context, name: str, default: Any) -> Any:
    """An attribute of the node, of the type of its default."""
    if isinstance(default, tuple):
        if isinstance(default[0], str):
            return cx.texts(name, default)
        if isinstance(default[0], float):
            return cx.floats(name, default)
        return tuple(type(default[0])(x) for x in cx.ints(name, default))
    if isinstance(default, bool):
        return bool(cx.int(name, default))
    if isinstance(default, str):
        return cx.text(name, default)
    return cx.int(name, default) if isinstance(default, int) else cx.float(name, default)
