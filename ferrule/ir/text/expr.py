"""Text of expressions: a Pratt parser over the infix table of `ferrule.ir.notation`.

    expr = expr infix expr | - expr | ( expr ) | literal | name | $k | buf[expr, ..] | op(expr, ..)
         | cast<dtype>(expr) | bitcast<dtype>(expr) | checked<fault>(expr, expr)

    | < ^ < & < comparisons < shifts < + - < * / // %             all associate to the left

Nodes are built as written, without folding, so that `parse_expr(show(e))` is `e`. Operands of one
operator must agree in dtype; literals are i64, f32 (with a point or an exponent) or of the dtype
behind a colon.
"""

from __future__ import annotations

from collections.abc import Iterable

from ferrule.base.dtype import DType, boolean, f32, i64
from ferrule.base.errors import FAULTS
from ferrule.ir.expr import (
    Buf,
    Expr,
    arg,
    const,
    load,
    rebuild_as,
)
from ferrule.ir.notation import INFIX
from ferrule.ir.operators import typed
from ferrule.ir.text.parser import Parser, Token

_BINARY = {symbol: (rank, op) for op, (rank, symbol) in INFIX.items()}
_TURNED = {">": (4, "lt"), ">=": (4, "le")}
_UNARY_RANK = 8


def parse_expr(source: str, names: Iterable[Expr | Buf] = (), args: tuple[DType, ...] = ()) -> Expr:
    """The expression that `source` writes. `names` are the dims, axes and buffers it may mention,
    `args` the dtypes of $0, $1, ... Raises ParseError.
    """
    p = Parser(source)
    for n in names:
        if isinstance(n, Buf):
            p.scope.bufs[n.name] = n
        else:
            (p.scope.dims if n.op == "dim" else p.scope.axes)[n.name] = n
    p.scope.args = args
    out = expr(p)
    p.end()
    return out


def expr(p: Parser, level: int = 0) -> Expr:
    """An expression whose infix operators bind tighter than `level`."""
    left = _prefix(p)
    while p.token.kind == "symbol":
        symbol = p.token.text
        rank, op = _BINARY.get(symbol) or _TURNED.get(symbol) or (0, "")
        if rank <= level:
            break
        at = p.next().at
        right = expr(p, rank)
        pair = (right, left) if symbol in _TURNED else (left, right)
        left = _apply(p, op, pair, at)
    return left


def exprs(p: Parser, close: str) -> tuple[Expr, ...]:
    """Expressions between commas up to `close`."""
    return p.separated(lambda: expr(p), close)


def _apply(p: Parser, op: str, args: tuple[Expr, ...], at: int) -> Expr:
    """`op` of `args`, not folded."""
    dtype = p.checked(lambda: typed(op, tuple(a.dtype for a in args)), at)
    return rebuild_as(op, args, None, dtype)


def _prefix(p: Parser) -> Expr:
    token = p.next()
    if token.kind == "number":
        return _literal(p, token.text)
    if token.kind == "arg":
        return _arg(p, token)
    if token.kind in ("name", "string"):
        p.position -= 1
        return _named(p)
    if token.kind == "keyword":
        return _keyword(p, token)
    if token.text == "(":
        inner = expr(p)
        p.expect(")")
        return inner
    if token.text == "-":
        if p.token.kind == "number" or p.sees("inf", "nan"):
            return _literal(p, "-" + p.next().text)
        return _apply(p, "neg", (expr(p, _UNARY_RANK),), token.at)
    raise p.error(f"expected an expression, found {token.text or 'the end'!r}", token.at)


def _literal(p: Parser, text: str) -> Expr:
    at = p.tokens[p.position - 1].at
    integral = text.lstrip("-").isdigit()
    dtype = p.dtype() if p.accept(":") else i64 if integral else f32
    if not integral and not dtype.is_float:
        raise p.error(f"{text} is no {dtype.name}", at)
    return const(int(text) if integral and not dtype.is_float else float(text), dtype)


def _arg(p: Parser, token: Token) -> Expr:
    index = int(token.text[1:])
    if index >= len(p.scope.args):
        raise p.error(f"${index} is no operand here: there are {len(p.scope.args)}", token.at)
    return arg(index, p.scope.args[index])


def _keyword(p: Parser, token: Token) -> Expr:
    text = token.text
    if text in ("true", "false"):
        return const(text == "true", boolean)
    if text in ("inf", "nan"):
        return _literal(p, text)
    if text in ("cast", "bitcast"):
        p.expect("<")
        dtype = p.dtype()
        p.expect(">")
        p.expect("(")
        inner = expr(p)
        p.expect(")")
        return rebuild_as(text, (inner,), None, dtype)
    if text == "checked":
        return _checked(p, token.at)
    raise p.error(f'{text!r} cannot stand here: write "{text}" for a thing of that name', token.at)


def _checked(p: Parser, at: int) -> Expr:
    p.expect("<")
    fault = p.name()
    p.expect(">")
    p.expect("(")
    args = exprs(p, ")")
    if fault not in FAULTS or len(args) != 2 or args[1].dtype != boolean:
        raise p.error(f"checked<one of {', '.join(FAULTS)}> takes a value and a bool", at)
    return rebuild_as("checked", args, fault, args[0].dtype)


def _named(p: Parser) -> Expr:
    at, quoted = p.token.at, p.token.kind == "string"
    ahead = p.tokens[p.position + 1]
    if ahead.text == "[" and ahead.kind == "symbol":
        buf = p.buf()
        p.expect("[")
        idx = exprs(p, "]")
        return p.checked(lambda: load(buf, *idx), at)
    name = p.name()
    if not quoted and p.accept("("):
        return _apply(p, name, exprs(p, ")"), at)
    found = p.scope.axes.get(name) or p.scope.dims.get(name)
    if found is None:
        known = ", ".join([*p.scope.axes, *p.scope.dims]) or "none"
        raise p.error(f"no axis or dim is called {name!r}; there are: {known}", at)
    return found
