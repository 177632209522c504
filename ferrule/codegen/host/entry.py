"""Host: a Program as the native functions that run it, and its packaging.

`emit_host` gives a whole LLVM module, to be linked with the modules that define the kernels:

    i32 @ferrule_entry_KEY(ptr args)         runs `main`; gives the status, 0 when all went well
    i64 @ferrule_arena_bytes_KEY(ptr args)   bytes of the arena for these dims and threads
    i32 @ferrule_prepare_KEY(ptr args)       runs `prepare`

`args` is the block that `ferrule.base.artifact` describes. The arena holds the temps, and after
them the scratch of each thread.

A kernel is called as `kernel(ctx, lo, hi, tid)` for the grid points lo..hi. Its ctx is an array of
8-byte slots on the entry's stack:

    [0] pointer to the i32 status   [1] scratch of thread 0   [2] bytes of scratch a thread
    then a pointer for each of Function.bufs, and an i64 for each of Function.dims

Calls of single kernels follow one another, so they share one ctx, and a slot is written only where
its value changes. A phase of several kernels is one parallel region over *units*, as many as the
phase costs nanoseconds: `@ferrule.dispatch` finds which kernels a range of units falls on, and
which of their grid points. The entry is straight-line code that is run once a call and, unless it
has loops and is short, never optimised (`optnone`); what decides how a kernel is run stands once,
in `@ferrule.launch` (host.ll).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from ferrule.base.artifact import (
    ALIGNMENT,
    SLOT_ARENA,
    SLOT_CONST,
    SLOT_FIRST,
    SLOT_HOST,
    SLOT_THREADS,
    Compiled,
    DimSource,
    Guard,
    TensorSpec,
)  # fmt: skip
from ferrule.base.errors import FAULTS, CompileError
from ferrule.codegen.host.scalar import Scalars
from ferrule.codegen.shape_text import extent, shape_text
from ferrule.ir.expr import (
    TRUE,
    ZERO,
    Buf,
    Expr,
    add,
    as_index,
    ceildiv,
    const,
    dims,
    floordiv,
    le,
    maximum,
    minimum,
    mul,
    product,
    select,
)  # fmt: skip
from ferrule.ir.loop import Function
from ferrule.ir.program import (
    Call,
    Case,
    Program,
    Repeat,
    Row,
    Run,
    Step,
    Variants,
    walk,
    walk_runs,
)
from ferrule.target.machine import CPU, Machine

STATUS_OK = 0
ERRORS = tuple(FAULTS.values())  # what the status 1 + i means
STATUS, SCRATCH, SCRATCH_BYTES, FIRST = range(4)  # slots of a ctx
_MOST_UNITS = 1 << 30  # a grid's extent times a kernel's units must not overflow
_SHORT = 1000  # lines of an entry with loops that is optimised
_ROW = 5  # slots of a kernel in the table of @ferrule.dispatch


def emit_host(
    program: Program,
    key: str,
    scratch: Expr | int | None = None,
    declare: bool = True,
    machine: Machine = CPU,
) -> str:
    """The module of `program`'s entry, arena size and preparation, as LLVM IR text.

    `declare` declares the kernels, which must then be linked in; False if the same module defines
    them.
    `scratch` is the bytes of scratch that one thread needs; by default `program.scratch_bytes`.
    `machine` says how far the scratches of threads lie apart, and for how much of a kernel's time a
    thread more is woken.
    Raises CompileError for a call of an unknown function, a buffer that has no place, or a size
    that is no expression over the program's dims.
    """
    memory = Memory.of(program, scratch, machine)
    runs = (*walk_runs(program.prepare), *walk_runs(program.main))
    names = {c.function for r in runs for phase in r.phases for c in phase}
    kernels = "".join(
        f"declare void {symbol(n)}(ptr, i64, i64, i64)\n" for n in sorted(names) if declare
    )
    parts = (
        support(),
        kernels,
        _arena_bytes(memory, key),
        _Steps(memory, machine.grain_ns).define("main", program.main),
        _Steps(memory, machine.grain_ns, _calls(program.main)).define("prepare", program.prepare),
        _ENTRIES.replace("KEY", key),
    )
    return "\n".join(parts)


@cache
def support() -> str:
    """The IR text that every entry uses."""
    text = (resources.files(__package__) / "host.ll").read_text()
    return text.replace("HOST_SLOT", str(8 * SLOT_HOST))


_ENTRIES = """\
define i32 @ferrule_entry_KEY(ptr %args) {
  %status = call i32 @ferrule.enter(ptr %args, ptr @ferrule.main)
  ret i32 %status
}

