"""Triton source from an unscheduled Kernel: one Python module for one kernel.

    emit_triton(kernel)   the module: a `@triton.jit` function and `launch(buffers.., dims..)`
    refusal(kernel)       why a kernel has no Triton form, or None

The module is made from the Kernel's own axes, never from scalar loops. Grid axes become program
ids and blocks, a stage's own axes `tl.arange` with masks, its folds reductions along a block, its
products `tl.dot` in f32 (IEEE, not tf32) with a loop over the folded axis, scratch tile values
(`triton_plan` says which axis becomes what, and what is not covered: scatters, scans, checked
indices, scratch that is not read whole). A loop over blocks whose first block holds everything,
known when the kernel is specialised, is no loop at all.

`launch` takes torch tensors on the device, each contiguous in its buffer's layout, the written
ones first, and then the dims as ints; it picks block sizes by the shapes. Under TRITON_INTERPRET=1
the module runs on CPU tensors. A product under a guard (the padding of a convolution) puts zero in
one factor where the guard is false: an infinite weight then meets a zero and gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ferrule.base.dtype import f32
from ferrule.base.errors import UnsupportedError
from ferrule.codegen.shape_text import shape_text
from ferrule.codegen.triton import ops
from ferrule.codegen.triton.plan import Along, Block, Factor, Plan, Role, Tiled, plan
from ferrule.codegen.triton.tiles import Domain, Names, Values, Writer, combine_text
from ferrule.ir.expr import Expr, conjuncts, dim, substitute
from ferrule.ir.kernel import Kernel
from ferrule.ir.system import Monoid, Reduce, Stage

TILE = 4096  # elements of a program's tile that the block of the grid is chosen for
LARGEST = 1 << 20  # elements of a tile, at most, in Triton
RESERVED = (
    "tl", "triton", "launch", "fit", "programs", "inner", "tile", "range", "float", "max", "min",
)  # fmt: skip

_HEAD = '''"""Triton code for kernel {name}, generated."""

import triton
import triton.language as tl
'''
_FIT = '''
def fit(extent, most, least=1):
    """The power of two that covers `extent`, between `least` and `most`."""
    return max(least, min(triton.next_power_of_2(max(extent, 1)), max(most, 1)))
'''


def refusal(kernel: Kernel) -> str | None:
    """Why `emit_triton` does not cover an unscheduled kernel; None where it does."""
    try:
        emit_triton(kernel)
    except UnsupportedError as error:
        return str(error)
    return None


def emit_triton(kernel: Kernel) -> str:
    """The text of a Python module that runs an unscheduled `kernel` through Triton.

    `launch` takes the kernel's `globals`, then its `dims`. The text must be imported from a file:
    Triton reads the source of its functions. Raises UnsupportedError for kernels that have no tile
    form and for operators that Triton lacks.
    """
    made = plan(kernel)
    names = Names((*RESERVED, *ops.HELPERS))
    function = names.fresh(f"{kernel.name}_kernel")
    bufs = {b: names.fresh(b.name) for b in kernel.globals}
    dims = {d: names.fresh(d.name) for d in kernel.dims}
    blocks = {b: names.fresh(f"BLOCK_{i}") for i, b in enumerate(_blocks(made))}
    out = Writer(made, names, bufs, dims, blocks)
    whole = {b: names.fresh(f"WHOLE{n[5:]}") for b, n in blocks.items() if b.role is Role.LOOP}
    body = _Body(out, whole)
    body.write()
    sizes = [f"{n}: tl.constexpr" for n in (*blocks.values(), *whole.values())]
    signature = ", ".join((*bufs.values(), *dims.values(), *sizes))
    text = "\n".join((f"@triton.jit\ndef {function}({signature}):", *out.lines, ""))
    folds = [combine_text(m, name) for m, name in out.folds.items()]
    used = sorted(ops.helper_of("\n".join((text, *folds))))
    helpers = [ops.HELPERS[h].strip("\n") + "\n" for h in used]
    launch = _launch(out, whole, function)
    head = (_HEAD.format(name=kernel.name), *helpers, *folds)
    return "\n\n".join((*head, text, _FIT.strip("\n") + "\n", launch))


def _blocks(made: Plan) -> dict[Block, None]:
    """The block sizes of a kernel: those of the grid, then those of its stages."""
    found = dict.fromkeys(d.block for d in made.grid)
    for t in made.stages:
        found |= dict.fromkeys(d.block for d in (t.own, t.folded) if d is not None)
    return found


# ---- the kernel ----------------------------------------------------------------------------------


class _Body:
    """Writes the function's body, stage by stage."""

    def __init__(self, out: Writer, whole: dict[Block, str]) -> None:
        self.out = out
        self.plan = out.plan
        self.whole = whole

    def write(self) -> None:
        out = self.out
        for d in out.dims.values():
            out.line(f"{d} = tl.cast({d}, tl.int64)")
        self._programs()
        for t in self.plan.stages:
            out.line(f"# {t.stage.name}")
            if t.own is None:
                self._stage(t)
            else:
                self._along(t.own, partial(self._stage, t))

    def _programs(self) -> None:
        """The program's point and its block of each grid axis, the last axis fastest."""
        out = self.out
        if not self.plan.grid and self.plan.point is None:
            return
        rest = out.named("pid", "tl.program_id(0).to(tl.int64)")
        for d in reversed(self.plan.grid[int(self.plan.point is None) :]):
            tiles = out.named("tiles", f"tl.cdiv({self._extent(d.axis)}, {out.blocks[d.block]})")
            self._position(d, f"{rest} % {tiles} * {out.blocks[d.block]}")
            rest = out.named("pid", f"{rest} // {tiles}")
        if self.plan.point is not None:
            out.axes[self.plan.point] = rest
        else:
            d = self.plan.grid[0]
            self._position(d, f"{rest} * {out.blocks[d.block]}")

    def _extent(self, axis: Expr) -> str:
        e = axis.extent
        return str(e.value) if e.is_const else Values(self.out, (), (), (e,)).value(e)

    def _position(self, d: Along, start: str) -> None:
        """The points of a block of `d.axis` that begins at `start`, and which of them exist."""
        out = self.out
        points = f"tl.arange(0, {out.blocks[d.block]}).to(tl.int64)"
        name = out.named(d.axis.name, f"{start} + {points}" if start else points)
        out.axes[d.axis] = name
        inside = out.names.fresh(f"in_{name}")
        out.masks[d.axis] = inside
        out.line(f"{inside} = {name} < {self._extent(d.axis)}")

    def _along(self, d: Along, body: Callable[[], None]) -> None:
        """`body` for all points of `d`: in one block, or in a loop over blocks."""
        out = self.out
        if d.block.role is Role.ROW:
            self._position(d, "")
            body()
            return
        size, extent = out.blocks[d.block], self._extent(d.axis)
        start = out.names.fresh("start")
        stop = f"{size} if {self.whole[d.block]} else {extent}"
        with out.indented(f"for {start} in range(0, {stop}, {size}):"):
            self._position(d, start)
            body()

    # ---- one stage -------------------------------------------------------------------------------

    def _stage(self, t: Tiled) -> None:
        """The values of a stage at the points of the grid and of its own axis, and their stores."""
        c = t.stage.compute
        domain = tuple(d for d in (*self.plan.grid, t.own) if d is not None)
        guards = conjuncts(t.stage.when)
        roots = tuple(t.stage.exprs())
        if isinstance(c.fold, Reduce):
            results = self._product(t) if t.factors else self._folded(t, domain)
            values = Values(self.out, domain, guards, roots)
        else:
            guards += conjuncts(c.where)
            values = Values(self.out, domain, guards, roots)
            results = [values.tile(v) for v in c.values]
        if len(results) > 1:
            results = [values.name(t.stage.name, r) for r in results]
        self._write(t.stage, results, values)

    def _write(self, st: Stage, results: list[str], values: Values) -> None:
        out = self.out
        for (buf, idx), result in zip(st.targets, results):
            if buf in self.plan.rows:
                out.tiles[buf] = values.name(buf.name, result)
                continue
            at, _ = values.address(buf, idx, values.guards, values.domain)
            mask = values.mask(values.domain, values.guards)
            out.line(f"tl.store({at}, {result}{f', mask={mask}' if mask else ''})")

    def _folded(self, t: Tiled, outer: Domain) -> list[str]:
        """The fold of a stage: block by block at each point of the block, then along it."""
        out, c = self.out, t.stage.compute
        fold, along = c.fold, t.folded
        assert isinstance(fold, Reduce)
        assert along is not None
        domain = (*outer, along)
        monoid = fold.monoid
        shape = out.shape(domain, domain)
        held: list[str] = []

        def masked() -> list[str]:
            values = Values(out, domain, conjuncts(c.where), c.exprs())
            pairs = zip(c.values, monoid.identity)
            return [self._masked(values, v, ops.operand(i.value, i.dtype), along) for v, i in pairs]

        if along.block.role is Role.ROW:
            self._along(along, lambda: held.extend(masked()))
        else:
            starts = [ops.full(i.value, i.dtype, shape) for i in monoid.identity]
            held += [out.named(f"{t.stage.name}_parts", s) for s in starts]
            self._along(along, lambda: out.line(self._updated(monoid, held, masked())))
        results = self._reduced(monoid, held, len(outer), t.stage.name)
        if fold.init is None:
            return results
        values = Values(out, outer, (), fold.init)
        first = [values.name(t.stage.name, values.tile(i)) for i in fold.init]
        out.line(self._updated(monoid, first, results))
        return first

    def _masked(self, values: Values, e: Expr, rest: str, along: Along) -> str:
        """`e` where the point of `along` exists and the guards hold, else `rest`."""
        mask = values.mask((along,), values.guards)
        dims = values.dims_of(along.axis, e, *values.guards)
        return values.whole(f"tl.where({mask}, {values.value(e)}, {rest})", dims)

    def _updated(self, monoid: Monoid, held: list[str], new: list[str]) -> str:
        """The assignment that folds `new` into the variables `held`."""
        if _is_sum(monoid):
            return f"{held[0]} += {new[0]}"
        return f"{', '.join(held)} = {self._fold(monoid)}({', '.join((*held, *new))})"

    def _fold(self, monoid: Monoid) -> str:
        """The name of the function that combines two tuples of `monoid`."""
        name = self.out.folds.get(monoid)
        if name is None:
            name = self.out.folds[monoid] = self.out.names.fresh(f"_{monoid.name}")
        return name

    def _reduced(self, monoid: Monoid, tiles: list[str], axis: int, stem: str) -> list[str]:
        """Tiles folded along their dimension number `axis`."""
        dtype = monoid.identity[0].dtype
        if monoid.arity > 1:
            found = [self.out.names.fresh(stem) for _ in tiles]
            call = f"tl.reduce(({', '.join(tiles)}), {axis}, {self._fold(monoid)})"
            self.out.line(f"{', '.join(found)} = {call}")
            return found
        if dtype.is_bool:
            text = f"({ops.bool_fold(monoid.combine[0])}({tiles[0]}.to(tl.int32), {axis}) != 0)"
        elif _is_sum(monoid):
            text = ops.narrowed(f"tl.sum({tiles[0]}, {axis})", dtype)
        else:
            text = f"tl.reduce({tiles[0]}, {axis}, {self._fold(monoid)})"
        return [self.out.named(stem, text)]

    def _product(self, t: Tiled) -> list[str]:
        """A matrix product, over blocks of the folded axis."""
        assert t.factors is not None
        assert t.folded is not None
        out, (left, right) = self.out, t.factors
        shape = f"({out.blocks[left.dims[0].block]}, {out.blocks[right.dims[1].block]})"
        product = out.named(t.stage.name, ops.full(0.0, f32, shape))
        sides = _narrowed(left.value, right.value)

        def add() -> None:
            a, b = (self._side(f, v, t.folded) for f, v in zip((left, right), sides))
            out.line(f'{product} = tl.dot({a}, {b}, {product}, input_precision="ieee")')

        self._along(t.folded, add)
        return [product]

    def _side(self, factor: Factor, e: Expr, folded: Along | None) -> str:
        """One factor as a tile, zero where there is nothing to add."""
        assert folded is not None
        values = Values(self.out, factor.dims, factor.guards, (e,))
        if e.op == "load" and e.attr not in self.plan.rows:  # masked when it is loaded
            return values.value(e)
        return values.name("side", self._masked(values, e, ops.operand(0.0, e.dtype), folded))


