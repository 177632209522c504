"""ferrule in miniature: the whole compiler in one file, to be read from top to bottom.

A function of matrices becomes machine code in the same steps, and with the same words, as in the
package; each part names the files where the real thing is.

    Python function  ->  stages     index notation: one equation a tensor             parts 1 to 4
    stages           ->  stages     substitute what is cheaper to compute than keep   part 5
    stages           ->  kernels    stitch stages that share their rows               part 6
    kernel           ->  loops      vectors, accumulators, rests                      part 7
    loops            ->  LLVM text                                                    part 8
    LLVM text        ->  a function on NumPy arrays, for every size                   part 9

All data is float32. Left out: threads, register blocks and packing for matrix products, layouts,
memory shared by intermediates, other dtypes, gathers and scatters, errors for users, NaN in a
maximum, and `exp` at the ends of its range.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import llvmlite.binding as llvm
import numpy as np

Array = np.ndarray[Any, Any]

# ---- 1. One scalar language ----------------------------------------------------------------------
# Sizes, indices and the bodies of loops are expressions of one type. Equal expressions are one
# object ("hash-consing"), so `is` compares whole trees, and a dictionary can be keyed by them.
# See ferrule/ir/expr.py.


def _operator(op: str) -> Any:
    return lambda x, y: make(op, x, expr(y))


@dataclass(frozen=True, eq=False)
class Expr:
    """An operator on `args`. A leaf keeps in `attr` what it is: a constant's value, the name of a
    dim (a size known when the program runs), the name and extent of an axis, the buffer of a load.
    """

    op: str
    args: tuple[Expr, ...]
    attr: Any

    __add__ = _operator("add")
    __sub__ = _operator("sub")
    __mul__ = _operator("mul")

    def __str__(self) -> str:
        inside = ", ".join(map(str, self.args))
        if self.op in ("const", "dim", "axis"):
            return str(self.attr[0] if self.op == "axis" else self.attr)
        return f"{self.attr.name}[{inside}]" if self.op == "load" else f"{self.op}({inside})"

    def nodes(self) -> dict[Expr, None]:
        """Each node once, arguments first."""
        return {n: None for a in self.args for n in a.nodes()} | {self: None}


_known: dict[Any, Expr] = {}


def make(op: str, *args: Expr, attr: Any = None) -> Expr:
    """The one expression with this operator, these arguments and this attribute."""
    return _known.setdefault((op, args, type(attr), attr), Expr(op, args, attr))


def expr(x: Any) -> Expr:
    """A number as a constant; an expression as it is."""
    return x if isinstance(x, Expr) else make("const", attr=x)


def rewrite(e: Expr, rule: Callable[[Expr], Expr | None]) -> Expr:
    """`e` rebuilt from its leaves up; what `rule` gives, where it does, takes a node's place."""
    new: dict[Expr, Expr] = {}
    for node in e.nodes():
        rebuilt = make(node.op, *(new[a] for a in node.args), attr=node.attr)
        new[node] = rule(rebuilt) or rebuilt
    return new[e]


# ---- 2. Index notation ---------------------------------------------------------------------------
# A program is a list of equations. `c[i, j] = sum[k] x[i, k] * w[k, j]` is a stage: a target and an
# index, a value, and a fold over further axes. Nothing says "matrix product": whatever we want to
# know (is it pointwise? what does it read?) follows from the equation. See ferrule/ir/system.py.


@dataclass(frozen=True)
class Buf:
    """Memory. `scratch` lives for one row; a `register` has no shape and holds `lanes` numbers."""

    name: str
    shape: tuple[Expr, ...] = ()
    space: str = "global"
    lanes: int = 1

    @property
    def size(self) -> Expr:
        return reduce(Expr.__mul__, self.shape, expr(1))

    def __getitem__(self, idx: Sequence[Expr]) -> Expr:
        return make("load", *idx, attr=self)