define i32 @ferrule_prepare_KEY(ptr %args) {
  %arena = load ptr, ptr %args
  %status = call i32 @ferrule.prepare(ptr %args, ptr %arena)
  ret i32 %status
}
"""


def align(size: Expr) -> Expr:
    """`size` rounded up to a whole number of cache lines."""
    return mul(ceildiv(size, ALIGNMENT), const(ALIGNMENT))


def symbol(name: str) -> str:
    """A function's name as a symbol of LLVM IR."""
    return f'@"{name}"'


@dataclass(frozen=True)
class Memory:
    """Where everything of a program lies: argument slots, offsets, and the size of the arena."""

    program: Program
    slots: dict[Buf, int]
    places: dict[Buf, tuple[int, Expr]]  # slot of the arena, offset
    dims: dict[str, int]
    temps: Expr
    scratch: Expr  # bytes from one thread's scratch to the next

    @staticmethod
    def of(
        program: Program, scratch: Expr | int | None = None, machine: Machine = CPU
    ) -> Memory:
        """The plan of `program`, whose threads have `scratch` bytes each."""
        order = (*program.inputs, *program.outputs, *program.dims, *program.params)
        slots = list(enumerate(order, SLOT_FIRST))
        places = {p.buf: (SLOT_ARENA, p.offset) for p in program.temps}
        places |= {p.buf: (SLOT_CONST, p.offset) for p in program.consts}
        return Memory(
            program,
            {x: i for i, x in slots if isinstance(x, Buf)},
            places,
            {x.name: i for i, x in slots if isinstance(x, Expr)},
            align(program.arena_bytes),
            _spacing(program.scratch_bytes if scratch is None else as_index(scratch), machine),
        )


def _spacing(scratch: Expr, machine: Machine) -> Expr:
    return scratch if scratch is ZERO else align(scratch) + machine.code.apart


class Code(Scalars):
    """Scalar code that reads the argument block `%args`; the arena is a value of its own."""

    def __init__(self, memory: Memory, arena: str | None) -> None:
        super().__init__(self.load_dim)
        self.memory = memory
        self.arena = arena
        self.iterations: dict[str, str] = {}  # the number of each loop around, by its dim
        self.rows: dict[Buf, tuple[Row, str]] = {}  # and the number of its loop

    def slot(self, kind: str, slot: int) -> str:
        """The value in slot `slot` of the argument block."""
        at = self.once(("address of slot", slot), f"getelementptr i8, ptr %args, i64 {8 * slot}")
        return self.once(("slot", slot), f"load {kind}, ptr {at}")

    def load_dim(self, name: str) -> str:
        if name in self.iterations:
            return self.iterations[name]
        where = self.memory.dims.get(name)
        if where is None:
            raise CompileError(f"{self.memory.program.name}: {name} is no dim of the program")
        return self.slot("i64", where)

    def threads(self) -> str:
        given = self.slot("i64", SLOT_THREADS)
        return self.once("threads", f"call i64 @llvm.smax.i64(i64 {given}, i64 1)")

    def size(self, bytes: Expr) -> str:
        """A number of bytes, none where it would be less: `prepare` runs with all dims 0, which
        facts of theirs may exclude.
        """
        found = self.value(bytes)
        if bytes.is_const:
            return found
        return self.once(("size", bytes), f"call i64 @llvm.smax.i64(i64 {found}, i64 0)")

    def address(self, buf: Buf) -> str:
        """The pointer to a buffer's first element."""
        slot = self.memory.slots.get(buf)
        if slot is not None:
            return self.slot("ptr", slot)
        row = self.rows.get(buf)
        if row is not None:
            return self.row(*row)
        place = self.memory.places.get(buf)
        if place is None:
            raise CompileError(f"{self.memory.program.name}: buffer {buf.name} has no place")
        base = self.arena if place[0] == SLOT_ARENA else self.slot("ptr", place[0])
        if place[1] is ZERO:
            return str(base)
        offset = self.value(place[1])
        return self.once(buf, f"getelementptr i8, ptr {base}, i64 {offset}")

    def row(self, row: Row, number: str) -> str:
        """The pointer to a part of a larger buffer, or to what stands for it in iteration 0."""
        whole = self.address(row.whole)
        offset = self.value(mul(row.index, mul(row.buf.size, const(row.buf.dtype.size))))
        here = self.once(("row", row), f"getelementptr i8, ptr {whole}, i64 {offset}")
        if row.first is None:
            return here
        begins = self.once(("begins", number), f"icmp eq i64 {number}, 0")
        choice = f"select i1 {begins}, ptr {self.address(row.first)}, ptr {here}"
        return self.once(("first", row), choice)


