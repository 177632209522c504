"""Notation: how expressions and names are written. `ferrule.ir.text` reads them back."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Protocol

import numpy as np

from ferrule.base.dtype import DType, f32, i64
from ferrule.ir.operators import OPERATORS

INFIX = {name: op.infix for name, op in OPERATORS.items() if op.infix is not None}
KEYWORDS = frozenset({
    "true", "false", "inf", "nan", "none", "cast", "bitcast", "checked", "expr", "bytes",
    "graph", "system", "kernels", "kernel", "scheduled", "functions", "function", "program",
    "module", "segment", "over", "require", "fused",
    "dim", "input", "param", "output", "buf", "read", "write", "takes", "const", "temp",
    "monoid", "identity", "combine", "commutative", "idempotent",
    "reduce", "scan", "sorted", "init", "exclusive", "reverse", "where", "when", "update",
    "grid", "schedule", "kind", "scratch", "layout", "for", "in", "parallel", "serial",
    "unroll", "lanes",
    "alloc", "store", "by", "if", "else", "prefetch", "phase", "prepare", "main", "run",
    "const_bytes", "arena_bytes", "scratch_bytes", "variants", "call", "cost", "note",
    "return", "at", "repeat", "row", "first", "while", "gives", "case", "branch", "of", "last",
})  # fmt: skip
_ALONE = 9  # binds tighter than any operator
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)


class Node(Protocol):
    """What is needed of an Expr to write it."""

    op: str
    args: tuple[Any, ...]
    attr: Any
    dtype: DType


@cache
def show_name(name: str) -> str:
    """A name as text: quoted unless it is an identifier (perhaps dotted) and no keyword."""
    return name if _NAME.fullmatch(name) and name not in KEYWORDS else json.dumps(name)


def show_const(value: Any, dtype: DType) -> str:
    """A literal, with its dtype unless that is i64, f32 or bool."""
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype == f32:
        return str(np.float32(value))
    if dtype.is_float:
        return f"{value!r}:{dtype.name}"
    return str(value) if dtype == i64 else f"{value}:{dtype.name}"


def show(e: Node, level: int = 0) -> str:
    """`e` as text; only needed parentheses are written."""
    done: dict[Node, tuple[str, int]] = {}
    stack = [e]
    while stack:
        node = stack[-1]
        waiting = [] if node.op == "axis" else [a for a in node.args if a not in done]
        if waiting:
            stack += waiting
        else:
            done[stack.pop()] = _written(node, done)
    return _inside(done[e], level)


def _inside(written: tuple[str, int], level: int = 0) -> str:
    text, rank = written
    return f"({text})" if rank < level else text


def _written(e: Node, done: dict[Node, tuple[str, int]]) -> tuple[str, int]:
    """The text of `e` and how tightly it binds; `done` are those of its arguments."""
    op = e.op
    if op == "const":
        text = show_const(e.attr, e.dtype)
        return text, 0 if text.startswith("-") else _ALONE
    if op in ("dim", "axis"):
        return show_name(e.attr if op == "axis" else e.attr.name), _ALONE
    if op == "arg":
        return f"${e.attr}", _ALONE
    if op in INFIX:
        rank, symbol = INFIX[op]
        x, y = e.args
        return f"{_inside(done[x], rank)} {symbol} {_inside(done[y], rank + 1)}", rank
    within = ", ".join([_inside(done[a]) for a in e.args])
    if op == "load":
        return f"{show_name(e.attr.name)}[{within}]", _ALONE
    kind = {"cast": e.dtype.name, "bitcast": e.dtype.name, "checked": e.attr}.get(op)
    to = f"<{kind}>" if kind else ""
    return f"{op}{to}({within})", _ALONE