@dataclass(frozen=True)
class Stage:
    """`target[index] = fold[over] value`. An index is an axis, or 0 where the extent is 1."""

    target: Buf
    index: tuple[Expr, ...]
    value: Expr
    fold: str | None = None
    over: tuple[Expr, ...] = ()

    @property
    def axes(self) -> tuple[Expr, ...]:
        return tuple(i for i in self.index if i.op == "axis")

    @property
    def loads(self) -> list[Expr]:
        return [e for e in self.value.nodes() if e.op == "load"]

    def __str__(self) -> str:
        fold = f"{self.fold}[{', '.join(map(str, self.over))}] " if self.fold else ""
        return f"{self.target[self.index]} = {fold}{self.value}"


IDENTITY = {"sum": 0.0, "max": -float("inf")}
COMBINE = {"sum": "add", "max": "max"}

# ---- 3. The frontend -----------------------------------------------------------------------------
# A function of tensors runs once, on tensors that hold no numbers: each operation writes down its
# equation. See ferrule/frontend/numpy/trace.py, and ferrule/ops for operators defined in this way.


def _pointwise(op: str) -> Any:
    return lambda *operands: pointwise(op, *operands)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program being traced, and the equations written so far."""

    buf: Buf
    stages: list[Stage]

    __add__ = _pointwise("add")
    __sub__ = _pointwise("sub")
    __mul__ = _pointwise("mul")
    __truediv__ = _pointwise("div")

    def __matmul__(self, other: Tensor) -> Tensor:
        (m, k), (_, n) = self.buf.shape, other.buf.shape
        i, j, r = self.axes(m, n, k)
        return self.define((i, j), (m, n), self.buf[i, r] * other.buf[r, j], "sum", (r,))

    @property
    def T(self) -> Tensor:
        """The transpose: an equation like any other. Part 5 finds that it moves no data."""
        i, j = self.axes(*self.buf.shape)
        return self.define((j, i), self.buf.shape[::-1], self.buf[i, j])

    def axes(self, *shape: Expr) -> tuple[Expr, ...]:
        """A new axis for each extent; 0 for extents of one."""
        names = [f"{c}{len(self.stages)}" for c in "ijkl"]
        axes = (make("axis", attr=(c, n)) for c, n in zip(names, shape))
        return tuple(expr(0) if a.attr[1] is expr(1) else a for a in axes)

    def define(self, index: tuple[Expr, ...], shape: tuple[Expr, ...], *equation: Any) -> Tensor:
        buf = Buf(f"t{len(self.stages)}", shape)
        self.stages.append(Stage(buf, index, *equation))
        return Tensor(buf, self.stages)


def pointwise(op: str, first: Tensor, *others: Any) -> Tensor:
    """`op` on elements; the other operands are numbers, or tensors that broadcast to the first."""
    axes = first.axes(*first.buf.shape)

    def element(x: Any) -> Expr:
        if not isinstance(x, Tensor):
            return expr(float(x))
        near = axes[len(axes) - len(x.buf.shape) :]
        return x.buf[[expr(0) if n is expr(1) else a for n, a in zip(x.buf.shape, near)]]

    return first.define(axes, first.buf.shape, make(op, *map(element, (first, *others))))


def fold(monoid: str, x: Tensor) -> Tensor:
    """The sum or maximum over the last dim, which is kept with the extent 1."""
    *rows, last = x.axes(*x.buf.shape)
    value = x.buf[[*rows, last]]
    return x.define((*rows, expr(0)), (*x.buf.shape[:-1], expr(1)), value, monoid, (last,))


exp, maximum = _pointwise("exp"), _pointwise("max")

# ---- 4. What it means ----------------------------------------------------------------------------
# The interpreter is the definition of the language, and every later step is tested against it: a
# stage is evaluated at all its points at once. See ferrule/ir/interp.

NUMPY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
    "exp": np.exp, "floordiv": np.floor_divide,
}  # fmt: skip


def evaluate(e: Expr, axes: dict[Expr, Array], memory: dict[str, Any]) -> Any:
    """The value of `e`; `axes` gives arrays of indices, `memory` the buffers and dims."""
    args = tuple(evaluate(a, axes, memory) for a in e.args)
    if e.op == "const":
        return e.attr if isinstance(e.attr, int) else np.float32(e.attr)
    if e.op == "load":
        return memory[e.attr.name][args]
    return axes[e] if e.op == "axis" else memory[e.attr] if e.op == "dim" else NUMPY[e.op](*args)


def interpret(stages: list[Stage], memory: dict[str, Any]) -> None:
    """Runs the equations in order, adding their targets to `memory`."""
    for st in stages:
        every = (*st.axes, *st.over)
        extents = [evaluate(a.attr[1], {}, memory) for a in every]
        places = dict(zip(every, np.ogrid[tuple(slice(n) for n in extents)]))
        value = np.broadcast_to(evaluate(st.value, places, memory), extents)
        if st.fold is not None:
            value = NUMPY[COMBINE[st.fold]].reduce(value, tuple(range(len(st.axes), len(every))))
        memory[st.target.name] = value.reshape([evaluate(n, {}, memory) for n in st.target.shape])


# ---- 5. Fusion by substitution -------------------------------------------------------------------
# A pointwise stage can stand in place of each load of its target. That saves storing and reading it
# and costs computing it once for every read: the rule compares the two. A transpose or a broadcast
# costs nothing and always disappears. See ferrule/fuse/inline.py.

CHEAP = 4
COST = {"load": 0, "const": 0, "axis": 0, "dim": 0, "exp": 20, "div": 4}


def inline(stages: list[Stage], output: Buf) -> list[Stage]:
    """`stages`, those that are cheap or have one reader substituted into their readers."""
    kept: list[Stage] = []
    definitions: dict[Buf, Stage] = {}

    def expand(node: Expr) -> Expr | None:
        st = definitions.get(node.attr) if node.op == "load" else None
        return None if st is None else rewrite(st.value, dict(zip(st.index, node.args)).get)

    for original in stages:
        value = rewrite(original.value, expand)
        st = Stage(original.target, original.index, value, original.fold, original.over)
        readers = [r for r in stages if any(e.attr == st.target for e in r.loads)]
        again = len(readers) > 1 or any(len((*r.axes, *r.over)) > len(st.axes) for r in readers)
        cost = sum(COST.get(e.op, 1) for e in value.nodes())
        if st.fold is None and st.target != output and (cost <= CHEAP or not again):
            definitions[st.target] = st
        else:
            kept.append(st)
    return kept


# ---- 6. Fusion by stages -------------------------------------------------------------------------
# Substitution ends at a fold: a softmax needs the whole row's maximum first. But all stages of a
# softmax work on one row at a time, so they can be one kernel: a grid over rows whose points are
# independent (threads could divide them), and in it the stages, one after another. What no other
# kernel reads shrinks to scratch for one row. See ferrule/fuse/group.py.


@dataclass
class Kernel:
    """Stages that run, in order, at each point of `grid`."""

    grid: Expr
    stages: list[Stage]

    def __str__(self) -> str:
        return "\n".join([f"for {self.grid}:", *(f"    {st}" for st in self.stages)])


def group(stages: list[Stage], output: Buf) -> list[Kernel]:
    """Kernels, in order. A stage joins the last one if what it reads there is of its own row."""
    groups: list[list[Stage]] = [[]]
    for st in stages:
        made = {m.target: m for m in groups[-1]}
        rows = {e.args[0] for e in st.loads if e.attr in made}
        if rows != {st.index[0]} or st.index[0].op != "axis":
            groups.append([])
        groups[-1].append(st)
    groups = groups[1:]
    kernels = []
    for g in groups:
        outside = {e.attr for other in groups if other is not g for st in other for e in st.loads}
        private = {st.target for st in g} - outside - {output}
        kernels.append(Kernel(g[0].index[0], [_member(st, g[0].index[0], private) for st in g]))
    return kernels


def _member(st: Stage, grid: Expr, private: set[Buf]) -> Stage:
    """`st` with its first axis renamed to `grid`, private buffers without their first dim."""
    rename = {st.index[0]: grid}

    def scratch(b: Buf) -> Buf:
        return Buf(b.name, b.shape[1:], "scratch")

    def visit(e: Expr) -> Expr | None:
        return scratch(e.attr)[e.args[1:]] if e.op == "load" and e.attr in private else None

    value = rewrite(rewrite(st.value, rename.get), visit)
    if st.target in private:
        return Stage(scratch(st.target), st.index[1:], value, st.fold, st.over)
    return Stage(st.target, tuple(rename.get(i, i) for i in st.index), value, st.fold, st.over)


# ---- 7. Loops ------------------------------------------------------------------------------------
# A schedule says how the axes of a stage run. Here it is one decision: which axis runs as vectors.
# Its loop is cut in two: vectors of eight lanes, and the rest one by one. A fold keeps its result
# in a register; if the folded axis itself is the vector one, in eight lanes that are folded at the
# end. See ferrule/schedule/rows/vectorize.py and ferrule/lower/loops.py; for matrix products
# ferrule/schedule/contraction/blocks.py keeps a whole tile of results in registers.

LANES = 8


@dataclass(frozen=True)
class For:
    """`for axis in range(lo, hi, lanes)`; the body does `lanes` points at once."""

    axis: Expr
    lo: Expr
    hi: Expr
    lanes: int
    body: list[For | Store]


@dataclass(frozen=True)
class Store:
    """`target[index] = value`, or combined with it; a vector is folded into one number."""

    target: Buf
    index: tuple[Expr, ...]
    value: Expr
    by: str | None = None


def lower_stage(st: Stage, grid: Expr) -> list[For | Store]:
    """The loops of a stage at one point of the grid."""
    # Along a lane axis, an access is a vector in memory or one number for all lanes.
    strided = {a for idx in (st.index, *(e.args for e in st.loads)) for a in idx[:-1]} | {grid}
    lane = next((a for a in (*reversed(st.axes), *st.over) if a not in strided), None)
    serial = [a for a in st.axes if a is not grid and a is not lane]
    over = [a for a in st.over if a is not lane]
    value, start = rewrite(st.value, exp_rule), expr(IDENTITY.get(st.fold or ""))

    def folded(lanes: int) -> Buf:
        return Buf(f"{st.target.name}_by{lanes}", (), "register", lanes)

    def body(lanes: int, here: Expr | None) -> list[For | Store]:
        moved, index = value, st.index
        if lane is not None and here is not None:
            moved = rewrite(value, {lane: here}.get)
            index = tuple(here if i is lane else i for i in index)
        if st.fold is None:
            return [Store(st.target, index, moved)]
        acc = folded(lanes)
        steps = nest(over, [Store(acc, (), moved, st.fold)])
        if lane in st.over:
            return steps
        return [Store(acc, (), start), *steps, Store(st.target, index, acc[()])]

    if lane is None or lane not in st.over:
        return nest(serial, strip(lane, body))
    wide, total = folded(LANES), folded(1)
    both = [Store(wide, (), start), Store(total, (), start), *strip(lane, body)]
    last = [Store(total, (), wide[()], st.fold), Store(st.target, st.index, total[()])]
    return nest(serial, [*both, *last])


def strip(lane: Expr | None, body: Callable[..., list[For | Store]]) -> list[For | Store]:
    """`body(lanes, axis)` in a loop of vectors and in a loop for the rest."""
    if lane is None:
        return body(1, None)
    name, n = lane.attr
    whole = make("floordiv", n, expr(LANES)) * LANES
    vectors, rest = (make("axis", attr=(name + tag, n)) for tag in "vr")
    return [
        For(vectors, expr(0), whole, LANES, body(LANES, vectors)),
        For(rest, whole, n, 1, body(1, rest)),
    ]


def nest(axes: list[Expr], body: list[For | Store]) -> list[For | Store]:
    for a in reversed(axes):
        body = [For(a, expr(0), a.attr[1], 1, body)]
    return body


def lower(kernel: Kernel) -> list[For | Store]:
    """The loops of a kernel; one with a single row has no loop over rows."""
    body = [s for st in kernel.stages for s in lower_stage(st, kernel.grid)]
    return nest([kernel.grid] if kernel.grid.op == "axis" else [], body)


def exp_rule(e: Expr) -> Expr | None:
    """exp(x) as arithmetic, which runs on vectors: with n the integer nearest to x / ln 2 and
    r = x - n ln 2, exp(x) = 2**n exp(r), and exp(r) is a short Taylor polynomial. Adding a large
    number rounds; ln 2 comes in two parts, the first with few bits, so that n times it is exact.
    """
    if e.op != "exp":
        return None
    x = make("max", e.args[0], expr(-87.0))
    n = x * 1.4426950408889634 + 12582912.0 - 12582912.0
    r = x - n * 0.693359375 - n * -2.12194440e-4
    p = expr(1 / 5040)
    for factorial in (720, 120, 24, 6, 2, 1, 1):
        p = p * r + 1 / factorial
    return p * make("pow2", n)


# ---- 8. LLVM text --------------------------------------------------------------------------------
# The text is written directly, vectors included; LLVM is not asked to find any. Loop counters lie
# on the stack, from where the pass `sroa` takes them into registers. See ferrule/codegen.

FLOATS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INTEGERS = {"add": "add", "sub": "sub", "mul": "mul", "floordiv": "sdiv"}


def of(element: str, lanes: int) -> str:
    """An LLVM type."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def splat(element: str, text: str, lanes: int) -> str:
    """A constant in all lanes."""
    return text if lanes == 1 else f"<{', '.join([f'{element} {text}'] * lanes)}>"