def _arena_bytes(memory: Memory, key: str) -> str:
    code = Code(memory, None)
    temps, scratch = code.size(memory.temps), code.size(memory.scratch)
    all_scratch = code.emit(f"mul i64 {scratch}, {code.threads()}")
    total = code.emit(f"add i64 {temps}, {all_scratch}")
    code.do(f"ret i64 {total}")
    return code.function(f"define i64 @ferrule_arena_bytes_{key}(ptr %args)")


class _Steps:
    """Emits one list of steps as a function `i32 NAME(ptr args, ptr arena)`.

    ctx 0 serves the calls that run alone; ctx i + 1 the i-th kernel of a phase of several. `held`
    tells what each slot of each ctx holds where the next instruction stands. Calls are numbered
    from `first` on, in the order of `walk_runs`.
    """

    def __init__(self, memory: Memory, grain_ns: int, first: int = 0):
        self.number = first
        self.grain_ns = grain_ns
        self.memory = memory
        self.program = memory.program
        self.functions = {f.name: f for f in self.program.functions}
        self.code = Code(memory, "%arena")
        self.held: dict[tuple[str, int], str] = {}
        self.labels = 0

    def define(self, name: str, steps: tuple[Step, ...]) -> str:
        code = self.code
        self._frame(steps)
        self._steps(steps)
        status = code.emit("load i32, ptr %status")
        code.do(f"ret i32 {status}")
        signature = f"define internal i32 @ferrule.{name}(ptr %args, ptr %arena)"
        # what runs once is not worth compiling well; a short loop may be most of what runs
        again = any(isinstance(s, Repeat) for s in walk(steps))
        short = again and len(code.lines) <= _SHORT
        return code.function(f"{signature} noinline{'' if short else ' optnone'}")

    def _frame(self, steps: tuple[Step, ...]) -> None:
        """Makes the ctxs on the stack, with the slots that all calls share."""
        code = self.code
        code.do("%status = alloca i32")
        code.do(f"store i32 {STATUS_OK}, ptr %status")
        for n in range(_labels(steps)):
            code.do(f"%counter{n + 1} = alloca i64")
        phases = [p for r in walk_runs(steps) for p in r.phases]
        rows = max((len(p) for p in phases if len(p) > 1), default=0)
        if rows:
            code.do(f"%table = alloca [{1 + _ROW * rows} x i64]")
        sizes: dict[str, int] = {}
        for phase in phases:
            for name, call in zip(_contexts(phase), phase):
                f = self._function(call)
                sizes[name] = max(sizes.get(name, 0), FIRST + len(f.bufs) + len(f.dims))
        if not sizes:
            return
        scratch = code.emit(f"getelementptr i8, ptr %arena, i64 {code.size(self.memory.temps)}")
        for name, slots in sizes.items():
            code.do(f"{name} = alloca [{slots} x i64]")
            self._set(name, STATUS, "ptr", "%status")
            self._set(name, SCRATCH, "ptr", scratch)
            self._set(name, SCRATCH_BYTES, "i64", code.size(self.memory.scratch))

    def _steps(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if isinstance(step, Variants):
                self._variants(step)
            elif isinstance(step, Repeat):
                self._repeat(step)
            elif isinstance(step, Case):
                self._case(step)
            else:
                for phase in step.phases:
                    self._phase(phase)
                    self.number += len(phase)

    def _variants(self, step: Variants) -> None:
        code, before = self.code, dict(self.held)
        self.labels += 1
        end = f"end{self.labels}"
        with code.scope():
            for i, (guard, body) in enumerate(step.branches):
                yes, no = f"yes{i}.{end}", f"no{i}.{end}"
                if guard is not TRUE:
                    code.do(f"br i1 {code.value(guard)}, label %{yes}, label %{no}")
                    code.label(yes)
                with code.scope():
                    self.held = dict(before)
                    self._steps(body)
                code.do(f"br label %{end}")
                if guard is TRUE:
                    self.number += sum(_calls(rest) for _, rest in step.branches[i + 1 :])
                    break
                code.label(no)
            else:
                raise CompileError(f"{self.program.name}: the last variant must have guard true")
        code.label(end)
        self.held = {k: v for k, v in before.items() if _stays(*k)}

    def _case(self, step: Case) -> None:
        code, before = self.code, dict(self.held)
        self.labels += 1
        end, last = f"end{self.labels}", len(step.branches) - 1
        with code.scope():
            index = code.emit(f"load i32, ptr {code.address(step.index)}")
            labels = [f"case{i}.{end}" for i in range(last + 1)]
            cases = " ".join(f"i32 {i}, label %{x}" for i, x in enumerate(labels[:-1]))
            code.do(f"switch i32 {index}, label %{labels[-1]} [{cases}]")
            for label, body in zip(labels, step.branches, strict=True):
                code.label(label)
                with code.scope():
                    self.held = dict(before)
                    self._steps(body)
                code.do(f"br label %{end}")
        code.label(end)
        self.held = {k: v for k, v in before.items() if _stays(*k)}

    def _repeat(self, step: Repeat) -> None:
        code, shared = self.code, {k: v for k, v in self.held.items() if _stays(*k)}
        self.labels += 1
        name, n = step.iteration.name, self.labels
        counter = f"%counter{n}"
        count = code.value(step.until) if isinstance(step.until, Expr) else None
        code.do(f"store i64 0, ptr {counter}")
        code.do(f"br label %test{n}")
        code.label(f"test{n}")
        number = code.emit(f"load i64, ptr {counter}")
        outer = code.rows
        code.rows = {**outer, **{r.buf: (r, number) for r in step.rows}}
        code.iterations[name] = number
        with code.scope():
            more = f"icmp slt i64 {number}, {count}"
            if isinstance(step.until, Buf):
                more = f"trunc i8 {code.emit(f'load i8, ptr {code.address(step.until)}')} to i1"
            code.do(f"br i1 {code.emit(more)}, label %step{n}, label %done{n}")
        code.label(f"step{n}")
        with code.scope():
            self.held = dict(shared)
            self._steps(step.steps)
            code.do(f"store i64 {code.emit(f'add i64 {number}, 1')}, ptr {counter}")
        code.do(f"br label %test{n}")
        code.label(f"done{n}")
        code.rows = {**outer, **{r.buf: (r, number) for r in step.gives}}
        for r in step.gives:
            code.address(r.buf)  # while the iteration has its number
        del code.iterations[name]
        self.held = shared

    def _phase(self, phase: tuple[Call, ...]) -> None:
        for name, call in zip(_contexts(phase), phase):
            self._fill(name, call)
        if len(phase) == 1:
            call = phase[0]
            self._launch(symbol(call.function), "%ctx0", self._points(call), call.cost)
        elif phase:
            self._launch_several(phase)

    def _fill(self, ctx: str, call: Call) -> None:
        f = self._function(call)
        for slot, buf in enumerate(call.args, FIRST):
            self._set(ctx, slot, "ptr", self.code.address(buf))
        for slot, d in enumerate(f.dims, FIRST + len(f.bufs)):
            self._set(ctx, slot, "i64", self.code.value(d))

    def _launch_several(self, phase: tuple[Call, ...]) -> None:
        """Lays the kernels out over units: one a nanosecond of their cost, none for empty grids."""
        first = ZERO
        self._set("%table", 0, "i64", str(len(phase)))
        for i, call in enumerate(phase):
            points = self._points(call)
            units = minimum(maximum(call.cost, const(1)), const(_MOST_UNITS))
            units = select(le(points, 0), ZERO, units)
            row = 1 + _ROW * i
            self._set("%table", row, "ptr", symbol(call.function))
            self._set("%table", row + 1, "ptr", f"%ctx{i + 1}")
            for column, size in enumerate((points, first, units), 2):
                self._set("%table", row + column, "i64", self.code.value(size))
            first = add(first, units)
        self._launch("@ferrule.dispatch", "%table", first, first)

    def _launch(self, kernel: str, ctx: str, points: Expr, cost: Expr) -> None:
        code = self.code
        n, wanted = code.value(points), code.value(floordiv(cost, const(self.grain_ns)))
        host = code.slot("ptr", SLOT_HOST)
        operands = f"ptr {host}, ptr {kernel}, ptr {ctx}, i64 {n}, i64 {wanted}"
        code.do(
            f"call void @ferrule.launch({operands}, i64 {code.threads()}, i64 {self.number})"
        )

    def _points(self, call: Call) -> Expr:
        return product([a.extent for a in self._function(call).grid])

    def _function(self, call: Call) -> Function:
        f = self.functions.get(call.function)
        if f is None:
            raise CompileError(f"{self.program.name}: no function is called {call.function}")
        if len(f.bufs) != len(call.args):
            raise CompileError(
                f"{f.name} takes {len(f.bufs)} buffers, and is called with {len(call.args)}"
            )
        return f

    def _set(self, base: str, slot: int, kind: str, value: str) -> None:
        """Stores `value` in a slot of the stack, unless it is there already."""
        if self.held.get((base, slot)) == value:
            return
        self.held[base, slot] = value
        at = self.code.once((base, slot), f"getelementptr i8, ptr {base}, i64 {8 * slot}")
        self.code.do(f"store {kind} {value}, ptr {at}")


def _stays(base: str, slot: int) -> bool:
    """Whether a slot has one value throughout."""
    return base.startswith("%ctx") and slot < FIRST


def _calls(steps: tuple[Step, ...]) -> int:
    return sum(len(phase) for r in walk_runs(steps) for phase in r.phases)


def _labels(steps: tuple[Step, ...]) -> int:
    """The number of loops and branchings, inner ones included."""
    return sum(not isinstance(step, Run) for step in walk(steps))


def _contexts(phase: tuple[Call, ...]) -> tuple[str, ...]:
    """The ctx of each call of a phase."""
    return ("%ctx0",) if len(phase) == 1 else tuple(f"%ctx{i + 1}" for i in range(len(phase)))


# ---- packaging -----------------------------------------------------------------------------------


def make_compiled(
    program: Program,
    key: str,
    object_code: bytes,
    errors: tuple[str, ...] = ERRORS,
    meta: Mapping[str, Any] | None = None,
) -> Compiled:
    """`program` and its machine code as the descriptor that the runtime takes.

    A dim is read from the first input whose shape has it as a bare extent, or from an integer
    input of rank 0 of the same name; a dim with neither raises CompileError. The facts of a dim
    go with it; what the program requires of its dims becomes guards. `errors[i]` is what the status
    1 + i means.
    """
    return Compiled(
        name=program.name,
        key=key,
        object_code=object_code,
        inputs=tuple(map(_spec, program.inputs)),
        params=tuple(map(_spec, program.params)),
        outputs=tuple(map(_spec, program.outputs)),
        dims=tuple(_source(d, program) for d in program.dims),
        guards=tuple(
            Guard(shape_text(r.fact), f"{r.what} needs it")
            for r in program.requires
            if dims(r.fact) <= set(program.dims)
        ),
        const_bytes=_const_bytes(program),
        errors=errors,
        meta=dict(meta or {}),
    )


def _spec(buf: Buf) -> TensorSpec:
    return TensorSpec(buf.name, buf.dtype.name, tuple(extent(s) for s in buf.shape))


def _const_bytes(program: Program) -> int:
    if not program.const_bytes.is_const:
        raise CompileError(f"{program.name}: the size of the constants depends on a dim")
    return int(program.const_bytes.attr)


def _source(d: Expr, program: Program) -> DimSource:
    facts = (d.attr.lo, d.attr.hi, d.attr.multiple)
    for i, buf in enumerate(program.inputs):
        if d in buf.shape:
            return DimSource(d.name, i, buf.shape.index(d), *facts)
        if buf.name == d.name and not buf.shape and buf.dtype.is_int:
            return DimSource(d.name, i, None, *facts)
    raise CompileError(
        f"{program.name}: the size {d.name} cannot be read from any input; let an input have a "
        f"dimension of exactly this size, or make it static"
    )
