"""Text of whole programs as kernels, and as code with calls.

    kernels centred {
      input x: f32[64, 8]
      output y: f32[64, 8]
      main {
        kernel y { .. }
      }
    }

    functions p {
      input x: f32[64]
      output y: f32[64]
      buf t: f32[64]
      function double { .. }
      main {
        call double(t, x) cost 64
        call double(y, t) cost 64
      }
    }

    kernels   = kernels name { interface [prepare { kernel.. }] main { kernel.. } }
    scheduled = scheduled name { interface kernel.. [prepare { call.. }] main { call.. } }
    functions = functions name { interface function.. [prepare { call.. }] main { call.. } }
    interface = dims inputs param.. output.. buf.. require..
    call      = call name(buf, ..) cost expr [note "text"]

Code inside knows the dims that stand outside, and kernels of `kernels` the buffers too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TypeVar

from ferrule.ir.calls import Call, Functions, Interface, Kernels, Scheduled
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.notation import show, show_name
from ferrule.ir.text.declare import (
    Lines,
    buf_declarations,
    buf_lines,
    dim_declarations,
    dim_lines,
    indent,
    input_declarations,
    input_lines,
    mentions,
    output_declarations,
    output_lines,
    require_lines,
    requirements,
)
from ferrule.ir.text.expr import expr
from ferrule.ir.text.kernel import kernel, kernel_lines
from ferrule.ir.text.loop import function, function_lines
from ferrule.ir.text.parser import Parser

T = TypeVar("T")


def print_kernels(level: Kernels) -> str:
    """`level` as text, which `parse_kernels` reads back."""
    dims = mentions(level).dims
    between = tuple(b for k in level.kernels for b in k.globals)
    bufs = (*level.interface.bufs, *between)
    lines = interface_lines(level.interface, dims, between)
    for word, kernels in (("prepare", level.prepare), ("main", level.main)):
        inside = [line for k in kernels for line in kernel_lines(k, dims, bufs)]
        lines += _block_lines(word, inside)
    return _whole("kernels", level.interface, lines)


def print_scheduled(level: Scheduled) -> str:
    """`level` as text, which `parse_scheduled` reads back."""
    dims = mentions(level).dims
    lines = interface_lines(level.interface, dims, _given((*level.prepare, *level.main)))
    lines += [line for k in level.kernels for line in kernel_lines(k, dims)]
    return _whole("scheduled", level.interface, lines + _phases(level.prepare, level.main))


def print_functions(level: Functions) -> str:
    """`level` as text, which `parse_functions` reads back."""
    dims = mentions(level).dims
    lines = interface_lines(level.interface, dims, _given((*level.prepare, *level.main)))
    lines += [line for f in level.functions for line in function_lines(f, dims)]
    return _whole("functions", level.interface, lines + _phases(level.prepare, level.main))


def interface_lines(face: Interface, dims: Iterable[Expr], between: Iterable[Buf]) -> Lines:
    """The declarations of an interface, and of the buffers `between` code that it does not have."""
    lines = dim_lines(dims) + input_lines(face.inputs, face.updates)
    lines += buf_lines("param", face.params)
    lines += output_lines(face.outputs, (*face.inputs, *face.params))
    lines += buf_lines("buf", (b for b in dict.fromkeys(between) if b not in face.bufs))
    return lines + require_lines(face.requires)


def call_text(c: Call) -> str:
    args = ", ".join(show_name(b.name) for b in c.args)
    note = f" note {json.dumps(c.note)}" if c.note else ""
    return f"call {show_name(c.function)}({args}) cost {show(c.cost)}{note}"


def _given(calls: Iterable[Call]) -> tuple[Buf, ...]:
    return tuple(dict.fromkeys(b for c in calls for b in c.args))


def _phases(prepare: tuple[Call, ...], main: tuple[Call, ...]) -> Lines:
    both = (("prepare", prepare), ("main", main))
    return [line for word, calls in both for line in _block_lines(word, map(call_text, calls))]


def _block_lines(word: str, inside: Iterable[str]) -> Lines:
    lines = indent(inside)
    return [f"{word} {{", *lines, "}"] if lines or word == "main" else []


def _whole(keyword: str, face: Interface, lines: Lines) -> str:
    return "\n".join([f"{keyword} {show_name(face.name)} {{", *indent(lines), "}", ""])


# ---- reading -------------------------------------------------------------------------------------


def kernels(p: Parser) -> Kernels:
    name = _opening(p, "kernels")
    with p.inner():
        face = interface(p, name)
        prepare = _block(p, lambda: kernel(p)) if p.accept("prepare") else ()
        p.expect("main")
        main = _block(p, lambda: kernel(p))
        p.expect("}")
    return Kernels(face, prepare, main)


def scheduled(p: Parser) -> Scheduled:
    name = _opening(p, "scheduled")
    with p.inner():
        face, code = interface(p, name), list[Kernel]()
        while p.sees("kernel"):
            code.append(kernel(p))
        prepare, main = _calls(p)
    return Scheduled(face, tuple(code), prepare, main)


def functions(p: Parser) -> Functions:
    name = _opening(p, "functions")
    with p.inner():
        face, code = interface(p, name), list[Function]()
        while p.sees("function"):
            code.append(function(p))
        prepare, main = _calls(p)
    return Functions(face, tuple(code), prepare, main)


def interface(p: Parser, name: str) -> Interface:
    dim_declarations(p)
    inputs, updates = input_declarations(p)
    params, outputs = buf_declarations(p, "param"), output_declarations(p)
    buf_declarations(p, "buf")
    return Interface(name, inputs, params, outputs, requirements(p), updates)


def call(p: Parser) -> Call:
    p.expect("call")
    name = p.name("a function")
    p.expect("(")
    args = p.separated(p.buf, ")")
    p.expect("cost")
    cost = expr(p)
    return Call(name, args, cost, p.string() if p.accept("note") else "")


def _opening(p: Parser, keyword: str) -> str:
    p.expect(keyword)
    name = p.name()
    p.expect("{")
    return name


def _calls(p: Parser) -> tuple[tuple[Call, ...], tuple[Call, ...]]:
    """What runs once and what on each call, up to the closing brace."""
    prepare = _block(p, lambda: call(p)) if p.accept("prepare") else ()
    p.expect("main")
    main = _block(p, lambda: call(p))
    p.expect("}")
    return prepare, main


def _block(p: Parser, item: Callable[[], T]) -> tuple[T, ...]:
    """{ item.. }"""
    p.expect("{")
    out: list[T] = []
    while not p.accept("}"):
        out.append(item())
    return tuple(out)
