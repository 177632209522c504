"""Arithmetic over dims as text, evaluated safely: the shape language of compiled programs.

    text = integer | dim | text (+ - * // %) text | -text | min(text..) | max(text..)
         | text (== != < <= > >=) text | text and text | text or text | not text
         | text if text else text

`//` and `%` round towards minus infinity. Text is checked node by node before Python evaluates it,
so that a stored program cannot run code of its own; nothing else of Python is let through.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ferrule.base.errors import ParseError

ShapeFunction = Callable[[Sequence[int]], tuple[int, ...]]

_NODES = (
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp,
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub,
    ast.Not, ast.And, ast.Or, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Load,
)  # fmt: skip
_FUNCTIONS: dict[str, Any] = {"min": min, "max": max}


@lru_cache(maxsize=4096)
def shape_function(texts: tuple[int | str, ...], names: tuple[str, ...]) -> ShapeFunction:
    """A function from the values of the dims `names`, in that order, to the values of `texts`.

    Raises ParseError for text outside the language. The function raises ZeroDivisionError on
    division by zero.
    """
    position = {name: i for i, name in enumerate(names)}
    parts = [str(t) if isinstance(t, int) else _source(t, position) for t in texts]
    body = f"({', '.join(parts)},)" if parts else "()"
    made: ShapeFunction = eval(f"lambda d: {body}", {"__builtins__": {}, **_FUNCTIONS})
    return made


def evaluate(text: int | str, dims: dict[str, int]) -> int:
    """The value of one expression for the given dims."""
    return shape_function((text,), tuple(dims))(tuple(dims.values()))[0]


def _source(text: str, position: dict[str, int]) -> str:
    """`text` as Python over `d[i]`, after checking every node of it."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ParseError(
            f"shape expression {text!r} is malformed: {error}", 1, getattr(error, "offset", 0) or 0
        ) from None
    return f"({ast.unparse(_Checked(text, position).visit(tree))})"


class _Checked(ast.NodeTransformer):
    """Lets the language's nodes through, dims becoming `d[i]`, and refuses every other one."""

    def __init__(self, text: str, position: dict[str, int]) -> None:
        self.text = text
        self.position = position

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, _NODES):
            raise self.refuse(node, f"{type(node).__name__} is no part of the shape language")
        return super().generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) not in (int, bool):
            raise self.refuse(node, f"constant {node.value!r} is no integer")
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.position:
            known = ", ".join(self.position) or "none"
            raise self.refuse(node, f"no dim is called {node.id!r}; the dims are: {known}")
        return ast.Subscript(
            ast.Name("d", ast.Load()), ast.Constant(self.position[node.id]), ast.Load()
        )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if (
            not isinstance(node.func, ast.Name)
            or node.func.id not in _FUNCTIONS
            or node.keywords
            or len(node.args) < 2
        ):
            raise self.refuse(node, "only min(a, b, ..) and max(a, b, ..) can be called")
        return ast.Call(node.func, [self.visit(a) for a in node.args], [])

    def refuse(self, node: ast.AST, why: str) -> ParseError:
        column = getattr(node, "col_offset", -1) + 1
        return ParseError(f"shape expression {self.text!r}: {why}", 1, column)
