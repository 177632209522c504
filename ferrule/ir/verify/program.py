"""The rules of programs. Sizes are compared at sample values of the dims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ferrule.base.artifact import ALIGNMENT
from ferrule.ir.expr import TRUE, Buf, Expr
from ferrule.ir.interp.dims import shape_of, size
from ferrule.ir.program import (
    Call,
    Case,
    Placed,
    Program,
    Repeat,
    Run,
    Step,
    Variants,
    bodies,
    walk,
    walk_rows,
    walk_runs,
)
from ferrule.ir.text.declare import mentions
from ferrule.ir.verify.loop import verify_function
from ferrule.ir.verify.rules import Fault, Rule, check, names, repeated

Dims = Mapping[str, int]


def verify_program(program: Program) -> None:
    """Raises VerifyError if `program` or one of its functions breaks a rule."""
    for f in program.functions:
        verify_function(f)
    calls = [show_call(c) for c in _calls((*program.prepare, *program.main))]
    check("program", program.name, program, PROGRAM_RULES, lambda: calls)


def sample_dims(dims: tuple[Expr, ...]) -> list[dict[str, int]]:
    """A few values of the dims that meet their facts: small, middling and large, each dim
    different.
    """
    out = []
    for base in (1, 17, 300):
        values = {}
        for k, d in enumerate(dims):
            facts = d.attr
            n = max(facts.lo, base + 3 * k)
            n = n if facts.hi is None else min(n, facts.hi)
            up = -(-n // facts.multiple) * facts.multiple
            fits = facts.hi is None or up <= facts.hi
            values[facts.name] = up if fits else n // facts.multiple * facts.multiple
        out.append(values)
    return out


def show_call(c: Call) -> str:
    return f"call {c.function}({', '.join(b.name for b in c.args)})"


def _calls(steps: tuple[Step, ...]) -> Iterator[Call]:
    for run in walk_runs(steps):
        for phase in run.phases:
            yield from phase


def _known_calls(program: Program) -> Iterator[Fault]:
    functions = {f.name: f for f in program.functions}
    allowed = {*program.dims, *_iterations((*program.prepare, *program.main))}
    for name in repeated(f.name for f in program.functions):
        yield Fault(f"two functions are called {name}")
    for k, c in enumerate(_calls((*program.prepare, *program.main))):
        f = functions.get(c.function)
        if f is None:
            yield Fault(f"there is no function {c.function}", k)
        elif len(c.args) != len(f.bufs):
            yield Fault(f"{f.name} takes {len(f.bufs)} buffers, not {len(c.args)}", k)
        elif not set(f.dims) <= allowed:
            missing = set(f.dims) - allowed
            yield Fault(f"{f.name} takes {names(missing)}, which the program has not", k)


def _buffers(program: Program) -> Iterator[Fault]:
    steps = (*program.prepare, *program.main)
    rows = list(walk_rows(steps))
    placed = [p.buf for p in (*program.consts, *program.temps)] + [r.buf for r in rows]
    known = [*program.inputs, *program.params, *program.outputs, *placed]
    for name in repeated(b.name for b in dict.fromkeys(known)):
        yield Fault(f"two buffers are called {name}")
    for name in repeated(b.name for b in (*program.inputs, *program.params, *placed)):
        yield Fault(f"{name} is listed twice")
    for k, c in enumerate(_calls((*program.prepare, *program.main))):
        for b in c.args:
            if b not in known:
                yield Fault(f"{c.function} is given {b.name}, which has no place", k)
    for step in walk(steps):
        for b in _asked(step):
            if b not in known:
                yield Fault(f"the flow depends on {b.name}, which has no place")
    for r in rows:
        for b in (r.whole, *(() if r.first is None else (r.first,))):
            if b not in known:
                yield Fault(f"{r.buf.name} is a part of {b.name}, which has no place")
            elif b is r.whole and b.layout is not None:
                yield Fault(f"{r.buf.name} is a part of {b.name}, which is not in row-major order")
    missing = set(mentions(tuple(known), program.arena_bytes).dims) - set(program.dims)
    if missing:
        yield Fault(f"sizes depend on {names(missing)}, which the program has not")


def _arguments_match(program: Program) -> Iterator[Fault]:
    functions = {f.name: f for f in program.functions}
    samples = sample_dims(program.dims)
    for k, c in enumerate(_calls((*program.prepare, *program.main))):
        for formal, actual in zip(functions[c.function].bufs, c.args, strict=True):
            same = formal.dtype == actual.dtype and all(
                shape_of(formal, s) == shape_of(actual, s) for s in samples
            )
            if not same or formal.order != actual.order:
                yield Fault(f"{c.function} takes {_type(formal)} and is given {_type(actual)}", k)


def _type(b: Buf) -> str:
    layout = "" if b.layout is None else f" in the layout {b.layout}"
    return f"{b.name}: {b.dtype.name}[{', '.join(map(str, b.shape))}]{layout}"


def _iterations(steps: tuple[Step, ...]) -> Iterator[Expr]:
    """The dims that number the iterations of each repeat."""
    return (step.iteration for step in walk(steps) if isinstance(step, Repeat))


def _asked(step: Step) -> tuple[Buf, ...]:
    """The buffer whose element decides what runs."""
    if isinstance(step, Repeat) and isinstance(step.until, Buf):
        return (step.until,)
    return (step.index,) if isinstance(step, Case) else ()


# ---- reading and writing -------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """What one phase reads and writes; `number` counts the calls before it."""

    reads: frozenset[Buf]
    writes: frozenset[Buf]
    number: int


Tree = list[Any]  # of Use, or of the branches (Trees) of a variant


class _Uses:
    """The phases of steps as a tree: a Use, or the branches of a variant or a case.

    In a repeat the rows stand for what they are parts of; all that lives outside of it is in use as
    long as it runs, which a Use before and one behind it say.
    """

    def __init__(self, program: Program):
        self.functions = {f.name: f for f in program.functions}
        self.number = 0
        self.read: dict[Buf, frozenset[Buf]] = {}  # what a row stands for where it is read
        self.written: dict[Buf, Buf] = {}

    def tree(self, steps: tuple[Step, ...]) -> Tree:
        out: Tree = []
        for step in steps:
            if isinstance(step, Run):
                out += [self.phase(p) for p in step.phases]
            elif isinstance(step, Repeat):
                out += self.repeat(step)
            else:
                asked = frozenset(s for b in _asked(step) for s in self.read.get(b, (b,)))
                out.append(Use(asked, frozenset(), self.number))
                out.append([self.tree(body) for body in bodies(step)])
        return out

    def repeat(self, step: Repeat) -> Tree:
        for r in step.rows:
            whole = self.written.get(r.whole, r.whole)
            source = whole if r.first is None else r.first
            self.read[r.buf] = self.read.get(source, frozenset((source,)))
            self.written[r.buf] = whole
        for r in step.gives:
            sources = (r.whole,) if r.first is None else (r.whole, r.first)
            own = (self.read.get(s, frozenset((s,))) for s in sources)
            self.read[r.buf] = frozenset().union(*own)
        start = self.number
        body = self.tree(step.steps)
        made = set[Buf]()
        read = {s for b in _asked(step) for s in self.read.get(b, (b,))}
        for use in _flat(body):
            read |= use.reads - made
            made |= use.writes
        wholes = frozenset(made & set(self.written.values()))
        around = frozenset(read) | wholes
        return [Use(around - wholes, wholes, start), *body, Use(around, frozenset(), start)]

    def phase(self, calls: tuple[Call, ...]) -> Use:
        reads: set[Buf] = set()
        writes: set[Buf] = set()
        number = self.number
        for c in calls:
            written = self.functions[c.function].written
            writes |= {self.written.get(b, b) for b in c.args[:written]}
            reads |= {s for b in c.args[written:] for s in self.read.get(b, (b,))}
        self.number += len(calls)
        return Use(frozenset(reads), frozenset(writes), number)


def _trees(program: Program) -> tuple[Tree, Tree]:
    uses = _Uses(program)
    return uses.tree(program.prepare), uses.tree(program.main)


def _may_touch(program: Program) -> Iterator[Fault]:
    prepare, main = _trees(program)
    consts = {p.buf for p in program.consts}
    given = {*program.inputs, *program.params}
    for use in _flat(prepare):
        for b in use.reads & set(program.inputs) | use.writes & (given | set(program.outputs)):
            yield Fault(f"prepare touches {b.name}", use.number)
    for use in _flat(main):
        for b in use.writes & ((given | consts) - set(program.updates)):
            yield Fault(f"main writes {b.name}", use.number)


def _flat(tree: Tree) -> Iterator[Use]:
    for node in tree:
        if isinstance(node, Use):
            yield node
        else:
            for branch in node:
                yield from _flat(branch)


def _written_before_read(program: Program) -> Iterator[Fault]:
    prepare, main = _trees(program)
    faults: list[Fault] = []
    ready = _forward(prepare, set(program.params), faults)
    consts = {p.buf for p in program.consts} & ready
    done = _forward(main, {*program.inputs, *program.params, *consts}, faults)
    yield from faults
    for b in program.outputs:
        if b not in done:
            yield Fault(f"nothing writes the output {b.name}")


def _forward(tree: Tree, defined: set[Buf], faults: list[Fault]) -> set[Buf]:
    """What is defined behind `tree` on every way through it."""
    defined = set(defined)
    for node in tree:
        if isinstance(node, Use):
            for b in node.reads - defined:
                faults.append(
                    Fault(f"{b.name} is read and nothing before has written it", node.number)
                )
            defined |= node.writes
        elif node:
            defined = set.intersection(*(_forward(b, defined, faults) for b in node))
    return defined


def _live(tree: Tree, before: set[Buf], after: set[Buf]) -> Iterator[tuple[Use, set[Buf]]]:
    """Each phase with what is live there: touched `before` it or in it, and in it or `after` it."""
    for k, node in enumerate(tree):
        later = after | {b for use in _flat(tree[k + 1 :]) for b in use.reads | use.writes}
        if isinstance(node, Use):
            touched = node.reads | node.writes
            yield node, (before & later) | touched
            before = before | touched
        else:
            for branch in node:
                yield from _live(branch, before, later)
            before = before | {b for use in _flat([node]) for b in use.reads | use.writes}


# ---- places --------------------------------------------------------------------------------------


def _span(p: Placed, dims: Dims) -> tuple[int, int]:
    start = size(p.offset, dims)
    return start, start + size(p.buf.size, dims) * p.buf.dtype.size


def _inside_arena(program: Program) -> Iterator[Fault]:
    arenas = ((program.consts, program.const_bytes), (program.temps, program.arena_bytes))
    for dims in sample_dims(program.dims):
        for placed, total in arenas:
            for p in placed:
                lo, hi = _span(p, dims)
                if lo < 0 or lo % ALIGNMENT or hi > size(total, dims):
                    where = f"{lo}..{hi} of {size(total, dims)} bytes"
                    yield Fault(f"{p.buf.name} is placed at {where} for {_show(dims)}")


def _no_overlap(program: Program) -> Iterator[Fault]:
    prepare, main = _trees(program)
    temps = {p.buf: p for p in program.temps}
    for dims in sample_dims(program.dims):
        for a, b in combinations(program.consts, 2):
            yield from _overlap(a, b, dims, None)
        seen: set[tuple[Buf, Buf]] = set()
        for tree in (prepare, main):
            for use, live in _live(tree, set(), set()):
                together = sorted((b for b in live if b in temps), key=lambda b: b.name)
                for x, y in combinations(together, 2):
                    if (x, y) not in seen:
                        seen.add((x, y))
                        yield from _overlap(temps[x], temps[y], dims, use.number)


def _overlap(a: Placed, b: Placed, dims: Dims, at: int | None) -> Iterator[Fault]:
    (lo, hi), (low, high) = _span(a, dims), _span(b, dims)
    if max(lo, low) < min(hi, high):
        spans = f"{a.buf.name} at {lo}..{hi} and {b.buf.name} at {low}..{high}"
        yield Fault(f"{spans} overlap while both are in use, for {_show(dims)}", at)


def _show(dims: Dims) -> str:
    return ", ".join(f"{k} = {v}" for k, v in dims.items()) or "every run"


def _phases_independent(program: Program) -> Iterator[Fault]:
    functions = {f.name: f for f in program.functions}
    number = 0
    for run in walk_runs((*program.prepare, *program.main)):
        for phase in run.phases:
            for k, c in enumerate(phase):
                written = functions[c.function].written
                twice = [b for b in repeated(c.args) if b in c.args[:written]]
                for b in twice:
                    yield Fault(
                        f"{c.function} is given {b.name} to write and once more", number + k
                    )
                others = {b for o in phase if o is not c
                          for b in o.args[functions[o.function].written :]}  # fmt: skip
                for b in set(c.args[:written]) & others:
                    yield Fault(f"{b.name} is written and read in one phase", number + k)
            number += len(phase)


def _exhaustive(program: Program) -> Iterator[Fault]:
    for step in walk((*program.prepare, *program.main)):
        if isinstance(step, Variants):
            if not step.branches or step.branches[-1][0] is not TRUE:
                yield Fault("the last of the variants has a guard")
        elif isinstance(step, Case) and not step.branches:
            yield Fault("a case has no branch")


# Those that no program is made without: they cost little, and what breaks one reads garbage.
ALWAYS_RULES = (
    Rule("calls name a function and give it all its buffers and dims", _known_calls),
    Rule(
        "prepare fills consts from params; main writes outputs, temps and what it updates",
        _may_touch,
    ),
    Rule(
        "calls of a phase are independent, and what a call writes is given once",
        _phases_independent,
    ),
    Rule("buffers are written before they are read, outputs in any case", _written_before_read),
)
PROGRAM_RULES = (
    ALWAYS_RULES[0],
    Rule("every buffer has one name and one place", _buffers),
    Rule("an argument has the dtype, shape and layout that its function expects", _arguments_match),
    Rule("the last variant holds always", _exhaustive),
    *ALWAYS_RULES[1:],
    Rule("buffers lie in their arena, aligned", _inside_arena),
    Rule("temps that are in use together do not overlap, nor do consts", _no_overlap),
)
