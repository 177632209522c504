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
    segment = segment [buf, ..] [repeat expr [reverse] [first buf, ..] [over buf, ..]] { body }
    body    = the text of a graph, system, kernels, scheduled, functions or program

The interface is written as that of `kernels`. A body knows nothing of what stands outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ferrule.ir.expr import Buf
from ferrule.ir.module import Module, Part, Repetition
from ferrule.ir.notation import show, show_name
from ferrule.ir.text.calls import interface, interface_lines
from ferrule.ir.text.declare import Lines, indent, mentions
from ferrule.ir.text.expr import expr
from ferrule.ir.text.parser import Parser


def module_text(module: Module[Any], body: Callable[[Any], str]) -> str:
    """`module` as text, where `body` gives that of what a part runs."""
    heads = [(p.outputs, p.repeated) for p in module.parts]
    between = [b for p in module.parts for b in _mentioned(p)]
    lines = interface_lines(module.interface, mentions(module.interface, *heads).dims, between)
    for p in module.parts:
        lines += [f"{_head(p)} {{", *indent(body(p.body).splitlines()), "}"]
    return "\n".join([f"module {show_name(module.interface.name)} {{", *indent(lines), "}", ""])


def _mentioned(p: Part[Any]) -> tuple[Buf, ...]:
    r = p.repeated
    return p.outputs if r is None else (*p.outputs, *r.first, *r.over)


def _head(p: Part[Any]) -> str:
    words: Lines = ["segment", *_names(p.outputs)]
    if p.repeated is not None:
        r = p.repeated
        words += ["repeat", show(r.count), *["reverse"] * r.reverse]
        words += ["first", *_names(r.first)] if r.first else []
        words += ["over", *_names(r.over)] if r.over else []
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
            outputs = () if p.sees("repeat", "{") else _list(p)
            repeated = _repetition(p) if p.accept("repeat") else None
            p.expect("{")
            with p.inner():
                parts.append(Part(body(p), outputs, repeated))
            p.expect("}")
    return Module(face, tuple(parts))


def _repetition(p: Parser) -> Repetition:
    count, reverse = expr(p), p.accept("reverse")
    first = _list(p) if p.accept("first") else ()
    return Repetition(count, reverse, first, _list(p) if p.accept("over") else ())


def _list(p: Parser) -> tuple[Buf, ...]:
    out = [p.buf()]
    while p.accept(","):
        out.append(p.buf())
    return tuple(out)
