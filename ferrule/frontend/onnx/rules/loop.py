"""Loop, Scan and If in compiled code.

A Loop or Scan whose number of steps follows from sizes and constants, that no data stops, and whose
states keep their types, is a loop of the graph (`ops.loop`). A Loop whose steps data decide is a
while of the graph, and an If a case of it (`ops.control`), where states keep their types, branches
give the same ones, and no rows of the steps are asked for: how many there would be is not known.

All others are `control`'s, and so are those with a body that can't be compiled as a whole: the
builders here raise UnsupportedError or CompileError for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ferrule import ops
from ferrule.base.dtype import boolean, i64
from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.convert import LOOPS, OnnxConverter, TooLarge, memory_bytes
from ferrule.frontend.onnx.model import Array, Body, Op
from ferrule.frontend.onnx.table import Attributes
from ferrule.ir.expr import ONE, ZERO, Expr, as_index, lt
from ferrule.ir.graph import GraphBuilder, TensorType, Value
from ferrule.ir.simplify import equal, prove, prove_nonneg, simplify

Entry = Array | Value
Names = tuple[str, ...]
Values = Sequence[Value]

_LARGEST = 1 << 30
"""The most bytes that a state may take behind all steps: a loop of the graph keeps each of them."""


@dataclass(frozen=True)
class Steps:
    """How a body is repeated. Its inputs `states` have the values `first` before the first step and
    its results `after` behind each, the inputs `rows` a row of each value, and those that are
    `known` are the same at all steps. `results` are its further results, and `lasting` is one that
    must turn out to be true.
    """

    body: Body
    count: Expr
    states: Names
    first: tuple[Entry, ...]
    after: Names
    rows: Mapping[str, Value]
    results: Names
    reverse: bool = False
    known: Mapping[str, Entry] = field(default_factory=dict)
    lasting: str = ""


# ---- the operators -------------------------------------------------------------------------------


def _loop(c: OnnxConverter, op: Op) -> tuple[Entry, ...]:
    body, k = op.body("body"), max(len(op.inputs) - 2, 0)
    limit, go = (c.entry(n) if n else None for n in (*op.inputs, "", "")[:2])
    if not isinstance(limit, np.ndarray):
        raise UnsupportedError("how many steps it runs depends on data")
    if isinstance(go, Value) or not (go is None or go.all()):
        raise UnsupportedError("what it computes decides whether it runs")
    (number, on, *states), (lasting, *results) = _ports(body, 2 + k, 1 + k)
    count = _count(limit.reshape(-1)[0])
    steps = Steps(
        body, count, tuple(states), _operands(c, op.inputs[2:]), tuple(results[:k]),
        {number: ops.iota(c.b, (count,), 0, i64)} if _is_read(body, number) else {},
        tuple(results[k:]), known={on: np.array(True)}, lasting=lasting,
    )  # fmt: skip
    ends, made = _run(c, steps)
    return (*ends, *made)


def _scan(c: OnnxConverter, op: Op) -> tuple[Entry, ...]:
    if op.version < 9:
        raise UnsupportedError("it has a batch and lengths of its own")
    a, body, given = Attributes(op), op.body("body"), _operands(c, op.inputs)
    n = a.int("num_scan_inputs")
    k = len(given) - n
    if n < 1 or k < 0:
        raise UnsupportedError(f"it scans {n} of its {len(given)} operands")
    turned, axes = (a.ints(f"scan_input_{x}", (0,) * n) for x in ("directions", "axes"))
    reverse = all(turned)
    rows = [_moved(c.b, c.value(x), d, 0) for x, d in zip(given[k:], axes, strict=True)]
    rows = [_turned(c.b, x, bool(t) != reverse) for x, t in zip(rows, turned, strict=True)]
    count = rows[0].shape[0]
    if not all(equal(x.shape[0], count) for x in rows):
        raise UnsupportedError("the scanned inputs may have different lengths")
    names, results = _ports(body, len(given), k)
    steps = Steps(
        body, _count(count), names[:k], given[:k], results[:k], dict(zip(names[k:], rows)),
        results[k:], reverse,
    )  # fmt: skip
    ends, made = _run(c, steps)
    none = (0,) * len(made)
    turned, axes = (a.ints(f"scan_output_{x}", none) for x in ("directions", "axes"))
    made = [_turned(c.b, x, bool(t) != reverse) for x, t in zip(made, turned, strict=True)]
    return (*ends, *(_moved(c.b, x, 0, d) for x, d in zip(made, axes, strict=True)))


def _while(c: OnnxConverter, op: Op) -> tuple[Entry, ...]:
    """A Loop that data stop: its states are the number of the step, whether it goes on, and those
    of its own that a step changes.
    """
    body, given = op.body("body"), _operands(c, op.inputs[2:])
    k = len(given)
    if any(op.outputs[k:]):
        raise UnsupportedError("how many rows it makes depends on data")
    limit, go = (c.value(c.entry(n)) if n else None for n in (*op.inputs, "", "")[:2])
    stop = None if limit is None else ops.cast(c.b, ops.reshape(c.b, limit, ()), i64)
    (number, on, *names), (lasting, *after) = _ports(body, 2 + k, 1 + k)
    kept = {n: x for n, x, y in zip(names, given, after) if _source(body, y) == n}
    changed = [i for i, n in enumerate(names) if n not in kept]

    def goes(b: GraphBuilder, states: Values) -> Value:
        if stop is None:
            return states[1]
        return ops.logical_and(b, states[1], ops.lt(b, states[0], stop))

    def step(b: GraphBuilder, states: Values) -> Values:
        own = {names[i]: v for i, v in zip(changed, states[2:])}
        inner = _inside(c, b, body, {number: states[0], on: np.array(True), **kept, **own})
        lasts = inner.entry(lasting)
        flag = states[1] if _is_true(lasts) else ops.reshape(b, inner.value(lasts), ())
        following = ops.add(b, states[0], ops.full(b, (), 1, i64))
        return [following, flag, *(inner.value(inner.entry(after[i])) for i in changed)]

    start = ops.full(c.b, (), True, boolean) if go is None else ops.reshape(c.b, go, ())
    first = [ops.full(c.b, (), 0, i64), start, *(c.value(given[i]) for i in changed)]
    ends = list(given)
    for i, v in zip(changed, ops.while_loop(c.b, goes, step, first)[2:]):
        ends[i] = v
    return tuple(ends)


def _if(c: OnnxConverter, op: Op) -> tuple[Entry, ...]:
    def block(name: str) -> Callable[[GraphBuilder], Values]:
        body = op.body(name)

        def build(b: GraphBuilder) -> Values:
            inner = _inside(c, b, body, {})
            return [inner.value(inner.entry(p.name)) for p in body.outputs]

        return build

    flag = ops.reshape(c.b, c.value(c.entry(op.inputs[0])), ())
    return ops.cond(c.b, flag, block("then_branch"), block("else_branch"))


LOOPS.update({"Loop": (_loop, _while), "Scan": (_scan,), "If": (_if,)})


# ---- the bodies ----------------------------------------------------------------------------------


def _inside(
    c: OnnxConverter, b: GraphBuilder, body: Body, given: Mapping[str, Entry]
) -> OnnxConverter:
    """A body's nodes as a graph inside of `c`'s, with `given` as its inputs. UnsupportedError where
    one of them waits.
    """
    outer = {n: c.entry(n) for n in body.captures}
    inner = c.inner(b, {**outer, **body.constants, **given})
    for op in body.ops:
        inner.node(op)
    if inner.waiting:
        raise UnsupportedError(inner.why)
    return inner


def _run(c: OnnxConverter, s: Steps) -> tuple[list[Entry], list[Value]]:
    """The states behind the last step, and each further result with one row a step. States that no
    step changes are known to the body.
    """
    kept = {n: x for n, x, y in zip(s.states, s.first, s.after) if _source(s.body, y) == n}
    changed = [i for i, n in enumerate(s.states) if n not in kept]
    first = [c.value(s.first[i]) for i in changed]
    names = (*(s.states[i] for i in changed), *s.rows)
    results = (*(s.after[i] for i in changed), *s.results)

    def step(b: GraphBuilder, old: Values, row: Values) -> tuple[Values, Values]:
        inner = _inside(c, b, s.body, {**s.known, **kept, **dict(zip(names, (*old, *row)))})
        if s.lasting and not _is_true(inner.entry(s.lasting)):
            raise UnsupportedError("what it computes decides how many steps it runs")
        if s.results and s.count.is_const and s.count.value > memory_bytes():
            raise TooLarge(f"its results have {s.count} rows, more than memory can hold")
        for v in (*first, *row):
            _check_room(s.count, v.type)
        found = [inner.value(inner.entry(n)) for n in results]
        return found[: len(changed)], found[len(changed) :]

    made = ops.loop(c.b, step, s.count, first, list(s.rows.values()), s.reverse)
    ends: list[Entry] = list(s.first)
    for i, x, v in zip(changed, first, made):
        ends[i] = _last(c.b, x, v, s)
    return ends, list(made[len(changed) :])


def _last(b: GraphBuilder, first: Value, states: Value, s: Steps) -> Value:
    """The state behind the last step; the first one where there is no step."""
    if prove(lt(ZERO, s.count)):
        return ops.select_index(b, states, 0, ZERO if s.reverse else s.count - ONE)
    parts = [ops.unsqueeze(b, first, 0), states]
    whole = ops.concat(b, parts[::-1] if s.reverse else parts, 0)
    return ops.select_index(b, whole, 0, ZERO if s.reverse else s.count)


def _check_room(count: Expr, state: TensorType) -> None:
    sizes = (count, *state.shape)
    # in Python's integers: those of an Expr end at 64 bits
    known = all(s.is_const for s in sizes)
    if known and prod(int(s.value) for s in sizes) * state.dtype.size > _LARGEST:
        raise UnsupportedError(f"its state {state} would be kept {count} times")


# ---- helpers -------------------------------------------------------------------------------------


def _count(x: Any) -> Expr:
    """A number of steps. UnsupportedError where there may be none, or fewer than that."""
    count = simplify(as_index(x if isinstance(x, Expr) else int(x)))
    if count is ZERO or not prove_nonneg(count):
        raise UnsupportedError(f"it runs {count} steps")
    return count


def _ports(body: Body, inputs: int, results: int) -> tuple[Names, Names]:
    """The names of a body's inputs, which must be so many, and results, at least so many."""
    if len(body.inputs) != inputs or len(body.outputs) < results:
        raise UnsupportedError("its body does not fit its operands")
    return tuple(p.name for p in body.inputs), tuple(p.name for p in body.outputs)


def _operands(c: OnnxConverter, names: Sequence[str]) -> tuple[Entry, ...]:
    if not all(names):
        raise UnsupportedError("an operand is left out")
    return tuple(c.entry(n) for n in names)


def _source(body: Body, name: str) -> str:
    """What a value of a body is a copy of."""
    made = {o: op for op in body.ops for o in op.outputs}
    while name in made and made[name].title == "Identity":
        name = made[name].inputs[0]
    return name


def _is_read(body: Body, name: str) -> bool:
    return any(name in op.reads for op in body.ops) or any(p.name == name for p in body.outputs)


def _is_true(x: Entry) -> bool:
    return isinstance(x, np.ndarray) and bool(x.all())


def _moved(b: GraphBuilder, x: Value, source: int, target: int) -> Value:
    """`x` with axis `source` as axis `target` of the result; negative ones count from the end."""
    order = list(range(x.rank))
    axis = order.pop(source)
    order.insert(target % x.rank, axis)
    return ops.transpose(b, x, order)


def _turned(b: GraphBuilder, x: Value, turned: bool) -> Value:
    return ops.reverse(b, x, (0,)) if turned else x
