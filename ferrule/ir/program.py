"""Program: buffers with places, phases of calls, variants, loops; what one native entry runs.

    program  = name (input [update]).. (params) (outputs) (dims) [require fact what]..
               consts buf@offset.. temps buf@offset.. prepare { step.. } main { step.. }
    step     = run phase.. | variants | repeat | case
    phase    = call..                                   kernels side by side; a barrier follows
    call     = function(buf..) cost [note]              as in `calls`
    variants = when guard { step.. } .. else { step.. }
    repeat   = for dim < count | while buf { row.. step.. } [gives row..]
    row      = buf is whole[index] [first buf]
    case     = of buf { step.. } { step.. } ..

Meaning:
- `prepare` runs once when parameters are bound: from `params` it fills the `consts` (packed
  weights, folded constants). `main` runs on each call and may read inputs, params, consts and
  temps; it writes outputs, temps and the inputs that the program updates.
- A temp lives in the arena at `offset` bytes (an Expr over dims, a multiple of 64) for the steps in
  which it is used; temps whose lifetimes overlap do not overlap in memory. Consts have constant
  offsets in an arena of their own.
- Kernels of one phase are independent; a phase starts when all of the one before it has ended.
- `variants` runs the first branch whose guard over dims holds.
- `repeat` runs its steps `count` times, or as long as the element of a bool buffer is true before
  them. In each iteration, which the dim numbers, a `row` is the part of a larger buffer at an index
  of its first dimension; in iteration 0 it is the buffer `first`, where there is one. So a state is
  handed on: it is read in the row that the iteration before has written. What a repeat gives are
  rows for the steps behind it, where the dim is the number of iterations that ran.
- `case` runs one list of its steps: that of the element of an i32 buffer, where they count from 0,
  and the last one for any other number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ferrule.ir.calls import Call, Interface
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.loop import Function
from ferrule.ir.system import Requirement


@dataclass(frozen=True)
class Run:
    """A launch: phases of calls with a barrier after each."""

    name: str
    phases: tuple[tuple[Call, ...], ...]


@dataclass(frozen=True)
class Variants:
    """The first branch whose guard holds; the last one's guard is TRUE."""

    branches: tuple[tuple[Expr, tuple[Step, ...]], ...]


@dataclass(frozen=True)
class Row:
    """A buffer of a repeat: `whole[index]`, `first` in iteration 0 if there is one. `whole` is in
    row-major order; `index` is an Expr over dims and the iteration.
    """

    buf: Buf
    whole: Buf
    index: Expr
    first: Buf | None = None


@dataclass(frozen=True)
class Repeat:
    """`steps`, as often as `until` says: a number, or a bool buffer for as long as it is true.
    `iteration` is a dim that counts from 0. `gives` are rows for what follows.
    """

    iteration: Expr
    until: Expr | Buf
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    gives: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Case:
    """One of `branches`, by the element of `index`."""

    index: Buf
    branches: tuple[tuple[Step, ...], ...]


Step = Run | Variants | Repeat | Case


@dataclass(frozen=True)
class Placed:
    """A buffer and its offset in bytes in its arena."""

    buf: Buf
    offset: Expr


@dataclass(frozen=True)
class Program:
    """The whole compiled model above machine code."""

    name: str
    inputs: tuple[Buf, ...]
    params: tuple[Buf, ...]
    outputs: tuple[Buf, ...]
    dims: tuple[Expr, ...]
    functions: tuple[Function, ...]
    consts: tuple[Placed, ...]
    const_bytes: Expr
    temps: tuple[Placed, ...]
    arena_bytes: Expr
    scratch_bytes: Expr
    prepare: tuple[Step, ...]
    main: tuple[Step, ...]
    requires: tuple[Requirement, ...] = ()
    updates: tuple[Buf, ...] = ()

    @property
    def interface(self) -> Interface:
        return Interface(
            self.name, self.inputs, self.params, self.outputs, self.requires, self.updates
        )


def bodies(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The lists of steps inside of a step."""
    if isinstance(step, Repeat):
        return (step.steps,)
    if isinstance(step, Case):
        return step.branches
    return () if isinstance(step, Run) else tuple(body for _, body in step.branches)


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Each step in order, before those inside of it; those of a repeat once."""
    for s in steps:
        yield s
        for body in bodies(s):
            yield from walk(body)


def walk_runs(steps: tuple[Step, ...]) -> Iterator[Run]:
    """Each run in order, those of every branch; those of a repeat once."""
    return (s for s in walk(steps) if isinstance(s, Run))


def walk_rows(steps: tuple[Step, ...]) -> Iterator[Row]:
    """The rows of each repeat, and those that it gives."""
    for s in walk(steps):
        if isinstance(s, Repeat):
            yield from (*s.rows, *s.gives)