class Emitter:
    """Writes one function: the loops of one kernel."""

    def __init__(self, name: str, body: list[For | Store], bufs: list[Buf], dims: list[str]):
        params = ", ".join([f"ptr noalias %{b.name}" for b in bufs] + [f"i64 %{d}" for d in dims])
        self.head = [f"define void @{name}({params}) {{"]
        self.lines: list[str] = []
        self.local: set[Buf] = set()
        self.axes: dict[Expr, str] = {}
        self.count = 0
        self.run(body, None)
        self.text = "\n".join([*self.head, *self.lines, "  ret void", "}"])

    def new(self, code: str, to: list[str] | None = None) -> str:
        """A new name for the result of an instruction."""
        self.count += 1
        (self.lines if to is None else to).append(f"  %v{self.count} = {code}")
        return f"%v{self.count}"

    def run(self, body: list[For | Store], lane: Expr | None) -> None:
        for s in body:
            if isinstance(s, For):
                self.loop(s, lane)
            else:
                self.store(s, lane)

    def loop(self, s: For, lane: Expr | None) -> None:
        slot, lo, hi = self.new("alloca i64", self.head), self.index(s.lo), self.index(s.hi)
        at = f"L{self.count}"
        self.lines += [f"  store i64 {lo}, ptr {slot}", f"  br label %{at}", f"{at}:"]
        i = self.axes[s.axis] = self.new(f"load i64, ptr {slot}")
        more = self.new(f"icmp slt i64 {i}, {hi}")
        self.lines += [f"  br i1 {more}, label %{at}.body, label %{at}.end", f"{at}.body:"]
        self.run(s.body, s.axis if s.lanes > 1 else lane)
        step = self.new(f"add i64 {i}, {s.lanes}")
        self.lines += [f"  store i64 {step}, ptr {slot}", f"  br label %{at}", f"{at}.end:"]

    def store(self, s: Store, lane: Expr | None) -> None:
        wide = [e.attr.lanes for e in s.value.nodes() if e.op == "load"]
        lanes = max([1 if lane is None else LANES, s.target.lanes, *wide])
        value, place = self.value(s.value, lane, lanes, {}), self.address(s.target, s.index)
        if s.by is not None:
            while lanes > s.target.lanes:
                lanes //= 2
                low, high = self.halves(value, lanes)
                value = self.binary(COMBINE[s.by], low, high, lanes)
            before = self.new(f"load {of('float', lanes)}, ptr {place}, align 4")
            value = self.binary(COMBINE[s.by], before, value, lanes)
        self.lines.append(f"  store {of('float', lanes)} {value}, ptr {place}, align 4")

    def halves(self, x: str, lanes: int) -> list[str]:
        """The two halves, of `lanes` each, of a vector."""
        t = of("float", 2 * lanes)
        if lanes == 1:
            return [self.new(f"extractelement {t} {x}, i32 {i}") for i in (0, 1)]
        picks = [", ".join(f"i32 {at + i}" for i in range(lanes)) for at in (0, lanes)]
        return [self.new(f"shufflevector {t} {x}, {t} {x}, <{lanes} x i32> <{p}>") for p in picks]

    def value(self, e: Expr, lane: Expr | None, lanes: int, memo: dict[Expr, str]) -> str:
        """A float expression in `lanes` lanes, each distinct node computed once."""
        if e not in memo:
            args = [self.value(a, lane, lanes, memo) for a in e.args if e.op != "load"]
            if e.op == "const":
                bits = int(np.float64(np.float32(e.attr)).view(np.uint64))
                memo[e] = splat("float", f"0x{bits:016X}", lanes)
            elif e.op == "load":
                memo[e] = self.load(e, lane, lanes)
            elif e.op == "pow2":
                memo[e] = self.pow2(args[0], lanes)
            else:
                memo[e] = self.binary(e.op, args[0], args[1], lanes)
        return memo[e]

    def load(self, e: Expr, lane: Expr | None, lanes: int) -> str:
        """A vector, if the lane axis is in the index, else one number in all lanes."""
        place = self.address(e.attr, e.args)
        if lane in e.args or e.attr.lanes == lanes:
            return self.new(f"load {of('float', lanes)}, ptr {place}, align 4")
        t, one = of("float", lanes), self.new(f"load float, ptr {place}, align 4")
        first = self.new(f"insertelement {t} undef, float {one}, i32 0")
        return self.new(f"shufflevector {t} {first}, {t} undef, <{lanes} x i32> zeroinitializer")

    def pow2(self, x: str, lanes: int) -> str:
        """2**x for an integral x: its bits are the exponent field of a float."""
        t, ints = of("float", lanes), of("i32", lanes)
        whole = self.new(f"fptosi {t} {x} to {ints}")
        biased = self.new(f"add {ints} {whole}, {splat('i32', '127', lanes)}")
        bits = self.new(f"shl {ints} {biased}, {splat('i32', '23', lanes)}")
        return self.new(f"bitcast {ints} {bits} to {t}")

    def binary(self, op: str, x: str, y: str, lanes: int) -> str:
        t = of("float", lanes)
        if op in FLOATS:
            return self.new(f"{FLOATS[op]} {t} {x}, {y}")
        assert op == "max"
        more = self.new(f"fcmp ogt {t} {x}, {y}")
        return self.new(f"select {of('i1', lanes)} {more}, {t} {x}, {t} {y}")

    def address(self, buf: Buf, idx: Sequence[Expr]) -> str:
        if buf.space != "global" and buf not in self.local:
            self.local.add(buf)
            size = self.index(buf.size, self.head)
            self.head.append(f"  %{buf.name} = alloca {of('float', buf.lanes)}, i64 {size}")
        offset = expr(0)
        for i, n in zip(idx, buf.shape):
            offset = offset * n + i
        return self.new(f"getelementptr float, ptr %{buf.name}, i64 {self.index(offset)}")

    def index(self, e: Expr, to: list[str] | None = None) -> str:
        """An integer expression."""
        if e.op in ("const", "dim", "axis"):
            return {"const": str(e.attr), "dim": f"%{e.attr}"}.get(e.op) or self.axes[e]
        x, y = (self.index(a, to) for a in e.args)
        return self.new(f"{INTEGERS[e.op]} i64 {x}, {y}", to)


