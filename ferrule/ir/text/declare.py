"""Text of declarations, which every level shares.

dims    = dim name [lo..[hi]] [% multiple]
inputs  = (input buffer [update])..                    with those that the program rewrites
type    = dtype[expr, ..]
buffer  = name: type [@scratch | @reg] [layout(k, ..)]
axes    = name: extent, ..
monoid  = name:dtype [#k]                              one of the table, or declared by
          monoid name:dtype [#k] identity (expr, ..) combine (expr, ..) [commutative]
          [idempotent]
require = require expr note "what"                     a condition on dims, and what needs it
target  = buf[expr, ..]
hint    = prefetch target [write]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ferrule.base.dtype import DType
from ferrule.ir.expr import Buf, DimFacts, Expr, Space, axis, dim, walk
from ferrule.ir.kernel import Prefetch
from ferrule.ir.monoids import STANDARD, dtype_of, is_standard
from ferrule.ir.notation import show, show_name
from ferrule.ir.system import Access, Monoid, Order, Requirement
from ferrule.ir.text.expr import expr, exprs
from ferrule.ir.text.parser import Parser

Lines = list[str]


def indent(lines: Iterable[str]) -> Lines:
    return ["  " + line for line in lines]


# ---- what a structure mentions -------------------------------------------------------------------


@dataclass(frozen=True)
class Mentions:
    """The leaves of a structure, each once, in the order in which they are met."""

    dims: tuple[Expr, ...]
    bufs: tuple[Buf, ...]
    monoids: tuple[Monoid, ...]


def mentions(*structures: Any) -> Mentions:
    """Everything that must be declared before `structures` can be read; dims in order of name."""
    dims: dict[Expr, None] = {}
    bufs: dict[Buf, None] = {}
    monoids: dict[Monoid, None] = {}
    for part in _parts(structures, set()):
        if isinstance(part, Monoid):
            monoids[part] = None
        elif isinstance(part, Buf):
            bufs[part] = None
        else:
            dims[part] = None
    ordered = tuple(sorted(dims, key=lambda d: d.name))
    return Mentions(ordered, tuple(bufs), tuple(monoids))


def _parts(x: Any, seen: set[Any]) -> Iterator[Expr | Buf | Monoid]:
    if isinstance(x, Expr):
        if x in seen:
            return
        seen.add(x)
        for node in walk(x):
            if node.op == "dim":
                yield node
            elif node.op == "load":
                yield from _parts(node.attr, seen)
    elif isinstance(x, tuple):
        for part in x:
            yield from _parts(part, seen)
    elif is_dataclass(x) and not isinstance(x, DimFacts):
        if isinstance(x, (Buf, Monoid)):
            if x in seen:
                return
            seen.add(x)
            yield x
        for f in fields(x):
            yield from _parts(getattr(x, f.name), seen)


class MonoidNames:
    """How each monoid is referred to: `name:dtype`, with a number where that is taken."""

    def __init__(self, monoids: Iterable[Monoid]):
        self.declared: dict[Monoid, str] = {}
        for m in monoids:
            if not is_standard(m):
                base = _monoid_key(m)
                alike = (m.name in STANDARD) + sum(_monoid_key(o) == base for o in self.declared)
                self.declared[m] = f"{base}#{alike + 1}" if alike else base

    def __getitem__(self, m: Monoid) -> str:
        return self.declared.get(m) or _monoid_key(m)

    def lines(self) -> Lines:
        """The declarations of those that are not in the table."""
        return [_declare_monoid(m, key) for m, key in self.declared.items()]


def _monoid_key(m: Monoid) -> str:
    return f"{show_name(m.name)}:{dtype_of(m).name}" if m.identity else show_name(m.name)


def _declare_monoid(m: Monoid, key: str) -> str:
    flags = " commutative" * m.commutative + " idempotent" * m.idempotent
    return f"monoid {key} identity {tuple_text(m.identity)} combine {tuple_text(m.combine)}{flags}"


# ---- writing -------------------------------------------------------------------------------------


def tuple_text(values: Iterable[Expr]) -> str:
    return f"({', '.join(show(v) for v in values)})"


def dim_lines(dims: Iterable[Expr]) -> Lines:
    """A line for each dim with its facts."""
    return [_dim_line(d.attr) for d in dims]


def _dim_line(facts: DimFacts) -> str:
    bounds = "" if facts.hi is None else str(facts.hi)
    text = f"dim {show_name(facts.name)}"
    if facts.lo or facts.hi is not None:
        text += f" {facts.lo}..{bounds}"
    return text + (f" % {facts.multiple}" if facts.multiple != 1 else "")


def buf_text(b: Buf) -> str:
    shape = ", ".join(show(s) for s in b.shape)
    text = f"{show_name(b.name)}: {b.dtype.name}[{shape}]"
    if b.space is not Space.GLOBAL:
        text += f" @{b.space.value}"
    return text if b.layout is None else f"{text} layout({', '.join(map(str, b.layout))})"


def buf_lines(keyword: str, bufs: Iterable[Buf]) -> Lines:
    return [f"{keyword} {buf_text(b)}" for b in bufs]


def input_lines(inputs: Iterable[Buf], updates: Iterable[Buf]) -> Lines:
    """Declarations of inputs, with a word for those that are updated."""
    changed = set(updates)
    return [f"input {buf_text(b)}{' update' * (b in changed)}" for b in inputs]


def output_lines(outputs: Iterable[Buf], known: Iterable[Buf]) -> Lines:
    """Declarations of outputs, the bare name of one that is `known` or comes again."""
    lines, seen = Lines(), set(known)
    for b in outputs:
        lines.append(f"output {show_name(b.name) if b in seen else buf_text(b)}")
        seen.add(b)
    return lines


def require_lines(requires: Iterable[Requirement]) -> Lines:
    return [f"require {show(r.fact)} note {json.dumps(r.what)}" for r in requires]


def axes_text(axes: Iterable[Expr]) -> str:
    return ", ".join(f"{show_name(a.name)}: {show(a.extent)}" for a in axes)


def targets_text(targets: tuple[Access, ...]) -> str:
    """One target bare, several in parentheses."""
    parts = [f"{show_name(b.name)}[{', '.join(show(i) for i in idx)}]" for b, idx in targets]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def hint_text(hint: Prefetch) -> str:
    """prefetch buf[expr, ..] [write]"""
    return f"prefetch {targets_text((Access(hint.buf, hint.idx),))}{' write' if hint.write else ''}"


# ---- reading -------------------------------------------------------------------------------------


def dim_declarations(p: Parser) -> None:
    """All `dim` lines that follow."""
    while p.accept("dim"):
        name = p.name()
        lo, hi, multiple = 0, None, 1
        if p.token.kind == "number":
            lo = p.integer()
            p.expect("..")
            hi = p.integer() if p.token.kind == "number" else None
        if p.accept("%"):
            multiple = p.integer()
        p.scope.dims[name] = dim(name, lo, hi, multiple)


def type_text(p: Parser) -> tuple[Any, tuple[Expr, ...]]:
    """dtype[expr, ..] as (dtype, shape)."""
    dtype = p.dtype()
    p.expect("[")
    return dtype, exprs(p, "]")


def buf_declaration(p: Parser) -> Buf:
    """A buffer, which is known from here on."""
    name = p.name("a buffer")
    p.expect(":")
    dtype, shape = type_text(p)
    space = Space.GLOBAL
    if p.accept("@"):
        at, word = p.token.at, p.next().text
        if word not in (s.value for s in Space):
            raise p.error(f"{word!r} is no space: use {', '.join(s.value for s in Space)}", at)
        space = Space(word)
    layout = None
    if p.accept("layout"):
        p.expect("(")
        layout = p.separated(p.integer, ")")
    b = Buf(name, shape, dtype, space, layout)
    p.scope.bufs[name] = b
    return b


def buf_declarations(p: Parser, keyword: str) -> tuple[Buf, ...]:
    """All lines with `keyword` that follow."""
    out = []
    while p.accept(keyword):
        out.append(buf_declaration(p))
    return tuple(out)


def input_declarations(p: Parser) -> tuple[tuple[Buf, ...], tuple[Buf, ...]]:
    """`input` lines, and those of the buffers that are updated."""
    inputs, updates = list[Buf](), list[Buf]()
    while p.accept("input"):
        inputs.append(buf_declaration(p))
        if p.accept("update"):
            updates.append(inputs[-1])
    return tuple(inputs), tuple(updates)


def output_declarations(p: Parser) -> tuple[Buf, ...]:
    """`output` lines: a declaration, or the name of a buffer that was declared before."""
    out = []
    while p.accept("output"):
        ahead = p.tokens[p.position + 1]
        declared = (ahead.kind, ahead.text) == ("symbol", ":")
        out.append(buf_declaration(p) if declared else p.buf())
    return tuple(out)


def requirements(p: Parser) -> tuple[Requirement, ...]:
    """All `require` lines that follow."""
    out = []
    while p.accept("require"):
        fact = expr(p)
        p.expect("note")
        out.append(Requirement(fact, p.string()))
    return tuple(out)


def axis_declaration(p: Parser) -> Expr:
    """`name: extent`, known from here on."""
    name = p.name("an axis")
    p.expect(":")
    a = axis(name, expr(p))
    p.scope.axes[name] = a
    return a


def axis_list(p: Parser) -> tuple[Expr, ...]:
    """[name: extent, ..]"""
    p.expect("[")
    return p.separated(lambda: axis_declaration(p), "]")


def open_axes(p: Parser) -> tuple[Expr, ...]:
    """name: extent, .. without a closing bracket."""
    out = [axis_declaration(p)]
    while p.accept(","):
        out.append(axis_declaration(p))
    return tuple(out)


def monoid_key(p: Parser) -> str:
    """The reference `name:dtype#k` as it is written."""
    key = show_name(p.name("a monoid"))
    if p.accept(":"):
        key += f":{p.dtype().name}"
    if p.accept("#"):
        key += f"#{p.integer()}"
    return key


def monoid_declarations(p: Parser) -> None:
    """All `monoid` lines that follow."""
    while p.accept("monoid"):
        at = p.position
        key = monoid_key(p)
        after, p.position = p.position, at
        name = p.name()
        p.position = after
        p.expect("identity")
        identity = parenthesised(p)
        p.expect("combine")
        dtypes = tuple(i.dtype for i in identity)
        with p.inner():
            p.scope.args = dtypes + dtypes
            combine = parenthesised(p)
        commutative, idempotent = p.accept("commutative"), p.accept("idempotent")
        p.scope.monoids[key] = Monoid(name, identity, combine, commutative, idempotent)


def monoid_reference(p: Parser) -> Monoid:
    """A declared monoid, or one of the table."""
    at, first = p.token.at, p.position
    key = monoid_key(p)
    found = p.scope.monoids.get(key)
    if found is not None:
        return found
    after, p.position = p.position, first
    make = STANDARD.get(p.name())
    dtype = p.dtype() if p.accept(":") else None
    if make is None or dtype is None or p.position != after:
        known = ", ".join([*p.scope.monoids, *(f"{n}:DTYPE" for n in STANDARD)])
        raise p.error(f"no monoid is called {key}; there are: {known}", at)
    return p.checked(lambda: make(dtype), at)


def order(p: Parser, dtypes: tuple[DType, ...]) -> Order:
    """An expression over two tuples of `dtypes`, the order that it is."""
    with p.inner():
        p.scope.args = dtypes + dtypes
        return Order(dtypes, expr(p))


def parenthesised(p: Parser) -> tuple[Expr, ...]:
    """(expr, ..)"""
    p.expect("(")
    return exprs(p, ")")


def target(p: Parser) -> Access:
    """buf[expr, ..]"""
    b = p.buf()
    p.expect("[")
    return Access(b, exprs(p, "]"))


def hint(p: Parser) -> Prefetch:
    """What follows `prefetch`."""
    buf, idx = target(p)
    return Prefetch(buf, idx, p.accept("write"))


def targets(p: Parser) -> tuple[Access, ...]:
    """One target, or several in parentheses."""
    if p.accept("("):
        return p.separated(lambda: target(p), ")")
    return (target(p),)


def values(p: Parser, targets: tuple[Access, ...]) -> tuple[Expr, ...]:
    """One expression for one target, else a tuple."""
    return (expr(p),) if len(targets) == 1 else parenthesised(p)


def values_text(values: tuple[Expr, ...]) -> str:
    return show(values[0]) if len(values) == 1 else tuple_text(values)
