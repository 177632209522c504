"""Text of graphs.

    graph main {
      dim n
      input x: f32[n, 64]
      param w: f32[64]
      v0: f32[n, 64] = mul(x, w)
      v1: f32[n, 64], v2: i64[n, 64] = sort(v0) {axis = 1} at "model.py:12"
      return v1
    }

    graph = graph name { dims input.. param.. node.. return name, .. }
    node  = name: type, .. = op(name, ..) [{attr = value, ..}] [at "location"]
    value = 12 | 1.5 | true | "text" | dtype | none | expr(expr) | bytes("hex") | graph
          | by (dtype, ..) expr                            an order, over $0, $1, ..
          | (value, ..)

A tuple of one value is written `(value,)`.
"""

from __future__ import annotations

import json
from typing import Any

from ferrule.base.dtype import DType
from ferrule.base.errors import UnsupportedError
from ferrule.ir.expr import Expr
from ferrule.ir.graph import OPDEFS, Graph, Node, TensorType, Value, no_operator
from ferrule.ir.notation import show, show_name
from ferrule.ir.system import Order
from ferrule.ir.text.declare import (
    dim_declarations,
    dim_lines,
    indent,
    mentions,
    order,
    type_text,
)
from ferrule.ir.text.expr import expr
from ferrule.ir.text.parser import Parser


def print_graph(graph: Graph) -> str:
    """`graph` as text, which `parse_graph` reads back."""
    lines = dim_lines(mentions(graph).dims)
    lines += [f"input {_value_text(v)}" for v in graph.inputs]
    lines += [f"param {_value_text(v)}" for v in graph.params]
    lines += [line for n in graph.nodes for line in print_node(n).splitlines()]
    lines.append(f"return {', '.join(show_name(v.name) for v in graph.outputs)}".rstrip())
    return "\n".join([f"graph {show_name(graph.name)} {{", *indent(lines), "}", ""])


def print_node(n: Node) -> str:
    """One node, for messages."""
    outputs = ", ".join(_value_text(v) for v in n.outputs)
    text = f"{outputs} = {show_name(n.op)}({', '.join(show_name(v.name) for v in n.inputs)})"
    if n.attrs:
        shown = ", ".join(f"{show_name(k)} = {_attr_text(v)}" for k, v in n.attrs)
        text += f" {{{shown}}}"
    return text + (f" at {json.dumps(n.location)}" if n.location else "")


def _value_text(v: Value) -> str:
    return f"{show_name(v.name)}: {v.type}"


def _attr_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Expr):
        return f"expr({show(value)})"
    if isinstance(value, Order):
        dtypes = ", ".join(d.name for d in value.dtypes)
        return f"by ({dtypes}) {show(value.before)}"
    if isinstance(value, bytes):
        return f'bytes("{value.hex()}")'
    if isinstance(value, Graph):
        return print_graph(value).rstrip()
    if isinstance(value, tuple):
        inner = ", ".join(_attr_text(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    raise UnsupportedError(f"an attribute of {type(value).__name__} cannot be written as text")


# ---- reading -------------------------------------------------------------------------------------


def parse_graph(source: str) -> Graph:
    """The graph that `source` writes. Raises ParseError."""
    p = Parser(source)
    out = graph(p)
    p.end()
    return out


def graph(p: Parser) -> Graph:
    p.expect("graph")
    name = p.name()
    p.expect("{")
    values: dict[str, Value] = {}
    with p.inner():
        dim_declarations(p)
        inputs, params = _declared(p, "input", values), _declared(p, "param", values)
        nodes = []
        while not p.accept("return"):
            nodes.append(_node(p, values))
        outputs = p.separated(lambda: _use(p, values), "}")
    return Graph(name, inputs, params, tuple(nodes), outputs)


def _declared(p: Parser, keyword: str, values: dict[str, Value]) -> tuple[Value, ...]:
    out = []
    while p.accept(keyword):
        out.append(_define(p, values))
    return tuple(out)


def _define(p: Parser, values: dict[str, Value]) -> Value:
    at, name = p.token.at, p.name("a value")
    if name in values:
        raise p.error(f"{name} is defined twice", at)
    p.expect(":")
    dtype, shape = type_text(p)
    v = values[name] = Value(name, TensorType(shape, dtype))
    return v


def _use(p: Parser, values: dict[str, Value]) -> Value:
    at, name = p.token.at, p.name("a value")
    if name not in values:
        raise p.error(f"no value is called {name!r} so far", at)
    return values[name]


def _node(p: Parser, values: dict[str, Value]) -> Node:
    defined: dict[str, Value] = {}
    outputs = p.separated(lambda: _define(p, defined), "=")
    at, op = p.token.at, p.name("an operator")
    if op not in OPDEFS:
        raise p.error(no_operator(op), at)
    p.expect("(")
    inputs = p.separated(lambda: _use(p, values), ")")
    attrs = p.separated(lambda: _attribute(p), "}") if p.accept("{") else ()
    location = p.string() if p.accept("at") else ""
    values.update(defined)
    return Node(op, inputs, outputs, attrs, location)


def _attribute(p: Parser) -> tuple[str, Any]:
    name = p.name("an attribute")
    p.expect("=")
    return name, _attr(p)


def _attr(p: Parser) -> Any:
    token = p.token
    if token.kind == "string":
        return p.string()
    if token.kind == "name":
        return p.dtype()
    if token.kind == "number" or p.sees("-", "inf", "nan"):
        return _number(p)
    if p.accept("true"):
        return True
    if p.accept("false"):
        return False
    if p.accept("none"):
        return None
    if p.accept("expr"):
        p.expect("(")
        value = expr(p)
        p.expect(")")
        return value
    if p.sees("graph"):
        return graph(p)
    if p.accept("by"):
        p.expect("(")
        return order(p, p.separated(p.dtype, ")"))
    if p.accept("bytes"):
        p.expect("(")
        data = p.checked(lambda: bytes.fromhex(p.string()), p.token.at)
        p.expect(")")
        return data
    p.expect("(")
    return p.separated(lambda: _attr(p), ")")


def _number(p: Parser) -> int | float:
    sign = -1 if p.accept("-") else 1
    if not p.sees("inf", "nan") and p.token.kind != "number":
        raise p.error(f"expected a number, found {p.token.text or 'the end'!r}")
    text = p.next().text
    return sign * (int(text) if text.isdigit() else float(text))