# ---- 9. One native entry -------------------------------------------------------------------------
# The entry takes one block of 8-byte slots (pointers to the inputs, the output and intermediates,
# then the dims) and calls the kernels in order, so that a run is one foreign call. The dims are
# read from the shapes of the inputs. See ferrule/codegen/host/entry.py and ferrule/runtime.


class Compiled:
    """A function of float32 arrays, compiled for inputs of these shapes; a name stands for a dim.

    `levels` are what the steps made: traced stages, inlined stages, kernels, loops, LLVM text.
    """

    def __init__(self, function: Callable[..., Tensor], *shapes: tuple[int | str, ...]):
        def size(n: int | str) -> Expr:
            return make("dim", attr=n) if isinstance(n, str) else expr(n)

        self.inputs = [Buf(f"x{i}", tuple(map(size, s))) for i, s in enumerate(shapes)]
        self.dims = sorted({n for s in shapes for n in s if isinstance(n, str)})
        traced: list[Stage] = []
        self.output = function(*(Tensor(b, traced) for b in self.inputs)).buf
        inlined = inline(traced, self.output)
        kernels = group(inlined, self.output)
        stored = [st.target for k in kernels for st in k.stages if st.target.space == "global"]
        self.temps = [b for b in stored if b != self.output]
        loops = [lower(k) for k in kernels]
        self.levels = (traced, inlined, kernels, loops, self.module(loops))
        self.engine = jit(self.levels[-1])
        entry = self.engine.get_function_address("entry")
        self.entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)

    def module(self, loops: list[list[For | Store]]) -> str:
        """LLVM text: a function for each kernel, and the entry."""
        bufs = [*self.inputs, self.output, *self.temps]
        kernels = [Emitter(f"k{i}", s, bufs, self.dims).text for i, s in enumerate(loops)]
        slots = [("ptr", f"%{b.name}") for b in bufs] + [("i64", f"%{d}") for d in self.dims]
        entry = ["define void @entry(ptr %args) {"]
        for i, (t, name) in enumerate(slots):
            entry.append(f"  %at{i} = getelementptr i64, ptr %args, i64 {i}")
            entry.append(f"  {name} = load {t}, ptr %at{i}")
        passed = ", ".join(f"{t} {name}" for t, name in slots)
        entry += [*(f"  call void @k{i}({passed})" for i in range(len(loops))), "  ret void", "}"]
        return "\n".join([*kernels, *entry])

    def __call__(self, *arrays: Array) -> Array:
        """The function's value. Raises ValueError for arrays whose shapes do not fit."""
        sizes: dict[str, Any] = {}
        for buf, x in zip(self.inputs, arrays, strict=True):
            for n, given in zip(buf.shape, x.shape, strict=True):
                if given != (sizes.setdefault(n.attr, given) if n.op == "dim" else n.attr):
                    raise ValueError(f"{buf.name}: {n} is {sizes.get(n.attr, n)}, not {given}")
        inputs = [np.ascontiguousarray(x, np.float32) for x in arrays]
        bufs = (self.output, *self.temps)
        made = [np.empty([evaluate(n, {}, sizes) for n in b.shape], np.float32) for b in bufs]
        slots = [*(x.ctypes.data for x in (*inputs, *made)), *(sizes[d] for d in self.dims)]
        self.entry((ctypes.c_int64 * len(slots))(*slots))
        return made[0]


def jit(text: str) -> Any:
    """Machine code for this CPU, in an engine that must outlive its functions."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(llvm.get_host_cpu_name(), features, opt=2, jit=True)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


# ---- 10. Two programs, run as tests (test_mini.py has more) --------------------------------------


def softmax(x: Tensor) -> Tensor:
    e = exp(x - fold("max", x))
    return e / fold("sum", e)


def linear_relu(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return maximum(x @ w.T + b, 0)


def test_one_softmax_serves_every_size() -> None:
    compiled = Compiled(softmax, ("n", "m"))
    for shape in ((1, 1), (3, 8), (5, 37)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        e = np.exp(x - x.max(-1, keepdims=True))
        np.testing.assert_allclose(compiled(x), e / e.sum(-1, keepdims=True), rtol=2e-6)


def test_a_linear_layer_takes_its_bias_and_activation_along() -> None:
    compiled = Compiled(linear_relu, ("n", 30), (20, 30), (20,))
    assert len(compiled.levels[2]) == 1
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype("f") for s in ((7, 30), (20, 30), 20))
    np.testing.assert_allclose(compiled(x, w, b), np.maximum(x @ w.T + b, 0), rtol=1e-5, atol=1e-5)
