"""Text of functions.

    function rowsum {
      dim n
      write y: f32[n]
      read x: f32[n, 8]
      takes n
      grid i: n
      alloc acc: f32[] @reg
      store acc[] = 0.0
      for j: 8 lanes {
        store acc[] = x[i, j] by sum:f32
      }
      store y[i] = acc[]
    }

    function = function name { dims monoid.. buf.. write.. read.. [takes dim, ..] [grid axes] stmt..
    } stmt     = for name: extent [in expr..expr] kind { stmt.. }     lo..hi is 0..extent by default
             | alloc buffer
             | store targets = values [by monoid]
             | if expr { stmt.. } [else { stmt.. }]
             | while buffer { stmt.. }
             | prefetch target [write]

`write` and `read` list the function's buffers in order; `buf` declares any other that it mentions.
"""

from __future__ import annotations

from ferrule.ir.expr import ZERO, Expr
from ferrule.ir.loop import Alloc, For, Function, If, Prefetch, Stmt, Store, While, walk_stmts
from ferrule.ir.notation import show, show_name
from ferrule.ir.text.declare import (
    Lines,
    MonoidNames,
    axes_text,
    axis_declaration,
    buf_declaration,
    buf_declarations,
    buf_lines,
    buf_text,
    dim_declarations,
    dim_lines,
    hint,
    hint_text,
    indent,
    mentions,
    monoid_declarations,
    monoid_reference,
    open_axes,
    targets,
    targets_text,
    values,
    values_text,
)
from ferrule.ir.text.expr import expr
from ferrule.ir.text.kernel import kind
from ferrule.ir.text.parser import Parser


def print_function(function: Function) -> str:
    """`function` as text, which `parse_function` reads back."""
    return "\n".join(function_lines(function)) + "\n"


def function_lines(f: Function, known: tuple[Expr, ...] = ()) -> Lines:
    """The lines of a function, inside a text that has declared the dims `known`."""
    found = mentions(f)
    names = MonoidNames(found.monoids)
    own = {s.buf for s in walk_stmts(f.body) if isinstance(s, Alloc)} | set(f.bufs)
    lines = dim_lines(d for d in found.dims if d not in known) + names.lines()
    lines += buf_lines("buf", (b for b in found.bufs if b not in own))
    lines += buf_lines("write", f.bufs[: f.written]) + buf_lines("read", f.bufs[f.written :])
    lines += takes_lines(f.dims)
    if f.grid:
        lines.append(f"grid {axes_text(f.grid)}")
    lines += _block_lines(f.body, names)
    return [f"function {show_name(f.name)} {{", *indent(lines), "}"]


def print_stmt(s: Stmt) -> str:
    """One statement with all that is in it, for messages."""
    return "\n".join(_stmt_lines(s, MonoidNames(mentions(s).monoids)))


def takes_lines(dims: tuple[Expr, ...]) -> Lines:
    """The dims in the order in which a caller passes them."""
    return [f"takes {', '.join(show_name(d.name) for d in dims)}"] if dims else []


def _block_lines(body: tuple[Stmt, ...], names: MonoidNames) -> Lines:
    return [line for s in body for line in _stmt_lines(s, names)]


def _stmt_lines(s: Stmt, names: MonoidNames) -> Lines:
    if isinstance(s, For):
        whole = s.lo is ZERO and s.hi is s.axis.extent
        bounds = "" if whole else f" in {show(s.lo)}..{show(s.hi)}"
        head = f"for {axes_text((s.axis,))}{bounds} {s.kind.value} {{"
        return [head, *indent(_block_lines(s.body, names)), "}"]
    if isinstance(s, If):
        lines = [f"if {show(s.cond)} {{", *indent(_block_lines(s.body, names))]
        if s.orelse:
            lines += ["} else {", *indent(_block_lines(s.orelse, names))]
        return [*lines, "}"]
    if isinstance(s, While):
        return [f"while {show_name(s.flag.name)} {{", *indent(_block_lines(s.body, names)), "}"]
    if isinstance(s, Alloc):
        return [f"alloc {buf_text(s.buf)}"]
    if isinstance(s, Prefetch):
        return [hint_text(s)]
    suffix = "" if s.monoid is None else f" by {names[s.monoid]}"
    return [f"store {targets_text(s.targets)} = {values_text(s.values)}{suffix}"]


# ---- reading -------------------------------------------------------------------------------------


def parse_function(source: str) -> Function:
    """The function that `source` writes. Raises ParseError."""
    p = Parser(source)
    out = function(p)
    p.end()
    return out


def function(p: Parser) -> Function:
    p.expect("function")
    name = p.name()
    p.expect("{")
    with p.inner():
        dim_declarations(p)
        monoid_declarations(p)
        buf_declarations(p, "buf")
        written, read = buf_declarations(p, "write"), buf_declarations(p, "read")
        dims = taken_dims(p)
        grid = open_axes(p) if p.accept("grid") else ()
        body = _block(p)
    return Function(name, written + read, len(written), dims, grid, body)


def taken_dims(p: Parser) -> tuple[Expr, ...]:
    """`takes dim, ..` if it follows."""
    out = []
    if p.accept("takes"):
        out.append(_dim(p))
        while p.accept(","):
            out.append(_dim(p))
    return tuple(out)


def _dim(p: Parser) -> Expr:
    at, name = p.token.at, p.name("a dim")
    found = p.scope.dims.get(name)
    if found is None:
        raise p.error(f"no dim is called {name!r}", at)
    return found


def _block(p: Parser) -> tuple[Stmt, ...]:
    """Statements up to the closing brace; what is declared in them ends there."""
    out = []
    with p.inner():
        while not p.accept("}"):
            out.append(_stmt(p))
    return tuple(out)


def _stmt(p: Parser) -> Stmt:
    if p.accept("for"):
        return _for(p)
    if p.accept("if"):
        cond = expr(p)
        p.expect("{")
        body = _block(p)
        orelse: tuple[Stmt, ...] = ()
        if p.accept("else"):
            p.expect("{")
            orelse = _block(p)
        return If(cond, body, orelse)
    if p.accept("while"):
        flag = p.buf()
        p.expect("{")
        return While(flag, _block(p))
    if p.accept("alloc"):
        return Alloc(buf_declaration(p))
    if p.accept("prefetch"):
        return hint(p)
    if p.accept("store"):
        written = targets(p)
        p.expect("=")
        results = values(p, written)
        return Store(written, results, monoid_reference(p) if p.accept("by") else None)
    raise p.error(f"expected a statement, found {p.token.text or 'the end'!r}")


def _for(p: Parser) -> For:
    with p.inner():
        a = axis_declaration(p)
        lo, hi = ZERO, a.extent
        if p.accept("in"):
            lo = expr(p)
            p.expect("..")
            hi = expr(p)
        how = kind(p)
        p.expect("{")
        return For(a, lo, hi, how, _block(p))
