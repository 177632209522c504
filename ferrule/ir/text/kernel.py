"""Text of kernels.

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

kernel   = kernel name { dims monoid.. buf.. [grid axes] [schedule] [kind name: kind, ..] body }
schedule = schedule name [{name = number, ..}]
body     = scratch.. item..
item     = stage | for name: extent { body } | if expr { item.. } | prefetch buf[idx..] [write]
"""

from __future__ import annotations

from collections.abc import Iterable

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.kernel import Branch, Item, Kernel, Kind, Prefetch, Schedule, SerialLoop, walk_items
from ferrule.ir.notation import show, show_name
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
from ferrule.ir.text.expr import expr
from ferrule.ir.text.parser import Parser
from ferrule.ir.text.system import stage, stage_text


def print_kernel(kernel: Kernel) -> str:
    """`kernel` as text, which `parse_kernel` reads back."""
    return "\n".join(kernel_lines(kernel)) + "\n"


def kernel_lines(
    kernel: Kernel, dims: Iterable[Expr] = (), bufs: Iterable[Buf] = ()
) -> Lines:
    """The lines of a kernel, inside a text that has declared `dims` and `bufs`."""
    found, known = mentions(kernel), {*dims, *bufs, *_scratch(kernel)}
    names = MonoidNames(found.monoids)
    lines = dim_lines(d for d in found.dims if d not in known) + names.lines()
    lines += buf_lines("buf", (b for b in found.bufs if b not in known))
    if kernel.grid:
        lines.append(f"grid {axes_text(kernel.grid)}")
    if kernel.schedule is not None:
        lines.append(_schedule_text(kernel.schedule))
    if kernel.kinds:
        lines.append("kind " + ", ".join(f"{show_name(n)}: {k.value}" for n, k in kernel.kinds))
    lines += _body_lines(kernel.scratch, kernel.body, names)
    return [f"kernel {show_name(kernel.name)} {{", *indent(lines), "}"]


def _schedule_text(s: Schedule) -> str:
    sizes = ", ".join(f"{name} = {n}" for name, n in s.sizes)
    return f"schedule {s.kind} {{{sizes}}}" if sizes else f"schedule {s.kind}"


def _scratch(kernel: Kernel) -> set[Buf]:
    """The buffers that the kernel declares itself."""
    loops = [item for item, _ in walk_items(kernel.body) if isinstance(item, SerialLoop)]
    return {*kernel.scratch, *(b for loop in loops for b in loop.scratch)}


def _body_lines(scratch: Iterable[Buf], body: tuple[Item, ...], names: MonoidNames) -> Lines:
    return buf_lines("scratch", scratch) + _item_lines(body, names)


def _item_lines(body: tuple[Item, ...], names: MonoidNames) -> Lines:
    lines = Lines()
    for item in body:
        if isinstance(item, SerialLoop):
            lines.append(f"for {axes_text((item.axis,))} {{")
            lines += indent(_body_lines(item.scratch, item.body, names))
            lines.append("}")
        elif isinstance(item, Branch):
            lines += [f"if {show(item.cond)} {{", *indent(_item_lines(item.body, names)), "}"]
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
        chosen = _schedule(p) if p.accept("schedule") else None
        kinds = []
        if p.accept("kind"):
            kinds.append(_kind(p))
            while p.accept(","):
                kinds.append(_kind(p))
        scratch, body = _body(p)
    return Kernel(name, grid, body, scratch, tuple(kinds), chosen)


def _head(p: Parser) -> None:
    dim_declarations(p)
    monoid_declarations(p)
    buf_declarations(p, "buf")


def _schedule(p: Parser) -> Schedule:
    kind = p.name("a kind of schedule")
    return Schedule(kind, p.separated(lambda: _size(p), "}") if p.accept("{") else ())


def _size(p: Parser) -> tuple[str, int]:
    name = p.next().text if p.token.kind == "keyword" else p.name("a size")
    p.expect("=")
    return name, p.integer()


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
    return buf_declarations(p, "scratch"), _items(p)


def _items(p: Parser) -> tuple[Item, ...]:
    """Items up to the closing brace."""
    items: list[Item] = []
    while not p.accept("}"):
        if p.accept("for"):
            with p.inner():
                a = axis_declaration(p)
                p.expect("{")
                own, inner = _body(p)
            items.append(SerialLoop(a, inner, own))
        elif p.accept("if"):
            cond = expr(p)
            p.expect("{")
            with p.inner():
                items.append(Branch(cond, _items(p)))
        elif p.accept("prefetch"):
            items.append(hint(p))
        else:
            items.append(stage(p))
    return tuple(items)
