"""Sizes and guards of a program as a function: from the values of dims to all extents.

The texts are of the shape language (`ferrule.base.shapes`). A value is *defined* where nothing is
divided by zero on the way to it; a guard holds where it is true and defined, and an extent that is
not defined is -1, which no tensor has.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from typing import NamedTuple

from ferrule.base.errors import CompileError
from ferrule.codegen.capi.body import Body, Value, Writer

_COMPARED = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt",
             ast.GtE: "sge"}  # fmt: skip
_WRAPPING = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
_DIVIDING = {ast.FloorDiv: "capi.floordiv", ast.Mod: "capi.floormod"}


def sizes_function(
    m: Writer, name: str, extents: Sequence[int | str], guards: Sequence[str], dims: Sequence[str]
) -> None:
    """Defines `void NAME(ptr dims, ptr out)`, which writes an i64 for each extent, and then 1 or 0
    for each guard. Raises CompileError for text that is not of the language.
    """
    f = m.define("void", name, {"dims": "ptr", "out": "ptr"})
    code = _Sizes(f, {n: f.load("i64", f["dims"], 8 * i) for i, n in enumerate(dims)})
    for k, extent in enumerate(extents):
        found = code.of(str(extent))
        f.store(f.choose(found.defined, _number(found.value), -1), f["out"], 8 * k)
    for k, guard in enumerate(guards, len(extents)):
        found = code.of(guard)
        f.store((found.defined & _truth(found.value)).to("i64"), f["out"], 8 * k)
    f.give()


def division(m: Writer) -> None:
    """Defines division that rounds towards minus infinity, and its remainder. By zero they give
    some value.
    """
    params = {"a": "i64", "b": "i64"}
    f = m.define("i64", "capi.floordiv", params)
    # -1 is apart: the least number divided by it is none.
    by = f.choose(f["b"].equals(0) | f["b"].equals(-1), f.value("i64", 1), f["b"])
    q = f.emit("i64", f"sdiv i64 {f['a'].text}, {by.text}")
    r = f.emit("i64", f"srem i64 {f['a'].text}, {by.text}")
    down = r.differs(0) & (r ^ by).less(0)
    negated = f.value("i64", 0) - f["a"]
    f.give(f.choose(f["b"].equals(-1), negated, q - down.to("i64")))
    f = m.define("i64", "capi.floormod", params)
    f.give(f["a"] - f.call("i64", "@capi.floordiv", f["a"], f["b"]) * f["b"])


class _Found(NamedTuple):
    value: Value
    defined: Value


class _Sizes:
    """Emits expressions into one function; `dims` are the values of dims by name."""

    def __init__(self, body: Body, dims: dict[str, Value]) -> None:
        self.body, self.dims = body, dims
        self.always = body.value("i1", "true")

    def of(self, text: str) -> _Found:
        try:
            return self._node(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, KeyError) as error:
            raise CompileError(f"{text!r} is no expression over dims: {error}") from error

    def _node(self, e: ast.expr) -> _Found:
        f = self.body
        if isinstance(e, ast.Constant) and isinstance(e.value, int):
            return _Found(f.value("i64", int(e.value)), self.always)
        if isinstance(e, ast.Name):
            return _Found(self.dims[e.id], self.always)
        if isinstance(e, ast.UnaryOp):
            x = self._node(e.operand)
            if isinstance(e.op, ast.Not):
                return _Found(~_truth(x.value), x.defined)
            return _Found(f.value("i64", 0) - _number(x.value), x.defined)
        if isinstance(e, ast.BinOp):
            return self._binary(e)
        if isinstance(e, ast.Compare) and len(e.ops) == 1:
            a, b = self._node(e.left), self._node(e.comparators[0])
            how = _COMPARED[type(e.ops[0])]
            left, right = _number(a.value).text, _number(b.value).text
            value = f.emit("i1", f"icmp {how} i64 {left}, {right}")
            return _Found(value, a.defined & b.defined)
        if isinstance(e, ast.BoolOp):
            some = [self._node(v) for v in e.values]
            stops = isinstance(e.op, ast.Or)  # at the first that is true, or the first that is not
            return functools.reduce(lambda a, b: self._both(a, b, stops), some)
        if isinstance(e, ast.IfExp):
            test, yes, no = self._node(e.test), self._node(e.body), self._node(e.orelse)
            holds = _truth(test.value)
            value = f.choose(holds, _number(yes.value), _number(no.value))
            return _Found(value, test.defined & f.choose(holds, yes.defined, no.defined))
        if isinstance(e, ast.Call) and isinstance(e.func, ast.Name):
            how = {"min": "slt", "max": "sgt"}[e.func.id]
            return functools.reduce(
                lambda a, b: self._extreme(how, a, b), [self._node(a) for a in e.args]
            )
        raise CompileError(f"{ast.unparse(e)} is no expression over dims")

    def _binary(self, e: ast.BinOp) -> _Found:
        a, b = self._node(e.left), self._node(e.right)
        x, y, defined = _number(a.value), _number(b.value), a.defined & b.defined
        if type(e.op) in _WRAPPING:
            how = _WRAPPING[type(e.op)]
            return _Found(self.body.emit("i64", f"{how} i64 {x.text}, {y.text}"), defined)
        value = self.body.call("i64", f"@{_DIVIDING[type(e.op)]}", x, y)
        return _Found(value, defined & y.differs(0))

    def _both(self, a: _Found, b: _Found, stops: bool) -> _Found:
        x, y = _truth(a.value), _truth(b.value)
        through = ~x if stops else x  # whether the second one is looked at
        return _Found(x | y if stops else x & y, a.defined & (b.defined | ~through))

    def _extreme(self, how: str, a: _Found, b: _Found) -> _Found:
        x, y = _number(a.value), _number(b.value)
        first = self.body.emit("i1", f"icmp {how} i64 {x.text}, {y.text}")
        return _Found(self.body.choose(first, x, y), a.defined & b.defined)


def _truth(v: Value) -> Value:
    return v if v.kind == "i1" else v.differs(0)


def _number(v: Value) -> Value:
    return v.to("i64")
