"""Text of kernels and launches.

kernel softmax {
  dim n
  buf x: f32[n, 64]
  buf y: f32[n, 64]
  grid i: n
  kind j: lanes
  scratch m: f32[] @scratch
  m: [] m[] = reduce max:f32 [j: 64] (x[i, j])
  for o: 4 {
    y: [j: 16] y[i, o * 16 + j] = exp(x[i, o * 16 + j] - m[])
  }
}

kernel = kernel name { dims monoid.. buf.. [grid axes] [kind name: kind, ..] body }
body   = scratch.. item..
item   = stage | for name: extent { body } | prefetch buf[idx..] [write]
launch = launch name { dims monoid.. buf.. scratch.. phase.. }
phase  = phase { kernel.. }                   which know the names of the launch
"""

from __future__ import annotations

from collections.abc import Iterable

from ferrule.ir.expr import Buf
from ferrule.ir.kernel import Item, Kernel, Kind, Prefetch, Scope, walk_items
from ferrule.ir.notation import show_name
from ferrule.ir.text.compute import stage, stage_text
from ferrule.ir.text.declare import (
    Lines,
    MonoidNames,
    axes_text,
    axis_declaration,
    buf_declarations,
    buf_lines,
    dim_declarations,
    dim_lines,
    hint,
    hint_text,
    indent,
    mentions,
    monoid_declarations,
    open_axes,
)
from ferrule.ir.text.parser import Parser


def print_kernel(kernel: Kernel) -> str:
    """`kernel` as text, which `parse_kernel` reads back."""
    found = mentions(kernel)
    names = MonoidNames(found.monoids)
    bufs = (b for b in found.bufs if b not in _scratch(kernel))
    head = dim_lines(found.dims) + names.lines() + buf_lines("buf", bufs)
    return "\n".join(_kernel_lines(kernel, names, head)) + "\n"


def _scratch(kernel: Kernel) -> set[Buf]:
    """The buffers that the kernel declares itself."""
    scopes = [item for item, _ in walk_items(kernel.body) if isinstance(item, Scope)]
    return {*kernel.scratch, *(b for scope in scopes for b in scope.scratch)}


def _kernel_lines(kernel: Kernel, names: MonoidNames, head: Lines) -> Lines:
    lines = list(head)
    if kernel.grid:
        lines.append(f"grid {axes_text(kernel.grid)}")
    if kernel.kinds:
        lines.append("kind " + ", ".join(f"{show_name(n)}: {k.value}" for n, k in kernel.kinds))
    lines += _body_lines(kernel.scratch, kernel.body, names)
    return [f"kernel {show_name(kernel.name)} {{", *indent(lines), "}"]


def _body_lines(scratch: Iterable[Buf], body: tuple[Item, ...], names: MonoidNames) -> Lines:
    lines = buf_lines("scratch", scratch)
    for item in body:
        if isinstance(item, Scope):
            lines.append(f"for {axes_text((item.axis,))} {{")
            lines += indent(_body_lines(item.scratch, item.body, names))
            lines.append("}")
        elif isinstance(item, Prefetch):
            lines.append(hint_text(item))
        else:
            lines.append(stage_text(item, names))
    return lines


# ---- reading -------------------------------------------------------------------------------------


def parse_kernel(source: str) -> Kernel:
    """The kernel that `source` writes. Raises ParseError."""
    p = Parser(source)
    out = kernel(p)
    p.end()
    return out


def kernel(p: Parser) -> Kernel:
    p.expect("kernel")
    name = p.name()
    p.expect("{")
    with p.inner():
        _head(p)
        grid = open_axes(p) if p.accept("grid") else ()
        kinds = []
        if p.accept("kind"):
            kinds.append(_kind(p))
            while p.accept(","):
                kinds.append(_kind(p))
        scratch, body = _body(p)
    return Kernel(name, grid, body, scratch, tuple(kinds))


def _head(p: Parser) -> None:
    dim_declarations(p)
    monoid_declarations(p)
    buf_declarations(p, "buf")


def _kind(p: Parser) -> tuple[str, Kind]:
    name = p.name("an axis")
    p.expect(":")
    return name, kind(p)


def kind(p: Parser) -> Kind:
    """parallel, serial, unroll or lanes."""
    if not p.sees(*(k.value for k in Kind)):
        raise p.error(
            f"expected a kind ({', '.join(k.value for k in Kind)}), found {p.token.text!r}"
        )
    return Kind(p.next().text)


def _body(p: Parser) -> tuple[tuple[Buf, ...], tuple[Item, ...]]:
    """Scratch and items up to the closing brace."""
    scratch = buf_declarations(p, "scratch")
    items: list[Item] = []
    while not p.accept("}"):
        if p.accept("for"):
            with p.inner():
                a = axis_declaration(p)
                p.expect("{")
                own, inner = _body(p)
            items.append(Scope(a, inner, own))
        elif p.accept("prefetch"):
            items.append(hint(p))
        else:
            items.append(stage(p))
    return scratch, tuple(items)
