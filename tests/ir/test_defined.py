"""The definedness check refuses faulty plans, and no other: programs whose stores are cut short,
whose reads are shifted, whose barriers are dropped or whose calls run too early.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from ferrule import ops
from ferrule.base.dtype import f32
from ferrule.base.errors import CompileError
from ferrule.ir.expr import ONE, Expr, Space, dim, load, loads, rewrite
from ferrule.ir.graph import Graph, GraphBuilder, tensor
from ferrule.ir.loop import Alloc, For, Function, If, Stmt, Store, walk_stmts
from ferrule.ir.program import Program, Run, Step
from ferrule.ir.text import parse
from ferrule.ir.verify.defined import check_defined
from ferrule.pipeline.compile import program_of
from ferrule.pipeline.passes import Options
from ferrule.pipeline.run import lowered
from ferrule.target import cpu as target

TARGETS = ("avx2", "generic")


def build(name: str) -> Graph:
    """A graph by name, small enough to be tried whole."""
    b = GraphBuilder(name)
    x = b.input(tensor((6, 42), f32), "x")
    w = b.param(tensor((24, 42), f32), "w")
    if name == "softmax":
        out = ops.softmax(b, x, 1)
    elif name == "linear":
        out = ops.relu(b, ops.linear(b, x, w))
    elif name == "norm":
        out = ops.layer_norm(b, x, axes=1)
    elif name == "joined":
        product = ops.linear(b, x, w)
        out = ops.concat(b, [product, ops.exp(b, product), x], 1)
    elif name == "scans":
        out = ops.softmax(b, ops.cumsum(b, ops.cumsum(b, x, 0), 1), 0)
    elif name == "constants":
        scaled = ops.softmax(b, w, 0)
        out = ops.softmax(b, ops.linear(b, x, ops.cumsum(b, scaled, 1)), 0)
    else:
        rows = b.input(tensor((dim("n", 1), 42), f32), "rows")
        out = ops.softmax(b, ops.linear(b, ops.softmax(b, rows, 1), w), 0)
    return b.build([out])


MODELS = ("softmax", "linear", "norm", "joined", "scans", "constants", "symbolic")


@cache
def program(name: str, isa: str) -> Program:
    return program_of(build(name), target.named(isa))


# ---- faults --------------------------------------------------------------------------------------


def _replaced(body: tuple[Stmt, ...], old: Stmt, new: Stmt) -> tuple[Stmt, ...]:
    """`body` with the one statement `old` replaced."""
    out: list[Stmt] = []
    for s in body:
        if s is old:
            out.append(new)
        elif isinstance(s, For):
            out.append(replace(s, body=_replaced(s.body, old, new)))
        elif isinstance(s, If):
            inner, orelse = (_replaced(x, old, new) for x in (s.body, s.orelse))
            out.append(If(s.cond, inner, orelse))
        else:
            out.append(s)
    return tuple(out)


def _with(p: Program, f: Function, old: Stmt, new: Stmt) -> Program:
    changed = replace(f, body=_replaced(f.body, old, new))
    return replace(p, functions=tuple(changed if g is f else g for g in p.functions))


def cut_stores(p: Program) -> Iterator[Program]:
    """Loops around a store to an argument that end halfway, where its index counts by them."""
    for f in p.functions:
        for loop in (s for s in walk_stmts(f.body) if isinstance(s, For)):
            for s in walk_stmts(loop.body):
                outside = isinstance(s, Store) and s.targets[0][0].space is Space.GLOBAL
                if outside and any(loop.axis in i.axes for i in s.targets[0][1]):
                    yield _with(p, f, loop, replace(loop, hi=loop.hi // 2))
                    break


def shifted_reads(p: Program) -> Iterator[Program]:
    """Loads of one element further along a dimension, or along the last of it."""
    for f in p.functions:
        alive = {s.buf for s in walk_stmts(f.body) if isinstance(s, Alloc)} | set(f.bufs)
        for s in walk_stmts(f.body):
            if not isinstance(s, Store) or s.monoid is not None:
                continue
            for ld in (x for v in s.values for x in loads(v)):
                if ld.args and ld.attr in alive:
                    value = tuple(rewrite(v, lambda e, ld=ld: _further(e, ld)) for v in s.values)
                    yield _with(p, f, s, replace(s, values=value))


def _further(e: Expr, ld: Expr) -> Expr | None:
    if e is not ld:
        return None
    return load(ld.attr, *ld.args[:-1], ld.args[-1] + ld.attr.shape[-1] - ONE + ONE)


def dropped_barriers(p: Program) -> Iterator[Program]:
    """Two launches behind each other as one phase."""
    for k in range(len(p.main) - 1):
        a, b = p.main[k], p.main[k + 1]
        if isinstance(a, Run) and isinstance(b, Run):
            both = Run(f"{a.name}+{b.name}", (a.phases[0] + b.phases[0],))
            yield replace(p, main=(*p.main[:k], both, *p.main[k + 2 :]))


def moved_to_prepare(p: Program) -> Iterator[Program]:
    """A launch of `main` in `prepare`."""
    for k, s in enumerate(p.main):
        yield replace(p, prepare=(*p.prepare, s), main=(*p.main[:k], *p.main[k + 1 :]))


def too_early(p: Program) -> Iterator[Program]:
    """Launches of which one is missing, or in the opposite order."""
    for part in ("prepare", "main"):
        several: tuple[Step, ...] = getattr(p, part)
        for k in range(len(several)):
            yield replace(p, **{part: (*several[:k], *several[k + 1 :])})
        if len(several) > 1:
            yield replace(p, **{part: several[::-1]})


FAULTS = (cut_stores, shifted_reads, dropped_barriers, moved_to_prepare, too_early)


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_sound_programs_pass(name: str, isa: str) -> None:
    check_defined(program(name, isa))


@pytest.mark.parametrize("isa", TARGETS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_faulty_plans_are_refused(fault, isa: str) -> None:
    plans = [m for name in MODELS for m in fault(program(name, isa))]
    assert len(plans) >= 4
    missed = []
    for k, plan in enumerate(plans):
        try:
            check_defined(plan)
        except CompileError:
            continue
        missed.append((k, plan.name))
    assert not missed, f"{len(missed)} of {len(plans)} pass: {missed}"


GUARDED = """
functions f {
  input a: i64[20]
  input x: f32[15]
  output y: f32[20, 20]
  function k0 {
    write y: f32[20, 20]
    read a: i64[20]
    read x: f32[15]
    grid i: 20
    for j: 20 serial {
      store y[i, j] = select(a[i] % SIZE == j, x[j], 0.0)
    }
  }
  main {
    call k0(y, a, x) cost 400
  }
}
"""


@pytest.mark.parametrize(
    ("size", "fits"), [("15", True), ("16", False), ("min(n, 15)", True), ("min(n, 16)", False)]
)
def test_a_guard_that_compares_data_with_an_index_bounds_it(size: str, fits: bool) -> None:
    source = GUARDED.replace("SIZE", size)
    if "n" in size:
        source = source.replace("input a", "dim n 1..\n  input s: f32[n]\n  input a")
        source = source.replace("grid", "takes n\n    grid")
    level = parse(source)
    options = Options(target.named("generic"))
    if fits:
        lowered(level, "program", options)
    else:
        with pytest.raises(CompileError, match="reads x out of bounds: index 15"):
            lowered(level, "program", options)


CHASED = """
functions f {
  input a: i64[4]
  input b: i64[1]
  output y: i64[1]
  function k0 {
    write y: i64[1]
    read a: i64[4]
    read b: i64[1]
    alloc s: i64[3] @scratch
    for i: 3 serial {
      store s[i] = i
    }
    store y[0] = select(bounded(a[bounded(b[0], 4)], 3) <= bounded(b[0], 4) + 1, s[WHERE], 0)
  }
  main {
    call k0(y, a, b) cost 4
  }
}
"""


@pytest.mark.parametrize("place", ["bounded(a[bounded(b[0], 4)], 3)", "bounded(b[0], 3)"])
def test_a_guard_may_ask_for_what_stands_where_data_say(place: str) -> None:
    level = parse(CHASED.replace("WHERE", place))
    assert isinstance(lowered(level, "program", Options(target.named("generic"))), Program)


PLACED = """
functions f {
  input a: i64[]
  input x: f32[64, 8]
  input y: f32[100, 8] update
  function k0 {
    write y: f32[100, 8]
    read a: i64[]
    read x: f32[64, 8]
    grid i: 64
    for j: 8 serial {
      store y[WHERE, j] = x[i, j]
    }
  }
  main {
    call k0(y, a, x) cost 400
  }
}
"""


@pytest.mark.parametrize(
    ("place", "fits"),
    [("bounded(a[], 37) + i", True), ("bounded(a[], 37) + i // 2", False), ("i // 2", False)],
)
def test_points_that_begin_where_data_say_write_rows_of_their_own(place: str, fits: bool) -> None:
    level = parse(PLACED.replace("WHERE", place))
    if fits:
        assert lowered(level, "program", Options(target.named("generic"))).updates
    else:
        with pytest.raises(CompileError, match="two points of the grid write one element of y"):
            lowered(level, "program", Options(target.named("generic")))


LOOPING = """
functions f {
  input x: f32[4]
  output y: f32[4]
  function k0 {
    write y: f32[4]
    read x: f32[4]
    alloc go: bool[] @scratch
    alloc t: f32[4] @scratch
    store go[] = x[0] < 1.0
    BEFORE
    while go {
      for j: 4 serial { store t[j] = x[j] }
      store go[] = t[0] < t[1]
    }
    for j: 4 serial { store y[j] = t[j] }
  }
  main {
    call k0(y, x) cost 4
  }
}
"""


def test_what_a_while_writes_may_not_be_written() -> None:
    options = Options(target.named("generic"))
    first = "for j: 4 serial { store t[j] = 0.0 }"
    lowered(parse(LOOPING.replace("BEFORE", first)), "program", options)
    with pytest.raises(CompileError, match="an element of t may be read before it is written"):
        lowered(parse(LOOPING.replace("BEFORE", "")), "program", options)