def _is_sum(monoid: Monoid) -> bool:
    e = monoid.combine[0]
    plain = e.op == "add" and all(a.op == "arg" for a in e.args)
    return monoid.arity == 1 and plain and not e.dtype.is_bool


def _narrowed(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """Factors that were widened from 16 bits as they were: their products are exact in f32."""
    if a.op == b.op == "cast":
        (x,), (y,) = a.args, b.args
        if x.dtype == y.dtype and x.dtype.is_float and x.dtype.bits == 16:
            return x, y
    return a, b


# ---- the launch ----------------------------------------------------------------------------------


def _launch(out: Writer, whole: dict[Block, str], function: str) -> str:
    """The text of `launch`: block sizes by the shapes, the number of programs, the call."""
    made = out.plan
    params = ", ".join((*out.bufs.values(), *out.dims.values()))
    sizes = [f"{n}={n}" for n in out.blocks.values()]
    sizes += [f"{w}={_size(out, b.extent)} <= {out.blocks[b]}" for b, w in whole.items()]
    written = ", ".join(out.bufs[b] for b in made.kernel.written)
    lines = [
        f"def launch({params}):",
        f'    """Run the kernel: it writes {written}."""',
        *(f"    {line}" for line in (*_inner_blocks(out), *_grid_blocks(out))),
        "    if programs:",
        f"        {function}[(programs,)](",
        *(f"            {arg}," for arg in (params, *sizes)),
        f"            num_warps=8 if tile >= {TILE} else 4,",
        "        )",
    ]
    return "\n".join((*lines, ""))


def _inner_blocks(out: Writer) -> list[str]:
    """The lines that choose the blocks of the stages' own axes."""
    lines = []
    for b, name in out.blocks.items():
        if b.role is not Role.GRID:
            most = b.most if b.role is Role.LOOP else 2 * LARGEST
            lines.append(f"{name} = fit({_size(out, b.extent)}, {most}{_least(b)})")
    inner = sorted({p for t in out.plan.stages if (p := _inner(out, t))})
    lines.append(f"inner = max(1, {', '.join(inner)})" if inner else "inner = 1")
    lines.append(f"if inner > {LARGEST}:")
    lines.append('    raise ValueError("a row is too long for one tile")')
    return lines


def _grid_blocks(out: Writer) -> list[str]:
    """The lines that choose the blocks of the grid by the room that is left, and count programs."""
    made, lines = out.plan, list[str]()
    programs = [_size(out, made.point.extent)] if made.point is not None else []
    for d in made.grid:
        name, extent = out.blocks[d.block], _size(out, d.block.extent)
        room = f"{TILE} // inner"
        limit = room if d.block.most >= TILE else f"min({d.block.most}, {room})"
        lines.append(f"{name} = fit({extent}, {limit}{_least(d.block)})")
        programs.append(f"triton.cdiv({extent}, {name})")
    lines.append(f"programs = {' * '.join(programs) or '1'}")
    lines.append(f"tile = {' * '.join((*(out.blocks[d.block] for d in made.grid), 'inner'))}")
    return lines


def _least(b: Block) -> str:
    return f", {b.least}" if b.least > 1 else ""


def _inner(out: Writer, t: Tiled) -> str:
    """How many elements of a stage's tile a point of the grid has, as text; empty for one."""
    dims = [t.own] if t.factors else [t.own, t.folded]
    return " * ".join(out.blocks[d.block] for d in dims if d is not None)


def _size(out: Writer, e: Expr) -> str:
    """A size over dims as Python."""
    return shape_text(substitute(e, {d: dim(name) for d, name in out.dims.items()}))
