"""Text of modules.

    module rnn {
      dim n
      input x: f32[n, 8]
      input h: f32[8]
      output y: f32[n, 8]
      segment {
        graph rnn.0 { .. }
      }
      segment y repeat n first h over x {
        graph rnn.y { .. }
      }
    }

    module  = module name { interface segment.. }
    segment = segment [buf, ..] [control] { body }
    control = repeat expr [reverse] [first (buf [last]), ..] [over buf, ..]
            | while buf [first buf, ..]
            | case number of buf
    body    = the text of a graph, system, kernels, scheduled, functions or program

The interface is written as that of `kernels`. A body knows nothing of what stands outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ferrule.ir.expr import Buf
from ferrule.ir.module import Branch, Control, Module, Part, Repetition, While
from ferrule.ir.notation import show, show_name
from ferrule.ir.text.calls import interface, interface_lines
from ferrule.ir.text.declare import Lines, indent, mentions
from ferrule.ir.text.expr import expr
from ferrule.ir.text.parser import Parser


def module_text(module: Module[Any], body: Callable[[Any], str]) -> str:
    """`module` as text, where `body` gives that of what a part runs."""
    heads = [(p.outputs, p.control) for p in module.parts]
    between = [b for p in module.parts for b in _mentioned(p)]
    lines = interface_lines(module.interface, mentions(module.interface, *heads).dims, between)
    for p in module.parts:
        lines += [f"{_head(p)} {{", *indent(body(p.body).splitlines()), "}"]
    return "\n".join([f"module {show_name(module.interface.name)} {{", *indent(lines), "}", ""])


def _mentioned(p: Part[Any]) -> tuple[Buf, ...]:
    return (*p.outputs, *p.carried, *p.asked)


def _head(p: Part[Any]) -> str:
    words: Lines = ["segment", *_names(p.outputs)]
    c = p.control
    if isinstance(c, Repetition):
        words += ["repeat", show(c.count), *["reverse"] * c.reverse]
    elif isinstance(c, While):
        words += ["while", show_name(c.flag.name)]
    elif isinstance(c, Branch):
        words += ["case", str(c.case), "of", show_name(c.index.name)]
    if isinstance(c, Repetition) and c.first:
        names = [show_name(b.name) + " last" * c.keeps_last(k) for k, b in enumerate(c.first)]
        words += ["first", ", ".join(names)]
    elif isinstance(c, While) and c.first:
        words += ["first", *_names(c.first)]
    if isinstance(c, Repetition) and c.over:
        words += ["over", *_names(c.over)]
    return " ".join(words)


def _names(bufs: Iterable[Buf]) -> Lines:
    names = [show_name(b.name) for b in bufs]
    return [", ".join(names)] if names else []


def module(p: Parser, body: Callable[[Parser], Any]) -> Module[Any]:
    p.expect("module")
    name = p.name()
    p.expect("{")
    parts: list[Part[Any]] = []
    with p.inner():
        face = interface(p, name)
        while not p.accept("}"):
            p.expect("segment")
            outputs = () if p.sees("repeat", "while", "case", "{") else _list(p)
            control = _control(p)
            p.expect("{")
            with p.inner():
                parts.append(Part(body(p), outputs, control))
            p.expect("}")
    return Module(face, tuple(parts))


def _control(p: Parser) -> Control | None:
    if p.accept("repeat"):
        count, reverse = expr(p), p.accept("reverse")
        first = list[tuple[Buf, bool]]()
        if p.accept("first"):
            first.append((p.buf(), p.accept("last")))
            while p.accept(","):
                first.append((p.buf(), p.accept("last")))
        last = tuple(alone for _, alone in first)
        over = _list(p) if p.accept("over") else ()
        bufs = tuple(b for b, _ in first)
        return Repetition(count, reverse, bufs, over, last if any(last) else ())
    if p.accept("while"):
        flag = p.buf()
        return While(flag, _list(p) if p.accept("first") else ())
    if p.accept("case"):
        case = p.integer()
        p.expect("of")
        return Branch(p.buf(), case)
    return None


def _list(p: Parser) -> tuple[Buf, ...]:
    out = [p.buf()]
    while p.accept(","):
        out.append(p.buf())
    return tuple(out)
