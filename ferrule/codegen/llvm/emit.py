"""From Loop functions to an LLVM module, as text.

A function NAME becomes two: `NAME.body`, with one `noalias` pointer a buffer and one i64 a dim,
and

    void NAME(ptr ctx, i64 lo, i64 hi, i64 tid)      runs the grid points lo..hi on thread tid

which unpacks `ctx`, an array of 8-byte slots:

    [0] pointer to an i32 status word: set to `status_of` a fault where one was met
    [1] base of the launch's scratch      [2] bytes of scratch a thread      (see `scratch_layout`)
    then a pointer for each of the function's bufs, then an i64 for each of its dims

The grid becomes a nest of loops with the bounds of the inner ones cut at lo and hi, so that there
are two divisions an axis at entry and none inside, and code that depends on outer axes alone
leaves the inner loops.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from ferrule.base.watch import each
from ferrule.codegen.llvm.builder import Builder, Val
from ferrule.codegen.llvm.memory import load
from ferrule.codegen.llvm.stmts import loop, run, stack_bytes, written
from ferrule.codegen.llvm.values import Context, value
from ferrule.ir.expr import ONE, ZERO, Buf, Expr, mul
from ferrule.ir.loop import Alloc, Function, walk_stmts
from ferrule.ir.simplify import simplify
from ferrule.target.cpu import Target
from ferrule.target.machine import Machine

CTX_STATUS, CTX_SCRATCH, CTX_SCRATCH_BYTES, CTX_FIRST = 0, 1, 2, 3
_DEPTH = 10_000  # a fused expression of n operations in a row takes 3n frames


@dataclass(frozen=True)
class Emitted:
    """The text of one function, the declarations it needs, and the bytes of zeros that it reads."""

    text: str
    declares: tuple[tuple[str, str], ...]
    zeros: int


def scratch_layout(function: Function, machine: Machine) -> tuple[dict[Buf, Expr], Expr]:
    """The offset of each buffer in a thread's scratch, and the bytes that a thread needs (Exprs
    over dims, whole cache lines). Buffers on the stack have none.
    """
    line = machine.line
    offsets: dict[Buf, Expr] = {}
    total: Expr = ZERO
    for s in walk_stmts(function.body):
        if isinstance(s, Alloc) and stack_bytes(s.buf, machine) is None and s.buf not in offsets:
            offsets[s.buf] = total
            size = mul(s.buf.size, ONE * s.buf.dtype.size)
            total = simplify(total + (size + (line - 1)) // line * line)
    return offsets, total


def lower(function: Function, target: Target, linkage: str = "") -> Emitted:
    """One function as LLVM text; with the linkage `internal` it is not exported."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        return _lower(function, target, linkage)
    finally:
        sys.setrecursionlimit(limit)


def _lower(function: Function, target: Target, linkage: str) -> Emitted:
    b = Builder(target)
    cx = Context(b, written(function.body), load)
    for k, buf in enumerate(function.bufs):
        cx.base[buf] = Val(f"%b{k}", "ptr")
    for k, d in enumerate(function.dims):
        cx.bound[d] = Val(f"%d{k}", "i64")
    offsets, _ = scratch_layout(function, target.machine)
    for buf, offset in offsets.items():
        at = value(cx, offset)
        cx.base[buf] = b.pure(f"getelementptr i8, ptr %scratch, i64 {at.text}", "ptr", 0, 0)
    _grid(cx, function)
    _finish(cx)
    (root,) = b.regions
    lines = [
        _signature(function),
        "entry:",
        *b.allocas,
        *root.lines,
        "  ret void",
        "}",
        "",
        *_wrapper(function, linkage),
    ]
    return Emitted("\n".join(lines) + "\n", tuple(b.declares.items()), b.zeros)


def _signature(function: Function) -> str:
    params = ["ptr %status", "ptr noalias %scratch"]
    for k in range(len(function.bufs)):
        params.append(f"ptr noalias {'' if k < function.written else 'readonly '}%b{k}")
    params += [f"i64 %d{k}" for k in range(len(function.dims))]
    params += ["i64 %lo", "i64 %hi"]
    callee = _quoted(function.name + ".body")
    return f"define internal void @{callee}({', '.join(params)}) #0 {{"


def _quoted(name: str) -> str:
    return name if name.replace("_", "").replace(".", "").isalnum() else f'"{name}"'


def _wrapper(function: Function, linkage: str) -> list[str]:
    name = _quoted(function.name)
    lines = [
        f"define {linkage} void @{name}(ptr %ctx, i64 %lo, i64 %hi, i64 %tid) #0 {{",
        "entry:",
        "  %some = icmp slt i64 %lo, %hi",
        "  br i1 %some, label %work, label %end",
        "work:",
    ]
    args = ["ptr %status", "ptr %mine"]

    def slot(k: int, name: str, type: str) -> None:
        lines.append(f"  %p{k} = getelementptr i64, ptr %ctx, i64 {k}")
        lines.append(f"  {name} = load {type}, ptr %p{k}, align 8")

    slot(CTX_STATUS, "%status", "ptr")
    slot(CTX_SCRATCH, "%scratch", "ptr")
    slot(CTX_SCRATCH_BYTES, "%bytes", "i64")
    lines += [
        "  %offset = mul i64 %tid, %bytes",
        "  %mine = getelementptr i8, ptr %scratch, i64 %offset",
    ]
    for k in range(len(function.bufs)):
        slot(CTX_FIRST + k, f"%b{k}", "ptr")
        args.append(f"ptr %b{k}")
    for k in range(len(function.dims)):
        slot(CTX_FIRST + len(function.bufs) + k, f"%d{k}", "i64")
        args.append(f"i64 %d{k}")
    callee = _quoted(function.name + ".body")
    lines.append(f"  call void @{callee}({', '.join(args)}, i64 %lo, i64 %hi)")
    return [*lines, "  br label %end", "end:", "  ret void", "}"]


def _grid(cx: Context, function: Function) -> None:
    """The nest of grid loops around the body."""
    b, grid = cx.b, function.grid
    writes = cx.written
    if not grid:
        run(cx, function.body)
        return
    extents = [value(cx, a.extent) for a in grid]
    ranges = [(Val("%lo", "i64"), Val("%hi", "i64"))]
    for n in reversed(extents[1:]):
        lo, hi = ranges[0]
        up = b.binary("add", hi, b.binary("sub", n, b.integer(1)))
        ranges.insert(0, (b.binary("udiv", lo, n), b.binary("udiv", up, n)))

    def level(k: int, point: Val) -> None:
        """The loop over axis k; `point` is the linear index of the axes before it."""
        lo, hi = ranges[k]
        if k:
            first = b.binary("mul", point, extents[k])
            lo = b.intrinsic("smax", b.binary("sub", lo, first), b.integer(0))
            hi = b.intrinsic("smin", b.binary("sub", hi, first), extents[k])

        def inner() -> None:
            if k + 1 == len(grid):
                run(cx, function.body)
                return
            here = cx.bound[grid[k]]
            level(k + 1, b.binary("add", first, here) if k else here)

        loop(cx, grid[k], lo, hi, writes, inner)

    level(0, b.integer(0))


def _finish(cx: Context) -> None:
    """Reports at the end what `bounded` and `checked` found: the first of the flagged faults."""
    if cx.bad is None:
        return
    b = cx.b
    b.line(f"%failed = load i32, ptr {cx.bad.text}")
    b.line("%is.failed = icmp ne i32 %failed, 0")
    b.line("br i1 %is.failed, label %report, label %reported")
    b.declare("llvm.cttz.i32", "i32", "i32, i1")
    report = [
        "  %fault = call i32 @llvm.cttz.i32(i32 %failed, i1 true)",
        "  %code = add i32 %fault, 1",
        "  store atomic i32 %code, ptr %status monotonic, align 4",
    ]
    b.splice(["report:", *report, "  br label %reported", "reported:"], "reported")


def emit_module(functions: Iterable[Function], target: Target, extra: str = "") -> str:
    """A module of functions. With `extra` text (definitions that call them) after them, they are
    internal to the module; else they are exported.
    """
    linkage = "internal" if extra else ""
    return link([lower(f, target, linkage) for f in each(tuple(functions))], target, extra)


def link(emitted: Iterable[Emitted], target: Target, extra: str = "") -> str:
    """Lowered functions and further text as one module."""
    emitted = list(emitted)
    declares = {
        name: line for e in emitted for name, line in e.declares if not _declared(name, extra)
    }
    zeros = max((e.zeros for e in emitted), default=0)
    head = [f'target triple = "{target.triple}"', ""]
    if zeros:
        page = f"internal global [{zeros} x i8] zeroinitializer, align {target.machine.line}"
        head += [f"@ferrule.zeros = {page}", ""]
    head += [*declares.values(), ""]
    tail = [
        'attributes #0 = { nounwind "no-trapping-math"="true" }',
        "attributes #1 = { nounwind memory(none) }",
        "",
    ]
    return "\n".join([*head, *(e.text for e in emitted), extra, *tail])


def _declared(name: str, extra: str) -> bool:
    return f"@{name}(" in extra and any(
        f"@{name}(" in line and line.startswith(("declare ", "define "))
        for line in extra.splitlines()
    )
